/* division-bench kernels: each convolution of a network by itself. */
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "kernels/conv.h"
#include "nn/layer.h"
#include "nn/layers.h"
#include "run/session.h"

enum { N_OPS = 3, SHAPE_TEXT = 64 };
static const char *const op_names[N_OPS] = {[CONV_FORWARD] = "forward",
                                            [CONV_BACKWARD_DATA] = "data gradient",
                                            [CONV_BACKWARD_WEIGHT] = "weight gradient"};

/* One operation of one shape. */
struct row {
    const char *model, *shape, *op, *algorithm, *isa, *cpu;
    double batch, threads, repetitions;
    double layers; /* of that shape that need the operation */
    double ms, ms_p10, ms_p90, gflop_per_s;
    double share; /* of all convolutions of a step */
    double gflop; /* of one layer, for the sums */
    /* The roofline: no layer is faster than its arithmetic or its traffic. */
    double limit_ms, of_limit;
    double peak_gflop_per_s, copy_gb_per_s; /* of the machine, measured just before */
};

/* clang-format off */
#define SHOWN(field, kind, head, unit, scale, decimals) \
    BENCH_SHOWN(struct row, field, kind, head, unit, scale, decimals)
#define HIDDEN(field, kind) BENCH_HIDDEN(struct row, field, kind)
static const struct bench_column columns[] = {
    HIDDEN(model, TEXT),
    HIDDEN(batch, COUNT),
    SHOWN(shape, TEXT, "input, filters", "", 0, 0),
    SHOWN(layers, COUNT, "layers", "", 1, 0),
    SHOWN(op, TEXT, "operation", "", 0, 0),
    SHOWN(algorithm, TEXT, "algorithm", "", 0, 0),
    HIDDEN(threads, COUNT),
    HIDDEN(isa, TEXT),
    HIDDEN(cpu, TEXT),
    HIDDEN(repetitions, COUNT),
    SHOWN(ms, REAL, "time", "ms", 1, 3),
    SHOWN(ms_p10, REAL, "p10", "", 1, 3),
    SHOWN(ms_p90, REAL, "p90", "", 1, 3),
    SHOWN(gflop_per_s, REAL, "effective", "GFLOP/s", 1, 1),
    SHOWN(share, REAL, "share", "%", 100, 1),
    SHOWN(limit_ms, REAL, "limit", "ms", 1, 3),
    SHOWN(of_limit, REAL, "of limit", "%", 100, 0),
    HIDDEN(peak_gflop_per_s, REAL),
    HIDDEN(copy_gb_per_s, REAL),
};
/* clang-format on */
enum { N_COLUMNS = sizeof columns / sizeof *columns };

/* A shape of convolution, and how many layers have it. */
struct conv_case {
    struct conv_geom geom;
    struct shape x;
    size_t n_layers[N_OPS]; /* that need the operation */
    char text[SHAPE_TEXT];
};

/* A convolution on buffers of its own. */
struct conv_call {
    const struct kernels *kernels;
    const struct conv_geom *geom;
    struct tensor x, y;
    real *w, *dw;
    void *workspace;
    int n_threads;
};

/* --- the network's convolutions ------------------------------------------------------------------ */

static int is_same(const struct conv_case *a, const struct conv_geom *g, const struct shape *x)
{
    return a->geom.c == g->c && a->geom.k == g->k && a->geom.r == g->r && a->geom.s == g->s &&
           a->geom.stride == g->stride && a->geom.pad == g->pad && a->x.h == x->h && a->x.w == x->w;
}

/* Cases in the order of the network's layers. */
static size_t find_cases(const struct graph *g, size_t batch, struct conv_case *cases)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_layers; i++) {
        const struct layer *l = g->layers[i];
        const struct conv_geom *geom = conv2d_layer_geom(l);
        if (!geom) {
            continue;
        }
        struct shape x = g->values[l->in[0]].shape;
        x.n = batch;
        size_t c = 0;
        while (c < n && !is_same(&cases[c], geom, &x)) {
            c++;
        }
        if (c == n) {
            cases[n++] = (struct conv_case){.geom = *geom, .x = x};
            (void)snprintf(cases[c].text, SHAPE_TEXT, "%zux%zux%zu -> %zu %zux%zu s%zu p%zu", x.h,
                           x.w, x.c, geom->k, geom->r, geom->s, geom->stride, geom->pad);
        }
        cases[c].n_layers[CONV_FORWARD]++;
        cases[c].n_layers[CONV_BACKWARD_WEIGHT]++;
        cases[c].n_layers[CONV_BACKWARD_DATA] += l->in[0] != 0; /* an image needs no gradient */
    }
    return n;
}

/* --- one case ------------------------------------------------------------------------------------ */

static void call_forward(void *ctx)
{
    struct conv_call *c = ctx;
    conv2d_forward(c->kernels, c->geom, &c->x, c->w, NULL, &c->y, c->workspace, c->n_threads);
}

/* The gradient takes the input's place: only its values differ. */
static void call_backward_data(void *ctx)
{
    struct conv_call *c = ctx;
    conv2d_backward_data(c->kernels, c->geom, &c->y, c->w, &c->x, 0, c->workspace, c->n_threads);
}

static void call_backward_weight(void *ctx)
{
    struct conv_call *c = ctx;
    conv2d_backward_weight(c->kernels, c->geom, &c->x, &c->y, c->x.shape.n, c->dw, NULL,
                           c->workspace, c->n_threads);
}

static void (*const calls[N_OPS])(void *ctx) = {[CONV_FORWARD] = call_forward,
                                                [CONV_BACKWARD_DATA] = call_backward_data,
                                                [CONV_BACKWARD_WEIGHT] = call_backward_weight};

/* Normal numbers, again and again: drawing each would take longer than the convolution. */
static real *random_values(size_t n)
{
    enum { N_DRAWN = 1021 };
    const struct rng rng = rng_make(0, RNG_TEST, 0, 0);
    real *v = mem_calloc(MEM_DATA, n, sizeof *v);
    for (size_t i = 0; v && i < n; i++) {
        v[i] = i < N_DRAWN ? (real)rng_normal(&rng, i) : v[i - N_DRAWN];
    }
    return v;
}

static int make_call(const struct session *s, const struct conv_case *k, struct conv_call *c,
                     struct err *err)
{
    const struct conv_geom *g = &k->geom;
    const size_t n_w = g->r * g->s * g->c * g->k;
    const struct shape y = conv2d_out_shape(g, &k->x);
    size_t workspace = 0;
    for (int op = 0; op < N_OPS; op++) {
        const size_t bytes = conv2d_workspace_bytes(&s->kernels, g, &k->x, (enum conv_op)op,
                                                    s->n_threads);
        workspace = bytes > workspace ? bytes : workspace;
    }
    *c = (struct conv_call){.kernels = &s->kernels,
                            .geom = g,
                            .x = tensor_view(random_values(shape_elements(&k->x)), k->x),
                            .y = tensor_view(random_values(shape_elements(&y)), y),
                            .w = random_values(n_w),
                            .dw = mem_calloc(MEM_GRAD, n_w, sizeof *c->dw),
                            .workspace = mem_alloc(MEM_WORKSPACE, workspace),
                            .n_threads = s->n_threads};
    if (!c->x.data || !c->y.data || !c->w || !c->dw || !c->workspace) {
        return err_nomem(err, "a convolution",
                         shape_bytes(&k->x) + shape_bytes(&y) + 2 * n_w * sizeof(real) + workspace);
    }
    return 0;
}

static void free_call(struct conv_call *c)
{
    mem_free(c->x.data);
    mem_free(c->y.data);
    mem_free(c->w);
    mem_free(c->dw);
    mem_free(c->workspace);
}

/* Milliseconds that the operation takes at least: its multiplications at the rate of products in cache,
 * and its two maps and the weights once each at the rate of copies; of the input those pixels alone
 * that a stride larger than the filter does not jump over. What fits into a cache may move faster. */
static double limit_ms(const struct conv_call *c, enum conv_op op, const struct bench_roof *roof)
{
    const struct conv_geom *g = c->geom;
    const double flop = 2 * conv2d_algorithm_macs(c->kernels, g, &c->x.shape, op);
    const double seen = fmin(1.0, (double)(g->r * g->s) / (double)(g->stride * g->stride));
    const double x_bytes = (op == CONV_BACKWARD_DATA ? 1.0 : seen) *
                           (double)shape_bytes(&c->x.shape); /* a gradient is written everywhere */
    const double bytes = x_bytes + (double)(shape_bytes(&c->y.shape) +
                                            g->r * g->s * g->c * g->k * sizeof(real));
    return 1e3 * fmax(flop / roof->flop_per_s, bytes / roof->bytes_per_s);
}

static void measure_op(const struct bench_options *o, struct conv_call *c,
                       const struct conv_case *k, enum conv_op op, double *seconds, struct row *row)
{
    char what[2 * SHAPE_TEXT];
    const size_t n = bench_calls(calls[op], c, o->warmup);
    for (size_t r = 0; r < o->repetitions; r++) {
        seconds[r] = bench_time(BENCH_CLOCK_WALL, calls[op], c, n);
    }
    const struct bench_spread s = bench_spread_of(seconds, o->repetitions);
    (void)snprintf(what, sizeof what, "%s, %s", k->text, op_names[op]);
    bench_warn_noise(what, &s);
    row->shape = k->text;
    row->layers = (double)k->n_layers[op];
    row->op = op_names[op];
    row->algorithm = kernels_algorithm_name(conv2d_algorithm(c->kernels, c->geom, &k->x, op));
    row->ms = 1e3 * s.median;
    row->ms_p10 = 1e3 * s.p10;
    row->ms_p90 = 1e3 * s.p90;
    row->gflop = 2e-9 * conv2d_macs(c->geom, &k->x);
    row->gflop_per_s = row->gflop / s.median;
}

/* --- the table ------------------------------------------------------------------------------ */

/* Behind the n rows: a sum for each operation; then every row's share of all. Returns how many rows
 * there are now. */
static size_t add_sums(struct row *rows, size_t n)
{
    double all_ms = 0;
    for (int op = 0; op < N_OPS; op++) {
        struct row *sum = &rows[n + (size_t)op];
        sum->ms_p10 = sum->ms_p90 = (double)NAN; /* percentiles do not add up */
        sum->shape = "all";
        sum->op = op_names[op];
        for (size_t i = 0; i < n; i++) {
            if (rows[i].op == sum->op) {
                sum->layers += rows[i].layers;
                sum->ms += rows[i].layers * rows[i].ms;
                sum->gflop += rows[i].layers * rows[i].gflop;
                sum->limit_ms += rows[i].layers * rows[i].limit_ms;
            }
        }
        sum->gflop_per_s = 1e3 * sum->gflop / sum->ms;
        all_ms += sum->ms;
    }
    for (size_t i = 0; i < n + N_OPS; i++) {
        rows[i].share = (i < n ? rows[i].layers : 1) * rows[i].ms / all_ms;
        rows[i].of_limit = rows[i].limit_ms / rows[i].ms;
    }
    return n + N_OPS;
}

static int write_rows(const struct bench_options *o, const struct session *s,
                      const struct bench_roof *roof, struct row *rows, size_t n, struct err *err)
{
    char cpu[128], what[256];
    (void)sys_cpu_name(cpu, sizeof cpu);
    for (size_t i = 0; i < n; i++) {
        rows[i].model = s->cfg.model.name;
        rows[i].isa = s->kernels.isa;
        rows[i].cpu = cpu;
        rows[i].batch = (double)s->batch_size;
        rows[i].threads = s->n_threads;
        rows[i].repetitions = (double)o->repetitions;
        rows[i].peak_gflop_per_s = 1e-9 * roof->flop_per_s;
        rows[i].copy_gb_per_s = 1e-9 * roof->bytes_per_s;
    }
    if (!o->csv) {
        (void)snprintf(
            what, sizeof what,
            "convolutions of %s, %zu px, batch %zu: medians of %zu repetitions; products of "
            "matrices %.0f GFLOP/s, copies %.1f GB/s",
            s->cfg.model.name, s->info.height, s->batch_size, o->repetitions,
            1e-9 * roof->flop_per_s, 1e-9 * roof->bytes_per_s);
        bench_describe(what, s->n_threads, s->kernels.isa);
    }
    return bench_table_write(columns, N_COLUMNS, rows, sizeof *rows, n, o->csv, err);
}

static int measure(const struct bench_options *o, const struct session *s, struct err *err)
{
    const size_t n_layers = s->graph.n_layers;
    struct conv_case *cases = mem_calloc(MEM_OTHER, n_layers, sizeof *cases);
    struct row *rows = mem_calloc(MEM_OTHER, (n_layers + 1) * N_OPS, sizeof *rows);
    double *seconds = mem_calloc(MEM_OTHER, o->repetitions, sizeof *seconds);
    struct bench_roof roof;
    size_t n = 0;
    if (!cases || !rows || !seconds) {
        (void)!err_nomem(err, "the table", n_layers * (sizeof *cases + N_OPS * sizeof *rows));
        goto out;
    }
    if (bench_roof_measure(&s->kernels, s->n_threads, o->repetitions, &roof, err) != 0) {
        goto out;
    }
    const size_t n_cases = find_cases(&s->graph, s->batch_size, cases);
    for (size_t i = 0; i < n_cases && !err->code; i++) {
        struct conv_call c;
        if (make_call(s, &cases[i], &c, err) == 0) {
            for (int op = 0; op < N_OPS; op++) {
                if (cases[i].n_layers[op] > 0) {
                    measure_op(o, &c, &cases[i], (enum conv_op)op, seconds, &rows[n]);
                    rows[n++].limit_ms = limit_ms(&c, (enum conv_op)op, &roof);
                }
            }
        }
        free_call(&c);
    }
    if (!err->code) {
        n = add_sums(rows, n);
        (void)!write_rows(o, s, &roof, rows, n, err);
    }
out:
    mem_free(cases);
    mem_free(rows);
    mem_free(seconds);
    return (int)err->code;
}

int bench_kernels(const struct bench_options *o, struct err *err)
{
    struct config cfg;
    struct job job;
    struct session s;
    if (bench_job(o, NULL, &cfg, &job, err) == 0 && session_init(&s, &cfg, &job, err) == 0) {
        (void)!measure(o, &s, err);
        session_fini(&s);
    }
    return cli_status(err);
}
