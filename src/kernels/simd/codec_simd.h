/* Building blocks of the codec's vector kernels: one SIMD lane per channel. Lane by lane they do
 * what codec_priv.h and codec_ref.c do, bit for bit; no operation here may be contracted.
 *
 * `lanes` is the number of channels at hand, SIMD_LANES but for the last ones of a tensor. Callers
 * pass the constant where they can: everything is inlined. */
#ifndef KERNELS_CODEC_SIMD_H
#define KERNELS_CODEC_SIMD_H

#include "kernels/simd/simd.h"

#include "base/rng.h"
#include "kernels/codec_isa.h"
#include "kernels/codec_priv.h"

#if SIMD_ISA == SIMD_ISA_base && defined(__SSE2__)
#include <emmintrin.h>
#define CODEC_SSE2 1
#else
#define CODEC_SSE2 0
#endif

typedef uint16_t simd_u16 __attribute__((vector_size(SIMD_LANES * 2)));
typedef uint8_t simd_u8 __attribute__((vector_size(SIMD_LANES)));

/* The other files' parts of the table; codec_group.c puts the whole together. */
void SIMD_NAME(codec_map_fill)(struct codec_kernels *k);
void SIMD_NAME(codec_sides_fill)(struct codec_kernels *k);
void SIMD_NAME(codec_bins_fill)(struct codec_kernels *k);
void SIMD_NAME(codec_planes_fill)(struct codec_kernels *k);

#define CODEC_OCTET 8 /* pixels of whole bytes; a Philox block has the random bits of two octets */

/* --- numbers ---------------------------------------------------------------------------------- */

SIMD_INLINE simd_u32 codec_set_u32(uint32_t x)
{
    return x - (simd_u32){0};
}

/* mask ? a : b; mask lanes are all ones or all zeros. */
SIMD_INLINE simd_u32 codec_select(simd_i32 mask, simd_u32 a, simd_u32 b)
{
    return ((simd_u32)mask & a) | (~(simd_u32)mask & b);
}

/* a < b ? a : b, so b if one is NaN; and a > b ? a : b. */
SIMD_INLINE simd_f32 codec_min(simd_f32 a, simd_f32 b)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_f32)_mm512_min_ps((__m512)a, (__m512)b);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_f32)_mm256_min_ps((__m256)a, (__m256)b);
#elif CODEC_SSE2
    return (simd_f32)_mm_min_ps((__m128)a, (__m128)b);
#else
    return (simd_f32)codec_select(a < b, (simd_u32)a, (simd_u32)b);
#endif
}

SIMD_INLINE simd_f32 codec_max(simd_f32 a, simd_f32 b)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_f32)_mm512_max_ps((__m512)a, (__m512)b);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_f32)_mm256_max_ps((__m256)a, (__m256)b);
#elif CODEC_SSE2
    return (simd_f32)_mm_max_ps((__m128)a, (__m128)b);
#else
    return (simd_f32)codec_select(a > b, (simd_u32)a, (simd_u32)b);
#endif
}

/* To the nearest integer, ties to even; |x| < 2^31. */
SIMD_INLINE simd_u32 codec_round(simd_f32 x)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u32)_mm512_cvtps_epi32((__m512)x);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_u32)_mm256_cvtps_epi32((__m256)x);
#elif CODEC_SSE2
    return (simd_u32)_mm_cvtps_epi32((__m128)x);
#else
    simd_u32 r;
    for (size_t i = 0; i < SIMD_LANES; i++) {
        r[i] = (uint32_t)__builtin_rintf(x[i]);
    }
    return r;
#endif
}

/* --- memory ----------------------------------------------------------------------------------- */

SIMD_INLINE simd_f32 codec_load(const float *p, size_t lanes)
{
    return lanes == SIMD_LANES ? simd_load(p) : simd_load_n(p, lanes);
}

SIMD_INLINE void codec_store(float *p, simd_f32 v, size_t lanes)
{
    if (lanes == SIMD_LANES) {
        simd_store(p, v);
    } else {
        simd_store_n(p, v, lanes);
    }
}

/* Widening and narrowing of whole vectors; gcc 12 makes long shuffles of the plain conversions. On
 * narrowing, every lane fits. */
SIMD_INLINE simd_u32 codec_widen_u16(simd_u16 v)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u32)_mm512_cvtepu16_epi32((__m256i)v);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_u32)_mm256_cvtepu16_epi32((__m128i)v);
#else
    return __builtin_convertvector(v, simd_u32);
#endif
}

SIMD_INLINE simd_u16 codec_narrow_u16(simd_u32 v)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u16)_mm512_cvtepi32_epi16((__m512i)v);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_u16)_mm_packus_epi32(_mm256_castsi256_si128((__m256i)v),
                                      _mm256_extracti128_si256((__m256i)v, 1));
#else
    return __builtin_convertvector(v, simd_u16);
#endif
}

SIMD_INLINE simd_u32 codec_widen_u8(simd_u8 v)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u32)_mm512_cvtepu8_epi32((__m128i)v);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_u32)_mm256_cvtepu8_epi32(_mm_set_epi64x(0, (long long)v));
#else
    return __builtin_convertvector(v, simd_u32);
#endif
}

SIMD_INLINE simd_u8 codec_narrow_u8(simd_u32 v)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u8)_mm512_cvtepi32_epi8((__m512i)v);
#elif SIMD_ISA == SIMD_ISA_avx2
    const __m128i half = (__m128i)codec_narrow_u16(v);
    return (simd_u8)_mm_cvtsi128_si64(_mm_packus_epi16(half, half));
#else
    return __builtin_convertvector(v, simd_u8);
#endif
}

/* 16-bit values to and from the code, at any address. */
SIMD_INLINE simd_u32 codec_load_bf16(const unsigned char *p, size_t lanes)
{
    simd_u16 v = {0};
    if (lanes == SIMD_LANES) {
        memcpy(&v, p, sizeof(v));
    } else {
        memcpy(&v, p, lanes * 2);
    }
    return codec_widen_u16(v);
}

SIMD_INLINE void codec_store_bf16(unsigned char *p, simd_u32 x, size_t lanes)
{
    const simd_u16 v = codec_narrow_u16(x);
    if (lanes == SIMD_LANES) {
        memcpy(p, &v, sizeof(v));
    } else {
        memcpy(p, &v, lanes * 2);
    }
}

SIMD_INLINE simd_f32 codec_load_means(const unsigned char *p, size_t lanes)
{
    return (simd_f32)(codec_load_bf16(p, lanes) << 16);
}

/* Bytes of codes. */
SIMD_INLINE simd_u32 codec_load_bytes(const unsigned char *p, size_t lanes)
{
    simd_u8 v = {0};
    if (lanes == SIMD_LANES) {
        memcpy(&v, p, sizeof(v));
    } else {
        memcpy(&v, p, lanes);
    }
    return codec_widen_u8(v);
}

SIMD_INLINE void codec_store_bytes(unsigned char *p, simd_u32 x, size_t lanes)
{
    const simd_u8 v = codec_narrow_u8(x);
    if (lanes == SIMD_LANES) {
        memcpy(p, &v, sizeof(v));
    } else {
        memcpy(p, &v, lanes);
    }
}

/* --- ranges ----------------------------------------------------------------------------------- */

/* See struct codec_range. */
struct codec_lanes {
    simd_u32 minimum_bf16, step_bf16;
    simd_f32 minimum, scale, limit;
    simd_f32 down; /* CODEC_SIDES: the scale below `minimum`, which is then d */
};

SIMD_INLINE simd_u32 codec_bf16_nearest_lanes(simd_f32 x)
{
    const simd_u32 bits = (simd_u32)x;
    const simd_u32 rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    return codec_select(x != x, codec_set_u32(CODEC_BF16_NAN), rounded);
}

/* As codec_range_make; lanes of `damage` that are not 0 are damaged (NaN among them). */
static __attribute__((unused)) void codec_lanes_make(struct codec_lanes *range, simd_f32 low,
                                                     simd_f32 high, simd_f32 damage, unsigned bits)
{
    const float levels = (float)((1u << bits) - 1u);
    low += 0.0f;
    high += 0.0f;
    const simd_u32 low_bits = (simd_u32)low;
    const simd_u32 minimum_bf16 = (low_bits + (low_bits >> 31) * 0xFFFFu) >> 16;
    const simd_f32 minimum = (simd_f32)(minimum_bf16 << 16);
    simd_u32 step_bf16 = ((simd_u32)((high - minimum) / levels) + 0xFFFFu) >> 16;
    step_bf16 = codec_select((simd_i32)(step_bf16 < CODEC_MIN_STEP_BF16),
                             codec_set_u32(CODEC_MIN_STEP_BF16), step_bf16);
    const simd_i32 is_short = minimum + levels * (simd_f32)(step_bf16 << 16) < high;
    step_bf16 += (simd_u32)is_short & 1u;
    const simd_f32 step = (simd_f32)(step_bf16 << 16);

    const simd_i32 overflow = ~(levels * step <= 3.402823466e38f);
    const simd_i32 flat = (low == high) & (low - low == 0.0f);
    const simd_i32 damaged = (overflow & ~flat) | ~(damage == 0.0f);
    const simd_u32 nan_bf16 = codec_set_u32(CODEC_BF16_NAN), nan = nan_bf16 << 16;
    const simd_u32 whole = (simd_u32)simd_set1(levels * 65536.0f);
    const simd_u32 odd = (simd_u32)(__builtin_convertvector(low_bits & 1u, simd_f32) * 65536.0f);

    range->minimum = minimum;
    range->minimum_bf16 = codec_select(damaged, nan_bf16,
                                       codec_select(flat, low_bits >> 16, minimum_bf16));
    range->step_bf16 = codec_select(
        damaged, nan_bf16,
        codec_select(flat, CODEC_FLAT_BIT | (low_bits >> 1 & 0x7FFFu), step_bf16));
    range->scale = (simd_f32)codec_select(damaged | flat, nan, (simd_u32)(65536.0f / step));
    range->limit = (simd_f32)codec_select(flat & ~damaged, odd, whole);
}

/* The numbers of r = minimum + code * step. */
struct codec_levels {
    simd_f32 minimum, step;
};

/* As codec_range_load. */
SIMD_INLINE struct codec_levels codec_levels_make(simd_u32 minimum_bf16, simd_u32 step_bf16)
{
    const simd_i32 flat = (simd_i32)((step_bf16 & CODEC_FLAT_BIT) != 0);
    const simd_u32 even = minimum_bf16 << 16 | (step_bf16 & 0x7FFFu) << 1;
    const simd_f32 last_bit = (simd_f32)(even | 1u) - (simd_f32)even;
    return (struct codec_levels){
        .minimum = (simd_f32)codec_select(flat, even, minimum_bf16 << 16),
        .step = (simd_f32)codec_select(flat, (simd_u32)last_bit, step_bf16 << 16),
    };
}

#endif
