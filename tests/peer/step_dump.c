/* One training step on given weights and images, with every number written out, for
 * compare_torch.py. Built twice: against the float library and against the double one.
 *
 *   step_dump MODEL FORM CLASSES WEIGHTS INPUT OUT_DIR [ISA [LR MOMENTUM WEIGHT_DECAY]]
 *
 *   WEIGHTS  safetensors, as division-run's model.init
 *   INPUT    safetensors: "images" F32 or F64 (n, c, h, w), "labels" I64 (n)
 *   OUT_DIR  an existing folder. It gets
 *              step.safetensors     "loss" (mean over the batch), "logits" (n, classes; evaluation
 *                                   mode, before the step), "grad.NAME" of every parameter
 *              updated.safetensors  weights and running statistics after the step
 *
 * Exit status 77: this processor or build lacks the ISA.
 *
 * Tensors are in PyTorch's order, F32 from the float program and F64 from the double one. The step
 * runs under the policy "normal" with an SGD update as soon as a gradient is complete: as training
 * does it. run/weights.c, which reads and writes the weights, is compiled into the double program. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/sys.h"
#include "kernels/sgd.h"
#include "models/models.h"
#include "nn/exec.h"
#include "run/weights.h"
#include "store/store.h"
#include "tensor/safetensors.h"

static const enum safetensors_type real_type = sizeof(real) == sizeof(float) ? SAFETENSORS_F32
                                                                             : SAFETENSORS_F64;

struct options {
    const char *model, *form, *weights, *input, *out_dir, *isa;
    size_t classes;
    struct sgd_params sgd;
};

struct batch {
    struct tensor images; /* owns its data */
    uint32_t *labels;
};

struct dump {
    struct graph graph;
    struct kernels kernels;
    struct store store;
    struct exec exec;
    struct sgd_params sgd;
    real **grads; /* [n_params], PyTorch's order; NULL for running statistics */
};

/* --- input ---------------------------------------------------------------------------------- */

static int parse_options(int argc, char **argv, struct options *o)
{
    if (argc != 7 && argc != 8 && argc != 11) {
        fprintf(stderr, "usage: step_dump MODEL FORM CLASSES WEIGHTS INPUT OUT_DIR "
                        "[ISA [LR MOMENTUM WEIGHT_DECAY]]\n");
        return -1;
    }
    *o = (struct options){
        .model = argv[1],
        .form = argv[2],
        .classes = strtoul(argv[3], NULL, 10),
        .weights = argv[4],
        .input = argv[5],
        .out_dir = argv[6],
        .isa = argc > 7 ? argv[7] : "auto",
        .sgd = {.lr = 0.1, .momentum = 0.9, .weight_decay = 5e-4},
    };
    if (argc == 11) {
        o->sgd.lr = strtod(argv[8], NULL);
        o->sgd.momentum = strtod(argv[9], NULL);
        o->sgd.weight_decay = strtod(argv[10], NULL);
    }
    return 0;
}

/* (n, c, h, w) of either width -> NHWC. */
static void transpose_images(const struct safetensors_entry *e, struct tensor *images)
{
    const struct shape *s = &images->shape;
    size_t i = 0;
    for (size_t n = 0; n < s->n; n++) {
        for (size_t c = 0; c < s->c; c++) {
            for (size_t p = 0; p < s->h * s->w; p++, i++) {
                images->data[(n * s->h * s->w + p) * s->c + c] =
                    e->type == SAFETENSORS_F64 ? (real)((const double *)e->data)[i]
                                               : (real)((const float *)e->data)[i];
            }
        }
    }
}

static int batch_read(struct batch *b, const struct options *o, struct err *err)
{
    struct safetensors_file file;
    if (safetensors_read(o->input, &file, err)) {
        return (int)err->code;
    }
    const struct safetensors_entry *x = safetensors_find(&file, "images");
    const struct safetensors_entry *y = safetensors_find(&file, "labels");
    if (!x || !y || x->n_dims != 4 || x->type == SAFETENSORS_I64 || y->n_dims != 1 ||
        y->dims[0] != x->dims[0] || y->type != SAFETENSORS_I64) {
        err_set(err, ERR_FORMAT, "%s: needs images (n, c, h, w) and as many I64 labels", o->input);
        goto out;
    }
    struct shape s = {.n = x->dims[0], .c = x->dims[1], .h = x->dims[2], .w = x->dims[3]};
    real *data = mem_alloc(MEM_DATA, shape_bytes(&s));
    b->labels = mem_calloc(MEM_DATA, s.n, sizeof *b->labels);
    b->images = tensor_view(data, s);
    if (!data || !b->labels) {
        err_nomem(err, "the batch", shape_bytes(&s));
        goto out;
    }
    transpose_images(x, &b->images);
    for (size_t i = 0; i < s.n; i++) {
        int64_t label = ((const int64_t *)y->data)[i];
        if (label < 0 || (uint64_t)label >= o->classes) {
            err_set(err, ERR_RANGE, "%s: label %zu is outside 0 .. %zu", o->input, i,
                    o->classes - 1);
            goto out;
        }
        b->labels[i] = (uint32_t)label;
    }
out:
    safetensors_fini(&file);
    return (int)err->code;
}

static void batch_fini(struct batch *b)
{
    mem_free(b->images.data);
    mem_free(b->labels);
}

/* --- the step ------------------------------------------------------------------------------- */

static void take_gradient(void *ctx, struct param *p, const real *dw)
{
    struct dump *d = ctx;
    param_to_file_order(p, dw, d->grads[p - d->graph.params]);
    sgd_update(&d->kernels, &d->sgd, p->n, p->w, dw, p->momentum);
}

static int dump_init(struct dump *d, const struct options *o, const struct shape *images,
                     struct err *err)
{
    enum model_form form = MODEL_CIFAR;
    struct store_params params = store_params_default();
    int threads = sys_n_cpus();
    d->sgd = o->sgd;
    if (model_form_parse(o->form, &form, err)) {
        return (int)err->code;
    }
    struct model_config mc = {.name = o->model,
                              .form = form,
                              .channels = images->c,
                              .height = images->h,
                              .width = images->w,
                              .classes = o->classes};
    if (model_build(&mc, &d->graph, err) || graph_alloc_params(&d->graph, err) ||
        weights_load(&d->graph, o->weights, err) || kernels_fill(&d->kernels, o->isa, err) ||
        store_open(&d->store, "normal", &params, &d->kernels, threads, err)) {
        return (int)err->code;
    }
    d->grads = mem_calloc(MEM_OTHER, d->graph.n_params, sizeof *d->grads);
    if (!d->grads) {
        return err_nomem(err, "gradients", d->graph.n_params * sizeof *d->grads);
    }
    for (size_t i = 0; i < d->graph.n_params; i++) {
        const struct param *p = &d->graph.params[i];
        if (p->trainable && !(d->grads[i] = mem_calloc(MEM_OTHER, p->n, sizeof(real)))) {
            return err_nomem(err, "gradients", p->n * sizeof(real));
        }
    }
    struct exec_config ec = {.graph = &d->graph,
                             .store = &d->store,
                             .kernels = &d->kernels,
                             .n_threads = threads,
                             .batch_size = images->n,
                             .eval_batch_size = images->n};
    if (exec_init(&d->exec, &ec, err)) {
        return (int)err->code;
    }
    d->exec.hooks = (struct exec_hooks){.ctx = d, .gradient = take_gradient};
    return 0;
}

static void dump_fini(struct dump *d)
{
    exec_fini(&d->exec);
    store_close(&d->store);
    for (size_t i = 0; d->grads && i < d->graph.n_params; i++) {
        mem_free(d->grads[i]);
    }
    mem_free(d->grads);
    graph_fini(&d->graph);
}

/* --- output --------------------------------------------------------------------------------- */

static int write_step(const struct dump *d, const char *path, double loss, const real *logits,
                      size_t n, struct err *err)
{
    const struct graph *g = &d->graph;
    struct safetensors_entry *entries = mem_calloc(MEM_OTHER, g->n_params + 2, sizeof *entries);
    char(*names)[256] = mem_calloc(MEM_OTHER, g->n_params, sizeof *names);
    size_t count = 2;
    if (!entries || !names) {
        err_nomem(err, path, (g->n_params + 2) * sizeof *entries);
        goto out;
    }
    entries[0] = (struct safetensors_entry){.name = "loss", .type = SAFETENSORS_F64, .data = &loss};
    entries[1] = (struct safetensors_entry){.name = "logits",
                                            .type = real_type,
                                            .n_dims = 2,
                                            .dims = {n, g->values[g->output].shape.c},
                                            .data = logits};
    for (size_t i = 0; i < g->n_params; i++) {
        const struct param *p = &g->params[i];
        if (!p->trainable) {
            continue;
        }
        snprintf(names[i], sizeof names[i], "grad.%s", p->name);
        struct safetensors_entry *e = &entries[count++];
        *e = (struct safetensors_entry){
            .name = names[i], .type = real_type, .n_dims = p->n_dims, .data = d->grads[i]};
        memcpy(e->dims, p->dims, sizeof p->dims);
    }
    if (safetensors_write(path, entries, count, NULL, 0, err)) {
        err_add(err, "%s", path);
    }
out:
    mem_free(entries);
    mem_free(names);
    return (int)err->code;
}

static int run(const struct options *o, struct err *err)
{
    struct batch batch = {0};
    struct dump d = {0};
    struct loss_result result;
    char step_path[4096], updated_path[4096];
    real *logits = NULL;
    snprintf(step_path, sizeof step_path, "%s/step.safetensors", o->out_dir);
    snprintf(updated_path, sizeof updated_path, "%s/updated.safetensors", o->out_dir);
    if (batch_read(&batch, o, err)) {
        goto out;
    }
    size_t n = batch.images.shape.n;
    logits = mem_calloc(MEM_OTHER, n * o->classes, sizeof *logits);
    if (!logits) {
        err_nomem(err, "logits", n * o->classes * sizeof *logits);
        goto out;
    }
    if (dump_init(&d, o, &batch.images.shape, err) ||
        exec_evaluate(&d.exec, &batch.images, batch.labels, logits, &result, err) ||
        exec_train(&d.exec, &batch.images, batch.labels, 0, &result, err) ||
        write_step(&d, step_path, result.loss_sum / (double)n, logits, n, err) ||
        weights_save(&d.graph, updated_path, 1, NULL, 0, err)) {
        goto out;
    }
out:
    mem_free(logits);
    dump_fini(&d);
    batch_fini(&batch);
    return (int)err->code;
}

int main(int argc, char **argv)
{
    struct options o;
    struct err err = {0};
    if (parse_options(argc, argv, &o)) {
        return 2;
    }
    if (run(&o, &err)) {
        fprintf(stderr, "step_dump: %s: %s\n", err_name(err.code), err.msg);
        return err.code == ERR_UNSUPPORTED ? 77 : 1;
    }
    return 0;
}
