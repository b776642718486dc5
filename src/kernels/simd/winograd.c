/* Transforms of Winograd's F(4x4, 3x3), one vector of channels at a time, and a transpose.
 *
 * For interpolation points 0, +-a, +-b and infinity, a 1-D convolution of 6 inputs d with 3 taps g
 * is y = A^T [(G g) . (B^T d)]; in two dimensions each matrix acts on columns, then on rows. The
 * weight gradient is the adjoint in g: dg = G^T [(A dy) . (B^T d)], so the same three matrices and
 * their transposes do for every operation. Derivation: Lavin and Gray, "Fast Algorithms for
 * Convolutional Neural Networks" (2016), section 4, with general points.
 *
 * The points decide the rounding error. Largest error / largest output, 512 channels at 4x4 and
 * 64 at 32x32, forward: (a, b) = (1, 2) 1.5e-5, 5.5e-6; (1, 1/2) 1.3e-5, 5.8e-6; (1/2, 2) 8.3e-6,
 * 2.4e-6; (3/4, 3/2) 3.4e-6, 1.8e-6; (sqrt(1/2), sqrt(2)) 3.4e-6, 1.1e-6. */
#include "kernels/conv_isa.h"

#include "kernels/simd/simd.h"

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* a = sqrt(1/2), b = sqrt(2): their squares and the product of those are exact. */
static const float a1 = 0.70710678118654752f, a2 = 0.5f, a3 = 0.35355339059327376f;
static const float b1 = 1.41421356237309505f, b2 = 2.0f, b3 = 2.82842712474619010f;
static const float sum2 = 2.5f; /* a^2 + b^2; a^2 * b^2 = 1 */
/* 1 / prod over the other points q of (p - q), for p = +-a and +-b; it is 1 for p = 0. */
static const float na = -2.0f / 3, nb = 1.0f / 6;

/* --- the five 1-D transforms --------------------------------------------------------------------
 *
 * Those to positions come in halves, 0: positions 0, +a, -a; 1: +b, -b, infinity. Nothing is
 * computed twice by that, and half a tile fits in 32 registers. Sums and differences are plain
 * additions where they can be: these run beside the multiplications. */

enum { T_IN = WINOGRAD_IN, T_OUT = WINOGRAD_OUT, T_FILTER = 3, T_HALF = 3 };

typedef void half_fn(const simd_f32 *in, simd_f32 *out, int half);
typedef void line_fn(const simd_f32 *in, simd_f32 *out);

/* B^T: 6 -> 6 */
SIMD_INLINE void half_input(const simd_f32 *d, simd_f32 *out, int half)
{
    if (half == 0) {
        const simd_f32 even = d[4] - b2 * d[2], odd = a1 * d[3] - b1 * d[1]; /* a * b^2 = b */
        out[0] = d[0] + (d[4] - sum2 * d[2]);
        out[1] = even + odd;
        out[2] = even - odd;
    } else {
        const simd_f32 even = d[4] - a2 * d[2], odd = b1 * d[3] - a1 * d[1]; /* b * a^2 = a */
        out[0] = even + odd;
        out[1] = even - odd;
        out[2] = d[1] + (d[5] - sum2 * d[3]);
    }
}

/* G: 3 -> 6 */
SIMD_INLINE void half_filter(const simd_f32 *g, simd_f32 *out, int half)
{
    const float n = half == 0 ? na : nb;
    const simd_f32 even = n * g[0] + (half == 0 ? na * a2 : nb * b2) * g[2];
    const simd_f32 odd = (half == 0 ? na * a1 : nb * b1) * g[1];
    out[half == 0 ? 0 : 2] = half == 0 ? g[0] : g[2];
    out[half == 0 ? 1 : 0] = even + odd;
    out[half == 0 ? 2 : 1] = even - odd;
}

/* A: 4 -> 6 */
SIMD_INLINE void half_output_adjoint(const simd_f32 *y, simd_f32 *out, int half)
{
    const simd_f32 even = y[0] + (half == 0 ? a2 : b2) * y[2];
    const simd_f32 odd = (half == 0 ? a1 : b1) * y[1] + (half == 0 ? a3 : b3) * y[3];
    out[half == 0 ? 0 : 2] = half == 0 ? y[0] : y[3];
    out[half == 0 ? 1 : 0] = even + odd;
    out[half == 0 ? 2 : 1] = even - odd;
}

/* A^T: 6 -> 4 */
SIMD_INLINE void line_output(const simd_f32 *m, simd_f32 *out)
{
    const simd_f32 plus_a = m[1] + m[2], minus_a = m[1] - m[2];
    const simd_f32 plus_b = m[3] + m[4], minus_b = m[3] - m[4];
    out[0] = m[0] + (plus_a + plus_b);
    out[1] = a1 * minus_a + b1 * minus_b;
    out[2] = a2 * plus_a + b2 * plus_b;
    out[3] = m[5] + (a3 * minus_a + b3 * minus_b);
}

/* G^T: 6 -> 3 */
SIMD_INLINE void line_filter_adjoint(const simd_f32 *m, simd_f32 *out)
{
    const simd_f32 plus_a = m[1] + m[2], minus_a = m[1] - m[2];
    const simd_f32 plus_b = m[3] + m[4], minus_b = m[3] - m[4];
    out[0] = m[0] + (na * plus_a + nb * plus_b);
    out[1] = (na * a1) * minus_a + (nb * b1) * minus_b;
    out[2] = m[5] + ((na * a2) * plus_a + (nb * b2) * plus_b);
}

/* --- two dimensions ----------------------------------------------------------------------------- */

SIMD_INLINE simd_f32 load_lanes(const float *p, size_t n)
{
    return n == SIMD_LANES ? simd_load(p) : simd_load_n(p, n);
}

SIMD_INLINE void store_lanes(float *p, simd_f32 v, size_t n)
{
    if (n == SIMD_LANES) {
        simd_store(p, v);
    } else {
        simd_store_n(p, v, n);
    }
}

/* Channels that a transform to positions takes at a time: a tile of them stays in L1. */
enum { CHUNK = 4 * SIMD_LANES };

/* Half of the transform of channels [0, n_c) of a complete tile of n x n pixels to the 36
 * positions. The halves are loops of their own because a compiler that sees both at once merges
 * what they share and runs out of registers. */
SIMD_INLINE void scatter_half(const float *map, size_t row, size_t col, float *dst, size_t position,
                              size_t lanes, const int n, half_fn *transform, const int half)
{
    simd_f32 columns[T_HALF][T_IN];

    UNROLL for (int j = 0; j < n; j++, map += col)
    {
        simd_f32 in[T_IN], out[T_HALF];
        UNROLL for (int i = 0; i < n; i++)
        {
            in[i] = load_lanes(map + (size_t)i * row, lanes);
        }
        transform(in, out, half);
        UNROLL for (int i = 0; i < T_HALF; i++)
        {
            columns[i][j] = out[i];
        }
    }
    dst += (size_t)(half * T_HALF * T_IN) * position;
    UNROLL for (int i = 0; i < T_HALF; i++)
    {
        UNROLL for (int part = 0; part < 2; part++)
        {
            simd_f32 out[T_HALF];
            transform(columns[i], out, part);
            UNROLL for (int j = 0; j < T_HALF; j++, dst += position)
            {
                store_lanes(dst, out[j], lanes);
            }
        }
    }
}

SIMD_INLINE void scatter_chunk(const float *map, size_t row, size_t col, float *dst,
                               size_t position, size_t n_c, const int n, half_fn *transform)
{
    const size_t full = n_c / SIMD_LANES * SIMD_LANES;
    for (size_t c = 0; c < full; c += SIMD_LANES) {
        scatter_half(map + c, row, col, dst + c, position, SIMD_LANES, n, transform, 0);
    }
    for (size_t c = 0; c < full; c += SIMD_LANES) {
        scatter_half(map + c, row, col, dst + c, position, SIMD_LANES, n, transform, 1);
    }
    if (full < n_c) {
        scatter_half(map + full, row, col, dst + full, position, n_c - full, n, transform, 0);
        scatter_half(map + full, row, col, dst + full, position, n_c - full, n, transform, 1);
    }
}

/* Copies the pixels of a tile that exist, channels [0, n_c), to their places in a tile of n columns
 * of CHUNK channels. */
SIMD_INLINE void copy_pixels(const struct winograd_tile *t, const float *map, size_t n_c,
                             const size_t n, float *tile)
{
    for (size_t i = t->row0; i < t->row1; i++, map += t->row) {
        for (size_t j = t->col0; j < t->col1; j++) {
            const float *const src = map + (j - t->col0) * t->col;
            float *const dst = tile + (i * n + j) * CHUNK;
            size_t c = 0;
            for (; c + SIMD_LANES <= n_c; c += SIMD_LANES) {
                simd_store(dst + c, simd_load(src + c));
            }
            for (; c < n_c; c++) {
                dst[c] = src[c];
            }
        }
    }
}

SIMD_INLINE void scatter(const struct winograd_tile *t, const int n, half_fn *transform)
{
    const size_t size = (size_t)n, rows = t->row1 - t->row0, cols = t->col1 - t->col0;
    const int is_complete = rows == size && cols == size;
    float tile[T_IN * T_IN * CHUNK] __attribute__((aligned(64)));

    if (!is_complete) {
        memset(tile, 0, size * size * CHUNK * sizeof(float));
    }
    for (size_t c = 0; c < t->c; c += CHUNK) {
        const size_t n_c = t->c - c < CHUNK ? t->c - c : CHUNK;
        const float *map = t->map + c;
        size_t row = t->row, col = t->col;
        if (!is_complete) {
            if (rows > 0 && cols > 0) {
                copy_pixels(t, map, n_c, size, tile);
            }
            map = tile;
            row = size * CHUNK;
            col = CHUNK;
        }
        scatter_chunk(map, row, col, t->positions + c, t->position, n_c, n, transform);
    }
}

/* The 36 positions to channels [c, c + lanes) of a map's tile of n x n pixels. */
SIMD_INLINE void gather_vector(const struct winograd_tile *t, size_t c, size_t lanes, const int n,
                               line_fn *line)
{
    const size_t position = t->position, row1 = t->row1, col1 = t->col1, row = t->row, col = t->col;
    const int accumulate = t->accumulate;
    const simd_f32 bias = t->bias ? load_lanes(t->bias + c, lanes) : simd_zero();
    simd_f32 in[T_IN], out[T_OUT], columns[T_OUT][T_IN];

    UNROLL for (int j = 0; j < T_IN; j++)
    {
        const float *src = t->positions + c + (size_t)j * position;
        UNROLL for (int i = 0; i < T_IN; i++, src += T_IN * position)
        {
            in[i] = load_lanes(src, lanes);
        }
        line(in, out);
        UNROLL for (int i = 0; i < n; i++)
        {
            columns[i][j] = out[i];
        }
    }
    UNROLL for (int i = 0; i < n; i++)
    {
        if ((size_t)i < row1) {
            float *dst = t->out + (size_t)i * row + c;
            line(columns[i], out);
            UNROLL for (int j = 0; j < n; j++, dst += col)
            {
                if ((size_t)j < col1) {
                    const simd_f32 before = accumulate ? load_lanes(dst, lanes) : bias;
                    store_lanes(dst, out[j] + before, lanes);
                }
            }
        }
    }
}

SIMD_INLINE void gather(const struct winograd_tile *t, const int n, line_fn *line)
{
    const size_t n_c = t->c;
    size_t c = 0;
    for (; c + SIMD_LANES <= n_c; c += SIMD_LANES) {
        gather_vector(t, c, SIMD_LANES, n, line);
    }
    if (c < n_c) {
        gather_vector(t, c, n_c - c, n, line);
    }
}

static void winograd_input(const struct winograd_tile *t)
{
    scatter(t, T_IN, half_input);
}

static void winograd_filter(const struct winograd_tile *t)
{
    scatter(t, T_FILTER, half_filter);
}

static void winograd_output_adjoint(const struct winograd_tile *t)
{
    scatter(t, T_OUT, half_output_adjoint);
}

static void winograd_output(const struct winograd_tile *t)
{
    gather(t, T_OUT, line_output);
}

static void winograd_filter_adjoint(const struct winograd_tile *t)
{
    gather(t, T_FILTER, line_filter_adjoint);
}

/* --- transpose ---------------------------------------------------------------------------------- */

/* Lanes of the first (second) halves of x and y by turns: x0 y0 x1 y1 ... */
SIMD_INLINE simd_f32 interleave(simd_f32 x, simd_f32 y, const int second)
{
#if SIMD_LANES == 16
    return second ? __builtin_shufflevector(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14,
                                            30, 15, 31)
                  : __builtin_shufflevector(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22,
                                            7, 23);
#elif SIMD_LANES == 8
    return second ? __builtin_shufflevector(x, y, 4, 12, 5, 13, 6, 14, 7, 15)
                  : __builtin_shufflevector(x, y, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    return second ? __builtin_shufflevector(x, y, 2, 6, 3, 7)
                  : __builtin_shufflevector(x, y, 0, 4, 1, 5);
#endif
}

/* Each round of interleaving rows i and i + LANES/2 rotates the bits of (row, lane) by one; after
 * log2(LANES) rounds row and lane have changed places. */
SIMD_INLINE void transpose_square(float *dst, size_t dst_ld, const float *src, size_t src_ld)
{
    simd_f32 x[SIMD_LANES], y[SIMD_LANES];
    UNROLL for (size_t i = 0; i < SIMD_LANES; i++)
    {
        x[i] = simd_load(src + i * src_ld);
    }
    UNROLL for (int round = 1; round < SIMD_LANES; round *= 2)
    {
        UNROLL for (int i = 0; i < SIMD_LANES / 2; i++)
        {
            y[2 * i] = interleave(x[i], x[i + SIMD_LANES / 2], 0);
            y[2 * i + 1] = interleave(x[i], x[i + SIMD_LANES / 2], 1);
        }
        UNROLL for (int i = 0; i < SIMD_LANES; i++)
        {
            x[i] = y[i];
        }
    }
    UNROLL for (size_t i = 0; i < SIMD_LANES; i++)
    {
        simd_store(dst + i * dst_ld, x[i]);
    }
}

static void transpose(float *dst, size_t dst_ld, const float *src, size_t src_ld, size_t rows,
                      size_t cols)
{
    const size_t full_rows = rows / SIMD_LANES * SIMD_LANES;
    const size_t full_cols = cols / SIMD_LANES * SIMD_LANES;

    for (size_t i = 0; i < full_rows; i += SIMD_LANES) {
        for (size_t j = 0; j < full_cols; j += SIMD_LANES) {
            transpose_square(dst + i * dst_ld + j, dst_ld, src + j * src_ld + i, src_ld);
        }
    }
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = i < full_rows ? full_cols : 0; j < cols; j++) {
            dst[i * dst_ld + j] = src[j * src_ld + i];
        }
    }
}

void SIMD_NAME(winograd_kernels_fill)(struct conv_kernels *k)
{
    k->winograd_input = winograd_input;
    k->winograd_filter = winograd_filter;
    k->winograd_output = winograd_output;
    k->winograd_output_adjoint = winograd_output_adjoint;
    k->winograd_filter_adjoint = winograd_filter_adjoint;
    k->transpose = transpose;
}
