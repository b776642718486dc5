/* Element-wise passes. Where all tensors are dense, a block of pixels is one long row. */
#include "kernels/eltwise.h"

#include <assert.h>
#include <math.h>

#include "base/tasks.h"
#include "kernels/loops_priv.h"

/* A block as rows for the inner loops. */
struct rows {
    size_t first; /* pixel */
    size_t n, len;
};

static struct blocks cut(const struct tensor *x)
{
    return blocks_cut(&x->shape, x->shape.n, LOOP_BLOCK_BYTES, 1);
}

static struct rows get_rows(const struct blocks *b, size_t i, size_t c, int dense)
{
    size_t g, n;
    const size_t first = blocks_get(b, i, &g, &n);
    return dense ? (struct rows){first, 1, n * c} : (struct rows){first, n, c};
}

static int is_dense(const struct tensor *x)
{
    return x->pixel_stride == x->shape.c;
}

static real *at(const struct tensor *x, const struct rows *r)
{
    return x->data + r->first * x->pixel_stride;
}

/* Bytes of sign bits of one pixel. */
static size_t sign_stride(const struct shape *x)
{
    return (x->c + 7) / 8;
}

size_t relu_sign_bytes(const struct shape *x)
{
    return shape_pixels(x) * sign_stride(x);
}

void relu_forward(const struct kernels *k, const struct tensor *x, struct tensor *y, uint8_t *signs)
{
    assert(loop_same_shape(&x->shape, &y->shape));
    const size_t c = x->shape.c;
    /* Pixels join to a long row of sign bits only where each fills its bytes. */
    const int dense = is_dense(x) && is_dense(y) && (!signs || c % 8 == 0);
    const struct blocks b = cut(x);

    struct tasks tasks;
    tasks_share(&tasks, b.n_blocks, loop_threads(&x->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const struct rows r = get_rows(&b, i, c, dense);
        if (signs) {
            k->loop.relu_signs(r.n, r.len, at(x, &r), x->pixel_stride, at(y, &r), y->pixel_stride,
                               signs + r.first * sign_stride(&x->shape));
        } else {
            k->loop.relu(r.n, r.len, at(x, &r), x->pixel_stride, at(y, &r), y->pixel_stride);
        }
    }
}

void relu_backward_signs(const struct kernels *k, const struct tensor *dy, const uint8_t *signs,
                         struct tensor *dx, int accumulate)
{
    assert(loop_same_shape(&dy->shape, &dx->shape));
    const size_t c = dy->shape.c;
    const int dense = is_dense(dy) && is_dense(dx) && c % 8 == 0;
    const struct blocks b = cut(dy);

    struct tasks tasks;
    tasks_share(&tasks, b.n_blocks, loop_threads(&dy->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const struct rows r = get_rows(&b, i, c, dense);
        k->loop.relu_back_signs(r.n, r.len, at(dy, &r), dy->pixel_stride,
                                signs + r.first * sign_stride(&dy->shape), at(dx, &r),
                                dx->pixel_stride, accumulate);
    }
}

void relu_backward_output(const struct kernels *k, const struct tensor *dy, const struct tensor *y,
                          struct tensor *dx, int accumulate)
{
    assert(loop_same_shape(&dy->shape, &y->shape) && loop_same_shape(&dy->shape, &dx->shape));
    const int dense = is_dense(dy) && is_dense(y) && is_dense(dx);
    const struct blocks b = cut(dy);

    struct tasks tasks;
    tasks_share(&tasks, b.n_blocks, loop_threads(&dy->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const struct rows r = get_rows(&b, i, dy->shape.c, dense);
        k->loop.relu_back_output(r.n, r.len, at(dy, &r), dy->pixel_stride, at(y, &r),
                                 y->pixel_stride, at(dx, &r), dx->pixel_stride, accumulate);
    }
}

void add_forward(const struct kernels *k, const struct tensor *a, const struct tensor *b,
                 struct tensor *y)
{
    assert(loop_same_shape(&a->shape, &b->shape) && loop_same_shape(&a->shape, &y->shape));
    const int dense = is_dense(a) && is_dense(b) && is_dense(y);
    const struct blocks blocks = cut(a);

    struct tasks tasks;
    tasks_share(&tasks, blocks.n_blocks, loop_threads(&a->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const struct rows r = get_rows(&blocks, i, a->shape.c, dense);
        k->loop.add(r.n, r.len, at(a, &r), a->pixel_stride, at(b, &r), b->pixel_stride, at(y, &r),
                    y->pixel_stride);
    }
}

void tensor_accumulate(const struct kernels *k, const struct tensor *src, struct tensor *dst)
{
    add_forward(k, dst, src, dst);
}

void tensor_copy(const struct kernels *k, const struct tensor *src, struct tensor *dst)
{
    assert(loop_same_shape(&src->shape, &dst->shape));
    const int dense = is_dense(src) && is_dense(dst);
    const struct blocks b = cut(src);

    struct tasks tasks;
    tasks_share(&tasks, b.n_blocks, loop_threads(&src->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const struct rows r = get_rows(&b, i, src->shape.c, dense);
        k->loop.copy(r.n, r.len, at(src, &r), src->pixel_stride, at(dst, &r), dst->pixel_stride);
    }
}

void dropout_apply(const struct kernels *k, const struct tensor *x, double p, const struct rng *rng,
                   struct tensor *y, int accumulate)
{
    assert(loop_same_shape(&x->shape, &y->shape));
    assert(p >= 0 && p <= 1);
    const size_t c = x->shape.c;
    const int dense = is_dense(x) && is_dense(y);
    const struct blocks b = cut(x);
    /* word < p * 2^32 in integers: word < ceil(p * 2^32), exact in double and in 33 bits. */
    const uint64_t threshold = (uint64_t)ceil(p * 4294967296.0);
    const real scale = p < 1 ? (real)(1 / (1 - p)) : 0; /* p = 1: nothing is kept */

    struct tasks tasks;
    tasks_share(&tasks, b.n_blocks, loop_threads(&x->shape));
#pragma omp parallel if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const struct rows r = get_rows(&b, i, c, dense);
        const struct dropout_run run = {
            .n_rows = r.n,
            .len = r.len,
            .x = at(x, &r),
            .x_stride = x->pixel_stride,
            .y = at(y, &r),
            .y_stride = y->pixel_stride,
            .rng = *rng,
            .first = (uint64_t)r.first * c,
            .threshold = threshold,
            .scale = scale,
            .accumulate = accumulate,
        };
        k->loop.dropout(&run);
    }
}
