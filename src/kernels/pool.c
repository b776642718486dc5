/* Pooling: rows of the output (forward) or of the input (backward) are independent of each other.
 * Backward gathers instead of scattering: no clearing pass, and every sum has one fixed order. */
#include "kernels/pool.h"

#include <assert.h>

#include "base/tasks.h"
#include "kernels/loops_priv.h"

static size_t out_size(const struct pool_geom *g, size_t size)
{
    const size_t padded = size + 2 * g->pad;
    return padded < g->r ? 0 : (padded - g->r) / g->stride + 1;
}

struct shape pool_out_shape(const struct pool_geom *g, const struct shape *x)
{
    assert(g->r >= 1 && g->r <= 15 && g->stride >= 1 && g->pad <= g->r / 2);
    return (struct shape){x->n, out_size(g, x->h), out_size(g, x->w), x->c};
}

static struct pool_run make_run(const struct pool_geom *g, const struct shape *x,
                                const struct shape *y)
{
    const struct shape expected = pool_out_shape(g, x);
    assert(loop_same_shape(&expected, y));
    (void)expected; /* with NDEBUG */
    return (struct pool_run){
        .h = x->h,
        .w = x->w,
        .oh = y->h,
        .ow = y->w,
        .c = x->c,
        .r = g->r,
        .stride = g->stride,
        .pad = g->pad,
    };
}

/* First pixel of a sample. */
static real *sample(const struct tensor *x, size_t n)
{
    return x->data + n * x->shape.h * x->shape.w * x->pixel_stride;
}

/* First pixel of row i, counted over all samples. */
static real *row_of(const struct tensor *x, size_t i)
{
    return x->data + i * x->shape.w * x->pixel_stride;
}

void max_pool_forward(const struct kernels *k, const struct pool_geom *g, const struct tensor *x,
                      struct tensor *y, uint8_t *index)
{
    const struct pool_run run = make_run(g, &x->shape, &y->shape);
    const size_t n_rows = y->shape.n * y->shape.h;

    struct tasks tasks;
    tasks_share(&tasks, n_rows, loop_threads(&x->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        k->loop.max_pool(&run, i % run.oh, sample(x, i / run.oh), x->pixel_stride, row_of(y, i),
                         y->pixel_stride, index ? index + i * run.ow * run.c : NULL);
    }
}

void max_pool_backward(const struct kernels *k, const struct pool_geom *g, const struct tensor *dy,
                       const uint8_t *index, struct tensor *dx, int accumulate)
{
    const struct pool_run run = make_run(g, &dx->shape, &dy->shape);
    const size_t n_rows = dx->shape.n * dx->shape.h;

    struct tasks tasks;
    tasks_share(&tasks, n_rows, loop_threads(&dx->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const size_t n = i / run.h;
        k->loop.max_pool_back(&run, i % run.h, sample(dy, n), dy->pixel_stride,
                              index + n * run.oh * run.ow * run.c, row_of(dx, i), dx->pixel_stride,
                              accumulate);
    }
}

void avg_pool_forward(const struct kernels *k, const struct pool_geom *g, const struct tensor *x,
                      struct tensor *y)
{
    const struct pool_run run = make_run(g, &x->shape, &y->shape);
    const size_t n_rows = y->shape.n * y->shape.h;

    struct tasks tasks;
    tasks_share(&tasks, n_rows, loop_threads(&x->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        k->loop.avg_pool(&run, i % run.oh, sample(x, i / run.oh), x->pixel_stride, row_of(y, i),
                         y->pixel_stride);
    }
}

void avg_pool_backward(const struct kernels *k, const struct pool_geom *g, const struct tensor *dy,
                       struct tensor *dx, int accumulate)
{
    const struct pool_run run = make_run(g, &dx->shape, &dy->shape);
    const size_t n_rows = dx->shape.n * dx->shape.h;

    struct tasks tasks;
    tasks_share(&tasks, n_rows, loop_threads(&dx->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        k->loop.avg_pool_back(&run, i % run.h, sample(dy, i / run.h), dy->pixel_stride,
                              row_of(dx, i), dx->pixel_stride, accumulate);
    }
}

void global_avg_pool_forward(const struct kernels *k, const struct tensor *x, struct tensor *y)
{
    assert(y->shape.n == x->shape.n && y->shape.h == 1 && y->shape.w == 1);
    assert(y->shape.c == x->shape.c);
    const size_t n_pixels = x->shape.h * x->shape.w;

    struct tasks tasks;
    tasks_share(&tasks, x->shape.n, loop_threads(&x->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t n; tasks_next(&tasks, &n);) {
        k->loop.mean(n_pixels, x->shape.c, sample(x, n), x->pixel_stride, sample(y, n));
    }
}

void global_avg_pool_backward(const struct kernels *k, const struct tensor *dy, struct tensor *dx,
                              int accumulate)
{
    assert(dy->shape.n == dx->shape.n && dy->shape.h == 1 && dy->shape.w == 1);
    assert(dy->shape.c == dx->shape.c);
    const size_t n_pixels = dx->shape.h * dx->shape.w;
    const real scale = (real)(1.0 / (double)n_pixels);

    struct tasks tasks;
    tasks_share(&tasks, dx->shape.n, loop_threads(&dx->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t n; tasks_next(&tasks, &n);) {
        k->loop.spread(n_pixels, dx->shape.c, sample(dy, n), scale, sample(dx, n), dx->pixel_stride,
                       accumulate);
    }
}
