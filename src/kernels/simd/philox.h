/* Philox4x32-10 (base/rng.h) for a batch of blocks at once.
 *
 * The state stands in 64-bit lanes: a 32x32 multiplication yields both halves in one lane, the low
 * half is used as it is (what stands above it is ignored by the next multiplication) and the high
 * half costs one shift. */
#ifndef KERNELS_SIMD_PHILOX_H
#define KERNELS_SIMD_PHILOX_H

#include "base/rng.h"
#include "kernels/simd/simd.h"

#if SIMD_ISA == SIMD_ISA_base && defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Blocks and words of one call; two vectors of blocks hide the multiplications' latency. */
#define PHILOX_BLOCKS SIMD_LANES
#define PHILOX_WORDS (4 * PHILOX_BLOCKS)

typedef uint64_t philox_u64 __attribute__((vector_size(SIMD_LANES * 4)));

SIMD_INLINE philox_u64 philox_mul(philox_u64 a, uint32_t m)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (philox_u64)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(m));
#elif SIMD_ISA == SIMD_ISA_avx2
    return (philox_u64)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(m));
#elif defined(__SSE2__)
    return (philox_u64)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(m));
#else
    return (a & 0xffffffffu) * (uint64_t)m;
#endif
}

/* Stores a's and b's lanes in turn, 128 bits at a time: blocks 0, 2, .. of each pair to `even`. */
SIMD_INLINE void philox_store(uint32_t *even, uint32_t *odd, philox_u64 a, philox_u64 b)
{
#if SIMD_ISA == SIMD_ISA_avx512
    _mm512_storeu_si512(even, _mm512_unpacklo_epi64((__m512i)a, (__m512i)b));
    _mm512_storeu_si512(odd, _mm512_unpackhi_epi64((__m512i)a, (__m512i)b));
#elif SIMD_ISA == SIMD_ISA_avx2
    _mm256_storeu_si256((__m256i_u *)even, _mm256_unpacklo_epi64((__m256i)a, (__m256i)b));
    _mm256_storeu_si256((__m256i_u *)odd, _mm256_unpackhi_epi64((__m256i)a, (__m256i)b));
#else
    for (size_t i = 0; i < SIMD_LANES / 4; i++) {
        uint32_t *const out[2] = {even + 4 * i, odd + 4 * i};
        for (size_t j = 0; j < 2; j++) {
            out[j][0] = (uint32_t)a[2 * i + j];
            out[j][1] = (uint32_t)(a[2 * i + j] >> 32);
            out[j][2] = (uint32_t)b[2 * i + j];
            out[j][3] = (uint32_t)(b[2 * i + j] >> 32);
        }
    }
#endif
}

/* The words of blocks first .. first + PHILOX_BLOCKS - 1, in the stream's order. */
SIMD_INLINE void philox_words(const struct rng *rng, uint64_t first, uint32_t *words)
{
    enum { HALF = PHILOX_BLOCKS / 2, QUARTER = PHILOX_BLOCKS / 4 };
    /* Lane 2i + j is block i + j * QUARTER, so that philox_store writes whole runs. */
    static const uint64_t block_of_lane[8] = {0, QUARTER,     1, QUARTER + 1,
                                              2, QUARTER + 2, 3, QUARTER + 3};
    philox_u64 lanes;
    memcpy(&lanes, block_of_lane, sizeof(lanes));
    philox_u64 c0[2], c1[2], c2[2], c3[2];
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; v++) {
        c0[v] = lanes + (first + v * HALF);
        c1[v] = c0[v] >> 32;
        c2[v] = (philox_u64){0} + rng->step;
        c3[v] = (philox_u64){0} + rng->stream;
    }
    uint32_t k0 = rng->key[0], k1 = rng->key[1];
    for (int round = 0; round < 10; round++) {
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) {
            const philox_u64 p0 = philox_mul(c0[v], 0xD2511F53u);
            const philox_u64 p1 = philox_mul(c2[v], 0xCD9E8D57u);
            c0[v] = (p1 >> 32) ^ c1[v] ^ (uint64_t)k0;
            c1[v] = p1;
            c2[v] = (p0 >> 32) ^ c3[v] ^ (uint64_t)k1;
            c3[v] = p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; v++) {
        uint32_t *const out = words + v * (PHILOX_WORDS / 2);
        philox_store(out, out + PHILOX_WORDS / 4, (c0[v] & 0xffffffffu) | c1[v] << 32,
                     (c2[v] & 0xffffffffu) | c3[v] << 32);
    }
}

#endif
