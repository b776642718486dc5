/* The codec on maps with codes that count from a batch-norm's threshold (CODEC_SIDES), one SIMD lane
 * per channel. Compiled once per ISA, without contraction.
 *
 * Every block of a map has steps of its own, so that the fast way takes octets of one block. */
#include "kernels/simd/codec_walk.h"

/* struct codec_side_range of a vector of channels. */
struct side_lanes {
    simd_f32 threshold, minimum, top, inverse, last_bit;
    simd_i32 falls; /* gamma < 0 */
};

/* Through memory, and not inlined: compilers take long over lanes with a variable number. */
static __attribute__((noinline)) void load_norm(const struct codec_unit *u, size_t channel,
                                                size_t lanes, struct side_lanes *s)
{
    float threshold[SIMD_LANES] = {0};
    int32_t falls[SIMD_LANES] = {0};
    for (size_t i = 0; i < lanes; i++) {
        threshold[i] = codec_threshold(u, channel + i);
        falls[i] = -((float)u->gamma[channel + i] < 0.0f);
    }
    s->threshold = simd_load(threshold);
    memcpy(&s->falls, falls, sizeof(falls));
    s->inverse = simd_set1(codec_inverse_levels(u->bits));
}

/* struct codec_sides of a vector. */
struct side_steps {
    simd_f32 d, up, down;
};

SIMD_INLINE struct side_steps side_steps(const struct side_lanes *s, simd_f32 mean)
{
    const simd_f32 d = codec_max(codec_min(s->threshold - mean, s->top), s->minimum);
    return (struct side_steps){
        .d = d, .up = (s->top - d) * s->inverse, .down = (d - s->minimum) * s->inverse};
}

/* --- encode ----------------------------------------------------------------------------------- */

SIMD_INLINE simd_f32 side_scale(simd_f32 step)
{
    return 65536.0f / codec_max(step, simd_set1(codec_bf16_float(CODEC_MIN_STEP_BF16)));
}

/* As codec_side_range_make. */
static void make_sides(const struct codec_unit *u, const struct codec_lanes *range, size_t channel,
                       size_t lanes, struct side_lanes *s)
{
    const float levels = (float)((1u << u->bits) - 1u);
    load_norm(u, channel, lanes, s);
    s->minimum = range->minimum + (range->scale - range->scale);
    s->top = s->minimum + levels * (simd_f32)(range->step_bf16 << 16);
}

/* What encodes the values of a block with this mean. */
SIMD_INLINE void aim(struct codec_lanes *range, const struct side_lanes *s, simd_f32 mean)
{
    const struct side_steps steps = side_steps(s, mean);
    range->minimum = steps.d;
    range->scale = side_scale(steps.up);
    range->down = side_scale(steps.down);
}

/* Pixels of several blocks, or less than an octet; codes as codec_encode_part's. */
static __attribute__((noinline)) void
encode_part(const struct codec_unit *u, const struct codec_lanes *range, const struct side_lanes *s,
            const float *x, size_t stride, struct codec_means means, size_t n, size_t lanes,
            const struct codec_words *words, unsigned is_second, unsigned char *codes)
{
    const unsigned per_byte = 8 / u->bits;
    struct codec_lanes at = *range;
    for (size_t row = 0; row * per_byte < n; row++) {
        simd_u32 byte = {0};
        for (unsigned place = 0; place < per_byte && row * per_byte + place < n; place++) {
            const size_t i = row * per_byte + place;
            const simd_u32 random = codec_random(words, is_second, (unsigned)i);
            const simd_f32 mean = means.mean[i * means.step];
            aim(&at, s, mean);
            byte |= codec_scaled(&at, codec_load(x + i * stride, lanes), mean, random, 1) >>
                    16 << place * u->bits;
        }
        codec_store_bytes(codes + row * u->c, byte, lanes);
    }
}

/* `lanes` channels from `channel` on, one vector; x, means are the first one's. */
static void encode_vector(const struct codec_unit *u, const struct codec_philox *ph, const float *x,
                          size_t stride, size_t channel, size_t lanes, unsigned char *means,
                          unsigned char *dst)
{
    const struct codec_map_stats stats = codec_map_stats_part(u, x, stride, lanes, means);
    struct codec_lanes range;
    codec_make_ranges(u, &stats, channel, 1, lanes, dst, &range);
    struct side_lanes sides;
    make_sides(u, &range, channel, lanes, &sides);
    const size_t n_pixels = u->h * u->w;
    uint64_t block = codec_first_block(u, channel);
    unsigned char *codes = dst + u->codes_at + channel;
    struct codec_words words = codec_no_words();
    struct codec_walk walk;
    codec_walk_init(&walk, u, means, 0, 1, lanes);
    for (size_t p = 0; p < n_pixels; p += CODEC_OCTET) {
        const size_t n = codec_min_size(CODEC_OCTET, n_pixels - p);
        const unsigned is_second = p / CODEC_OCTET % 2;
        const struct codec_means at = codec_walk_next(&walk, n, 1, lanes);
        if (u->stochastic && !is_second) {
            words = codec_philox_any(ph, block);
            block += u->c;
        }
        encode_part(u, &range, &sides, x + p * stride, stride, at, n, lanes, &words, is_second,
                    codes);
        codes += u->c * u->bits; /* 8 pixels: `bits` bytes per channel */
    }
}

SIMD_INLINE void encode_octets(const struct codec_unit *u, const struct codec_philox *ph,
                               struct codec_stream *stream, struct codec_lanes *range,
                               const struct side_lanes *sides, const float *x, size_t stride,
                               const unsigned char *means, unsigned bits, unsigned char *codes)
{
    const size_t n_pixels = u->h * u->w;
    struct codec_walk walk;
    codec_walk_init(&walk, u, means, 0, CODEC_VECTORS, SIMD_LANES);
    for (size_t p = 0; p < n_pixels; p += CODEC_OCTET) {
        const size_t n = codec_min_size(CODEC_OCTET, n_pixels - p);
        struct codec_means at = codec_walk_next(&walk, n, CODEC_VECTORS, SIMD_LANES);
        codec_stream_expect(stream, (n_pixels - p + CODEC_OCTET - 1) / CODEC_OCTET);
        if (n == CODEC_OCTET && at.step == 0) {
            for (size_t v = 0; v < CODEC_VECTORS; v++) {
                aim(&range[v], &sides[v], at.mean[v]);
            }
            codec_encode_next(range, x, stride, at, bits, 1, ph, stream, codes, u->c);
        } else {
            for (size_t v = 0; v < CODEC_VECTORS; v++) {
                encode_part(u, &range[v], &sides[v], x + v * SIMD_LANES, stride, at, n, SIMD_LANES,
                            &codec_stream_words(stream)[v], codec_stream_is_second(stream),
                            codes + v * SIMD_LANES);
                at.mean++;
            }
            codec_stream_draw(ph, stream);
        }
        x += CODEC_OCTET * stride;
        codes += u->c * bits;
    }
    codec_stream_end_strip(ph, stream);
}

static void encode_strip(const struct codec_unit *u, const struct codec_philox *ph,
                         struct codec_stream *stream, const float *x, size_t stride, size_t channel,
                         unsigned char *means, unsigned char *dst)
{
    const struct codec_map_stats stats = codec_map_stats_strip(u, x, stride, means);
    struct codec_lanes range[CODEC_VECTORS];
    codec_make_ranges(u, &stats, channel, CODEC_VECTORS, SIMD_LANES, dst, range);
    struct side_lanes sides[CODEC_VECTORS];
    for (size_t v = 0; v < CODEC_VECTORS; v++) {
        make_sides(u, &range[v], channel + v * SIMD_LANES, SIMD_LANES, &sides[v]);
    }
    unsigned char *const codes = dst + u->codes_at + channel;
    switch (u->bits) {
    case 1: encode_octets(u, ph, stream, range, sides, x, stride, means, 1, codes); break;
    case 2: encode_octets(u, ph, stream, range, sides, x, stride, means, 2, codes); break;
    case 4: encode_octets(u, ph, stream, range, sides, x, stride, means, 4, codes); break;
    default: encode_octets(u, ph, stream, range, sides, x, stride, means, 8, codes); break;
    }
}

static void encode_sides(const struct codec_unit *u, const float *x, size_t stride, size_t c0,
                         size_t c1, unsigned char *means, unsigned char *dst)
{
    const uint64_t first = codec_first_block(u, c0);
    const uint64_t last = first + codec_sample_blocks(u) + (c1 - c0);
    struct codec_philox ph;
    codec_philox_init(&ph, &u->rng, first);
    struct codec_stream stream = codec_stream_make(&ph, u->stochastic, first, u->c, last);
    size_t ch = c0;
    for (; ch + CODEC_STRIP <= c1; ch += CODEC_STRIP) {
        encode_strip(u, &ph, &stream, x + ch, stride, ch,
                     means == NULL ? NULL : means + (ch - c0) * 2, dst);
    }
    for (; ch < c1; ch += SIMD_LANES) {
        encode_vector(u, &ph, x + ch, stride, ch, codec_min_size(SIMD_LANES, c1 - ch),
                      means == NULL ? NULL : means + (ch - c0) * 2, dst);
    }
}

/* --- decode ----------------------------------------------------------------------------------- */

/* As codec_side_range_load. */
static void load_sides(const struct codec_unit *u, const unsigned char *src, size_t channel,
                       size_t lanes, struct side_lanes *s)
{
    const unsigned char *const ranges = src + u->ranges_at + channel * 2;
    const simd_u32 step_bf16 = codec_load_bf16(ranges + u->c * 2, lanes);
    const struct codec_levels r = codec_levels_make(codec_load_bf16(ranges, lanes), step_bf16);
    const simd_i32 flat = (simd_i32)((step_bf16 & CODEC_FLAT_BIT) != 0);
    const simd_f32 top = r.minimum + (float)((1u << u->bits) - 1u) * r.step;
    load_norm(u, channel, lanes, s);
    s->minimum = r.minimum;
    s->top = (simd_f32)codec_select(flat, (simd_u32)r.minimum, (simd_u32)top);
    s->last_bit = (simd_f32)((simd_u32)flat & (simd_u32)r.step);
}

/* What a code counts in, where the batch-norm's output is positive and where it is not. */
struct side_levels {
    simd_f32 d, positive, negative;
};

SIMD_INLINE struct side_levels side_levels(const struct side_lanes *s, simd_f32 mean)
{
    const struct side_steps steps = side_steps(s, mean);
    const simd_u32 up = (simd_u32)(steps.up + s->last_bit);
    const simd_u32 down = (simd_u32)(-steps.down + s->last_bit);
    return (struct side_levels){.d = steps.d,
                                .positive = (simd_f32)codec_select(s->falls, down, up),
                                .negative = (simd_f32)codec_select(s->falls, up, down)};
}

/* Sign bits of channels `channel` .. in the low bits; of a pixel's bits. */
SIMD_INLINE uint32_t sign_bits(const uint8_t *signs, size_t channel, size_t lanes)
{
    const size_t from = channel / 8, to = (channel + lanes + 7) / 8;
    uint32_t bits = 0;
    for (size_t i = from; i < to; i++) {
        bits |= (uint32_t)signs[i] << 8 * (i - from);
    }
    return bits >> channel % 8;
}

SIMD_INLINE simd_f32 by_sign(const struct side_levels *levels, uint32_t bits)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_f32)_mm512_mask_blend_ps((__mmask16)bits, (__m512)levels->negative,
                                          (__m512)levels->positive);
#elif SIMD_ISA == SIMD_ISA_avx2
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i is_set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), bit),
                                              bit);
    return (simd_f32)_mm256_blendv_ps((__m256)levels->negative, (__m256)levels->positive,
                                      (__m256)is_set);
#else
    const simd_u32 bit = {1, 2, 4, 8};
    return (simd_f32)codec_select((bit & bits) != 0, (simd_u32)levels->positive,
                                  (simd_u32)levels->negative);
#endif
}

/* Pixels from..to-1 of an octet of one vector, whose signs (all channels' of a pixel) begin at
 * `signs`, to out, which is the first one's place, as are the means. */
static __attribute__((noinline)) void
decode_part(const struct codec_unit *u, const struct side_lanes *s, const unsigned char *codes,
            const uint8_t *signs, size_t channel, struct codec_means means, size_t from, size_t to,
            size_t lanes, float *out, size_t stride)
{
    const unsigned per_byte = 8 / u->bits;
    const size_t sign_stride = (u->c + 7) / 8;
    for (size_t i = from; i < to; i++) {
        const simd_f32 mean = means.mean[(i - from) * means.step];
        const simd_u32 byte = codec_load_bytes(codes + i / per_byte * u->c, lanes);
        const simd_u32 code = byte >> (unsigned)(i % per_byte) * u->bits & ((1u << u->bits) - 1u);
        const struct side_levels levels = side_levels(s, mean);
        const simd_f32 step = by_sign(&levels,
                                      sign_bits(signs + (i - from) * sign_stride, channel, lanes));
        const simd_f32 r = levels.d + __builtin_convertvector((simd_i32)code, simd_f32) * step;
        codec_store(out + (i - from) * stride, mean + r, lanes);
    }
}

/* A strip's whole octet of one block; the strip's sign bits begin a byte. */
SIMD_INLINE void decode_octet(const struct codec_unit *u, const struct side_lanes *s,
                              const unsigned char *codes, const uint8_t *signs, size_t channel,
                              const simd_f32 *mean, unsigned bits, float *out, size_t stride)
{
    const unsigned per_byte = 8 / bits;
    const size_t sign_stride = (u->c + 7) / 8;
#pragma GCC unroll 4
    for (size_t v = 0; v < CODEC_VECTORS; v++) {
        const struct side_levels levels = side_levels(&s[v], mean[v]);
#pragma GCC unroll 8
        for (unsigned row = 0; row < bits; row++) {
            const simd_u32 byte = codec_load_bytes(codes + row * u->c + v * SIMD_LANES, SIMD_LANES);
#pragma GCC unroll 8
            for (unsigned place = 0; place < per_byte; place++) {
                const size_t i = row * per_byte + place;
                const uint32_t sign = sign_bits(signs + i * sign_stride, channel + v * SIMD_LANES,
                                                SIMD_LANES);
                const simd_f32 r = levels.d +
                                   codec_code_float(byte, place, bits) * by_sign(&levels, sign);
                simd_store(out + i * stride + v * SIMD_LANES, mean[v] + r);
            }
        }
    }
}

/* `vectors` is that of a strip, whose whole octets of one block are quick, or 1. */
SIMD_INLINE void decode_lines(const struct codec_unit *u, const unsigned char *src, size_t h0,
                              size_t h1, size_t channel, size_t vectors, size_t lanes,
                              unsigned bits, int is_strip, float *out, size_t stride)
{
    const unsigned char *means = u->has_means ? src + channel * 2 : NULL;
    const size_t sign_stride = (u->c + 7) / 8;
    struct side_lanes sides[CODEC_VECTORS];
    for (size_t v = 0; v < vectors; v++) {
        load_sides(u, src, channel + v * SIMD_LANES, lanes, &sides[v]);
    }
    struct codec_walk walk;
    codec_walk_init(&walk, u, means, h0, vectors, lanes);
    const unsigned char *const codes = src + u->codes_at + channel;
    for (size_t p = h0 * u->w; p < h1 * u->w;) {
        const size_t from = p % CODEC_OCTET;
        const size_t to = codec_min_size(CODEC_OCTET, from + (h1 * u->w - p));
        const unsigned char *octet = codes + p / CODEC_OCTET * u->c * bits;
        struct codec_means at = codec_walk_next(&walk, to - from, vectors, lanes);
        const uint8_t *signs = u->signs + p * sign_stride;
        if (is_strip && to - from == CODEC_OCTET && at.step == 0) {
            decode_octet(u, sides, octet, signs, channel, at.mean, bits, out, stride);
        } else {
            for (size_t v = 0; v < vectors; v++) {
                decode_part(u, &sides[v], octet + v * SIMD_LANES, signs, channel + v * SIMD_LANES,
                            at, from, to, lanes, out + v * SIMD_LANES, stride);
                at.mean++;
            }
        }
        out += (to - from) * stride;
        p += to - from;
    }
}

static void decode_vector(const struct codec_unit *u, const unsigned char *src, size_t h0,
                          size_t h1, size_t channel, size_t lanes, float *out, size_t stride)
{
    decode_lines(u, src, h0, h1, channel, 1, lanes, u->bits, 0, out, stride);
}

SIMD_INLINE void decode_strip(const struct codec_unit *u, const unsigned char *src, size_t h0,
                              size_t h1, size_t channel, unsigned bits, float *out, size_t stride)
{
    decode_lines(u, src, h0, h1, channel, CODEC_VECTORS, SIMD_LANES, bits, 1, out, stride);
}

static void decode_sides(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                         size_t c0, size_t c1, float *out, size_t stride)
{
    size_t ch = c0;
    for (; ch + CODEC_STRIP <= c1 && c0 % 8 == 0; ch += CODEC_STRIP) {
        switch (u->bits) {
        case 1: decode_strip(u, src, h0, h1, ch, 1, out + (ch - c0), stride); break;
        case 2: decode_strip(u, src, h0, h1, ch, 2, out + (ch - c0), stride); break;
        case 4: decode_strip(u, src, h0, h1, ch, 4, out + (ch - c0), stride); break;
        default: decode_strip(u, src, h0, h1, ch, 8, out + (ch - c0), stride); break;
        }
    }
    for (; ch < c1; ch += SIMD_LANES) {
        decode_vector(u, src, h0, h1, ch, codec_min_size(SIMD_LANES, c1 - ch), out + (ch - c0),
                      stride);
    }
}

void SIMD_NAME(codec_sides_fill)(struct codec_kernels *k)
{
    k->encode_sides = encode_sides;
    k->decode_sides = decode_sides;
}
