/* Register tiles of convolution and GEMM: the inner loops that do the arithmetic.
 *
 * A tile holds P pixels x V vectors of filters in registers. Per channel it loads V weight vectors
 * and spreads P input values, for P*V fused multiply-adds: with P*V >= 12 the loads hide behind the
 * arithmetic and the latency of an FMA behind the other chains. P and V are compile-time constants
 * of each instance, so that the accumulators live in registers. */
#include "kernels/conv_isa.h"

#include "kernels/simd/simd.h"

/* AVX-512 has 32 registers, the others 16 (counted for x86; more do no harm). */
#if SIMD_ISA == SIMD_ISA_avx512
enum { MAX_V = 4, P1 = 10, P2 = 10, P3 = 8, P4 = 6 };
enum { OUTER_V = 2, OUTER_C = 8, OUTER_C1 = 16 };
#else
enum { MAX_V = 2, P1 = 8, P2 = 6 };
enum { OUTER_V = 2, OUTER_C = 6, OUTER_C1 = 8 };
#endif

/* Accumulator arrays become registers only when their loops are gone. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Vector v of V at p; the last one has only `last` lanes if tail. */
SIMD_INLINE simd_f32 load_vec(const float *p, int v, int n_v, int tail, size_t last)
{
    p += v * SIMD_LANES;
    return tail && v == n_v - 1 ? simd_load_n(p, last) : simd_load(p);
}

SIMD_INLINE void store_vec(float *p, simd_f32 x, int v, int n_v, int tail, size_t last)
{
    p += v * SIMD_LANES;
    if (tail && v == n_v - 1) {
        simd_store_n(p, x, last);
    } else {
        simd_store(p, x);
    }
}

SIMD_INLINE void tile_body(const struct conv_tile *t, const int n_p, const int n_v, const int tail)
{
    const size_t last = t->k - (size_t)(n_v - 1) * SIMD_LANES;
    simd_f32 acc[CONV_TILE_MAX_PIXELS][CONV_TILE_MAX_VECTORS];

    UNROLL for (int v = 0; v < n_v; v++)
    {
        const simd_f32 start = t->bias ? load_vec(t->bias, v, n_v, tail, last) : simd_zero();
        UNROLL for (int p = 0; p < n_p; p++)
        {
            acc[p][v] = start;
        }
    }
    if (t->accumulate) {
        UNROLL for (int p = 0; p < n_p; p++)
        {
            if ((size_t)p < t->n_pixels) {
                UNROLL for (int v = 0; v < n_v; v++)
                {
                    acc[p][v] = load_vec(t->y[p], v, n_v, tail, last);
                }
            }
        }
    }

    const size_t c = t->c, w_ld = t->w_ld;
    for (size_t n = 0; n < t->n_taps; n++) {
        const float *w = t->w + n * t->w_tap;
        const float *x[CONV_TILE_MAX_PIXELS];
        UNROLL for (int p = 0; p < n_p; p++)
        {
            x[p] = t->x[p] + t->offset[n];
        }
        for (size_t i = 0; i < c; i++, w += w_ld) {
            simd_f32 wv[CONV_TILE_MAX_VECTORS];
            UNROLL for (int v = 0; v < n_v; v++)
            {
                wv[v] = load_vec(w, v, n_v, tail, last);
            }
            UNROLL for (int p = 0; p < n_p; p++)
            {
                const simd_f32 xi = simd_set1(x[p][i]);
                UNROLL for (int v = 0; v < n_v; v++)
                {
                    acc[p][v] += xi * wv[v];
                }
            }
        }
    }

    UNROLL for (int p = 0; p < n_p; p++)
    {
        if ((size_t)p < t->n_pixels) {
            UNROLL for (int v = 0; v < n_v; v++)
            {
                store_vec(t->y[p], acc[p][v], v, n_v, tail, last);
            }
        }
    }
}

static void tile(const struct conv_tile *t)
{
    const size_t n_v = (t->k + SIMD_LANES - 1) / SIMD_LANES;
    const int tail = t->k % SIMD_LANES != 0;

    switch (n_v * 2 + (size_t)tail) {
    case 2: tile_body(t, P1, 1, 0); break;
    case 3: tile_body(t, P1, 1, 1); break;
    case 4: tile_body(t, P2, 2, 0); break;
    case 5: tile_body(t, P2, 2, 1); break;
#if SIMD_ISA == SIMD_ISA_avx512
    case 6: tile_body(t, P3, 3, 0); break;
    case 7: tile_body(t, P3, 3, 1); break;
    case 8: tile_body(t, P4, 4, 0); break;
    case 9: tile_body(t, P4, 4, 1); break;
#endif
    default: break;
    }
}

/* n_c channels x n_v vectors of filters, in registers over the whole box. */
SIMD_INLINE void outer_body(const struct conv_outer *o, size_t c0, size_t k0, const int n_c,
                            const int n_v, const int tail)
{
    const size_t last = tail ? (o->k - k0) - (size_t)(n_v - 1) * SIMD_LANES : SIMD_LANES;
    float *const dw = o->dw + c0 * o->dw_ld + k0;
    simd_f32 acc[16][OUTER_V];

    UNROLL for (int i = 0; i < n_c; i++)
    {
        UNROLL for (int v = 0; v < n_v; v++)
        {
            acc[i][v] = load_vec(dw + (size_t)i * o->dw_ld, v, n_v, tail, last);
        }
    }
    const size_t x_col = o->x_col, dy_col = o->dy_col;
    for (size_t n = 0; n < o->n_images; n++) {
        for (size_t r = 0; r < o->n_rows; r++) {
            const float *x = o->x + n * o->x_image + r * o->x_row + c0;
            const float *dy = o->dy + n * o->dy_image + r * o->dy_row + k0;
            for (size_t q = o->n_cols; q > 0; q--, x += x_col, dy += dy_col) {
                simd_f32 d[OUTER_V];
                UNROLL for (int v = 0; v < n_v; v++)
                {
                    d[v] = load_vec(dy, v, n_v, tail, last);
                }
                UNROLL for (int i = 0; i < n_c; i++)
                {
                    const simd_f32 xi = simd_set1(x[i]);
                    UNROLL for (int v = 0; v < n_v; v++)
                    {
                        acc[i][v] += xi * d[v];
                    }
                }
            }
        }
    }
    UNROLL for (int i = 0; i < n_c; i++)
    {
        UNROLL for (int v = 0; v < n_v; v++)
        {
            store_vec(dw + (size_t)i * o->dw_ld, acc[i][v], v, n_v, tail, last);
        }
    }
}

/* All channels for the filters from k0; full tiles first, the rest by halves. */
SIMD_INLINE void outer_columns(const struct conv_outer *o, size_t k0, const int n_v, const int tail)
{
    size_t c = 0;
    if (n_v == 1) {
        for (; c + OUTER_C1 <= o->c; c += OUTER_C1) {
            outer_body(o, c, k0, OUTER_C1, n_v, tail);
        }
    }
    for (; c + OUTER_C <= o->c; c += OUTER_C) {
        outer_body(o, c, k0, OUTER_C, n_v, tail);
    }
    const size_t rest = o->c - c;
    if (OUTER_C > 4 && rest & 4) {
        outer_body(o, c, k0, 4, n_v, tail);
        c += 4;
    }
    switch (o->c - c) {
    case 3: outer_body(o, c, k0, 3, n_v, tail); break;
    case 2: outer_body(o, c, k0, 2, n_v, tail); break;
    case 1: outer_body(o, c, k0, 1, n_v, tail); break;
    default: break;
    }
}

/* Part i of n of what comes next: all of it at once would keep the loads of now waiting. */
SIMD_INLINE void fetch_next(const struct conv_outer *o, size_t i, size_t n)
{
    enum { LINE = 64 / sizeof(float) };
    for (int m = 0; m < 2; m++) {
        const size_t part = (o->n_next[m] / n / LINE + 1) * LINE, end = (i + 1) * part;
        for (size_t at = i * part; at < end && at < o->n_next[m]; at += LINE) {
            __builtin_prefetch(o->next[m] + at, 0, 3);
        }
    }
}

static void outer(const struct conv_outer *o)
{
    const size_t width = OUTER_V * SIMD_LANES, n_full = o->k / width;
    size_t k0 = 0;
    for (; k0 + width <= o->k; k0 += width) {
        fetch_next(o, k0 / width, n_full);
        outer_columns(o, k0, OUTER_V, 0);
    }
    const size_t rest = o->k - k0;
    if (rest > SIMD_LANES) {
        outer_columns(o, k0, 2, 1);
    } else if (rest == SIMD_LANES) {
        outer_columns(o, k0, 1, 0);
    } else if (rest > 0) {
        outer_columns(o, k0, 1, 1);
    }
}

/* Rows of B per pass: 64 filters x 1024 rows are 256 KiB, a quarter of a usual L2. */
enum { GEMM_K_BLOCK = 1024 };

static void own_gemm_nn(const struct gemm_args *g)
{
    const size_t nb = (size_t)MAX_V * SIMD_LANES;
    static const size_t pixels[] = {
        0,
        P1,
        P2,
#if SIMD_ISA == SIMD_ISA_avx512
        P3,
        P4,
#endif
    };
    for (size_t n0 = 0; n0 < g->n; n0 += nb) {
        const size_t n = g->n - n0 < nb ? g->n - n0 : nb;
        const size_t n_p = pixels[(n + SIMD_LANES - 1) / SIMD_LANES];
        for (size_t k0 = 0; k0 < g->k || k0 == 0; k0 += GEMM_K_BLOCK) {
            const size_t k = g->k - k0 < GEMM_K_BLOCK ? g->k - k0 : GEMM_K_BLOCK;
            for (size_t m0 = 0; m0 < g->m; m0 += n_p) {
                const ptrdiff_t offset = 0;
                const float *rows[CONV_TILE_MAX_PIXELS];
                float *out[CONV_TILE_MAX_PIXELS];
                const size_t m = g->m - m0 < n_p ? g->m - m0 : n_p;
                for (size_t p = 0; p < n_p; p++) {
                    const size_t row = m0 + (p < m ? p : 0);
                    rows[p] = g->a + row * g->lda + k0;
                    out[p] = g->c + row * g->ldc + n0;
                }
                tile(&(struct conv_tile){
                    .x = rows,
                    .offset = &offset,
                    .n_taps = 1,
                    .c = k,
                    .w = g->b + k0 * g->ldb + n0,
                    .w_ld = g->ldb,
                    .y = out,
                    .n_pixels = m,
                    .k = n,
                    .accumulate = g->accumulate || k0 > 0,
                });
            }
        }
    }
}

static void own_gemm_tn(const struct gemm_args *g)
{
    if (!g->accumulate) {
        for (size_t i = 0; i < g->m; i++) {
            memset(g->c + i * g->ldc, 0, g->n * sizeof(float));
        }
    }
    outer(&(struct conv_outer){
        .x = g->a,
        .x_col = g->lda,
        .dy = g->b,
        .dy_col = g->ldb,
        .n_images = 1,
        .n_rows = 1,
        .n_cols = g->k,
        .c = g->m,
        .k = g->n,
        .dw = g->c,
        .dw_ld = g->ldc,
    });
}

void SIMD_NAME(conv_kernels_fill)(struct conv_kernels *k)
{
    k->lanes = SIMD_LANES;
    k->max_vectors = MAX_V;
    k->tile_pixels[1] = P1;
    k->tile_pixels[2] = P2;
#if SIMD_ISA == SIMD_ISA_avx512
    k->tile_pixels[3] = P3;
    k->tile_pixels[4] = P4;
#endif
    k->tile = tile;
    k->outer = outer;
    k->gemm_nn = own_gemm_nn;
    k->gemm_tn = own_gemm_tn;
}
