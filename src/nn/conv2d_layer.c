/* Convolution: y = conv(x, w) + b. Backward needs x as a map for dw, and the weights for dx.
 *   dw = correlation of x with dy,   dx = dy convolved with w,   db = sum of dy */
#include <math.h>
#include <stdio.h>

#include "kernels/sample_runs.h"
#include "nn/conv2d_priv.h"
#include "nn/layers.h"

extern const struct layer_type layer_conv2d;

static const struct conv_geom *geom_of(const struct layer *l)
{
    return &((const struct conv2d_layer *)l)->geom;
}

static void needs(const struct layer *l, const struct shape *x, size_t bn_group,
                  struct layer_needs *n)
{
    (void)l, (void)x, (void)bn_group;
    n->map_input = 1;
    n->map_use = STORE_USE_CONV;
}

/* --- by samples -------------------------------------------------------------------------------- */

enum {
    RUN_WEIGHTS = 1 << 15, /* elements, 128 KiB: may be read, and packed, again for each run */
    RUN_PIXELS = 128,      /* of a run, so that packing them is cheap */
};

/* The input of one run of samples of a batch like x; by the output's size, or by its own. */
static struct shape run_input(const struct layer *l, const struct layer_context *ctx,
                              const struct shape *x, enum conv_op op)
{
    const struct shape y = conv2d_out_shape(geom_of(l), x);
    struct shape run = *x;
    const size_t samples = sample_runs_cut(op == CONV_FORWARD ? &y : x, ctx->bn_group).samples;
    run.n = samples < x->n ? samples : x->n;
    return run;
}

/* Of the algorithms igemm gives the same bits however the batch is cut, and has little to prepare. */
static int goes_by_sample(const struct layer *l, const struct layer_context *ctx,
                          const struct shape *x, enum conv_op op)
{
    const struct conv_geom *g = geom_of(l);
    const struct shape run = run_input(l, ctx, x, op), y = conv2d_out_shape(g, &run);
    return conv2d_algorithm(ctx->kernels, g, x, op) == CONV_IGEMM &&
           g->r * g->s * g->c * g->k <= RUN_WEIGHTS && shape_pixels(&y) >= RUN_PIXELS;
}

static int forward_by_sample(const struct layer *l, const struct layer_context *ctx,
                             const struct shape *x)
{
    return goes_by_sample(l, ctx, x, CONV_FORWARD);
}

static int backward_by_sample(const struct layer *l, const struct layer_context *ctx,
                              const struct shape *x)
{
    return goes_by_sample(l, ctx, x, CONV_BACKWARD_DATA);
}

/* What each thread needs for its runs. */
static size_t run_workspace_bytes(const struct layer *l, const struct layer_context *ctx,
                                  const struct shape *x, enum conv_op op)
{
    const struct shape run = run_input(l, ctx, x, op);
    const size_t line = 64;
    return (conv2d_workspace_bytes(ctx->kernels, geom_of(l), &run, op, 1) + line - 1) / line * line;
}

/* The calling thread's part. */
static void *run_workspace(const struct layer *l, const struct layer_io *io, const struct tensor *x,
                           enum conv_op op)
{
    struct shape batch = x->shape;
    batch.n = io->batch;
    return io->workspace
               ? (char *)io->workspace + io->thread * run_workspace_bytes(l, io->ctx, &batch, op)
               : NULL;
}

static size_t gradient_parts(const struct layer *l, const struct layer_context *ctx,
                             const struct shape *x)
{
    return conv2d_gradient_parts(ctx->kernels, geom_of(l), x, ctx->bn_group);
}

static void gradients_run(const struct layer *l, struct layer_io *io, size_t part, int is_first)
{
    struct shape batch = io->x[0].shape;
    batch.n = io->batch;
    conv2d_gradient_run(io->ctx->kernels, geom_of(l), &batch, &io->x[0], &io->dy, l->n_params > 1,
                        part, is_first, io->workspace);
}

static void gradients_end(const struct layer *l, struct layer_io *io)
{
    struct shape batch = io->x[0].shape;
    batch.n = io->batch;
    conv2d_gradient_end(io->ctx->kernels, geom_of(l), &batch, io->ctx->bn_group, io->dparams[0],
                        l->n_params > 1 ? io->dparams[1] : NULL, io->workspace, io->ctx->n_threads);
}

/* --- forward and backward ---------------------------------------------------------------------- */

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t conv2d_layer_workspace_bytes(const struct layer *l, const struct layer_context *ctx,
                                    const struct shape *x, enum layer_phase phase, int want_dx)
{
    const int may_go_by_sample = l->type->forward_by_sample != NULL;
    enum conv_op op = CONV_FORWARD;
    if (phase == LAYER_GRADIENTS) {
        op = CONV_BACKWARD_WEIGHT;
    } else if (phase == LAYER_BACKWARD) {
        op = CONV_BACKWARD_DATA;
        if (!want_dx) {
            return 0;
        }
    }
    size_t by_run = 0;
    if (may_go_by_sample && op != CONV_BACKWARD_WEIGHT && goes_by_sample(l, ctx, x, op)) {
        by_run = (size_t)ctx->n_threads * run_workspace_bytes(l, ctx, x, op);
    }
    return max_size(by_run,
                    conv2d_workspace_bytes(ctx->kernels, geom_of(l), x, op, ctx->n_threads));
}

double conv2d_layer_macs(const struct layer *l, const struct shape *x)
{
    return conv2d_macs(geom_of(l), x);
}

void conv2d_layer_forward(const struct layer *l, struct layer_io *io)
{
    const int is_run = io->y.shape.n < io->batch;
    void *workspace = is_run ? run_workspace(l, io, &io->x[0], CONV_FORWARD) : io->workspace;
    conv2d_forward(io->ctx->kernels, geom_of(l), &io->x[0], io->params[0],
                   l->n_params > 1 ? io->params[1] : NULL, &io->y, workspace,
                   is_run ? 1 : io->ctx->n_threads);
}

void conv2d_layer_gradients(const struct layer *l, struct layer_io *io)
{
    conv2d_backward_weight(io->ctx->kernels, geom_of(l), &io->x[0], &io->dy, io->ctx->bn_group,
                           io->dparams[0], l->n_params > 1 ? io->dparams[1] : NULL, io->workspace,
                           io->ctx->n_threads);
}

void conv2d_layer_backward(const struct layer *l, struct layer_io *io)
{
    if (!io->want_dx[0]) {
        return;
    }
    const int is_run = io->dy.shape.n < io->batch;
    void *workspace = is_run ? run_workspace(l, io, &io->dx[0], CONV_BACKWARD_DATA) : io->workspace;
    conv2d_backward_data(io->ctx->kernels, geom_of(l), &io->dy, io->params[0], &io->dx[0],
                         io->accumulate[0], workspace, is_run ? 1 : io->ctx->n_threads);
}

static void gradient(const struct layer *l, const struct layer_io *io, struct store_gradient *g)
{
    const struct conv_geom *geom = geom_of(l);
    *g = (struct store_gradient){.use = STORE_USE_CONV,
                                 .dy = &io->dy,
                                 .dx = io->want_dx[0] ? &io->dx[0] : NULL,
                                 .dw = io->dparams[0],
                                 .n_dw = geom->r * geom->s * geom->c * geom->k,
                                 .r = geom->r,
                                 .s = geom->s,
                                 .stride = geom->stride};
}

static void describe(const struct layer *l, char *buf, size_t cap)
{
    const struct conv_geom *g = geom_of(l);
    snprintf(buf, cap, "%zux%zu s%zu p%zu%s", g->r, g->s, g->stride, g->pad,
             l->n_params > 1 ? " bias" : "");
}

const struct layer_type layer_conv2d = {
    .name = "conv2d",
    .summary = "2-D convolution, any kernel, stride and padding, optional bias",
    .recomputable = 1,
    .forward_by_sample = forward_by_sample,
    .needs = needs,
    .workspace_bytes = conv2d_layer_workspace_bytes,
    .macs = conv2d_layer_macs,
    .forward = conv2d_layer_forward,
    .gradients = conv2d_layer_gradients,
    .gradient_parts = gradient_parts,
    .gradients_run = gradients_run,
    .gradients_end = gradients_end,
    .backward_by_sample = backward_by_sample,
    .backward = conv2d_layer_backward,
    .gradient = gradient,
    .describe = describe,
};

const struct conv_geom *conv2d_layer_geom(const struct layer *l)
{
    return l->type == &layer_conv2d ? geom_of(l) : NULL;
}

uint32_t graph_conv2d(struct graph *g, const char *name, uint32_t x, size_t k, size_t r,
                      size_t stride, size_t pad, int bias)
{
    struct conv2d_layer *l = layer_new(g, &layer_conv2d, sizeof *l, name, x);
    if (!l) {
        return 0;
    }
    struct shape in = g->values[x].shape;
    l->geom = (struct conv_geom){.c = in.c, .k = k, .r = r, .s = r, .stride = stride, .pad = pad};
    double he = sqrt(2.0 / (double)(k * r * r));
    l->base.params[0] = graph_add_param(g, name, "weight", PARAM_OIHW, (size_t[]){k, in.c, r, r}, 4,
                                        1, PARAM_INIT_NORMAL, he);
    l->base.n_params = l->base.n_trainable = 1;
    if (bias) {
        l->base.params[1] = graph_add_param(g, name, "bias", PARAM_VECTOR, &k, 1, 1,
                                            PARAM_INIT_UNIFORM, 1 / sqrt((double)(in.c * r * r)));
        l->base.n_params = l->base.n_trainable = 2;
    }
    return graph_add_layer(g, &l->base, conv2d_out_shape(&l->geom, &in));
}
