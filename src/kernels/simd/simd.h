/* The vector type of one instruction set, for the sources in src/kernels/simd/.
 *
 * Each such source is compiled once per ISA with -DKERNELS_ISA=base|avx2|avx512 and that ISA's -m
 * flags; SIMD_NAME(x) is then x_base, x_avx2 or x_avx512. Vectors are the compilers' own vector
 * extension, which gcc and clang share: + - * / and comparisons work lane by lane, a scalar operand
 * is spread over the lanes. Everything here is static: no AVX copy of a function can be linked into
 * the baseline. Float32 only; the double library has no SIMD sources. */
#ifndef KERNELS_SIMD_H
#define KERNELS_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef KERNELS_ISA
#error "compile with -DKERNELS_ISA=base, avx2 or avx512"
#endif

#define SIMD_ISA_base 1
#define SIMD_ISA_avx2 2
#define SIMD_ISA_avx512 3
#define SIMD_PASTE_(a, b) a##b
#define SIMD_PASTE(a, b) SIMD_PASTE_(a, b)
#define SIMD_ISA SIMD_PASTE(SIMD_ISA_, KERNELS_ISA)

/* SIMD_NAME(foo) -> foo_avx512 */
#define SIMD_NAME(x) SIMD_PASTE(x##_, KERNELS_ISA)

#if SIMD_ISA == SIMD_ISA_avx512
#define SIMD_LANES 16
#elif SIMD_ISA == SIMD_ISA_avx2
#define SIMD_LANES 8
#else
#define SIMD_LANES 4
#endif

#if SIMD_ISA >= SIMD_ISA_avx2
#include <immintrin.h>
#endif

typedef float simd_f32 __attribute__((vector_size(SIMD_LANES * 4)));
typedef int32_t simd_i32 __attribute__((vector_size(SIMD_LANES * 4)));
typedef uint32_t simd_u32 __attribute__((vector_size(SIMD_LANES * 4)));

#define SIMD_INLINE static inline __attribute__((always_inline, unused))

/* Loads and stores at any address that is a multiple of 4. (Through memcpy, gcc 12 takes vectors
 * for integers, and where registers are short it copies them through the stack.) */
typedef float simd_f32_at4 __attribute__((vector_size(SIMD_LANES * 4), aligned(4), may_alias));

SIMD_INLINE simd_f32 simd_load(const float *p)
{
    return *(const simd_f32_at4 *)p;
}

SIMD_INLINE void simd_store(float *p, simd_f32 v)
{
    *(simd_f32_at4 *)p = v;
}

SIMD_INLINE simd_f32 simd_zero(void)
{
    return (simd_f32){0};
}

SIMD_INLINE simd_f32 simd_set1(float x)
{
    return x - simd_zero(); /* x + 0 would lose the sign of -0 */
}

#if SIMD_ISA == SIMD_ISA_avx2
SIMD_INLINE __m256i simd_lane_mask(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

/* The first n lanes (0 <= n <= SIMD_LANES); the others read as 0, and their memory is not touched. */
SIMD_INLINE simd_f32 simd_load_n(const float *p, size_t n)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_f32)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_f32)_mm256_maskload_ps(p, simd_lane_mask(n));
#else
    float lanes[SIMD_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i] = p[i];
    }
    return simd_load(lanes);
#endif
}

/* Stores the first n lanes; memory behind them is not touched. */
SIMD_INLINE void simd_store_n(float *p, simd_f32 v, size_t n)
{
#if SIMD_ISA == SIMD_ISA_avx512
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)v);
#elif SIMD_ISA == SIMD_ISA_avx2
    _mm256_maskstore_ps(p, simd_lane_mask(n), (__m256)v);
#else
    float lanes[SIMD_LANES];
    simd_store(lanes, v);
    for (size_t i = 0; i < n; i++) {
        p[i] = lanes[i];
    }
#endif
}

#endif
