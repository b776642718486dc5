/* The codec's bit planes (struct codec_planes), one SIMD lane per channel. Compiled once per ISA,
 * without contraction.
 *
 * The eight codes of a lane are two squares of 8 x 8 bits, of their low and their high bytes. Turned
 * over, the first is planes 0 to 7 and the other 8 to 15. All 8 bytes of a square are stored, at
 * places as far apart as the channels have bits: what is too much, the next channel overwrites. At
 * the end, where nothing follows, they go one channel at a time; and likewise on reading. */
#include "kernels/simd/codec_simd.h"

/* Bytes that a channel's store or load can touch. */
#define SPAN 16

/* 8 x 8 bits per lane: rows 0-3 in the first word, row 0 in its low byte, 4-7 in the second. */
struct square {
    simd_u32 head, tail;
};

/* --- measuring -------------------------------------------------------------------------------- */

SIMD_INLINE simd_i32 max_i32(simd_i32 a, simd_i32 b)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_i32)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_i32)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
    return (simd_i32)codec_select(a > b, (simd_u32)a, (simd_u32)b);
#endif
}

SIMD_INLINE simd_u32 load_u32(const uint32_t *p, size_t lanes)
{
    simd_u32 v = {0};
    memcpy(&v, p, lanes * sizeof(*p));
    return v;
}

SIMD_INLINE void store_u32(uint32_t *p, simd_u32 v, size_t lanes)
{
    memcpy(p, &v, lanes * sizeof(*p));
}

SIMD_INLINE void measure_lanes(const float *x, size_t stride, size_t n, size_t lanes,
                               uint32_t *size, uint32_t *is_negative)
{
    simd_i32 largest = (simd_i32)load_u32(size, lanes);
    simd_i32 negative = (simd_i32)load_u32(is_negative, lanes);
    for (size_t i = 0; i < n; i++, x += stride) {
        const simd_f32 v = codec_load(x, lanes);
        largest = max_i32(largest, (simd_i32)v & 0x7FFFFFFF);
        negative |= v < 0.0f;
    }
    store_u32(size, (simd_u32)largest, lanes);
    store_u32(is_negative, (simd_u32)negative, lanes);
}

static void measure_planes(const float *x, size_t stride, size_t n_pixels, size_t c, uint32_t *size,
                           uint32_t *is_negative)
{
    for (size_t p = 0; p < n_pixels; p += 32) {
        const float *from = x + p * stride;
        const size_t n = n_pixels - p < 32 ? n_pixels - p : 32;
        size_t ch = 0;
        for (; ch + SIMD_LANES <= c; ch += SIMD_LANES) {
            measure_lanes(from + ch, stride, n, SIMD_LANES, size + ch, is_negative + ch);
        }
        if (ch < c) {
            measure_lanes(from + ch, stride, n, c - ch, size + ch, is_negative + ch);
        }
    }
}

/* --- squares of bits -------------------------------------------------------------------------- */

/* Swaps bits under the mask with those `distance` above them. */
SIMD_INLINE simd_u32 swap_bits(simd_u32 x, unsigned distance, uint32_t mask)
{
    const simd_u32 t = (x ^ x >> distance) & mask;
    return x ^ t ^ t << distance;
}

/* Bit j of row i becomes bit i of row j (Warren, Hacker's Delight, 7-3): 2 x 2 squares, 4 x 4, all. */
SIMD_INLINE struct square turn_over(struct square s)
{
    const simd_u32 head = swap_bits(swap_bits(s.head, 7, 0x00AA00AAu), 14, 0x0000CCCCu);
    const simd_u32 tail = swap_bits(swap_bits(s.tail, 7, 0x00AA00AAu), 14, 0x0000CCCCu);
    const simd_u32 t = (head ^ tail << 4) & 0xF0F0F0F0u;
    return (struct square){.head = head ^ t, .tail = tail ^ t >> 4};
}

/* Four codes' low bytes, if they have no more. */
SIMD_INLINE simd_u32 pack_bytes(const simd_u32 code[4])
{
    return code[0] | code[1] << 8 | code[2] << 16 | code[3] << 24;
}

/* Four codes' low bytes, and their high ones. */
SIMD_INLINE void pack_halves(const simd_u32 code[4], simd_u32 *low, simd_u32 *high)
{
    const simd_u32 even = code[0] | code[2] << 16, odd = code[1] | code[3] << 16;
    *low = (even & 0x00FF00FFu) | (odd & 0x00FF00FFu) << 8;
    *high = (even >> 8 & 0x00FF00FFu) | (odd & 0xFF00FF00u);
}

/* The other way. */
SIMD_INLINE void unpack_halves(simd_u32 low, simd_u32 high, simd_u32 code[4])
{
    const simd_u32 even = (low & 0x00FF00FFu) | (high & 0x00FF00FFu) << 8;
    const simd_u32 odd = (low >> 8 & 0x00FF00FFu) | (high & 0xFF00FF00u);
    code[0] = even & 0xFFFFu;
    code[1] = odd & 0xFFFFu;
    code[2] = even >> 16;
    code[3] = odd >> 16;
}

/* The 8 bytes of each lane. */
SIMD_INLINE void square_rows(struct square s, uint64_t rows[SIMD_LANES])
{
#if SIMD_ISA >= SIMD_ISA_avx2
    for (size_t half = 0; half < SIMD_LANES / 8; half++) {
        __m256i head, tail;
        memcpy(&head, (const char *)&s.head + half * sizeof(head), sizeof(head));
        memcpy(&tail, (const char *)&s.tail + half * sizeof(tail), sizeof(tail));
        const __m256i outer = _mm256_unpacklo_epi32(head, tail); /* lanes 0 1, 4 5 */
        const __m256i inner = _mm256_unpackhi_epi32(head, tail); /* lanes 2 3, 6 7 */
        const __m256i first = _mm256_permute2x128_si256(outer, inner, 0x20);
        const __m256i second = _mm256_permute2x128_si256(outer, inner, 0x31);
        memcpy(rows + half * 8, &first, sizeof(first));
        memcpy(rows + half * 8 + 4, &second, sizeof(second));
    }
#else
    for (size_t i = 0; i < SIMD_LANES; i++) {
        rows[i] = (uint64_t)s.tail[i] << 32 | s.head[i];
    }
#endif
}

SIMD_INLINE long long load_u64(const unsigned char *p)
{
    long long v;
    memcpy(&v, p, sizeof(v));
    return v;
}

#if SIMD_ISA >= SIMD_ISA_avx2
struct half_square {
    __m256i head, tail;
};

SIMD_INLINE struct half_square half_square_load(const unsigned char *src, const uint32_t at[8])
{
    const __m256i outer = _mm256_set_epi64x(load_u64(src + at[5]), load_u64(src + at[4]),
                                            load_u64(src + at[1]), load_u64(src + at[0]));
    const __m256i inner = _mm256_set_epi64x(load_u64(src + at[7]), load_u64(src + at[6]),
                                            load_u64(src + at[3]), load_u64(src + at[2]));
    const __m256 a = _mm256_castsi256_ps(outer), b = _mm256_castsi256_ps(inner);
    return (struct half_square){_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88)),
                                _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xDD))};
}
#endif

/* 8 bytes for each lane, from its place. */
SIMD_INLINE struct square square_load(const unsigned char *src, const uint32_t at[SIMD_LANES])
{
#if SIMD_ISA == SIMD_ISA_avx512
    const struct half_square a = half_square_load(src, at), b = half_square_load(src, at + 8);
    return (struct square){
        .head = (simd_u32)_mm512_inserti64x4(_mm512_castsi256_si512(a.head), b.head, 1),
        .tail = (simd_u32)_mm512_inserti64x4(_mm512_castsi256_si512(a.tail), b.tail, 1)};
#elif SIMD_ISA == SIMD_ISA_avx2
    const struct half_square s = half_square_load(src, at);
    return (struct square){.head = (simd_u32)s.head, .tail = (simd_u32)s.tail};
#elif CODEC_SSE2
    const __m128 a = (__m128)_mm_set_epi64x(load_u64(src + at[1]), load_u64(src + at[0]));
    const __m128 b = (__m128)_mm_set_epi64x(load_u64(src + at[3]), load_u64(src + at[2]));
    return (struct square){.head = (simd_u32)_mm_shuffle_ps(a, b, 0x88),
                           .tail = (simd_u32)_mm_shuffle_ps(a, b, 0xDD)};
#else
    struct square s;
    for (size_t i = 0; i < SIMD_LANES; i++) {
        const uint64_t rows = (uint64_t)load_u64(src + at[i]);
        s.head[i] = (uint32_t)rows;
        s.tail[i] = (uint32_t)(rows >> 32);
    }
    return s;
#endif
}

/* --- encoding --------------------------------------------------------------------------------- */

/* One channel at least has more than 8 bits. */
SIMD_INLINE int are_wide(const uint8_t *bits, size_t lanes)
{
    unsigned any = 0;
    for (size_t i = 0; i < lanes; i++) {
        any |= bits[i] + 7u;
    }
    return any >= 16;
}

/* An octet, of which n pixels are there. Returns where the next channels' codes go. is_last: not a
 * byte beyond the codes may be written. */
SIMD_INLINE unsigned char *encode_lanes(const struct codec_planes *u, const float *x, size_t stride,
                                        size_t n, size_t channel, size_t lanes, int is_wide,
                                        int is_last, unsigned char *dst)
{
    const uint8_t *bits = u->bits + channel;
    const simd_f32 scale = codec_load(u->scale + channel, lanes);
    const simd_f32 top = codec_load(u->top + channel, lanes);
    const simd_f32 low = u->is_signed ? -top - 1.0f : simd_zero();
    const simd_u32 low_code = codec_round(low);
    simd_u32 code[CODEC_PLANES_PIXELS];
#pragma GCC unroll 8
    for (size_t i = 0; i < CODEC_PLANES_PIXELS; i++) {
        code[i] = (simd_u32){0};
        if (i < n) {
            const simd_f32 t = codec_load(x + i * stride, lanes) * scale;
            code[i] = codec_round(codec_max(codec_min(t, top), low)) - low_code;
        }
    }
    uint64_t rows[SIMD_LANES], high_rows[SIMD_LANES];
    if (is_wide) {
        struct square s, high;
        pack_halves(code, &s.head, &high.head);
        pack_halves(code + 4, &s.tail, &high.tail);
        square_rows(turn_over(s), rows);
        square_rows(turn_over(high), high_rows);
    } else {
        const struct square s = {.head = pack_bytes(code), .tail = pack_bytes(code + 4)};
        square_rows(turn_over(s), rows);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < lanes; i++) {
        if (is_last) {
            memcpy(dst, &rows[i], bits[i] < 8 ? bits[i] : 8u);
            memcpy(dst + 8, &high_rows[i], bits[i] < 8 ? 0u : bits[i] - 8u);
        } else {
            memcpy(dst, &rows[i], 8);
            if (is_wide) {
                memcpy(dst + 8, &high_rows[i], 8);
            }
        }
        dst += bits[i];
    }
    return dst;
}

static void encode_octet(const struct codec_planes *u, const float *x, size_t stride,
                         unsigned char *dst)
{
    size_t ch = 0;
    for (; ch + SIMD_LANES <= u->c; ch += SIMD_LANES) {
        if (are_wide(u->bits + ch, SIMD_LANES)) {
            dst = encode_lanes(u, x + ch, stride, CODEC_PLANES_PIXELS, ch, SIMD_LANES, 1, 0, dst);
        } else {
            dst = encode_lanes(u, x + ch, stride, CODEC_PLANES_PIXELS, ch, SIMD_LANES, 0, 0, dst);
        }
    }
    if (ch < u->c) {
        (void)encode_lanes(u, x + ch, stride, CODEC_PLANES_PIXELS, ch, u->c - ch, 1, 0, dst);
    }
}

static void encode_last_octet(const struct codec_planes *u, const float *x, size_t stride, size_t n,
                              unsigned char *dst)
{
    for (size_t ch = 0; ch < u->c; ch += SIMD_LANES) {
        const size_t lanes = u->c - ch < SIMD_LANES ? u->c - ch : SIMD_LANES;
        dst = encode_lanes(u, x + ch, stride, n, ch, lanes, 1, 1, dst);
    }
}

static void encode_planes(const struct codec_planes *u, const float *x, size_t stride,
                          size_t n_pixels, unsigned char *dst)
{
    size_t left = (n_pixels + CODEC_PLANES_PIXELS - 1) / CODEC_PLANES_PIXELS * u->row_bytes;
    size_t p = 0;
    for (; p + CODEC_PLANES_PIXELS <= n_pixels && left >= u->row_bytes + SPAN;
         p += CODEC_PLANES_PIXELS, dst += u->row_bytes, left -= u->row_bytes) {
        encode_octet(u, x + p * stride, stride, dst);
    }
    for (; p < n_pixels; p += CODEC_PLANES_PIXELS, dst += u->row_bytes) {
        const size_t n = n_pixels - p < CODEC_PLANES_PIXELS ? n_pixels - p : CODEC_PLANES_PIXELS;
        encode_last_octet(u, x + p * stride, stride, n, dst);
    }
}

/* --- decoding --------------------------------------------------------------------------------- */

/* A vector of channels: what their codes need, and where they begin in an octet. */
struct plane_lanes {
    simd_f32 step;
    simd_u32 mask;
    simd_i32 low;
    uint32_t at[SIMD_LANES];
};

/* Lanes are set in memory: clang is slow over vector lanes set by a variable number. */
static struct plane_lanes make_lanes(const struct codec_planes *u, size_t channel, size_t lanes,
                                     size_t at)
{
    struct plane_lanes v;
    float step[SIMD_LANES] = {0};
    uint32_t mask[SIMD_LANES] = {0};
    int32_t low[SIMD_LANES] = {0};
    for (size_t i = 0; i < SIMD_LANES; i++) {
        v.at[i] = (uint32_t)at; /* behind the last lane anywhere will do: not used */
        if (i < lanes) {
            const unsigned bits = u->bits[channel + i];
            memcpy(&step[i], u->steps + (channel + i) * sizeof(step[i]), sizeof(step[i]));
            mask[i] = (1u << bits) - 1u;
            low[i] = u->is_signed ? -(1 << (bits - 1)) : 0;
            at += bits;
        }
    }
    v.step = simd_load(step);
    memcpy(&v.mask, mask, sizeof(mask));
    memcpy(&v.low, low, sizeof(low));
    return v;
}

/* Pixels from..to-1 of the octet whose planes of these lanes are at `src` + at[]. */
SIMD_INLINE void decode_lanes(const struct plane_lanes *v, const unsigned char *src,
                              const uint32_t at[SIMD_LANES], size_t from, size_t to, size_t lanes,
                              int is_wide, float *out, size_t stride)
{
    const struct square s = turn_over(square_load(src, at));
    simd_u32 code[CODEC_PLANES_PIXELS];
    if (is_wide) {
        const struct square high = turn_over(square_load(src + 8, at));
        unpack_halves(s.head, high.head, code);
        unpack_halves(s.tail, high.tail, code + 4);
    } else {
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++) {
            code[i] = s.head >> 8 * i;
            code[4 + i] = s.tail >> 8 * i;
        }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < CODEC_PLANES_PIXELS; i++) {
        if (i >= from && i < to) {
            const simd_i32 q = (simd_i32)(code[i] & v->mask) + v->low;
            codec_store(out + (i - from) * stride, __builtin_convertvector(q, simd_f32) * v->step,
                        lanes);
        }
    }
}

/* Without a look beyond the channels' own bytes. */
static __attribute__((noinline)) void decode_edge(const struct plane_lanes *v, const uint8_t *bits,
                                                  const unsigned char *src, size_t from, size_t to,
                                                  size_t lanes, float *out, size_t stride)
{
    unsigned char planes[SIMD_LANES * SPAN] = {0};
    uint32_t at[SIMD_LANES];
    for (size_t i = 0; i < SIMD_LANES; i++) {
        at[i] = (uint32_t)(i * SPAN);
        if (i < lanes) {
            memcpy(planes + at[i], src + v->at[i], bits[i]);
        }
    }
    decode_lanes(v, planes, at, from, to, lanes, 1, out, stride);
}

/* Pixels p0..p1-1. `at` is where the channels begin in an octet. */
SIMD_INLINE void decode_column(const struct codec_planes *u, const unsigned char *src, size_t p0,
                               size_t p1, size_t channel, size_t lanes, int is_wide, size_t at,
                               float *out, size_t stride)
{
    const struct plane_lanes v = make_lanes(u, channel, lanes, at);
    const size_t end = (p1 + CODEC_PLANES_PIXELS - 1) / CODEC_PLANES_PIXELS;
    for (size_t octet = p0 / CODEC_PLANES_PIXELS; octet < end; octet++) {
        const size_t p = octet * CODEC_PLANES_PIXELS, from = p < p0 ? p0 - p : 0;
        const size_t to = p1 - p < CODEC_PLANES_PIXELS ? p1 - p : CODEC_PLANES_PIXELS;
        const unsigned char *row = src + octet * u->row_bytes;
        if (to - from == CODEC_PLANES_PIXELS && (end - octet - 1) * u->row_bytes >= SPAN) {
            decode_lanes(&v, row, v.at, 0, CODEC_PLANES_PIXELS, lanes, is_wide, out, stride);
        } else {
            decode_edge(&v, u->bits + channel, row, from, to, lanes, out, stride);
        }
        out += (to - from) * stride;
    }
}

static size_t sum_bits(const uint8_t *bits, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += bits[i];
    }
    return sum;
}

static void decode_planes(const struct codec_planes *u, const unsigned char *src, size_t p0,
                          size_t p1, size_t c0, size_t c1, float *out, size_t stride)
{
    size_t at = sum_bits(u->bits, c0), ch = c0;
    for (; ch + SIMD_LANES <= c1; ch += SIMD_LANES) {
        if (are_wide(u->bits + ch, SIMD_LANES)) {
            decode_column(u, src, p0, p1, ch, SIMD_LANES, 1, at, out + (ch - c0), stride);
        } else {
            decode_column(u, src, p0, p1, ch, SIMD_LANES, 0, at, out + (ch - c0), stride);
        }
        at += sum_bits(u->bits + ch, SIMD_LANES);
    }
    if (ch < c1) {
        decode_column(u, src, p0, p1, ch, c1 - ch, 1, at, out + (ch - c0), stride);
    }
}

void SIMD_NAME(codec_planes_fill)(struct codec_kernels *k)
{
    k->measure_planes = measure_planes;
    k->encode_planes = encode_planes;
    k->decode_planes = decode_planes;
}
