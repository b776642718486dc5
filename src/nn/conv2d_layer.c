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

/* --- forward by samples ------------------------------------------------------------------------ */

enum {
    RUN_WEIGHTS = 1 << 15, /* elements, 128 KiB: may be read, and packed, again for each run */
    RUN_PIXELS = 128,      /* of a run, so that packing them is cheap */
};

/* The input of one run of samples of a batch like x; the output's size decides how they are cut. */
static struct shape run_input(const struct layer *l, const struct layer_context *ctx,
                              const struct shape *x)
{
    const struct shape y = conv2d_out_shape(geom_of(l), x);
    struct shape run = *x;
    const size_t samples = sample_runs_cut(&y, ctx->bn_group).samples;
    run.n = samples < x->n ? samples : x->n;
    return run;
}

/* Of the algorithms igemm gives the same bits however the batch is cut, and has little to prepare. */
static int forward_by_sample(const struct layer *l, const struct layer_context *ctx,
                             const struct shape *x)
{
    const struct conv_geom *g = geom_of(l);
    const struct shape run = run_input(l, ctx, x), y = conv2d_out_shape(g, &run);
    return conv2d_algorithm(ctx->kernels, g, x, CONV_FORWARD) == CONV_IGEMM &&
           g->r * g->s * g->c * g->k <= RUN_WEIGHTS && shape_pixels(&y) >= RUN_PIXELS;
}

/* What each thread needs for its runs. */
static size_t run_workspace_bytes(const struct layer *l, const struct layer_context *ctx,
                                  const struct shape *x)
{
    const struct shape run = run_input(l, ctx, x);
    const size_t line = 64;
    return (conv2d_workspace_bytes(ctx->kernels, geom_of(l), &run, CONV_FORWARD, 1) + line - 1) /
           line * line;
}

/* --- forward and backward ---------------------------------------------------------------------- */

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t conv2d_layer_workspace_bytes(const struct layer *l, const struct layer_context *ctx,
                                    const struct shape *x, enum layer_phase phase, int want_dx)
{
    const struct conv_geom *g = geom_of(l);
    if (phase == LAYER_FORWARD) {
        const size_t by_run = l->type->forward_by_sample && forward_by_sample(l, ctx, x)
                                  ? (size_t)ctx->n_threads * run_workspace_bytes(l, ctx, x)
                                  : 0;
        return max_size(by_run,
                        conv2d_workspace_bytes(ctx->kernels, g, x, CONV_FORWARD, ctx->n_threads));
    }
    if (phase == LAYER_GRADIENTS) {
        return conv2d_workspace_bytes(ctx->kernels, g, x, CONV_BACKWARD_WEIGHT, ctx->n_threads);
    }
    return want_dx ? conv2d_workspace_bytes(ctx->kernels, g, x, CONV_BACKWARD_DATA, ctx->n_threads)
                   : 0;
}

double conv2d_layer_macs(const struct layer *l, const struct shape *x)
{
    return conv2d_macs(geom_of(l), x);
}

void conv2d_layer_forward(const struct layer *l, struct layer_io *io)
{
    const int is_run = io->y.shape.n < io->batch;
    char *workspace = io->workspace;
    if (is_run && workspace) {
        struct shape batch = io->x[0].shape;
        batch.n = io->batch;
        workspace += io->thread * run_workspace_bytes(l, io->ctx, &batch);
    }
    conv2d_forward(io->ctx->kernels, geom_of(l), &io->x[0], io->params[0],
                   l->n_params > 1 ? io->params[1] : NULL, &io->y, workspace,
                   is_run ? 1 : io->ctx->n_threads);
}

void conv2d_layer_gradients(const struct layer *l, struct layer_io *io)
{
    conv2d_backward_weight(io->ctx->kernels, geom_of(l), &io->x[0], &io->dy, io->dparams[0],
                           l->n_params > 1 ? io->dparams[1] : NULL, io->workspace,
                           io->ctx->n_threads);
}

void conv2d_layer_backward(const struct layer *l, struct layer_io *io)
{
    if (io->want_dx[0]) {
        conv2d_backward_data(io->ctx->kernels, geom_of(l), &io->dy, io->params[0], &io->dx[0],
                             io->accumulate[0], io->workspace, io->ctx->n_threads);
    }
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
