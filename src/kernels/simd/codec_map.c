/* The codec on maps, one SIMD lane per channel. Compiled once per ISA, without contraction.
 *
 * Strips of 16 channels and whole octets of pixels take the fast way, a copy of the loops for each
 * number of bits; what is left over takes one way for all (the functions that end in _part). */
#include "kernels/simd/codec_walk.h"

/* --- encode ----------------------------------------------------------------------------------- */

/* As codec_encode_part. */
static __attribute__((noinline)) void encode_part(const struct codec_unit *u,
                                                  const struct codec_lanes *range, const float *x,
                                                  size_t stride, struct codec_means means, size_t n,
                                                  size_t lanes, const struct codec_words *words,
                                                  unsigned is_second, unsigned char *codes)
{
    codec_encode_part(range, x, stride, means, n, lanes, u->bits, words, is_second, codes, u->c);
}

static void encode_octets_vector(const struct codec_unit *u, const struct codec_philox *ph,
                                 const struct codec_lanes *range, const float *x, size_t stride,
                                 size_t channel, size_t lanes, const unsigned char *means,
                                 unsigned char *codes)
{
    const size_t n_pixels = u->h * u->w;
    uint64_t block = codec_first_block(u, channel);
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
        encode_part(u, range, x + p * stride, stride, at, n, lanes, &words, is_second, codes);
        codes += u->c * u->bits; /* 8 pixels: `bits` bytes per channel */
    }
}

SIMD_INLINE void encode_octets_strip(const struct codec_unit *u, const struct codec_philox *ph,
                                     struct codec_stream *stream, const struct codec_lanes *range,
                                     const float *x, size_t stride, const unsigned char *means,
                                     unsigned bits, int in_octets, unsigned char *codes)
{
    const size_t n_octets = u->h * u->w / CODEC_OCTET, n_left = u->h * u->w % CODEC_OCTET;
    struct codec_walk walk;
    codec_walk_init(&walk, u, means, 0, CODEC_VECTORS, SIMD_LANES);
    for (size_t i = 0; i < n_octets; i++) {
        const struct codec_means at = in_octets ? codec_walk_octet(&walk)
                                                : codec_walk_next(&walk, CODEC_OCTET, CODEC_VECTORS,
                                                                  SIMD_LANES);
        codec_stream_expect(stream, n_octets - i + (n_left > 0));
        codec_encode_next(range, x, stride, at, bits, 0, ph, stream, codes, u->c);
        x += CODEC_OCTET * stride;
        codes += u->c * bits;
    }
    if (n_left > 0) {
        struct codec_means at = codec_walk_next(&walk, n_left, CODEC_VECTORS, SIMD_LANES);
        codec_stream_expect(stream, 1);
        for (size_t v = 0; v < CODEC_VECTORS; v++) {
            encode_part(u, &range[v], x + v * SIMD_LANES, stride, at, n_left, SIMD_LANES,
                        &codec_stream_words(stream)[v], codec_stream_is_second(stream),
                        codes + v * SIMD_LANES);
            at.mean++;
        }
        codec_stream_draw(ph, stream);
    }
    codec_stream_end_strip(ph, stream);
}

/* `lanes` channels from `channel` on, one vector; x, means are the first one's. */
static void encode_vector(const struct codec_unit *u, const struct codec_philox *ph, const float *x,
                          size_t stride, size_t channel, size_t lanes, unsigned char *means,
                          unsigned char *dst)
{
    const struct codec_map_stats stats = codec_map_stats_part(u, x, stride, lanes, means);
    if (u->has_codes) {
        struct codec_lanes range;
        codec_make_ranges(u, &stats, channel, 1, lanes, dst, &range);
        encode_octets_vector(u, ph, &range, x, stride, channel, lanes, means,
                             dst + u->codes_at + channel);
    }
}

/* in_octets: codec_walk's; loops of their own then find the means with fewer instructions. */
SIMD_INLINE void encode_strip(const struct codec_unit *u, const struct codec_philox *ph,
                              struct codec_stream *stream, const float *x, size_t stride,
                              size_t channel, int in_octets, unsigned char *means,
                              unsigned char *dst)
{
    const struct codec_map_stats stats = codec_map_stats_strip(u, x, stride, means);
    if (!u->has_codes) {
        return;
    }
    struct codec_lanes range[CODEC_VECTORS];
    codec_make_ranges(u, &stats, channel, CODEC_VECTORS, SIMD_LANES, dst, range);
    unsigned char *const codes = dst + u->codes_at + channel;
    switch (u->bits) {
    case 1: encode_octets_strip(u, ph, stream, range, x, stride, means, 1, in_octets, codes); break;
    case 2: encode_octets_strip(u, ph, stream, range, x, stride, means, 2, in_octets, codes); break;
    case 4: encode_octets_strip(u, ph, stream, range, x, stride, means, 4, in_octets, codes); break;
    default:
        encode_octets_strip(u, ph, stream, range, x, stride, means, 8, in_octets, codes);
        break;
    }
}

/* Of any block width. */
static __attribute__((noinline)) void encode_strip_any(const struct codec_unit *u,
                                                       const struct codec_philox *ph,
                                                       struct codec_stream *stream, const float *x,
                                                       size_t stride, size_t channel,
                                                       unsigned char *means, unsigned char *dst)
{
    encode_strip(u, ph, stream, x, stride, channel, 0, means, dst);
}

static void encode_map(const struct codec_unit *u, const float *x, size_t stride, size_t c0,
                       size_t c1, unsigned char *means, unsigned char *dst)
{
    const uint64_t first = codec_first_block(u, c0);
    const uint64_t last = first + codec_sample_blocks(u) + (c1 - c0);
    struct codec_philox ph;
    codec_philox_init(&ph, &u->rng, first);
    struct codec_stream stream = codec_stream_make(&ph, u->stochastic, first, u->c, last);
    size_t ch = c0;
    const int in_octets = means == NULL || codec_is_in_octets(u);
    for (; ch + CODEC_STRIP <= c1; ch += CODEC_STRIP) {
        unsigned char *const at = means == NULL ? NULL : means + (ch - c0) * 2;
        if (in_octets) {
            encode_strip(u, &ph, &stream, x + ch, stride, ch, 1, at, dst);
        } else {
            encode_strip_any(u, &ph, &stream, x + ch, stride, ch, at, dst);
        }
    }
    for (; ch < c1; ch += SIMD_LANES) {
        encode_vector(u, &ph, x + ch, stride, ch, codec_min_size(SIMD_LANES, c1 - ch),
                      means == NULL ? NULL : means + (ch - c0) * 2, dst);
    }
}

/* --- decode ----------------------------------------------------------------------------------- */

/* Pixels of lines h0..h1-1 of one vector of channels from `channel` on; that alone of their
 * means. */
static void decode_means(const struct codec_unit *u, const unsigned char *means, size_t h0,
                         size_t h1, size_t lanes, float *out, size_t stride)
{
    struct codec_walk walk;
    codec_walk_init(&walk, u, means, h0, 1, lanes);
    for (size_t p = 0; p < (h1 - h0) * u->w; p++) {
        const struct codec_means at = codec_walk_next(&walk, 1, 1, lanes);
        codec_store(out + p * stride, at.mean[0], lanes);
    }
}

static void load_levels(const struct codec_unit *u, const unsigned char *src, size_t channel,
                        size_t lanes, struct codec_levels *levels)
{
    const unsigned char *const ranges = src + u->ranges_at + channel * 2;
    *levels = codec_levels_make(codec_load_bf16(ranges, lanes),
                                codec_load_bf16(ranges + u->c * 2, lanes));
}

/* As codec_decode_part, of a strip or a vector. */
static __attribute__((noinline)) void decode_part(const struct codec_levels *levels,
                                                  const unsigned char *codes, size_t row_bytes,
                                                  struct codec_means means, size_t from, size_t to,
                                                  size_t vectors, size_t lanes, unsigned bits,
                                                  float *out, size_t stride)
{
    for (size_t v = 0; v < vectors; v++) {
        codec_decode_part(&levels[v], codes + v * SIMD_LANES, row_bytes, means, from, to, lanes,
                          bits, out + v * SIMD_LANES, stride);
        means.mean++;
    }
}

/* `vectors` is that of a strip, whose whole octets are quick, or 1. */
SIMD_INLINE void decode_lines(const struct codec_unit *u, const unsigned char *src, size_t h0,
                              size_t h1, size_t channel, size_t vectors, size_t lanes,
                              unsigned bits, int is_strip, float *out, size_t stride)
{
    const unsigned char *means = u->has_means ? src + channel * 2 : NULL;
    struct codec_levels levels[CODEC_VECTORS];
    for (size_t v = 0; v < vectors; v++) {
        load_levels(u, src, channel + v * SIMD_LANES, lanes, &levels[v]);
    }
    struct codec_walk walk;
    codec_walk_init(&walk, u, means, h0, vectors, lanes);
    const unsigned char *const codes = src + u->codes_at + channel;
    size_t p = h0 * u->w;
    if (is_strip && walk.in_octets && p % CODEC_OCTET == 0) {
        const unsigned char *octet = codes + p / CODEC_OCTET * u->c * bits;
        for (; p + CODEC_OCTET <= h1 * u->w; p += CODEC_OCTET) {
            codec_decode_octet(levels, octet, u->c, codec_walk_octet(&walk), bits, out, stride);
            octet += u->c * bits;
            out += CODEC_OCTET * stride;
        }
    }
    while (p < h1 * u->w) {
        const size_t from = p % CODEC_OCTET;
        const size_t to = codec_min_size(CODEC_OCTET, from + (h1 * u->w - p));
        const unsigned char *octet = codes + p / CODEC_OCTET * u->c * bits;
        const struct codec_means at = codec_walk_next(&walk, to - from, vectors, lanes);
        if (is_strip && to - from == CODEC_OCTET) {
            codec_decode_octet(levels, octet, u->c, at, bits, out, stride);
        } else {
            decode_part(levels, octet, u->c, at, from, to, vectors, lanes, bits, out, stride);
        }
        out += (to - from) * stride;
        p += to - from;
    }
}

static void decode_vector(const struct codec_unit *u, const unsigned char *src, size_t h0,
                          size_t h1, size_t channel, size_t lanes, float *out, size_t stride)
{
    if (u->has_codes) {
        decode_lines(u, src, h0, h1, channel, 1, lanes, u->bits, 0, out, stride);
    } else {
        decode_means(u, src + channel * 2, h0, h1, lanes, out, stride);
    }
}

SIMD_INLINE void decode_strip(const struct codec_unit *u, const unsigned char *src, size_t h0,
                              size_t h1, size_t channel, unsigned bits, float *out, size_t stride)
{
    decode_lines(u, src, h0, h1, channel, CODEC_VECTORS, SIMD_LANES, bits, 1, out, stride);
}

static void decode_map(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                       size_t c0, size_t c1, float *out, size_t stride)
{
    size_t ch = c0;
    for (; u->has_codes && ch + CODEC_STRIP <= c1; ch += CODEC_STRIP) {
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

void SIMD_NAME(codec_map_fill)(struct codec_kernels *k)
{
    k->encode_map = encode_map;
    k->decode_map = decode_map;
}
