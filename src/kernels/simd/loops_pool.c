/* Pooling's loops for one ISA: per output pixel and vector of channels the taps of the window are
 * gone through with the result in a register. */
#include <math.h>
#include <string.h>

#include "kernels/loops_priv.h"
#include "kernels/simd/loops_simd.h"

#if SIMD_ISA == SIMD_ISA_base
typedef uint8_t pool_u8 __attribute__((vector_size(SIMD_LANES)));
#endif

/* One byte per lane, widened; the first n lanes, the others 0. (The compilers' own conversion of
 * such vectors goes through scalars.) */
SIMD_INLINE simd_i32 load_index(const uint8_t *p, size_t n)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_i32)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8((__mmask16)((1u << n) - 1u), p));
#elif SIMD_ISA == SIMD_ISA_avx2
    uint64_t bytes = 0;
    memcpy(&bytes, p, n == SIMD_LANES ? SIMD_LANES : n);
    return (simd_i32)_mm256_cvtepu8_epi32(_mm_set_epi64x(0, (int64_t)bytes));
#else
    pool_u8 v = {0};
    memcpy(&v, p, n == SIMD_LANES ? SIMD_LANES : n);
    return __builtin_convertvector(v, simd_i32);
#endif
}

SIMD_INLINE void store_index(uint8_t *p, simd_i32 index, size_t n)
{
#if SIMD_ISA == SIMD_ISA_avx512
    _mm512_mask_cvtepi32_storeu_epi8(p, (__mmask16)((1u << n) - 1u), (__m512i)index);
#elif SIMD_ISA == SIMD_ISA_avx2
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)index),
                                           _mm256_extracti128_si256((__m256i)index, 1));
    const int64_t bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words));
    memcpy(p, &bytes, n == SIMD_LANES ? SIMD_LANES : n);
#else
    const pool_u8 v = __builtin_convertvector(index, pool_u8);
    memcpy(p, &v, n == SIMD_LANES ? SIMD_LANES : n);
#endif
}

SIMD_INLINE simd_i32 blend(simd_i32 mask, simd_i32 yes, simd_i32 no)
{
    return (mask & yes) | (~mask & no);
}

/* Rows h0..h1-1 and columns w0..w1-1: taps of a window (forward), or windows (backward). */
struct box {
    size_t h0, h1, w0, w1;
};

SIMD_INLINE struct box taps_of(const struct pool_run *p, size_t row, size_t col)
{
    struct box b;
    pool_taps(row, p->r, p->stride, p->pad, p->h, &b.h0, &b.h1);
    pool_taps(col, p->r, p->stride, p->pad, p->w, &b.w0, &b.w1);
    return b;
}

/* The windows that cover (row, col), from those of the pixel on the left: no division. Begins with
 * w0 = w1 = 0 and col = 0. */
SIMD_INLINE void windows_next(const struct pool_run *p, size_t col, struct box *b)
{
    while (b->w0 * p->stride + p->r <= col + p->pad) {
        b->w0++;
    }
    while (b->w1 < p->ow && b->w1 * p->stride <= col + p->pad) {
        b->w1++;
    }
}

/* x: tap (h0, w0); row: reals from one row of taps to the next. */
SIMD_INLINE void max_vec(const struct pool_run *p, const struct box *b, const float *x, size_t xs,
                         float *y, uint8_t *index, const int want_index, const size_t n)
{
    simd_f32 best = simd_set1(-INFINITY);
    simd_i32 best_tap = (simd_i32){0} + (int32_t)(b->h0 * p->r + b->w0);
    for (size_t i = b->h0; i < b->h1; i++, x += p->w * xs) {
        for (size_t j = b->w0; j < b->w1; j++) {
            const simd_f32 v = loop_load(x + (j - b->w0) * xs, n);
            const simd_i32 wins = (v > best) | (v != v);
            best = (simd_f32)blend(wins, (simd_i32)v, (simd_i32)best);
            if (want_index) {
                best_tap = blend(wins, (simd_i32){0} + (int32_t)(i * p->r + j), best_tap);
            }
        }
    }
    loop_store(y, best, n);
    if (want_index) {
        store_index(index, best_tap, n);
    }
}

SIMD_INLINE void max_row(const struct pool_run *p, size_t row, const float *x, size_t xs, float *y,
                         size_t ys, uint8_t *index, const int want_index)
{
    for (size_t col = 0; col < p->ow; col++, y += ys) {
        const struct box b = taps_of(p, row, col);
        const float *const first =
            x + ((row * p->stride + b.h0 - p->pad) * p->w + col * p->stride + b.w0 - p->pad) * xs;
        size_t i = 0;
        for (; i + SIMD_LANES <= p->c; i += SIMD_LANES) {
            max_vec(p, &b, first + i, xs, y + i, want_index ? index + i : NULL, want_index,
                    SIMD_LANES);
        }
        if (i < p->c) {
            max_vec(p, &b, first + i, xs, y + i, want_index ? index + i : NULL, want_index,
                    p->c - i);
        }
        index = want_index ? index + p->c : NULL;
    }
}

static void max_pool(const struct pool_run *p, size_t row, const float *x, size_t xs, float *y,
                     size_t ys, uint8_t *index)
{
    if (index) {
        max_row(p, row, x, xs, y, ys, index, 1);
    } else {
        max_row(p, row, x, xs, y, ys, NULL, 0);
    }
}

SIMD_INLINE void avg_vec(const struct pool_run *p, const struct box *b, const float *x, size_t xs,
                         float *y, const size_t n)
{
    simd_f32 sum = simd_zero();
    for (size_t i = b->h0; i < b->h1; i++, x += p->w * xs) {
        for (size_t j = b->w0; j < b->w1; j++) {
            sum += loop_load(x + (j - b->w0) * xs, n);
        }
    }
    loop_store(y, sum * (1 / (float)(p->r * p->r)), n);
}

static void avg_pool(const struct pool_run *p, size_t row, const float *x, size_t xs, float *y,
                     size_t ys)
{
    for (size_t col = 0; col < p->ow; col++, y += ys) {
        const struct box b = taps_of(p, row, col);
        const float *const first =
            x + ((row * p->stride + b.h0 - p->pad) * p->w + col * p->stride + b.w0 - p->pad) * xs;
        size_t i = 0;
        for (; i + SIMD_LANES <= p->c; i += SIMD_LANES) {
            avg_vec(p, &b, first + i, xs, y + i, SIMD_LANES);
        }
        if (i < p->c) {
            avg_vec(p, &b, first + i, xs, y + i, p->c - i);
        }
    }
}

/* Gradient of input pixel (row, col), channels from i. index == NULL: average. */
SIMD_INLINE simd_f32 gather(const struct pool_run *p, size_t row, size_t col, const struct box *b,
                            size_t i, const float *dy, size_t dys, const uint8_t *index,
                            const size_t n)
{
    simd_f32 sum = simd_zero();
    for (size_t h = b->h0; h < b->h1; h++) {
        for (size_t w = b->w0; w < b->w1; w++) {
            const size_t out = h * p->ow + w;
            const simd_f32 d = loop_load(dy + out * dys + i, n);
            if (index) {
                const size_t tap = (row + p->pad - h * p->stride) * p->r +
                                   (col + p->pad - w * p->stride);
                const simd_i32 wins = load_index(index + out * p->c + i, n) == (int32_t)tap;
                sum += loop_keep(wins, d);
            } else {
                sum += d;
            }
        }
    }
    return index ? sum : sum * (1 / (float)(p->r * p->r));
}

SIMD_INLINE void back_row(const struct pool_run *p, size_t row, const float *dy, size_t dys,
                          const uint8_t *index, float *dx, size_t dxs, const int accumulate)
{
    struct box b = {0};
    pool_cover(row, p->r, p->stride, p->pad, p->oh, &b.h0, &b.h1);
    for (size_t col = 0; col < p->w; col++, dx += dxs) {
        windows_next(p, col, &b);
        size_t i = 0;
        for (; i + SIMD_LANES <= p->c; i += SIMD_LANES) {
            loop_put(dx + i, gather(p, row, col, &b, i, dy, dys, index, SIMD_LANES), SIMD_LANES,
                     accumulate);
        }
        if (i < p->c) {
            loop_put(dx + i, gather(p, row, col, &b, i, dy, dys, index, p->c - i), p->c - i,
                     accumulate);
        }
    }
}

static void max_pool_back(const struct pool_run *p, size_t row, const float *dy, size_t dys,
                          const uint8_t *index, float *dx, size_t dxs, int accumulate)
{
    if (accumulate) {
        back_row(p, row, dy, dys, index, dx, dxs, 1);
    } else {
        back_row(p, row, dy, dys, index, dx, dxs, 0);
    }
}

static void avg_pool_back(const struct pool_run *p, size_t row, const float *dy, size_t dys,
                          float *dx, size_t dxs, int accumulate)
{
    if (accumulate) {
        back_row(p, row, dy, dys, NULL, dx, dxs, 1);
    } else {
        back_row(p, row, dy, dys, NULL, dx, dxs, 0);
    }
}

/* Sums of MEAN_RUN pixels are added to the total: float errors grow with the square root. */
enum { MEAN_RUN = 64, MEAN_CHAINS = 4 };

/* n_v vectors of channels (the last with n lanes) of n_u pixels side by side: n_v * n_u chains. */
SIMD_INLINE void mean_strip(size_t n_pixels, const float *x, size_t xs, float *y, const size_t n_v,
                            const size_t n_u, const size_t n)
{
    simd_f32 total[MEAN_CHAINS] = {{0}};
    for (size_t first = 0; first < n_pixels; first += MEAN_RUN) {
        const size_t end = n_pixels - first < MEAN_RUN ? n_pixels : first + MEAN_RUN;
        simd_f32 sum[MEAN_CHAINS] = {{0}};
        size_t p = first;
        for (; p + n_u <= end; p += n_u) {
#pragma GCC unroll 4
            for (size_t a = 0; a < MEAN_CHAINS; a++) {
                sum[a] += loop_load(x + (p + a / n_v) * xs + a % n_v * SIMD_LANES, n);
            }
        }
        for (; p < end; p++) {
#pragma GCC unroll 4
            for (size_t v = 0; v < n_v; v++) {
                sum[v] += loop_load(x + p * xs + v * SIMD_LANES, n);
            }
        }
#pragma GCC unroll 4
        for (size_t a = 0; a < MEAN_CHAINS; a++) {
            total[a % n_v] += sum[a];
        }
    }
#pragma GCC unroll 4
    for (size_t v = 0; v < n_v; v++) {
        loop_store(y + v * SIMD_LANES, total[v] / (float)n_pixels, n);
    }
}

static void mean(size_t n_pixels, size_t c, const float *x, size_t xs, float *y)
{
    size_t i = 0;
    for (; i + MEAN_CHAINS * SIMD_LANES <= c; i += MEAN_CHAINS * SIMD_LANES) {
        mean_strip(n_pixels, x + i, xs, y + i, MEAN_CHAINS, 1, SIMD_LANES);
    }
    for (; i + SIMD_LANES <= c; i += SIMD_LANES) {
        mean_strip(n_pixels, x + i, xs, y + i, 1, MEAN_CHAINS, SIMD_LANES);
    }
    if (i < c) {
        mean_strip(n_pixels, x + i, xs, y + i, 1, MEAN_CHAINS, c - i);
    }
}

static void spread(size_t n_pixels, size_t c, const float *dy, float scale, float *dx, size_t dxs,
                   int accumulate)
{
    for (size_t p = 0; p < n_pixels; p++, dx += dxs) {
        size_t i = 0;
        for (; i + SIMD_LANES <= c; i += SIMD_LANES) {
            loop_put(dx + i, scale * simd_load(dy + i), SIMD_LANES, accumulate);
        }
        if (i < c) {
            loop_put(dx + i, scale * simd_load_n(dy + i, c - i), c - i, accumulate);
        }
    }
}

void SIMD_NAME(loop_kernels_fill_pool)(struct loop_kernels *k)
{
    k->max_pool = max_pool;
    k->avg_pool = avg_pool;
    k->max_pool_back = max_pool_back;
    k->avg_pool_back = avg_pool_back;
    k->mean = mean;
    k->spread = spread;
}
