/* Batch-norm's loops for one ISA: a strip of up to MAX_V vectors of channels at a time, whose
 * parameters and sums stay in registers while the pixels go by. Where the strip is narrow, several
 * pixels are summed side by side, because one chain of additions is bound by its latency. */
#include "kernels/simd/loops_simd.h"

#if SIMD_ISA == SIMD_ISA_avx512
enum { MAX_V = 4, CHAINS = 4 };
#else
enum { MAX_V = 2, CHAINS = 4 };
#endif

/* Channels first .. of a strip of n_v vectors, the last with `last` lanes. Always inlined with
 * n_v constant, and `last` constant but for the tail. */
struct strip {
    size_t first, last;
    size_t n_v;
};

SIMD_INLINE simd_f32 strip_load(const float *p, struct strip s, size_t v)
{
    return loop_load(p + s.first + v * SIMD_LANES, v + 1 == s.n_v ? s.last : SIMD_LANES);
}

SIMD_INLINE void strip_put(float *p, simd_f32 x, struct strip s, size_t v, int accumulate)
{
    loop_put(p + s.first + v * SIMD_LANES, x, v + 1 == s.n_v ? s.last : SIMD_LANES, accumulate);
}

/* clang-format off: the layout of nested macros. */
/* Calls body(args, strip) for all channels with constant widths. */
#define FOR_STRIPS(c, body, ...)                                            \
    for (size_t first_ = 0; first_ < (c); first_ += MAX_V * SIMD_LANES) {   \
        const size_t left_ = (c)-first_;                                    \
        const size_t tail_ = left_ % SIMD_LANES;                            \
        if (left_ >= MAX_V * SIMD_LANES) {                                  \
            body(__VA_ARGS__, (struct strip){first_, SIMD_LANES, MAX_V});   \
        } else if (tail_ == 0) {                                            \
            STRIP_SWITCH(left_ / SIMD_LANES, SIMD_LANES, body, __VA_ARGS__) \
        } else {                                                            \
            STRIP_SWITCH(left_ / SIMD_LANES + 1, tail_, body, __VA_ARGS__)  \
        }                                                                   \
    }
#if SIMD_ISA == SIMD_ISA_avx512
#define STRIP_SWITCH(n_v, last, body, ...)                              \
    switch (n_v) {                                                      \
    case 1: body(__VA_ARGS__, (struct strip){first_, last, 1}); break;  \
    case 2: body(__VA_ARGS__, (struct strip){first_, last, 2}); break;  \
    case 3: body(__VA_ARGS__, (struct strip){first_, last, 3}); break;  \
    default: body(__VA_ARGS__, (struct strip){first_, last, 4}); break; \
    }
#else
#define STRIP_SWITCH(n_v, last, body, ...)                  \
    if ((n_v) == 1) {                                       \
        body(__VA_ARGS__, (struct strip){first_, last, 1}); \
    } else {                                                \
        body(__VA_ARGS__, (struct strip){first_, last, 2}); \
    }
#endif
/* clang-format on */

/* Pixels side by side for a strip: CHAINS chains in all. */
SIMD_INLINE size_t strip_chains(struct strip s)
{
    return s.n_v >= CHAINS ? 1 : s.n_v == 1 ? CHAINS : CHAINS / 2;
}

struct moments_run {
    size_t n_pixels, xs;
    const float *x;
    double share, n_before; /* n / (n_before + n) */
    double *mean, *m2;
};

SIMD_INLINE void moments_strip(const struct moments_run *r, struct strip s)
{
    const size_t n_u = strip_chains(s);
    simd_f32 sum[CHAINS][MAX_V] = {{{0}}}, square[CHAINS][MAX_V] = {{{0}}};
    simd_f32 pivot[MAX_V];
    const float inv_n = 1 / (float)r->n_pixels;

    size_t p = 0;
    for (; p + n_u <= r->n_pixels; p += n_u) {
#pragma GCC unroll 4
        for (size_t u = 0; u < n_u; u++) {
#pragma GCC unroll 4
            for (size_t v = 0; v < s.n_v; v++) {
                sum[u][v] += strip_load(r->x + (p + u) * r->xs, s, v);
            }
        }
    }
    for (; p < r->n_pixels; p++) {
#pragma GCC unroll 4
        for (size_t v = 0; v < s.n_v; v++) {
            sum[0][v] += strip_load(r->x + p * r->xs, s, v);
        }
    }
#pragma GCC unroll 4
    for (size_t v = 0; v < s.n_v; v++) {
        simd_f32 all = sum[0][v];
#pragma GCC unroll 4
        for (size_t u = 1; u < n_u; u++) {
            all += sum[u][v];
        }
        pivot[v] = all * inv_n;
#pragma GCC unroll 4
        for (size_t u = 0; u < n_u; u++) {
            sum[u][v] = simd_zero();
        }
    }

    /* The same again from near the mean: the squares lose no digits, and the sum of differences
     * says by how much the first mean was off. */
    p = 0;
    for (; p + n_u <= r->n_pixels; p += n_u) {
#pragma GCC unroll 4
        for (size_t u = 0; u < n_u; u++) {
#pragma GCC unroll 4
            for (size_t v = 0; v < s.n_v; v++) {
                const simd_f32 d = strip_load(r->x + (p + u) * r->xs, s, v) - pivot[v];
                sum[u][v] += d;
                square[u][v] += d * d;
            }
        }
    }
    for (; p < r->n_pixels; p++) {
#pragma GCC unroll 4
        for (size_t v = 0; v < s.n_v; v++) {
            const simd_f32 d = strip_load(r->x + p * r->xs, s, v) - pivot[v];
            sum[0][v] += d;
            square[0][v] += d * d;
        }
    }

    const double n = (double)r->n_pixels;
    for (size_t v = 0; v < s.n_v; v++) {
        for (size_t u = 1; u < n_u; u++) {
            sum[0][v] += sum[u][v];
            square[0][v] += square[u][v];
        }
        double *const mean = r->mean + s.first + v * SIMD_LANES;
        double *const m2 = r->m2 + s.first + v * SIMD_LANES;
        const size_t n_lanes = v + 1 == s.n_v ? s.last : SIMD_LANES;
        float lane_pivot[SIMD_LANES], lane_sum[SIMD_LANES], lane_square[SIMD_LANES];
        simd_store(lane_pivot, pivot[v]);
        simd_store(lane_sum, sum[0][v]);
        simd_store(lane_square, square[0][v]);
        for (size_t i = 0; i < n_lanes; i++) {
            const double off = (double)lane_sum[i] / n;
            const double own_m2 = (double)lane_square[i] - (double)lane_sum[i] * off;
            const double delta = (double)lane_pivot[i] + off - mean[i];
            mean[i] += delta * r->share;
            /* Rounding may leave a trace below 0; NaN stays. */
            m2[i] += (own_m2 < 0 ? 0 : own_m2) + delta * delta * r->n_before * r->share;
        }
    }
}

static void bn_moments(size_t n_pixels, size_t c, const float *x, size_t xs, size_t n_before,
                       double *mean, double *m2)
{
    const struct moments_run r = {
        .n_pixels = n_pixels,
        .xs = xs,
        .x = x,
        .share = (double)n_pixels / (double)(n_before + n_pixels),
        .n_before = (double)n_before,
        .mean = mean,
        .m2 = m2,
    };
    FOR_STRIPS(c, moments_strip, &r)
}

/* --- the ReLU behind ---------------------------------------------------------------------------- */

/* A strip's sign bits, 8 to 64, of a pixel; it begins at a byte. */
SIMD_INLINE size_t strip_bytes(struct strip s)
{
    return ((s.n_v - 1) * SIMD_LANES + s.last + 7) / 8;
}

SIMD_INLINE uint64_t load_signs(const uint8_t *signs, struct strip s)
{
    uint64_t bits = 0;
#pragma GCC unroll 8
    for (size_t i = 0; i < strip_bytes(s); i++) {
        bits |= (uint64_t)signs[s.first / 8 + i] << 8 * i;
    }
    return bits;
}

SIMD_INLINE void store_signs(uint8_t *signs, uint64_t bits, struct strip s)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < strip_bytes(s); i++) {
        signs[s.first / 8 + i] = (uint8_t)(bits >> 8 * i);
    }
}

SIMD_INLINE unsigned vector_bits(uint64_t bits, size_t v)
{
    return (unsigned)(bits >> v * SIMD_LANES) & ((1u << SIMD_LANES) - 1u);
}

/* dev: of x from the mean. The same text wherever the output is made, so that it is the same bits. */
SIMD_INLINE simd_f32 bn_output(simd_f32 dev, simd_f32 scale, simd_f32 beta)
{
    return dev * scale + beta;
}

/* dy of vector v, which counts where the ReLU lets it through. */
SIMD_INLINE simd_f32 bn_dy(simd_f32 dy, simd_f32 dev, simd_f32 scale, simd_f32 beta, uint64_t bits,
                           size_t v, enum bn_relu relu)
{
    switch (relu) {
    case BN_NO_RELU: break;
    case BN_RELU:
    case BN_RELU_WRITE: return loop_keep((simd_i32)(bn_output(dev, scale, beta) > simd_zero()), dy);
    case BN_RELU_READ: return loop_keep_bits(dy, vector_bits(bits, v));
    }
    return dy;
}

/* --- loops -------------------------------------------------------------------------------------- */

SIMD_INLINE void apply_strip(const struct bn_run *r, const enum bn_relu relu, struct strip s)
{
    simd_f32 mean[MAX_V], scale[MAX_V], beta[MAX_V];
#pragma GCC unroll 4
    for (size_t v = 0; v < s.n_v; v++) {
        mean[v] = strip_load(r->mean, s, v);
        scale[v] = strip_load(r->gamma, s, v) * strip_load(r->invstd, s, v);
        beta[v] = strip_load(r->beta, s, v);
    }
    /* Not x * scale + (beta - mean * scale): that cancels where the mean is large. */
    const float *x = r->x;
    float *y = r->out;
    uint8_t *signs = r->signs;
    for (size_t p = 0; p < r->n_pixels; p++, x += r->x_stride, y += r->out_stride) {
        uint64_t bits = relu == BN_RELU_READ ? load_signs(signs, s) : 0;
#pragma GCC unroll 4
        for (size_t v = 0; v < s.n_v; v++) {
            simd_f32 out = bn_output(strip_load(x, s, v) - mean[v], scale[v], beta[v]);
            if (relu == BN_RELU_WRITE) {
                bits |= (uint64_t)loop_sign_bits(out) << v * SIMD_LANES;
            }
            if (relu == BN_RELU_READ) {
                out = loop_keep_bits(out, vector_bits(bits, v));
            } else if (relu != BN_NO_RELU) {
                out = loop_relu(out);
            }
            strip_put(y, out, s, v, 0);
        }
        if (relu == BN_RELU_WRITE) {
            store_signs(signs, bits, s);
        }
        if (relu == BN_RELU_WRITE || relu == BN_RELU_READ) {
            signs += r->sign_stride;
        }
    }
}

static void bn_apply(const struct bn_run *r)
{
    switch (r->relu) {
    case BN_NO_RELU: FOR_STRIPS(r->c, apply_strip, r, BN_NO_RELU) break;
    case BN_RELU: FOR_STRIPS(r->c, apply_strip, r, BN_RELU) break;
    case BN_RELU_WRITE: FOR_STRIPS(r->c, apply_strip, r, BN_RELU_WRITE) break;
    case BN_RELU_READ: FOR_STRIPS(r->c, apply_strip, r, BN_RELU_READ) break;
    }
}

/* What bn_dy needs of the parameters. */
SIMD_INLINE void load_output(const struct bn_run *r, const enum bn_relu relu, struct strip s,
                             simd_f32 *scale, simd_f32 *beta)
{
#pragma GCC unroll 4
    for (size_t v = 0; v < s.n_v; v++) {
        const int is_needed = relu == BN_RELU;
        scale[v] = is_needed ? strip_load(r->gamma, s, v) * strip_load(r->invstd, s, v)
                             : simd_zero();
        beta[v] = is_needed ? strip_load(r->beta, s, v) : simd_zero();
    }
}

SIMD_INLINE void reduce_strip(const struct bn_run *r, double *sum_dy, double *sum_dy_dev,
                              const enum bn_relu relu, struct strip s)
{
    const size_t n_u = strip_chains(s);
    simd_f32 sum[CHAINS][MAX_V] = {{{0}}}, product[CHAINS][MAX_V] = {{{0}}}, mean[MAX_V];
    simd_f32 scale[MAX_V], beta[MAX_V];
    load_output(r, relu, s, scale, beta);
#pragma GCC unroll 4
    for (size_t v = 0; v < s.n_v; v++) {
        mean[v] = strip_load(r->mean, s, v);
    }
    size_t p = 0;
    for (; p + n_u <= r->n_pixels; p += n_u) {
#pragma GCC unroll 4
        for (size_t u = 0; u < n_u; u++) {
            const uint64_t bits = relu == BN_RELU_READ
                                      ? load_signs(r->signs + (p + u) * r->sign_stride, s)
                                      : 0;
#pragma GCC unroll 4
            for (size_t v = 0; v < s.n_v; v++) {
                const simd_f32 dev = strip_load(r->x + (p + u) * r->x_stride, s, v) - mean[v];
                const simd_f32 dy = bn_dy(strip_load(r->dy + (p + u) * r->dy_stride, s, v), dev,
                                          scale[v], beta[v], bits, v, relu);
                sum[u][v] += dy;
                product[u][v] += dy * dev;
            }
        }
    }
    for (; p < r->n_pixels; p++) {
        const uint64_t bits = relu == BN_RELU_READ ? load_signs(r->signs + p * r->sign_stride, s)
                                                   : 0;
#pragma GCC unroll 4
        for (size_t v = 0; v < s.n_v; v++) {
            const simd_f32 dev = strip_load(r->x + p * r->x_stride, s, v) - mean[v];
            const simd_f32 dy = bn_dy(strip_load(r->dy + p * r->dy_stride, s, v), dev, scale[v],
                                      beta[v], bits, v, relu);
            sum[0][v] += dy;
            product[0][v] += dy * dev;
        }
    }
    for (size_t v = 0; v < s.n_v; v++) {
        for (size_t u = 1; u < n_u; u++) {
            sum[0][v] += sum[u][v];
            product[0][v] += product[u][v];
        }
        const size_t at = s.first + v * SIMD_LANES;
        const size_t n_lanes = v + 1 == s.n_v ? s.last : SIMD_LANES;
        float lane_sum[SIMD_LANES], lane_product[SIMD_LANES];
        simd_store(lane_sum, sum[0][v]);
        simd_store(lane_product, product[0][v]);
        for (size_t i = 0; i < n_lanes; i++) {
            sum_dy[at + i] += (double)lane_sum[i];
            sum_dy_dev[at + i] += (double)lane_product[i];
        }
    }
}

static void bn_reduce(const struct bn_run *r, double *sum_dy, double *sum_dy_dev)
{
    switch (r->relu) {
    case BN_NO_RELU: FOR_STRIPS(r->c, reduce_strip, r, sum_dy, sum_dy_dev, BN_NO_RELU) break;
    case BN_RELU_READ: FOR_STRIPS(r->c, reduce_strip, r, sum_dy, sum_dy_dev, BN_RELU_READ) break;
    default: FOR_STRIPS(r->c, reduce_strip, r, sum_dy, sum_dy_dev, BN_RELU) break;
    }
}

SIMD_INLINE void backward_strip(const struct bn_run *r, const int accumulate,
                                const enum bn_relu relu, struct strip s)
{
    simd_f32 mean[MAX_V], scale[MAX_V], mean_dy[MAX_V], slope[MAX_V], beta[MAX_V];
#pragma GCC unroll 4
    for (size_t v = 0; v < s.n_v; v++) {
        const simd_f32 invstd = strip_load(r->invstd, s, v);
        mean[v] = strip_load(r->mean, s, v);
        scale[v] = strip_load(r->gamma, s, v) * invstd;
        mean_dy[v] = strip_load(r->means, s, v);
        slope[v] = strip_load(r->means + r->c, s, v) * invstd;
        beta[v] = relu == BN_RELU ? strip_load(r->beta, s, v) : simd_zero();
    }
    const float *x = r->x, *dy = r->dy;
    float *dx = r->out;
    for (size_t p = 0; p < r->n_pixels;
         p++, x += r->x_stride, dy += r->dy_stride, dx += r->out_stride) {
        const uint64_t bits = relu == BN_RELU_READ ? load_signs(r->signs + p * r->sign_stride, s)
                                                   : 0;
#pragma GCC unroll 4
        for (size_t v = 0; v < s.n_v; v++) {
            const simd_f32 dev = strip_load(x, s, v) - mean[v];
            const simd_f32 open = bn_dy(strip_load(dy, s, v), dev, scale[v], beta[v], bits, v,
                                        relu);
            strip_put(dx, scale[v] * (open - mean_dy[v] - dev * slope[v]), s, v, accumulate);
        }
    }
}

SIMD_INLINE void backward_all(const struct bn_run *r, const int accumulate)
{
    switch (r->relu) {
    case BN_NO_RELU: FOR_STRIPS(r->c, backward_strip, r, accumulate, BN_NO_RELU) break;
    case BN_RELU_READ: FOR_STRIPS(r->c, backward_strip, r, accumulate, BN_RELU_READ) break;
    default: FOR_STRIPS(r->c, backward_strip, r, accumulate, BN_RELU) break;
    }
}

static void bn_backward(const struct bn_run *r)
{
    if (r->accumulate) {
        backward_all(r, 1);
    } else {
        backward_all(r, 0);
    }
}

void SIMD_NAME(loop_kernels_fill_bn)(struct loop_kernels *k)
{
    k->bn_moments = bn_moments;
    k->bn_apply = bn_apply;
    k->bn_reduce = bn_reduce;
    k->bn_backward = bn_backward;
}
