/* Reduces forward and data gradient to one problem (conv_priv.h), and packs its weights. */
#include "kernels/conv_priv.h"

#include <assert.h>
#include <string.h>

int conv_is_pointwise(const struct conv_geom *g)
{
    return g->r == 1 && g->s == 1 && g->stride == 1 && g->pad == 0;
}

void conv_gather_forward(struct conv_gather *p, const struct conv_geom *g, const struct tensor *x,
                         struct tensor *y)
{
    *p = (struct conv_gather){
        .in = x->data,
        .n = x->shape.n,
        .in_h = x->shape.h,
        .in_w = x->shape.w,
        .in_pixel = x->pixel_stride,
        .in_c = g->c,
        .out_c = g->k,
        .out_h = y->shape.h,
        .out_w = y->shape.w,
        .out = y->data,
        .out_image = y->shape.h * y->shape.w * y->pixel_stride,
        .out_row = y->shape.w * y->pixel_stride,
        .out_col = y->pixel_stride,
        .step = g->stride,
        .off_a = -(ptrdiff_t)g->pad,
        .off_b = -(ptrdiff_t)g->pad,
        .n_a = g->r,
        .n_b = g->s,
        .tap_step = 1,
    };
}

/* Input pixels y = phase + stride*i meet filter tap r in output row (y + pad - r) / stride, for the
 * taps with the same remainder: lowest, lowest + stride, ... Tap a counts them from the highest. */
static void phase_axis(const struct conv_geom *g, size_t phase, size_t size, size_t taps,
                       size_t *out, size_t *first, size_t *n_taps, ptrdiff_t *off)
{
    const size_t lowest = (phase + g->pad) % g->stride;

    *out = size > phase ? div_up(size - phase, g->stride) : 0;
    *n_taps = taps > lowest ? div_up(taps - lowest, g->stride) : 0;
    *first = lowest + (*n_taps ? *n_taps - 1 : 0) * g->stride;
    *off = ((ptrdiff_t)(phase + g->pad) - (ptrdiff_t)*first) / (ptrdiff_t)g->stride;
}

void conv_gather_backward_data(struct conv_gather *p, const struct conv_geom *g,
                               const struct tensor *dy, struct tensor *dx, size_t phase)
{
    const size_t phase_y = phase / g->stride, phase_x = phase % g->stride;
    const struct shape *s = &dx->shape;

    *p = (struct conv_gather){
        .in = dy->data,
        .n = s->n,
        .in_h = dy->shape.h,
        .in_w = dy->shape.w,
        .in_pixel = dy->pixel_stride,
        .in_c = g->k,
        .out_c = g->c,
        .out = dx->data != NULL ? dx->data + (phase_y * s->w + phase_x) * dx->pixel_stride : NULL,
        .out_image = s->h * s->w * dx->pixel_stride,
        .out_row = g->stride * s->w * dx->pixel_stride,
        .out_col = g->stride * dx->pixel_stride,
        .step = 1,
        .tap_step = -(ptrdiff_t)g->stride,
    };
    phase_axis(g, phase_y, s->h, g->r, &p->out_h, &p->first_r, &p->n_a, &p->off_a);
    phase_axis(g, phase_x, s->w, g->s, &p->out_w, &p->first_s, &p->n_b, &p->off_b);
}

static int axis_is_inside(size_t out, size_t step, ptrdiff_t off, size_t n_taps, size_t in)
{
    return off >= 0 && (ptrdiff_t)((out - 1) * step + n_taps - 1) + off < (ptrdiff_t)in;
}

int conv_gather_is_inside(const struct conv_gather *p)
{
    return axis_is_inside(p->out_h, p->step, p->off_a, p->n_a, p->in_h) &&
           axis_is_inside(p->out_w, p->step, p->off_b, p->n_b, p->in_w);
}

struct conv_cursor conv_cursor_at(const struct conv_gather *p, size_t pixel)
{
    const size_t row = pixel / p->out_w;
    return (struct conv_cursor){
        .image = row / p->out_h, .i = row % p->out_h, .j = pixel % p->out_w};
}

void conv_gather_no_taps(const struct conv_gather *p, int accumulate, int n_threads)
{
    (void)n_threads; /* without OpenMP */
    if (accumulate) {
        return;
    }
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (size_t n = 0; n < p->n; n++) {
        struct conv_cursor at = {.image = n};
        for (size_t q = p->out_h * p->out_w; q > 0; q--, conv_cursor_next(p, &at)) {
            memset(conv_gather_output(p, &at), 0, p->out_c * sizeof(real));
        }
    }
}

/* dst [rows][cols] = transpose of src [cols][rows], in squares that stay in L1. */
static void transpose(real *dst, size_t dst_ld, const real *src, size_t src_ld, size_t rows,
                      size_t cols)
{
    enum { B = 16 };
    for (size_t i0 = 0; i0 < rows; i0 += B) {
        const size_t i1 = min_size(i0 + B, rows);
        for (size_t j0 = 0; j0 < cols; j0 += B) {
            const size_t j1 = min_size(j0 + B, cols);
            for (size_t i = i0; i < i1; i++) {
                for (size_t j = j0; j < j1; j++) {
                    dst[i * dst_ld + j] = src[j * src_ld + i];
                }
            }
        }
    }
}

void conv_gather_pack(const struct conv_gather *p, const struct conv_geom *g, const real *w,
                      int transposed, size_t k_block, real *packed, int n_threads)
{
    const size_t n_taps = p->n_a * p->n_b;
    const size_t n_blocks = div_up(p->out_c, k_block);

    (void)n_threads; /* without OpenMP */
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (size_t task = 0; task < n_blocks * n_taps; task++) {
        const size_t f0 = task / n_taps * k_block, t = task % n_taps;
        const size_t width = min_size(k_block, p->out_c - f0);
        const size_t r = p->first_r + t / p->n_b * (size_t)p->tap_step;
        const size_t s = p->first_s + t % p->n_b * (size_t)p->tap_step;
        const real *const tap = w + (r * g->s + s) * g->c * g->k;
        real *const dst = packed + n_taps * p->in_c * f0 + t * p->in_c * width;

        assert(r < g->r && s < g->s);
        if (transposed) {
            transpose(dst, width, tap + f0 * g->k, g->k, p->in_c, width);
        } else {
            for (size_t e = 0; e < p->in_c; e++) {
                memcpy(dst + e * width, tap + e * g->k + f0, width * sizeof(real));
            }
        }
    }
}

/* Copies of the gradient may take 4 MiB; 16 parts keep 16 threads busy. */
struct conv_parts conv_parts_of(const struct conv_geom *g, size_t n_units)
{
    enum { MAX_PARTS = 16, ENOUGH_PARTS = 8, MAX_COPIES_BYTES = 4 << 20 };
    const size_t dw_bytes = g->r * g->s * g->c * g->k * sizeof(real);
    const size_t fit = max_size(1, MAX_COPIES_BYTES / dw_bytes);
    const size_t n = max_size(1, min_size(min_size(fit, MAX_PARTS), n_units));
    return (struct conv_parts){.n = n, .split = n < ENOUGH_PARTS};
}

void conv_parts_add(real *dw, const real *sums, size_t n_parts, size_t step, size_t n_dw,
                    int n_threads)
{
    enum { BLOCK = 1024 };
    (void)n_threads; /* without OpenMP */
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (size_t i0 = 0; i0 < n_dw; i0 += BLOCK) {
        const size_t n = min_size(BLOCK, n_dw - i0);
        memcpy(dw + i0, sums + i0, n * sizeof(real));
        for (size_t part = 1; part < n_parts; part++) {
            const real *const sum = sums + part * step + i0;
            for (size_t i = 0; i < n; i++) {
                dw[i0 + i] += sum[i];
            }
        }
    }
}

enum { BIAS_ROWS = 4 };

/* sum[f] += row 0, + row 1, ...: in the order of single rows, with a quarter of the stores. */
static void add_rows(real *restrict sum, const real *restrict row, size_t stride, size_t k)
{
#pragma omp simd
    for (size_t f = 0; f < k; f++) {
        sum[f] = (((sum[f] + row[f]) + row[stride + f]) + row[2 * stride + f]) +
                 row[3 * stride + f];
    }
}

void conv_bias_add(const struct tensor *dy, size_t first, size_t end, real *sum)
{
    const size_t k = dy->shape.c;
    size_t q = first;
    for (; q + BIAS_ROWS <= end; q += BIAS_ROWS) {
        add_rows(sum, dy->data + q * dy->pixel_stride, dy->pixel_stride, k);
    }
    for (; q < end; q++) {
        const real *row = dy->data + q * dy->pixel_stride;
        for (size_t f = 0; f < k; f++) {
            sum[f] += row[f];
        }
    }
}

void conv_bias_gradient(const struct tensor *dy, real *db, real *scratch, int n_threads)
{
    const size_t n_pixels = shape_pixels(&dy->shape), k = dy->shape.c;
    const size_t part = div_up(n_pixels, CONV_BIAS_PARTS);

    (void)n_threads; /* without OpenMP */
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (size_t i = 0; i < CONV_BIAS_PARTS; i++) {
        real *const sum = scratch + i * k;
        memset(sum, 0, k * sizeof(real));
        conv_bias_add(dy, i * part, min_size((i + 1) * part, n_pixels), sum);
    }
    for (size_t f = 0; f < k; f++) {
        real sum = 0;
        for (size_t i = 0; i < CONV_BIAS_PARTS; i++) {
            sum += scratch[i * k + f];
        }
        db[f] = sum;
    }
}
