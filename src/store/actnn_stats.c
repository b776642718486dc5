#include "store/actnn_stats.h"

#include <math.h>

/* Independent accumulators, so that they need not wait for each other. */
#define LANES 16

static double square_norm(const real *v, size_t n)
{
    float sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            sums[lane] += (float)(v[i + lane] * v[i + lane]);
        }
    }
    for (; i < n; i++) {
        sums[i % LANES] += (float)(v[i] * v[i]);
    }
    double sum = 0;
    for (size_t lane = 0; lane < LANES; lane++) {
        sum += (double)sums[lane];
    }
    return sum;
}

double actnn_square_norm(const struct tensor *x, size_t sample)
{
    const size_t pixels = x->shape.h * x->shape.w;
    double sum = 0;
    for (size_t p = sample * pixels; p < (sample + 1) * pixels; p++) {
        sum += square_norm(x->data + p * x->pixel_stride, x->shape.c);
    }
    return sum;
}

/* Least and largest of some values so far; NaN among them is passed over. */
struct extent {
    real low[LANES], high[LANES];
};

static struct extent extent_none(void)
{
    struct extent e;
    for (size_t lane = 0; lane < LANES; lane++) {
        e.low[lane] = (real)INFINITY;
        e.high[lane] = (real)-INFINITY;
    }
    return e;
}

static void extend(struct extent *e, const real *v, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            const real x = v[i + lane];
            e->low[lane] = x < e->low[lane] ? x : e->low[lane];
            e->high[lane] = x > e->high[lane] ? x : e->high[lane];
        }
    }
    for (; i < n; i++) {
        e->low[0] = v[i] < e->low[0] ? v[i] : e->low[0];
        e->high[0] = v[i] > e->high[0] ? v[i] : e->high[0];
    }
}

static double square_range(const struct extent *e)
{
    real low = e->low[0], high = e->high[0];
    for (size_t lane = 1; lane < LANES; lane++) {
        low = e->low[lane] < low ? e->low[lane] : low;
        high = e->high[lane] > high ? e->high[lane] : high;
    }
    const double range = (double)high - (double)low;
    return range * range;
}

double actnn_square_ranges(const struct tensor *x, size_t sample)
{
    const int is_dense = x->pixel_stride == x->shape.c;
    const size_t pixels = x->shape.h * x->shape.w;
    const size_t n_runs = is_dense ? 1 : pixels, run = is_dense ? pixels * x->shape.c : x->shape.c;
    const real *v = x->data + sample * pixels * x->pixel_stride;
    struct extent extent = extent_none();
    size_t filled = 0;
    double sum = 0;
    for (size_t r = 0; r < n_runs; r++, v += x->pixel_stride) {
        for (size_t i = 0, n; i < run; i += n) {
            n = ACTNN_GROUP - filled < run - i ? ACTNN_GROUP - filled : run - i;
            extend(&extent, v + i, n);
            filled += n;
            if (filled == ACTNN_GROUP) {
                sum += square_range(&extent);
                extent = extent_none();
                filled = 0;
            }
        }
    }
    return filled > 0 ? sum + square_range(&extent) : sum;
}
