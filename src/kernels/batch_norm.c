/* Batch normalisation: cuts the batch into runs of samples that never cross a group's border, runs
 * into blocks of pixels, and merges the blocks' sums in their order. */
#include "kernels/batch_norm.h"

#include <assert.h>
#include <string.h>

#include "base/tasks.h"
#include "kernels/loops_priv.h"
#include "kernels/sample_runs.h"

/* Sums: a block has sums of its own in the workspace, so it is larger than elsewhere; inside it,
 * chunks small enough that float sums stay exact to a few units
 * in the last place and that the second reading of x comes from cache. */
#define SUM_BLOCK_BYTES 131072u
#define CHUNK_BYTES 16384u
#define CHUNK_MIN_PIXELS 32u
#define CHUNK_MAX_PIXELS 256u

static size_t chunk_pixels(size_t c)
{
    const size_t n = CHUNK_BYTES / (c * sizeof(real));
    return n < CHUNK_MIN_PIXELS ? CHUNK_MIN_PIXELS : n > CHUNK_MAX_PIXELS ? CHUNK_MAX_PIXELS : n;
}

/* A run of samples in blocks, each with sums of its own: [block][2][c] doubles in the workspace. */
struct run_blocks {
    size_t first, n_pixels, group; /* of the run */
    size_t block, n_blocks;        /* pixels of a whole block; of a whole run */
};

static size_t blocks_per_run(const struct shape *x, const struct sample_runs *r, size_t *block)
{
    const size_t pixels = r->samples * x->h * x->w;
    *block = SUM_BLOCK_BYTES / (x->c * sizeof(real));
    *block = *block < CHUNK_MIN_PIXELS ? CHUNK_MIN_PIXELS : *block;
    return pixels == 0 ? 0 : (pixels - 1) / *block + 1;
}

static struct run_blocks run_blocks(const struct shape *x, const struct sample_runs *r, size_t run)
{
    struct run_blocks b;
    size_t first, n;
    b.group = sample_runs_get(r, run, &first, &n);
    b.first = first * x->h * x->w;
    b.n_pixels = n * x->h * x->w;
    b.n_blocks = blocks_per_run(x, r, &b.block);
    return b;
}

static size_t n_sums(const struct shape *x, size_t group)
{
    const struct sample_runs r = sample_runs_cut(x, group);
    size_t block;
    return r.n_runs * blocks_per_run(x, &r, &block);
}

size_t batch_norm_workspace_bytes(const struct shape *x, size_t group)
{
    /* Two sums per block and channel, and two totals per channel for the merge. */
    return (n_sums(x, group) + 1) * 2 * x->c * sizeof(double);
}

/* Pixels of block i of a run; 0 behind the end of a short run. */
static size_t block_pixels(const struct run_blocks *b, size_t i)
{
    const size_t at = i * b->block;
    return at >= b->n_pixels ? 0 : b->n_pixels - at < b->block ? b->n_pixels - at : b->block;
}

/* --- statistics ------------------------------------------------------------------------------- */

static void stats_block(const struct kernels *k, const struct tensor *x, const struct run_blocks *b,
                        size_t i, double *part)
{
    const size_t c = x->shape.c, chunk = chunk_pixels(c), n = block_pixels(b, i);
    const real *first = x->data + (b->first + i * b->block) * x->pixel_stride;
    memset(part, 0, 2 * c * sizeof(double));
    for (size_t p = 0; p < n; p += chunk) {
        const size_t n_chunk = n - p < chunk ? n - p : chunk;
        k->loop.bn_moments(n_chunk, c, first + p * x->pixel_stride, x->pixel_stride, p, part,
                           part + c);
    }
}

void batch_norm_stats_run(const struct kernels *k, const struct tensor *x, size_t group, size_t run,
                          void *workspace)
{
    const struct sample_runs r = sample_runs_cut(&x->shape, group);
    const struct run_blocks b = run_blocks(&x->shape, &r, run);
    for (size_t i = 0; i < b.n_blocks; i++) {
        stats_block(k, x, &b, i, (double *)workspace + (run * b.n_blocks + i) * 2 * x->shape.c);
    }
}

void batch_norm_stats_merge(const struct shape *x, size_t group, real *mean, real *var,
                            void *workspace)
{
    const size_t c = x->c;
    const struct sample_runs r = sample_runs_cut(x, group);
    const double *part = workspace; /* [runs][blocks][mean, M2][c] */
    double *const total = (double *)workspace + n_sums(x, group) * 2 * c;
    double n_total = 0; /* pixels of the group merged so far */
    for (size_t run = 0; run < r.n_runs; run++) {
        const struct run_blocks b = run_blocks(x, &r, run);
        if (run % r.per_group == 0) {
            n_total = 0;
            memset(total, 0, 2 * c * sizeof(double));
        }
        for (size_t i = 0; i < b.n_blocks; i++, part += 2 * c) {
            const double n = (double)block_pixels(&b, i);
            if (n <= 0) {
                continue;
            }
            /* Chan, Golub and LeVeque 1979: merging two sets of moments. */
            const double share = n / (n_total + n);
            for (size_t j = 0; j < c; j++) {
                const double delta = part[j] - total[j];
                total[j] += delta * share;
                total[c + j] += part[c + j] + delta * delta * n_total * share;
            }
            n_total += n;
        }
        if (run + 1 == r.n_runs || (run + 1) % r.per_group == 0) {
            for (size_t j = 0; j < c; j++) {
                mean[b.group * c + j] = (real)total[j];
                var[b.group * c + j] = (real)(total[c + j] / n_total);
            }
        }
    }
}

void batch_norm_stats(const struct kernels *k, const struct tensor *x, size_t group, real *mean,
                      real *var, void *workspace)
{
    const struct sample_runs r = sample_runs_cut(&x->shape, group);
    size_t block;
    const size_t n_blocks = blocks_per_run(&x->shape, &r, &block);
    struct tasks tasks;
    tasks_share(&tasks, r.n_runs * n_blocks, loop_threads(&x->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const struct run_blocks b = run_blocks(&x->shape, &r, i / n_blocks);
        stats_block(k, x, &b, i % n_blocks, (double *)workspace + i * 2 * x->shape.c);
    }
    batch_norm_stats_merge(&x->shape, group, mean, var, workspace);
}

/* --- normalisation ---------------------------------------------------------------------------- */

static size_t sign_stride(size_t c)
{
    return (c + 7) / 8;
}

/* Pixels first .. first + n - 1 of group g. */
static struct bn_run run_of(const struct batch_norm *bn, const struct tensor *x, size_t g,
                            size_t first, size_t n)
{
    const size_t c = x->shape.c;
    struct bn_run run = {
        .n_pixels = n,
        .c = c,
        .x = x->data + first * x->pixel_stride,
        .x_stride = x->pixel_stride,
        .mean = bn->mean + g * c,
        .invstd = bn->invstd + g * c,
        .gamma = bn->gamma,
        .beta = bn->beta,
    };
    if (bn->relu && bn->signs != NULL) {
        run.signs = bn->signs + first * sign_stride(c);
        run.sign_stride = sign_stride(c);
    }
    return run;
}

void batch_norm_apply(const struct kernels *k, const struct tensor *x, const struct batch_norm *bn,
                      struct tensor *y)
{
    assert(loop_same_shape(&x->shape, &y->shape));
    const struct blocks b = blocks_cut(&x->shape, bn->group, LOOP_BLOCK_BYTES, 1);
    const enum bn_relu relu = !bn->relu           ? BN_NO_RELU
                              : bn->signs == NULL ? BN_RELU
                              : bn->is_given      ? BN_RELU_READ
                                                  : BN_RELU_WRITE;

    struct tasks tasks;
    tasks_share(&tasks, b.n_blocks, loop_threads(&x->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        size_t g, n;
        const size_t first = blocks_get(&b, i, &g, &n);
        struct bn_run run = run_of(bn, x, g, first, n);
        run.relu = relu;
        run.out = y->data + first * y->pixel_stride;
        run.out_stride = y->pixel_stride;
        k->loop.bn_apply(&run);
    }
}

/* --- backward --------------------------------------------------------------------------------- */

static struct bn_run backward_run(const struct batch_norm *bn, const struct tensor *dy,
                                  const struct tensor *x, size_t g, size_t first, size_t n)
{
    struct bn_run run = run_of(bn, x, g, first, n);
    run.relu = !bn->relu ? BN_NO_RELU : bn->signs == NULL ? BN_RELU : BN_RELU_READ;
    run.dy = dy->data + first * dy->pixel_stride;
    run.dy_stride = dy->pixel_stride;
    return run;
}

static void sums_block(const struct kernels *k, const struct tensor *dy, const struct tensor *x,
                       size_t x_first, const struct batch_norm *bn, const struct run_blocks *b,
                       size_t i, double *part)
{
    const size_t c = x->shape.c, chunk = chunk_pixels(c), skip = x_first * x->shape.h * x->shape.w;
    const size_t first = b->first + i * b->block, n = block_pixels(b, i);
    memset(part, 0, 2 * c * sizeof(double));
    for (size_t p = 0; p < n; p += chunk) {
        struct bn_run run = backward_run(bn, dy, x, b->group, first + p,
                                         n - p < chunk ? n - p : chunk);
        run.x = x->data + (first + p - skip) * x->pixel_stride;
        k->loop.bn_reduce(&run, part, part + c);
    }
}

void batch_norm_backward_sums_run(const struct kernels *k, const struct tensor *dy,
                                  const struct tensor *x, size_t x_first,
                                  const struct batch_norm *bn, size_t run, void *workspace)
{
    const struct sample_runs r = sample_runs_cut(&dy->shape, bn->group);
    const struct run_blocks b = run_blocks(&dy->shape, &r, run);
    for (size_t i = 0; i < b.n_blocks; i++) {
        sums_block(k, dy, x, x_first, bn, &b, i,
                   (double *)workspace + (run * b.n_blocks + i) * 2 * x->shape.c);
    }
}

void batch_norm_backward_sums_merge(const struct shape *x, size_t group, const real *invstd,
                                    real *means, real *dgamma, real *dbeta, void *workspace)
{
    const size_t c = x->c, n_parts = n_sums(x, group);
    const struct sample_runs r = sample_runs_cut(x, group);
    double *parts = workspace; /* [runs][blocks][sum dy, sum dy * (x - mean)][c] */
    const size_t per_group = r.n_runs > 0 ? n_parts / r.n_runs * r.per_group : 1;
    /* A group's blocks are gathered in its first one's place; then the groups in `total`. */
    double *const total = parts + n_parts * 2 * c;
    memset(total, 0, 2 * c * sizeof(double));
    for (size_t i = 0; i < n_parts; i += per_group) {
        double *const sum = parts + i * 2 * c;
        const size_t g = i / per_group, left = r.n - g * r.group;
        const double count = (double)((left < r.group ? left : r.group) * x->h * x->w);
        for (size_t l = i + 1; l < n_parts && l < i + per_group; l++) {
            const double *const part = parts + l * 2 * c;
            for (size_t j = 0; j < 2 * c; j++) {
                sum[j] += part[j];
            }
        }
        for (size_t j = 0; j < c; j++) {
            const double dy_xhat = sum[c + j] * (double)invstd[g * c + j];
            means[g * 2 * c + j] = (real)(sum[j] / count);
            means[g * 2 * c + c + j] = (real)(dy_xhat / count);
            total[j] += sum[j];
            total[c + j] += dy_xhat;
        }
    }
    for (size_t j = 0; j < c; j++) {
        dbeta[j] = (real)total[j];
        dgamma[j] = (real)total[c + j];
    }
}

void batch_norm_backward_reduce(const struct kernels *k, const struct tensor *dy,
                                const struct tensor *x, const struct batch_norm *bn, real *means,
                                real *dgamma, real *dbeta, void *workspace)
{
    assert(loop_same_shape(&x->shape, &dy->shape));
    const struct sample_runs r = sample_runs_cut(&x->shape, bn->group);
    size_t block;
    const size_t n_blocks = blocks_per_run(&x->shape, &r, &block);
    struct tasks tasks;
    tasks_share(&tasks, r.n_runs * n_blocks, loop_threads(&x->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const struct run_blocks b = run_blocks(&x->shape, &r, i / n_blocks);
        sums_block(k, dy, x, 0, bn, &b, i % n_blocks, (double *)workspace + i * 2 * x->shape.c);
    }
    batch_norm_backward_sums_merge(&x->shape, bn->group, bn->invstd, means, dgamma, dbeta,
                                   workspace);
}

void batch_norm_backward_apply(const struct kernels *k, const struct tensor *dy,
                               const struct tensor *x, const struct batch_norm *bn,
                               const real *means, struct tensor *dx, int accumulate)
{
    assert(loop_same_shape(&x->shape, &dy->shape) && loop_same_shape(&x->shape, &dx->shape));
    const size_t c = x->shape.c;
    const struct blocks b = blocks_cut(&x->shape, bn->group, LOOP_BLOCK_BYTES, 1);

    struct tasks tasks;
    tasks_share(&tasks, b.n_blocks, loop_threads(&x->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        size_t g, n;
        const size_t first = blocks_get(&b, i, &g, &n);
        struct bn_run run = backward_run(bn, dy, x, g, first, n);
        run.means = means + g * 2 * c;
        run.out = dx->data + first * dx->pixel_stride;
        run.out_stride = dx->pixel_stride;
        run.accumulate = accumulate;
        k->loop.bn_backward(&run);
    }
}
