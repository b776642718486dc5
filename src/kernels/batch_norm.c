/* Batch normalisation: cuts the pixels into blocks that never cross a group's border and merges the
 * blocks' sums in their order. */
#include "kernels/batch_norm.h"

#include <assert.h>
#include <string.h>

#include "kernels/loops_priv.h"

/* Sums: a block is a thread's unit of work and has sums of its own in the workspace, so it is
 * larger than elsewhere; inside it, chunks small enough that float sums stay exact to a few units
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

static struct blocks sum_blocks(const struct shape *x, size_t group)
{
    return blocks_cut(x, group, SUM_BLOCK_BYTES, CHUNK_MIN_PIXELS);
}

size_t batch_norm_workspace_bytes(const struct shape *x, size_t group)
{
    /* Two sums per block and channel, and two totals per channel for the merge. */
    return (sum_blocks(x, group).n_blocks + 1) * 2 * x->c * sizeof(double);
}

void batch_norm_stats(const struct kernels *k, const struct tensor *x, size_t group, real *mean,
                      real *var, void *workspace)
{
    const size_t c = x->shape.c;
    const struct blocks b = sum_blocks(&x->shape, group);
    double *const parts = workspace; /* [n_blocks][mean, M2][c] */

#pragma omp parallel for schedule(static) if (blocks_want_threads(&x->shape))
    for (size_t i = 0; i < b.n_blocks; i++) {
        size_t g, n;
        const size_t first = blocks_get(&b, i, &g, &n);
        const size_t chunk = chunk_pixels(c);
        double *const part = parts + i * 2 * c;
        memset(part, 0, 2 * c * sizeof(double));
        for (size_t p = 0; p < n; p += chunk) {
            const size_t n_chunk = n - p < chunk ? n - p : chunk;
            k->loop.bn_moments(n_chunk, c, x->data + (first + p) * x->pixel_stride, x->pixel_stride,
                               p, part, part + c);
        }
    }

    double *const total = parts + b.n_blocks * 2 * c;
    double n_total = 0; /* pixels of the group merged so far */
    for (size_t i = 0; i < b.n_blocks; i++) {
        size_t g, n;
        const size_t end = blocks_get(&b, i, &g, &n) + n;
        const double *const part = parts + i * 2 * c;
        if (i % b.per_group == 0) {
            n_total = 0;
            memset(total, 0, 2 * c * sizeof(double));
        }
        /* Chan, Golub and LeVeque 1979: merging two sets of moments. */
        const double share = (double)n / (n_total + (double)n);
        for (size_t j = 0; j < c; j++) {
            const double delta = part[j] - total[j];
            total[j] += delta * share;
            total[c + j] += part[c + j] + delta * delta * n_total * share;
        }
        n_total += (double)n;
        if (end == b.n_items || end == (g + 1) * b.group) {
            for (size_t j = 0; j < c; j++) {
                mean[g * c + j] = (real)total[j];
                var[g * c + j] = (real)(total[c + j] / n_total);
            }
        }
    }
}

void batch_norm_apply(const struct kernels *k, const struct tensor *x, size_t group,
                      const real *mean, const real *invstd, const real *gamma, const real *beta,
                      struct tensor *y)
{
    assert(loop_same_shape(&x->shape, &y->shape));
    const size_t c = x->shape.c;
    const struct blocks b = blocks_cut(&x->shape, group, LOOP_BLOCK_BYTES, 1);

#pragma omp parallel for schedule(static) if (blocks_want_threads(&x->shape))
    for (size_t i = 0; i < b.n_blocks; i++) {
        size_t g, n;
        const size_t first = blocks_get(&b, i, &g, &n);
        const struct bn_run run = {
            .n_pixels = n,
            .c = c,
            .x = x->data + first * x->pixel_stride,
            .x_stride = x->pixel_stride,
            .mean = mean + g * c,
            .invstd = invstd + g * c,
            .gamma = gamma,
            .beta = beta,
            .out = y->data + first * y->pixel_stride,
            .out_stride = y->pixel_stride,
        };
        k->loop.bn_apply(&run);
    }
}

void batch_norm_backward_reduce(const struct kernels *k, const struct tensor *dy,
                                const struct tensor *x, size_t group, const real *mean,
                                const real *invstd, real *sums, real *dgamma, real *dbeta,
                                void *workspace)
{
    assert(loop_same_shape(&x->shape, &dy->shape));
    const size_t c = x->shape.c;
    const struct blocks b = sum_blocks(&x->shape, group);
    double *const parts = workspace; /* [n_blocks][sum dy, sum dy * (x - mean)][c] */

#pragma omp parallel for schedule(static) if (blocks_want_threads(&x->shape))
    for (size_t i = 0; i < b.n_blocks; i++) {
        size_t g, n;
        const size_t first = blocks_get(&b, i, &g, &n);
        const size_t chunk = chunk_pixels(c);
        double *const part = parts + i * 2 * c;
        memset(part, 0, 2 * c * sizeof(double));
        for (size_t p = 0; p < n; p += chunk) {
            const struct bn_run run = {
                .n_pixels = n - p < chunk ? n - p : chunk,
                .c = c,
                .x = x->data + (first + p) * x->pixel_stride,
                .x_stride = x->pixel_stride,
                .dy = dy->data + (first + p) * dy->pixel_stride,
                .dy_stride = dy->pixel_stride,
                .mean = mean + g * c,
            };
            k->loop.bn_reduce(&run, part, part + c);
        }
    }

    /* A group's blocks are gathered in its first one's place; then the groups in `total`. */
    double *const total = parts + b.n_blocks * 2 * c;
    memset(total, 0, 2 * c * sizeof(double));
    for (size_t i = 0; i < b.n_blocks; i += b.per_group) {
        double *const sum = parts + i * 2 * c;
        const size_t g = i / b.per_group;
        for (size_t l = i + 1; l < b.n_blocks && l < i + b.per_group; l++) {
            const double *const part = parts + l * 2 * c;
            for (size_t j = 0; j < 2 * c; j++) {
                sum[j] += part[j];
            }
        }
        for (size_t j = 0; j < c; j++) {
            const double dy_xhat = sum[c + j] * (double)invstd[g * c + j];
            sums[g * 2 * c + j] = (real)sum[j];
            sums[g * 2 * c + c + j] = (real)dy_xhat;
            total[j] += sum[j];
            total[c + j] += dy_xhat;
        }
    }
    for (size_t j = 0; j < c; j++) {
        dbeta[j] = (real)total[j];
        dgamma[j] = (real)total[c + j];
    }
}

void batch_norm_backward_apply(const struct kernels *k, const struct tensor *dy,
                               const struct tensor *x, size_t group, const real *mean,
                               const real *invstd, const real *gamma, const real *sums,
                               struct tensor *dx, int accumulate)
{
    assert(loop_same_shape(&x->shape, &dy->shape) && loop_same_shape(&x->shape, &dx->shape));
    const size_t c = x->shape.c;
    const struct blocks b = blocks_cut(&x->shape, group, LOOP_BLOCK_BYTES, 1);

#pragma omp parallel for schedule(static) if (blocks_want_threads(&x->shape))
    for (size_t i = 0; i < b.n_blocks; i++) {
        size_t g, n;
        const size_t first = blocks_get(&b, i, &g, &n);
        const size_t left = b.n_items - g * b.group;
        const struct bn_run run = {
            .n_pixels = n,
            .c = c,
            .x = x->data + first * x->pixel_stride,
            .x_stride = x->pixel_stride,
            .dy = dy->data + first * dy->pixel_stride,
            .dy_stride = dy->pixel_stride,
            .mean = mean + g * c,
            .invstd = invstd + g * c,
            .gamma = gamma,
            .sums = sums + g * 2 * c,
            .inv_count = (real)(1.0 / (double)(left < b.group ? left : b.group)),
            .out = dx->data + first * dx->pixel_stride,
            .out_stride = dx->pixel_stride,
            .accumulate = accumulate,
        };
        k->loop.bn_backward(&run);
    }
}
