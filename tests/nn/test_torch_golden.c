/* Two training steps of small networks against the numbers of PyTorch in float64 that
 * tests/golden/torch_step/ holds (README.md there: format and provenance). Built twice: against the
 * double library (1e-9) and against the float library, every instruction set that this machine has.
 *
 * Each file gives initial values by formula and, for every gradient, weight and running statistic of
 * every step, its norm and its inner product with a fixed direction. */
#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/sgd.h"
#include "models/models.h"
#include "nn/exec.h"
#include "nn/layers.h"
#include "store/store.h"

/* Streams of u(): see the README. */
enum { LABELS = 1000, DIRECTIONS = 2000 };
enum { MAX_PARAMS = 256, MAX_IMAGES = 16 };

static const char *const files[] = {"resnet20", "wrn", "layers", "groups"};

/* Relative to a tensor's norm. The files' images keep away from ReLU's kinks (see the README), so
 * that float differs by rounding alone. */
static const double tolerance = sizeof(real) == sizeof(double) ? 1e-9 : 3e-5;

struct golden {
    FILE *fp;
    const char *file, *isa;
    char model[64];
    struct shape images_shape;
    size_t classes, bn_group;
    uint64_t images_stream;
    double smoothing;
    struct sgd_params sgd;
    struct graph graph;
    struct kernels kernels;
    struct store store;
    struct exec exec;
    struct tensor images;
    uint32_t labels[MAX_IMAGES];
    struct param *params[MAX_PARAMS]; /* by the file's number */
    real *grads[MAX_PARAMS];          /* by the graph's number, PyTorch's order */
    size_t n_params;
    int next_step, n_checked;
    double loss;
};

/* Element `i` of stream `s`, in [-1/2, 1/2). */
static double u(uint64_t s, uint64_t i)
{
    uint64_t z = (s << 32) + i + 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    z ^= z >> 31;
    return ldexp((double)(z >> 41), -23) - 0.5;
}

/* --- building the network ------------------------------------------------------------------- */

/* The graph of make_golden.py's class Layers. */
static uint32_t build_layers(struct graph *g, size_t classes)
{
    uint32_t x = graph_conv2d(g, "conv1", 0, 8, 7, 2, 3, 0);
    x = graph_relu(g, "relu1", graph_batch_norm(g, "bn1", x));
    x = graph_max_pool(g, "maxpool", x, 3, 2, 1);
    uint32_t down = graph_batch_norm(g, "bnd", graph_conv2d(g, "down", x, 16, 1, 2, 0, 0));
    uint32_t y = graph_batch_norm(g, "bn2", graph_conv2d(g, "conv2", x, 4, 1, 1, 0, 0));
    y = graph_relu(g, "relu2", y);
    y = graph_batch_norm(g, "bn3", graph_conv2d(g, "conv3", y, 4, 3, 2, 1, 0));
    y = graph_relu(g, "relu3", y);
    y = graph_batch_norm(g, "bn4", graph_conv2d(g, "conv4", y, 16, 1, 1, 0, 0));
    x = graph_relu(g, "relu4", graph_add(g, "add", y, down));
    x = graph_relu(g, "relu5", graph_conv2d(g, "conv5", x, 12, 3, 1, 1, 1));
    x = graph_avg_pool(g, "avgpool1", x, 2, 1, 1);
    return graph_linear(g, "fc", graph_global_avg_pool(g, "avgpool", x), classes);
}

static void collect(void *ctx, struct param *p, const real *dw)
{
    struct golden *t = ctx;
    param_to_file_order(p, dw, t->grads[p - t->graph.params]);
    sgd_update(&t->kernels, &t->sgd, p->n, p->w, dw, p->momentum);
}

static void build_graph(struct golden *t)
{
    struct err err = {0};
    struct graph *g = &t->graph;
    struct shape *s = &t->images_shape;
    if (strcmp(t->model, "layers") == 0) {
        ck_assert_msg(graph_init(g, s->c, s->h, s->w, &err) == 0, "%s", err.msg);
        uint32_t logits = build_layers(g, t->classes);
        ck_assert_msg(graph_finish(g, logits, &err) == 0, "%s", err.msg);
    } else {
        struct model_config mc = {.name = t->model,
                                  .form = MODEL_CIFAR,
                                  .channels = s->c,
                                  .height = s->h,
                                  .width = s->w,
                                  .classes = t->classes};
        ck_assert_msg(model_build(&mc, g, &err) == 0, "%s", err.msg);
    }
    ck_assert_msg(graph_alloc_params(g, &err) == 0, "%s", err.msg);
    ck_assert_uint_le(g->n_params, MAX_PARAMS);
    for (size_t i = 0; i < g->n_params; i++) {
        t->grads[i] = mem_calloc(MEM_OTHER, g->params[i].n, sizeof(real));
    }
}

static void make_batch(struct golden *t)
{
    struct shape *s = &t->images_shape;
    ck_assert_uint_le(s->n, MAX_IMAGES);
    t->images = tensor_view(mem_alloc(MEM_DATA, shape_bytes(s)), *s);
    for (size_t i = 0; i < shape_elements(s); i++) { /* i: place in (n, h, w, c) */
        size_t c = i % s->c, p = i / s->c % (s->h * s->w), n = i / s->c / (s->h * s->w);
        t->images.data[i] = (real)(4 * u(t->images_stream, (n * s->c + c) * s->h * s->w + p));
    }
    for (size_t n = 0; n < s->n; n++) {
        t->labels[n] = (uint32_t)((u(LABELS, n) + 0.5) * (double)t->classes);
    }
}

/* All records before the first "param" have been read. */
static void golden_start(struct golden *t)
{
    struct err err = {0};
    struct store_params params = store_params_default();
    build_graph(t);
    make_batch(t);
    ck_assert_msg(kernels_fill(&t->kernels, t->isa, &err) == 0, "%s", err.msg);
    ck_assert_msg(store_open(&t->store, "normal", &params, &t->kernels, 1, &err) == 0, "%s",
                  err.msg);
    struct exec_config ec = {.graph = &t->graph,
                             .store = &t->store,
                             .kernels = &t->kernels,
                             .n_threads = 1,
                             .batch_size = t->images_shape.n,
                             .eval_batch_size = t->images_shape.n,
                             .bn_group = t->bn_group,
                             .label_smoothing = t->smoothing};
    ck_assert_msg(exec_init(&t->exec, &ec, &err) == 0, "%s", err.msg);
    t->exec.hooks = (struct exec_hooks){.ctx = t, .gradient = collect};
}

static void golden_fini(struct golden *t)
{
    exec_fini(&t->exec);
    store_close(&t->store);
    for (size_t i = 0; i < t->graph.n_params; i++) {
        mem_free(t->grads[i]);
    }
    graph_fini(&t->graph);
    mem_free(t->images.data);
}

/* --- comparing ------------------------------------------------------------------------------ */

/* `data` in PyTorch's order. */
static void compare(struct golden *t, const char *what, const char *name, const real *data,
                    size_t n, uint64_t direction, double norm, double dot)
{
    double square = 0, product = 0, direction_square = 0;
    for (size_t i = 0; i < n; i++) {
        double v = u(direction, i), x = (double)data[i];
        square += x * x;
        product += x * v;
        direction_square += v * v;
    }
    double bound = tolerance * norm;
    ck_assert_msg(fabs(sqrt(square) - norm) <= bound,
                  "%s, %s, step %d: norm of %s %s is %.17g, PyTorch has %.17g", t->file, t->isa,
                  t->next_step - 1, what, name, sqrt(square), norm);
    ck_assert_msg(fabs(product - dot) <= bound * sqrt(direction_square),
                  "%s, %s, step %d: checksum of %s %s is %.17g, PyTorch has %.17g", t->file, t->isa,
                  t->next_step - 1, what, name, product, dot);
    t->n_checked++;
}

static void check_logits(struct golden *t, double norm, double dot)
{
    struct err err = {0};
    struct loss_result result;
    size_t n = t->images_shape.n * t->classes;
    real *logits = mem_calloc(MEM_OTHER, n, sizeof *logits);
    ck_assert_msg(exec_evaluate(&t->exec, &t->images, t->labels, logits, &result, &err) == 0, "%s",
                  err.msg);
    compare(t, "logits", "", logits, n, DIRECTIONS + t->n_params, norm, dot);
    mem_free(logits);
}

static void check_step(struct golden *t, int step, double loss)
{
    struct err err = {0};
    struct loss_result result;
    ck_assert_int_eq(step, t->next_step++);
    ck_assert_msg(exec_train(&t->exec, &t->images, t->labels, (uint64_t)step, &result, &err) == 0,
                  "%s", err.msg);
    double found = result.loss_sum / (double)t->images_shape.n;
    ck_assert_msg(fabs(found - loss) <= tolerance * fabs(loss),
                  "%s, %s, step %d: loss is %.17g, PyTorch has %.17g", t->file, t->isa, step, found,
                  loss);
}

static void check_tensor(struct golden *t, const char *what, size_t i, double norm, double dot)
{
    ck_assert_uint_lt(i, t->n_params);
    struct param *p = t->params[i];
    if (strcmp(what, "grad") == 0) {
        compare(t, what, p->name, t->grads[p - t->graph.params], p->n, DIRECTIONS + i, norm, dot);
        return;
    }
    real *w = mem_calloc(MEM_OTHER, p->n, sizeof *w);
    param_to_file_order(p, p->w, w);
    compare(t, what, p->name, w, p->n, DIRECTIONS + i, norm, dot);
    mem_free(w);
}

static void set_param(struct golden *t, size_t i, const char *name, double offset, int exponent)
{
    ck_assert_uint_eq(i, t->n_params);
    struct param *p = graph_find_param(&t->graph, name);
    ck_assert_msg(p != NULL, "%s: the network has no %s", t->file, name);
    real *w = mem_calloc(MEM_OTHER, p->n, sizeof *w);
    for (size_t e = 0; e < p->n; e++) {
        w[e] = (real)(offset + ldexp(u(i, e), exponent));
    }
    param_from_file_order(p, w, p->w);
    mem_free(w);
    t->params[t->n_params++] = p;
}

/* --- reading the file ----------------------------------------------------------------------- */

/* Records that describe the case; false for others. */
static int read_setting(struct golden *t, const char *line)
{
    struct shape *s = &t->images_shape;
    struct sgd_params *p = &t->sgd;
    return sscanf(line, "model %63s", t->model) == 1 ||
           sscanf(line, "images %zu %zu %zu %zu %" SCNu64, &s->n, &s->c, &s->h, &s->w,
                  &t->images_stream) == 5 ||
           sscanf(line, "classes %zu", &t->classes) == 1 ||
           sscanf(line, "sgd %lf %lf %lf %d", &p->lr, &p->momentum, &p->weight_decay,
                  &p->nesterov) == 4 ||
           sscanf(line, "smoothing %lf", &t->smoothing) == 1 ||
           sscanf(line, "bn_group %zu", &t->bn_group) == 1;
}

static void read_record(struct golden *t, const char *line)
{
    char name[128];
    size_t i;
    int step, exponent;
    double a, b;
    if (sscanf(line, "param %zu %127s %lf %d", &i, name, &a, &exponent) == 4) {
        if (i == 0) {
            golden_start(t);
        }
        set_param(t, i, name, a, exponent);
    } else if (sscanf(line, "logits %lf %lf", &a, &b) == 2) {
        ck_assert_uint_eq(t->n_params, t->graph.n_params);
        check_logits(t, a, b);
    } else if (sscanf(line, "loss %d %lf", &step, &a) == 2) {
        check_step(t, step, a);
    } else if (sscanf(line, "grad %d %zu %lf %lf", &step, &i, &a, &b) == 4) {
        check_tensor(t, "grad", i, a, b);
    } else if (sscanf(line, "state %d %zu %lf %lf", &step, &i, &a, &b) == 4) {
        check_tensor(t, "state", i, a, b);
    } else {
        ck_assert_msg(read_setting(t, line), "%s: cannot read \"%s\"", t->file, line);
    }
}

static void run_file(const char *file, const char *isa)
{
    struct golden t = {.file = file, .isa = isa};
    const char *top = getenv("top_srcdir");
    char path[4096], line[512];
    snprintf(path, sizeof path, "%s/tests/golden/torch_step/%s.golden", top ? top : ".", file);
    t.fp = fopen(path, "r");
    ck_assert_msg(t.fp != NULL, "cannot open %s", path);
    while (fgets(line, sizeof line, t.fp)) {
        line[strcspn(line, "\n")] = '\0';
        read_record(&t, line);
    }
    fclose(t.fp);
    ck_assert_int_eq(t.next_step, 2);
    size_t n_trainable = 0;
    for (size_t i = 0; i < t.graph.n_params; i++) {
        n_trainable += t.graph.params[i].trainable != 0;
    }
    ck_assert_uint_eq(t.n_checked, 1 + 2 * (n_trainable + t.n_params));
    golden_fini(&t);
}

START_TEST(steps_equal_torch)
{
    size_t n_isas;
    const char *const *isas = kernels_isas(&n_isas);
    for (size_t i = 0; i < n_isas; i++) {
        run_file(files[_i], isas[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("torch_golden");
    TCase *t = tcase_create("torch_golden");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, steps_equal_torch, 0, sizeof files / sizeof *files);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
