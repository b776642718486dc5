/* The reference convolution: the formulas of conv.h as loops. Slow and obvious; compiled in double
 * it is the oracle of the gradient checks. */
#include "kernels/conv_priv.h"

#include <string.h>

static int direct_supports(const struct conv_kernels *k, const struct conv_geom *g,
                           const struct shape *x, enum conv_op op)
{
    (void)k;
    (void)g;
    (void)x;
    (void)op;
    return 1;
}

static size_t direct_workspace_bytes(const struct conv_kernels *k, const struct conv_geom *g,
                                     const struct shape *x, enum conv_op op, int n_threads)
{
    (void)k;
    (void)g;
    (void)x;
    (void)op;
    (void)n_threads;
    return 0;
}

/* Pixel (n, i, j), or NULL outside the map. i and j are unsigned: a negative one is huge. */
static real *pixel(const struct tensor *t, size_t n, size_t i, size_t j)
{
    const struct shape *const s = &t->shape;
    return i < s->h && j < s->w ? t->data + ((n * s->h + i) * s->w + j) * t->pixel_stride : NULL;
}

static void direct_forward(const struct conv_kernels *kernels, const struct conv_geom *g,
                           const struct conv_forward_args *a, void *workspace, int n_threads)
{
    const struct shape *const out = &a->y->shape;

    (void)kernels;
    (void)workspace;
    (void)n_threads; /* without OpenMP */
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (size_t row = 0; row < out->n * out->h; row++) {
        const size_t n = row / out->h, i = row % out->h;
        for (size_t j = 0; j < out->w; j++) {
            real *const y = pixel(a->y, n, i, j);
            for (size_t f = 0; f < g->k; f++) {
                y[f] = a->b ? a->b[f] : 0;
            }
            for (size_t t = 0; t < g->r * g->s; t++) {
                const real *const x = pixel(a->x, n, i * g->stride + t / g->s - g->pad,
                                            j * g->stride + t % g->s - g->pad);
                for (size_t c = 0; x && c < g->c; c++) {
                    const real *const w = a->w + (t * g->c + c) * g->k;
                    for (size_t f = 0; f < g->k; f++) {
                        y[f] += x[c] * w[f];
                    }
                }
            }
        }
    }
}

static void direct_backward_data(const struct conv_kernels *kernels, const struct conv_geom *g,
                                 const struct conv_backward_data_args *a, void *workspace,
                                 int n_threads)
{
    const struct shape *const in = &a->dx->shape;

    (void)kernels;
    (void)workspace;
    (void)n_threads; /* without OpenMP */
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (size_t row = 0; row < in->n * in->h; row++) {
        const size_t n = row / in->h, i = row % in->h;
        for (size_t j = 0; j < in->w; j++) {
            real *const dx = pixel(a->dx, n, i, j);
            if (!a->accumulate) {
                memset(dx, 0, g->c * sizeof(real));
            }
            for (size_t t = 0; t < g->r * g->s; t++) {
                /* dx(i, j) meets tap (r, s) in the output pixel with stride*oi = i + pad - r. */
                const size_t si = i + g->pad - t / g->s, sj = j + g->pad - t % g->s;
                if (si > i + g->pad || sj > j + g->pad || si % g->stride || sj % g->stride) {
                    continue;
                }
                const real *const dy = pixel(a->dy, n, si / g->stride, sj / g->stride);
                for (size_t c = 0; dy && c < g->c; c++) {
                    const real *const w = a->w + (t * g->c + c) * g->k;
                    real sum = 0;
                    for (size_t f = 0; f < g->k; f++) {
                        sum += dy[f] * w[f];
                    }
                    dx[c] += sum;
                }
            }
        }
    }
}

static void direct_backward_weight(const struct conv_kernels *kernels, const struct conv_geom *g,
                                   const struct conv_backward_weight_args *a, void *workspace,
                                   int n_threads)
{
    const struct shape *const out = &a->dy->shape;

    (void)kernels;
    (void)workspace;
    (void)n_threads; /* without OpenMP */
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (size_t tc = 0; tc < g->r * g->s * g->c; tc++) {
        const size_t r = tc / g->c / g->s, s = tc / g->c % g->s, c = tc % g->c;
        real *const dw = a->dw + tc * g->k;
        memset(dw, 0, g->k * sizeof(real));
        for (size_t q = 0; q < shape_pixels(out); q++) {
            const size_t n = q / (out->h * out->w), i = q / out->w % out->h, j = q % out->w;
            const real *const x = pixel(a->x, n, i * g->stride + r - g->pad,
                                        j * g->stride + s - g->pad);
            const real *const dy = a->dy->data + q * a->dy->pixel_stride;
            for (size_t f = 0; x && f < g->k; f++) {
                dw[f] += x[c] * dy[f];
            }
        }
    }
    if (a->db) {
        memset(a->db, 0, g->k * sizeof(real));
        for (size_t q = 0; q < shape_pixels(out); q++) {
            for (size_t f = 0; f < g->k; f++) {
                a->db[f] += a->dy->data[q * a->dy->pixel_stride + f];
            }
        }
    }
}

const struct conv_impl conv_impl_direct = {
    .name = "direct",
    .algorithm = CONV_DIRECT,
    .supports = direct_supports,
    .workspace_bytes = direct_workspace_bytes,
    .forward = direct_forward,
    .backward_data = direct_backward_data,
    .backward_weight = direct_backward_weight,
};
