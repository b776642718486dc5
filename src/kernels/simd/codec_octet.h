/* Eight pixels to codes and back: the codec's innermost loops.
 *
 * The fast way takes a strip, the 16 channels of a cache line. What ends in _part takes one vector,
 * any number of pixels, lanes and bits, code by code: the ends of maps and tensors, and the text to
 * read the fast way against. */
#ifndef KERNELS_CODEC_OCTET_H
#define KERNELS_CODEC_OCTET_H

#include "kernels/simd/codec_philox.h"
#include "kernels/simd/codec_simd.h"

#define CODEC_STRIP 16
#define CODEC_VECTORS (CODEC_STRIP / SIMD_LANES)

/* The means of the pixels of an octet: pixel i's begin at mean[i * step], one vector behind the
 * other. */
struct codec_means {
    const simd_f32 *mean;
    size_t step; /* 0: one for all */
};

/* Nothing random: one half in every 16-bit lane. */
SIMD_INLINE struct codec_words codec_no_words(void)
{
    const simd_u32 half = codec_set_u32(0x80008000u);
    return (struct codec_words){{half, half, half, half}, {half, half, half, half}};
}

/* Random bits of an octet's pixel i; is_second: of the second octet that the words are for. */
SIMD_INLINE simd_u32 codec_random(const struct codec_words *words, unsigned is_second, unsigned i)
{
    const unsigned at = 2 * is_second + i / 4;
    const simd_u32 both = i % 2 == 0 ? words->word[at] : words->turned[at];
    return i % 4 < 2 ? both & 0xFFFFu : both >> 16;
}

/* --- encode ----------------------------------------------------------------------------------- */

/* (r - m)/s in units of 1/65536, plus 16 random bits: the code stands in the upper half. is_sided:
 * |r - d|/s, in the scale of its side. */
SIMD_INLINE simd_u32 codec_scaled(const struct codec_lanes *range, simd_f32 x, simd_f32 mean,
                                  simd_u32 random, int is_sided)
{
    simd_f32 t = x - mean - range->minimum;
    if (is_sided) {
        const simd_u32 scale = codec_select(t > 0.0f, (simd_u32)range->scale,
                                            (simd_u32)range->down);
        t = (simd_f32)((simd_u32)t & 0x7FFFFFFFu) * (simd_f32)scale;
    } else {
        t *= range->scale;
    }
    return codec_round(codec_min(t, range->limit)) + random;
}

/* Upper halves of a and b, as lower and upper half. */
SIMD_INLINE simd_u32 codec_zip_upper(simd_u32 a, simd_u32 b)
{
#if SIMD_ISA == SIMD_ISA_avx512
    const __m512i upper = _mm512_set1_epi32((int)0xFFFF0000);
    return (simd_u32)_mm512_ternarylogic_epi32(upper, (__m512i)b, (__m512i)(a >> 16), 0xCA);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_u32)_mm256_blend_epi16((__m256i)(a >> 16), (__m256i)b, 0xAA);
#else
    return a >> 16 | (b & 0xFFFF0000u);
#endif
}

/* Two rows of bytes in one vector: of each lane of a and b, lower half | upper half << bits (both
 * below 2^8); of 8 bits, the lower halves of a alone and its upper halves. On x86 every 128 bits
 * hold 16-bit numbers, four channels of the first row and the same of the second. */
SIMD_INLINE simd_u32 codec_two_rows(simd_u32 a, simd_u32 b, unsigned bits)
{
    const simd_u32 low = bits == 8 ? a & 0xFFFFu : (a | a >> (16 - bits)) & 0xFFu;
    const simd_u32 high = bits == 8 ? a >> 16 : (b | b >> (16 - bits)) & 0xFFu;
#if SIMD_ISA == SIMD_ISA_avx512
    const __m512i weights = _mm512_set1_epi16((short)(1 | 0x100 << bits));
    return bits == 8 ? (simd_u32)_mm512_packus_epi32((__m512i)low, (__m512i)high)
                     : (simd_u32)_mm512_maddubs_epi16(_mm512_packus_epi16((__m512i)a, (__m512i)b),
                                                      weights);
#elif SIMD_ISA == SIMD_ISA_avx2
    const __m256i weights = _mm256_set1_epi16((short)(1 | 0x100 << bits));
    return bits == 8 ? (simd_u32)_mm256_packus_epi32((__m256i)low, (__m256i)high)
                     : (simd_u32)_mm256_maddubs_epi16(_mm256_packus_epi16((__m256i)a, (__m256i)b),
                                                      weights);
#elif CODEC_SSE2
    return (simd_u32)_mm_packs_epi32((__m128i)low, (__m128i)high);
#else
    return low | high << 16;
#endif
}

/* Stores those of a strip. */
SIMD_INLINE void codec_store_two_rows(unsigned char *row0, unsigned char *row1,
                                      const simd_u32 rows[CODEC_VECTORS])
{
#if SIMD_ISA == SIMD_ISA_avx512
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i mixed = _mm512_packus_epi16((__m512i)rows[0], (__m512i)rows[0]);
    const __m256i both = _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, mixed));
    _mm_storeu_si128((__m128i_u *)row0, _mm256_castsi256_si128(both));
    _mm_storeu_si128((__m128i_u *)row1, _mm256_extracti128_si256(both, 1));
#elif SIMD_ISA == SIMD_ISA_avx2
    const __m256i order = _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7);
    const __m256i mixed = _mm256_packus_epi16((__m256i)rows[0], (__m256i)rows[1]);
    const __m256i both = _mm256_permutevar8x32_epi32(mixed, order);
    _mm_storeu_si128((__m128i_u *)row0, _mm256_castsi256_si128(both));
    _mm_storeu_si128((__m128i_u *)row1, _mm256_extracti128_si256(both, 1));
#elif CODEC_SSE2
    const __m128 a = (__m128)_mm_packus_epi16((__m128i)rows[0], (__m128i)rows[1]);
    const __m128 b = (__m128)_mm_packus_epi16((__m128i)rows[2], (__m128i)rows[3]);
    _mm_storeu_si128((__m128i_u *)row0, (__m128i)_mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)));
    _mm_storeu_si128((__m128i_u *)row1, (__m128i)_mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
#else
    for (size_t v = 0; v < CODEC_VECTORS; v++) {
        codec_store_bytes(row0 + v * SIMD_LANES, rows[v] & 0xFFu, SIMD_LANES);
        codec_store_bytes(row1 + v * SIMD_LANES, rows[v] >> 16, SIMD_LANES);
    }
#endif
}

/* The random bits of one octet after the other, and of one strip after the other. Two octets have
 * their bits from the same blocks. While they are encoded the next two octets' are drawn: those of
 * even vectors beside the first one, of odd vectors beside the second. */
struct codec_stream {
    struct codec_words words[2][CODEC_VECTORS];
    unsigned turn; /* of the octet to be encoded: bit 0: it is a second one; bit 1: its words */
    int is_random; /* else the words stay as they are */
    int is_near;   /* all blocks are, as codec_philox_is_near has it */
    uint64_t step; /* from two octets' first block to the next two's */
    uint64_t block, strip_block; /* first blocks of the next two octets, of this strip */
    /* codec_philox_product of the same three */
    simd_u64 advance, product[CODEC_VECTORS], strip_product[CODEC_VECTORS];
};

SIMD_INLINE const struct codec_words *codec_stream_words(const struct codec_stream *s)
{
    return s->words[s->turn >> 1];
}

SIMD_INLINE unsigned codec_stream_is_second(const struct codec_stream *s)
{
    return s->turn & 1u;
}

/* On to the next octet. */
SIMD_INLINE void codec_stream_step(struct codec_stream *s)
{
    s->block += codec_stream_is_second(s) ? s->step : 0;
    s->turn = (s->turn + 1) & 3u;
}

/* What is to be drawn beside this octet, and on to the next one. */
static __attribute__((noinline, unused)) void codec_stream_draw(const struct codec_philox *ph,
                                                                struct codec_stream *s)
{
    struct codec_words *const next = s->words[!(s->turn >> 1)];
    for (size_t v = codec_stream_is_second(s); s->is_random && v < CODEC_VECTORS; v += 2) {
        next[v] = codec_philox_any(ph, s->block + v * SIMD_LANES);
        s->product[v] += s->advance;
    }
    codec_stream_step(s);
}

/* Octets have their blocks, by twos, at first, first + step, … ; strips, at first, first + 16, …;
 * none lies behind `last`. */
static __attribute__((unused)) struct codec_stream codec_stream_make(const struct codec_philox *ph,
                                                                     int is_random, uint64_t first,
                                                                     uint64_t step, uint64_t last)
{
    struct codec_stream s = {
        .turn = 2,
        .is_random = is_random,
        .is_near = codec_philox_is_near(ph, first, last),
        .step = step,
        .block = first,
        .strip_block = first,
        .advance = codec_set_u64(step * CODEC_PHILOX_M0),
    };
    for (size_t v = 0; v < CODEC_VECTORS; v++) {
        s.words[0][v] = s.words[1][v] = codec_no_words();
        s.product[v] = s.strip_product[v] = codec_philox_product(first + v * SIMD_LANES);
    }
    codec_stream_draw(ph, &s);
    codec_stream_draw(ph, &s);
    return s;
}

/* Before an octet of a strip that has `left` ones left: what follows the strip's last blocks is the
 * next strip. */
SIMD_INLINE void codec_stream_expect(struct codec_stream *s, size_t left)
{
    if (codec_stream_is_second(s) || left > 2) {
        return;
    }
    s->block = s->strip_block += CODEC_STRIP;
    for (size_t v = 0; v < CODEC_VECTORS; v++) {
        s->product[v] = s->strip_product[v] += (uint64_t)CODEC_STRIP * CODEC_PHILOX_M0;
    }
}

/* Behind a strip: it may have no second octet for its last blocks. */
SIMD_INLINE void codec_stream_end_strip(const struct codec_philox *ph, struct codec_stream *s)
{
    if (codec_stream_is_second(s)) {
        codec_stream_draw(ph, s);
    }
}

/* Codes of a strip's whole octet: values at x + i * stride, `bits` rows of bytes, `row_bytes`
 * apart. is_drawing: random bits are drawn meanwhile. is_sided: range is that of the one block that
 * the octet lies in.
 *
 * Pixels are taken in pairs, whose codes share a 32-bit lane until all of one byte are in it. */
SIMD_INLINE void codec_encode_octet(const struct codec_lanes range[CODEC_VECTORS], const float *x,
                                    size_t stride, struct codec_means means, unsigned bits,
                                    int is_sided, const struct codec_philox *ph, int is_drawing,
                                    struct codec_stream *stream, unsigned char *codes,
                                    size_t row_bytes)
{
    const unsigned is_second = codec_stream_is_second(stream);
    const struct codec_words *const words = codec_stream_words(stream);
    struct codec_words *const next = stream->words[!(stream->turn >> 1)];
    simd_u32 two_rows[4][CODEC_VECTORS];
#pragma GCC unroll 4
    for (size_t v = 0; v < CODEC_VECTORS; v++) {
        simd_u32 halves[4] = {{0}};
        if (is_drawing && is_second == v % 2) {
            next[v] = codec_draw(ph, stream->product[v]);
            stream->product[v] += stream->advance;
        }
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++) {
            const float *const at = x + 2 * i * stride + v * SIMD_LANES;
            const simd_f32 *const mean = means.mean + 2 * i * means.step + v;
            const simd_u32 a = codec_scaled(&range[v], simd_load(at), mean[0],
                                            codec_random(&words[v], is_second, 2 * i), is_sided);
            const simd_u32 b = codec_scaled(&range[v], simd_load(at + stride), mean[means.step],
                                            codec_random(&words[v], is_second, 2 * i + 1),
                                            is_sided);
            const simd_u32 pair = codec_zip_upper(a, b);
            if (bits == 8) {
                two_rows[i][v] = codec_two_rows(pair, pair, bits);
            } else {
                halves[i * bits / 4] |= pair << (2 * bits * (i % (4 / bits)));
            }
        }
        if (bits < 8) {
            two_rows[0][v] = codec_two_rows(halves[0], halves[1], bits);
            two_rows[1][v] = codec_two_rows(halves[2], halves[3], bits);
        }
    }
#pragma GCC unroll 4
    for (unsigned row = 0; row < bits; row += 2) {
        unsigned char *const at = codes + row * row_bytes;
        unsigned char behind[CODEC_STRIP]; /* 1 bit: there is no second row */
        codec_store_two_rows(at, bits == 1 ? behind : at + row_bytes, two_rows[row / 2]);
    }
}

/* The stream's octet, and on to the next. */
SIMD_INLINE void codec_encode_next(const struct codec_lanes range[CODEC_VECTORS], const float *x,
                                   size_t stride, struct codec_means means, unsigned bits,
                                   int is_sided, const struct codec_philox *ph,
                                   struct codec_stream *stream, unsigned char *codes,
                                   size_t row_bytes)
{
    if (stream->is_random && stream->is_near) {
        codec_encode_octet(range, x, stride, means, bits, is_sided, ph, 1, stream, codes,
                           row_bytes);
        codec_stream_step(stream);
    } else {
        codec_encode_octet(range, x, stride, means, bits, is_sided, ph, 0, stream, codes,
                           row_bytes);
        codec_stream_draw(ph, stream);
    }
}

/* The first n <= 8 pixels of an octet, the first `lanes` channels. */
SIMD_INLINE void codec_encode_part(const struct codec_lanes *range, const float *x, size_t stride,
                                   struct codec_means means, size_t n, size_t lanes, unsigned bits,
                                   const struct codec_words *words, unsigned is_second,
                                   unsigned char *codes, size_t row_bytes)
{
    const unsigned per_byte = 8 / bits;
    for (size_t row = 0; row * per_byte < n; row++) {
        simd_u32 byte = {0};
        for (unsigned place = 0; place < per_byte && row * per_byte + place < n; place++) {
            const size_t i = row * per_byte + place;
            const simd_u32 random = codec_random(words, is_second, (unsigned)i);
            const simd_f32 v = codec_load(x + i * stride, lanes);
            byte |= codec_scaled(range, v, means.mean[i * means.step], random, 0) >>
                    16 << place * bits;
        }
        codec_store_bytes(codes + row * row_bytes, byte, lanes);
    }
}

/* --- decode ----------------------------------------------------------------------------------- */

/* Code number `place` of each lane's byte, as float. */
SIMD_INLINE simd_f32 codec_code_float(simd_u32 byte, unsigned place, unsigned bits)
{
    const simd_u32 shifted = byte >> place * bits;
#if SIMD_ISA >= SIMD_ISA_avx2
    /* The permutation looks at a lane's two lowest bits alone. */
    if (bits <= 2) {
        const float last = bits == 2 ? 3.0f : 1.0f, third = bits == 2 ? 2.0f : 0.0f;
#if SIMD_ISA == SIMD_ISA_avx512
        const __m512 table = _mm512_set4_ps(last, third, 1.0f, 0.0f);
        return (simd_f32)_mm512_permutevar_ps(table, (__m512i)shifted);
#else
        const __m256 table = _mm256_setr_ps(0.0f, 1.0f, third, last, 0.0f, 1.0f, third, last);
        return (simd_f32)_mm256_permutevar_ps(table, (__m256i)shifted);
#endif
    }
#endif
    return __builtin_convertvector((simd_i32)(shifted & ((1u << bits) - 1u)), simd_f32);
}

/* minimum + code * step. The product is exact (a step has 8 significant bits, a code as many; a
 * flat map's step is a power of 2 and its code 0 or 1), so that fusing changes nothing. */
SIMD_INLINE simd_f32 codec_residue(simd_f32 minimum, simd_f32 step, simd_f32 code)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_f32)_mm512_fmadd_ps((__m512)code, (__m512)step, (__m512)minimum);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_f32)_mm256_fmadd_ps((__m256)code, (__m256)step, (__m256)minimum);
#else
    return minimum + code * step;
#endif
}

/* A strip's whole octet to out. */
SIMD_INLINE void codec_decode_octet(const struct codec_levels levels[CODEC_VECTORS],
                                    const unsigned char *codes, size_t row_bytes,
                                    struct codec_means means, unsigned bits, float *out,
                                    size_t stride)
{
    const unsigned per_byte = 8 / bits;
#pragma GCC unroll 8
    for (unsigned row = 0; row < bits; row++) {
        simd_u32 byte[CODEC_VECTORS];
#pragma GCC unroll 4
        for (size_t v = 0; v < CODEC_VECTORS; v++) {
            byte[v] = codec_load_bytes(codes + row * row_bytes + v * SIMD_LANES, SIMD_LANES);
        }
#pragma GCC unroll 8
        for (unsigned place = 0; place < per_byte; place++) {
            const unsigned i = row * per_byte + place;
#pragma GCC unroll 4
            for (size_t v = 0; v < CODEC_VECTORS; v++) {
                const simd_f32 r = codec_residue(levels[v].minimum, levels[v].step,
                                                 codec_code_float(byte[v], place, bits));
                simd_store(out + i * stride + v * SIMD_LANES, means.mean[i * means.step + v] + r);
            }
        }
    }
}

/* Pixels from..to-1 of an octet to out, which is the first one's place, as are the means. */
SIMD_INLINE void codec_decode_part(const struct codec_levels *levels, const unsigned char *codes,
                                   size_t row_bytes, struct codec_means means, size_t from,
                                   size_t to, size_t lanes, unsigned bits, float *out,
                                   size_t stride)
{
    const unsigned per_byte = 8 / bits;
    const uint32_t mask = (1u << bits) - 1u;
    for (size_t i = from; i < to; i++) {
        const simd_u32 byte = codec_load_bytes(codes + i / per_byte * row_bytes, lanes);
        const simd_u32 code = byte >> (unsigned)(i % per_byte) * bits & mask;
        const simd_f32 r = levels->minimum +
                           __builtin_convertvector((simd_i32)code, simd_f32) * levels->step;
        codec_store(out + (i - from) * stride, means.mean[(i - from) * means.step] + r, lanes);
    }
}

#endif
