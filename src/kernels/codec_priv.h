/* The codec's numbers, one value at a time: bfloat16, and the stored range of a map. The vector
 * kernels do the same in simd/codec_simd.h, bit for bit. */
#ifndef KERNELS_CODEC_PRIV_H
#define KERNELS_CODEC_PRIV_H

#include <stdint.h>
#include <string.h>

#include "kernels/codec_isa.h"

#define CODEC_BF16_NAN 0x7FC0u
#define CODEC_BF16_INF 0x7F80u

/* Smallest step, 2^-110: then 65536 / step is finite. */
#define CODEC_MIN_STEP_BF16 0x0880u

/* Sign bit of a stored step: the map is flat. */
#define CODEC_FLAT_BIT 0x8000u

static inline uint32_t codec_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline float codec_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static inline float codec_bf16_float(uint32_t bf16)
{
    return codec_bits_float(bf16 << 16);
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint32_t codec_bf16_nearest(float x)
{
    const uint32_t bits = codec_float_bits(x);
    return x != x ? CODEC_BF16_NAN : (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
}

/* Towards -infinity: away from zero for negative numbers, whose sign bit is the top one. */
static inline uint32_t codec_bf16_down(float x)
{
    const uint32_t bits = codec_float_bits(x);
    return (bits + (bits >> 31) * 0xFFFFu) >> 16;
}

/* Towards +infinity, of a number that is not negative. */
static inline uint32_t codec_bf16_up(float x)
{
    return (codec_float_bits(x) + 0xFFFFu) >> 16;
}

static inline uint32_t codec_load_u16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static inline void codec_store_u16(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)(v & 0xFFu);
    p[1] = (unsigned char)(v >> 8 & 0xFFu);
}

/* What encoding needs to know of a map, and what is stored of it. */
struct codec_range {
    uint32_t minimum_bf16, step_bf16; /* as stored */
    float minimum;                    /* t = (r - minimum) * scale, and at most `limit`; */
    float scale;                      /* NaN: every code is limit / 65536 */
    float limit;
};

/* low, high: least and largest r. damaged: NaN or infinity was among the values. */
static inline struct codec_range codec_range_make(float low, float high, int damaged, unsigned bits)
{
    const float levels = (float)((1u << bits) - 1u);
    struct codec_range range = {.limit = levels * 65536.0f};

    low +=
        0.0f; /* -0 becomes 0: which of them a search for the least value meets depends on order */
    high += 0.0f;
    range.minimum_bf16 = codec_bf16_down(low);
    range.minimum = codec_bf16_float(range.minimum_bf16);
    range.step_bf16 = codec_bf16_up((high - range.minimum) / levels);
    if (range.step_bf16 < CODEC_MIN_STEP_BF16) {
        range.step_bf16 = CODEC_MIN_STEP_BF16;
    }
    /* The division's rounding can leave the step one bf16 short, never two: high - minimum and the
     * quotient are right to 2^-23, one bf16 more adds at least 2^-8. */
    if (range.minimum + levels * codec_bf16_float(range.step_bf16) < high) {
        range.step_bf16++;
    }
    range.scale = 65536.0f / codec_bf16_float(range.step_bf16);

    const int flat = low == high && low - low == 0.0f; /* not infinite */
    /* An overflow anywhere ends in an infinite or NaN step. */
    const int overflow = !(levels * codec_bf16_float(range.step_bf16) <= 3.402823466e38f);
    if (damaged || (overflow && !flat)) {
        range.minimum_bf16 = range.step_bf16 = CODEC_BF16_NAN;
        range.scale = codec_bf16_float(CODEC_BF16_NAN);
    } else if (flat) {
        const uint32_t value = codec_float_bits(low);
        range.minimum_bf16 = value >> 16;
        range.step_bf16 = CODEC_FLAT_BIT | (value >> 1 & 0x7FFFu);
        range.scale = codec_bf16_float(CODEC_BF16_NAN);
        range.limit = (float)(value & 1u) * 65536.0f;
    }
    return range;
}

/* The two numbers of r = minimum + code * step from what is stored. */
static inline void codec_range_load(uint32_t minimum_bf16, uint32_t step_bf16, float *minimum,
                                    float *step)
{
    *minimum = codec_bf16_float(minimum_bf16);
    *step = codec_bf16_float(step_bf16);
    if (step_bf16 & CODEC_FLAT_BIT) {
        const uint32_t even = minimum_bf16 << 16 | (step_bf16 & 0x7FFFu) << 1;
        *minimum = codec_bits_float(even);
        *step = codec_bits_float(even | 1u) - codec_bits_float(even);
    }
}

/* CODEC_SIDES, one channel. Encoding: minimum and top are NaN where every code is limit / 65536. */
struct codec_side_range {
    float threshold;
    float minimum, top;
    float inverse;  /* of 2^bits - 1 */
    float last_bit; /* decoding: of a flat map, whose top is its minimum; else 0 */
};

/* The same with a block's mean: r - d = code * up, or -code * down. */
struct codec_sides {
    float d, up, down;
};

/* Where the batch-norm's output changes its sign; infinite where it never does. */
static inline float codec_threshold(const struct codec_unit *u, size_t channel)
{
    const float slope = (float)u->gamma[channel] * (float)u->invstd[channel];
    const float beta = (float)u->beta[channel];
    if (slope == 0.0f) {
        return beta > 0.0f ? -__builtin_inff() : __builtin_inff();
    }
    return (float)u->mean[channel] - beta / slope;
}

static inline float codec_inverse_levels(unsigned bits)
{
    return 1.0f / (float)((1u << bits) - 1u);
}

static inline struct codec_side_range codec_side_range_make(const struct codec_range *range,
                                                            float threshold, unsigned bits)
{
    const float nothing = range->scale - range->scale; /* NaN if it is */
    const float levels = (float)((1u << bits) - 1u), minimum = range->minimum + nothing;
    return (struct codec_side_range){
        .threshold = threshold,
        .minimum = minimum,
        .top = minimum + levels * codec_bf16_float(range->step_bf16),
        .inverse = codec_inverse_levels(bits),
    };
}

static inline struct codec_side_range
codec_side_range_load(uint32_t minimum_bf16, uint32_t step_bf16, float threshold, unsigned bits)
{
    const int is_flat = (step_bf16 & CODEC_FLAT_BIT) != 0;
    float minimum, step;
    codec_range_load(minimum_bf16, step_bf16, &minimum, &step);
    return (struct codec_side_range){
        .threshold = threshold,
        .minimum = minimum,
        .top = is_flat ? minimum : minimum + (float)((1u << bits) - 1u) * step,
        .inverse = codec_inverse_levels(bits),
        .last_bit = is_flat ? step : 0.0f,
    };
}

static inline struct codec_sides codec_sides_make(const struct codec_side_range *range, float mean)
{
    float d = range->threshold - mean;
    d = d < range->top ? d : range->top; /* NaN too */
    d = d > range->minimum ? d : range->minimum;
    return (struct codec_sides){.d = d,
                                .up = (range->top - d) * range->inverse,
                                .down = (d - range->minimum) * range->inverse};
}

/* 1 / step in units of 1 / 65536. */
static inline float codec_side_scale(float step)
{
    const float least = codec_bf16_float(CODEC_MIN_STEP_BF16);
    return 65536.0f / (step > least ? step : least);
}

/* CODEC_BINS, one channel: t = (x - mean) * scale + offset, between low and high;
 * code = ceil(t) + last; x' = base + code * step. */
struct codec_bins {
    float mean, scale, offset, low, high, last;
    float base, step;
};

#define CODEC_BINS_RANGE 6.0f /* of the normalised value, -3 to 3 */
#define CODEC_BINS_MIN_GAMMA 1e-8f

static inline struct codec_bins codec_bins_make(const struct codec_unit *u, size_t channel)
{
    const float n_bins = (float)(1u << u->bits), width = CODEC_BINS_RANGE / n_bins;
    const float half = CODEC_BINS_RANGE / 2, gamma = (float)u->gamma[channel];
    const float invstd = (float)u->invstd[channel], mean = (float)u->mean[channel];
    const float sign = gamma < 0.0f ? -1.0f : 1.0f;
    const float size = sign * gamma > CODEC_BINS_MIN_GAMMA ? sign * gamma : CODEC_BINS_MIN_GAMMA;
    float bias = (float)u->beta[channel] / size;
    bias = bias < half ? bias : half;
    bias = bias > -half ? bias : -half;
    const float edge = bias / width;
    float below = (float)(int)edge; /* floor */
    below -= below > edge ? 1.0f : 0.0f;
    const float shift = n_bins / 2 - below > 1.0f ? n_bins / 2 - below : 1.0f;
    return (struct codec_bins){
        .mean = mean,
        .scale = sign * invstd / width,
        .offset = edge,
        .low = 1.0f - shift,
        .high = n_bins - shift,
        .last = shift - 1.0f,
        .base = mean + sign * ((0.5f - shift) * width - bias) / invstd,
        .step = sign * width / invstd,
    };
}

#endif
