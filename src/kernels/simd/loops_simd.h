/* What the sources of the loops for one ISA share. */
#ifndef KERNELS_SIMD_LOOPS_SIMD_H
#define KERNELS_SIMD_LOOPS_SIMD_H

#include "kernels/loops_isa.h"
#include "kernels/simd/simd.h"

#if SIMD_ISA == SIMD_ISA_base && defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Each source fills its part of the table. */
void SIMD_NAME(loop_kernels_fill_rows)(struct loop_kernels *k);
void SIMD_NAME(loop_kernels_fill_bn)(struct loop_kernels *k);
void SIMD_NAME(loop_kernels_fill_pool)(struct loop_kernels *k);

/* Vector at p, whole if n is SIMD_LANES. Callers pass that as a constant outside tails. */
SIMD_INLINE simd_f32 loop_load(const float *p, size_t n)
{
    return n == SIMD_LANES ? simd_load(p) : simd_load_n(p, n);
}

SIMD_INLINE void loop_store(float *p, simd_f32 v, size_t n)
{
    if (n == SIMD_LANES) {
        simd_store(p, v);
    } else {
        simd_store_n(p, v, n);
    }
}

/* p (+)= v */
SIMD_INLINE void loop_put(float *p, simd_f32 v, size_t n, int accumulate)
{
    loop_store(p, accumulate ? loop_load(p, n) + v : v, n);
}

/* v where the mask is all ones, 0 where it is 0. */
SIMD_INLINE simd_f32 loop_keep(simd_i32 mask, simd_f32 v)
{
    return (simd_f32)(mask & (simd_i32)v);
}

/* 0 where x <= 0: NaN is not, and stays. */
SIMD_INLINE simd_f32 loop_relu(simd_f32 x)
{
    return loop_keep(~(simd_i32)(x <= simd_zero()), x);
}

/* Bit i = 1 where lane i > 0. */
SIMD_INLINE unsigned loop_sign_bits(simd_f32 x)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_GT_OQ);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_GT_OQ));
#elif defined(__SSE2__)
    return (unsigned)_mm_movemask_ps(_mm_cmpgt_ps((__m128)x, _mm_setzero_ps()));
#else
    unsigned bits = 0;
    for (unsigned i = 0; i < SIMD_LANES; i++) {
        bits |= (unsigned)(x[i] > 0) << i;
    }
    return bits;
#endif
}

/* x where lane i's bit is 1, else 0. */
SIMD_INLINE simd_f32 loop_keep_bits(simd_f32 x, unsigned bits)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_f32)_mm512_maskz_mov_ps((__mmask16)bits, (__m512)x);
#else
    simd_i32 lane_bit;
    for (int i = 0; i < SIMD_LANES; i++) {
        lane_bit[i] = 1 << i;
    }
    return loop_keep((((simd_i32){0} + (int32_t)bits) & lane_bit) == lane_bit, x);
#endif
}

#endif
