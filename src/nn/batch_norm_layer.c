/* Batch normalisation, torch.nn.BatchNorm2d (eps 1e-5, momentum 0.1).
 *
 * Training: y = gamma * (x - mean) * invstd + beta, mean and biased variance per group of samples;
 * side data [n_groups][2][c]: mean, invstd. Running statistics move once per step with the mean of
 * the groups' means and of their unbiased variances:
 *   running = (1 - momentum) * running + momentum * that.
 * Backward needs x as a map (batch_norm.h has the formulas). */
#include <math.h>

#include "kernels/batch_norm.h"
#include "nn/layer.h"
#include "nn/layers.h"

extern const struct layer_type layer_batch_norm;

enum { GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR };

static const double eps = 1e-5, momentum = 0.1;

static size_t n_groups(size_t n, size_t group)
{
    return (n + group - 1) / group;
}

static void needs(const struct layer *l, const struct shape *x, size_t bn_group,
                  struct layer_needs *n)
{
    (void)l;
    n->map_input = 1;
    n->map_use = STORE_USE_BN;
    n->side_piece = STORE_PIECE_STATS;
    n->side_bytes = n_groups(x->n, bn_group) * 2 * x->c * sizeof(real);
}

/* Workspace: the kernels' scratch, then the sums [n_groups][2][c]. */
static size_t scratch_reals(const struct shape *x, size_t group)
{
    return (batch_norm_workspace_bytes(x, group) + 63) / 64 * (64 / sizeof(real));
}

static size_t workspace_bytes(const struct layer *l, const struct layer_context *ctx,
                              const struct shape *x, enum layer_phase phase, int want_dx)
{
    (void)l, (void)want_dx;
    size_t sums = n_groups(x->n, ctx->bn_group) * 2 * x->c;
    size_t training = (scratch_reals(x, ctx->bn_group) + sums) * sizeof(real);
    if (phase == LAYER_FORWARD) {
        /* Evaluation keeps invstd here, training sums and the groups' variances. */
        return ctx->training ? training : x->c * sizeof(real);
    }
    return training;
}

static void forward_sums(const struct layer *l, struct layer_io *io, size_t run)
{
    (void)l;
    batch_norm_stats_run(io->ctx->kernels, &io->x[0], io->ctx->bn_group, run, io->workspace);
}

static void update_running(struct layer_io *io, const real *mean, const real *var, size_t groups)
{
    const struct shape *s = &io->x[0].shape;
    for (size_t i = 0; i < s->c; i++) {
        double sum_mean = 0, sum_var = 0;
        for (size_t g = 0; g < groups; g++) {
            size_t first = g * io->ctx->bn_group;
            size_t n = s->n - first < io->ctx->bn_group ? s->n - first : io->ctx->bn_group;
            double m = (double)(n * s->h * s->w);
            sum_mean += (double)mean[g * s->c + i];
            sum_var += (double)var[g * s->c + i] * m / (m - 1);
        }
        real *rm = &io->params[RUNNING_MEAN][i], *rv = &io->params[RUNNING_VAR][i];
        *rm = (real)((1 - momentum) * (double)*rm + momentum * sum_mean / (double)groups);
        *rv = (real)((1 - momentum) * (double)*rv + momentum * sum_var / (double)groups);
    }
}

static void forward_sums_end(const struct layer *l, struct layer_io *io)
{
    (void)l;
    const struct shape *s = &io->x[0].shape;
    if (!io->ctx->training) {
        real *invstd = io->workspace;
        for (size_t i = 0; i < s->c; i++) {
            invstd[i] = (real)(1 / sqrt((double)io->params[RUNNING_VAR][i] + eps));
        }
        return;
    }
    size_t group = io->ctx->bn_group, groups = n_groups(s->n, group);
    real *mean = io->side, *invstd = mean + groups * s->c;
    real *var = (real *)io->workspace + scratch_reals(s, group);
    batch_norm_stats_merge(s, group, mean, var, io->workspace);
    for (size_t i = 0; i < groups * s->c; i++) {
        invstd[i] = (real)(1 / sqrt((double)var[i] + eps));
    }
    update_running(io, mean, var, groups);
}

/* The step's numbers from the group of io's first sample on: io holds samples of one group, or all
 * of the batch. */
static struct batch_norm numbers(const struct layer_io *io, size_t first)
{
    const struct shape *s = io->x[0].data ? &io->x[0].shape : &io->y.shape;
    const size_t group = io->ctx->bn_group, at = first / group * s->c;
    const real *mean = io->side;
    return (struct batch_norm){.group = group,
                               .mean = mean + at,
                               .invstd = mean + n_groups(io->batch, group) * s->c + at,
                               .gamma = io->params[GAMMA],
                               .beta = io->params[BETA],
                               .relu = io->relu,
                               .signs = io->signs,
                               .is_given = io->recompute};
}

static void forward(const struct layer *l, struct layer_io *io)
{
    (void)l;
    struct batch_norm bn;
    if (io->ctx->training) {
        bn = numbers(io, io->first);
    } else {
        bn = (struct batch_norm){.group = io->batch,
                                 .mean = io->params[RUNNING_MEAN],
                                 .invstd = io->workspace,
                                 .gamma = io->params[GAMMA],
                                 .beta = io->params[BETA],
                                 .relu = io->relu};
    }
    batch_norm_apply(io->ctx->kernels, &io->x[0], &bn, &io->y);
}

static real *backward_means(const struct layer_io *io)
{
    struct shape whole = io->dy.shape;
    whole.n = io->batch;
    return (real *)io->workspace + scratch_reals(&whole, io->ctx->bn_group);
}

static void backward_sums(const struct layer *l, struct layer_io *io, size_t run)
{
    (void)l;
    const struct batch_norm bn = numbers(io, 0);
    batch_norm_backward_sums_run(io->ctx->kernels, &io->dy, &io->x[0], io->x_first, &bn, run,
                                 io->workspace);
}

static void backward_sums_end(const struct layer *l, struct layer_io *io)
{
    (void)l;
    const struct batch_norm bn = numbers(io, 0);
    batch_norm_backward_sums_merge(&io->dy.shape, bn.group, bn.invstd, backward_means(io),
                                   io->dparams[GAMMA], io->dparams[BETA], io->workspace);
}

static void backward(const struct layer *l, struct layer_io *io)
{
    (void)l;
    if (!io->want_dx[0]) {
        return;
    }
    const struct batch_norm bn = numbers(io, io->first);
    const size_t at = io->first / bn.group * io->dy.shape.c;
    batch_norm_backward_apply(io->ctx->kernels, &io->dy, &io->x[0], &bn,
                              backward_means(io) + 2 * at, &io->dx[0], io->accumulate[0]);
}

/* When dx has been asked for it may lie where dy lay. */
static void gradient(const struct layer *l, const struct layer_io *io, struct store_gradient *g)
{
    (void)l;
    const real *mean = io->side;
    const size_t groups = n_groups(io->batch, io->ctx->bn_group);
    *g = (struct store_gradient){.use = STORE_USE_BN,
                                 .dy = io->want_dx[0] ? NULL : &io->dy,
                                 .dx = io->want_dx[0] ? &io->dx[0] : NULL,
                                 .gamma = io->params[GAMMA],
                                 .invstd = mean + groups * io->dy.shape.c,
                                 .dgamma = io->dparams[GAMMA],
                                 .n_groups = groups};
}

static void norm(const struct layer *l, const struct layer_io *io, struct codec_norm *n)
{
    (void)l;
    const struct batch_norm bn = numbers(io, 0);
    *n = (struct codec_norm){.mean = bn.mean,
                             .invstd = bn.invstd,
                             .gamma = bn.gamma,
                             .beta = bn.beta,
                             .group = bn.group,
                             .signs = io->signs};
}

const struct layer_type layer_batch_norm = {
    .name = "batch_norm",
    .summary = "batch normalisation with running statistics, in groups of train.bn_group samples",
    .forward_in_place = 1,
    .backward_in_place = 1,
    .recomputable = 1,
    .takes_relu = 1,
    .by_sample = 1,
    .needs = needs,
    .workspace_bytes = workspace_bytes,
    .forward_sums = forward_sums,
    .forward_sums_end = forward_sums_end,
    .backward_sums = backward_sums,
    .backward_sums_end = backward_sums_end,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .norm = norm,
};

uint32_t graph_batch_norm(struct graph *g, const char *name, uint32_t x)
{
    struct layer *l = layer_new(g, &layer_batch_norm, sizeof *l, name, x);
    if (!l) {
        return 0;
    }
    size_t c = g->values[x].shape.c;
    const char *const suffix[] = {"weight", "bias", "running_mean", "running_var"};
    for (size_t i = 0; i < 4; i++) {
        double v = i == GAMMA || i == RUNNING_VAR ? 1 : 0;
        l->params[i] = graph_add_param(g, name, suffix[i], PARAM_VECTOR, &c, 1, i < 2,
                                       PARAM_INIT_CONSTANT, v);
    }
    l->n_params = 4;
    l->n_trainable = 2;
    return graph_add_layer(g, l, g->values[x].shape);
}
