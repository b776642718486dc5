/* The codec's random bits: one Philox4x32-10 block (base/rng.h) per SIMD lane.
 *
 * The arithmetic is done in 64-bit lanes, for which processors have a 32 x 32 -> 64 bit product:
 * channels with even numbers in one set of vectors, odd ones in another. Only the lower halves
 * count; what is left in the upper ones never gets into them.
 *
 * A block's counter is (block low, block high, step, stream), and only its first word differs
 * between the blocks that one call wants. What the first three rounds make of the other words is
 * therefore the same for all blocks with the same upper half, and folded into four constants. */
#ifndef KERNELS_CODEC_PHILOX_H
#define KERNELS_CODEC_PHILOX_H

#include "kernels/simd/codec_simd.h"

#define CODEC_PHILOX_ROUNDS 10
#define CODEC_PHILOX_M0 UINT32_C(0xD2511F53)
#define CODEC_PHILOX_M1 UINT32_C(0xCD9E8D57)

typedef uint64_t simd_u64 __attribute__((vector_size(SIMD_LANES * 4)));

struct codec_philox {
    struct rng rng;
    uint32_t high;      /* upper half of the block numbers that `folded` is for */
    simd_u64 folded[4]; /* see codec_philox_init */
    /* The last round's stand in both halves of each lane. */
    simd_u64 key0[CODEC_PHILOX_ROUNDS], key1[CODEC_PHILOX_ROUNDS];
};

/* Word j of the block that belongs to a lane, and the same rotated right by 8 bits: their lower and
 * upper halves are the random numbers 4j, 4j + 2 and 4j + 1, 4j + 3 of codec.h. */
struct codec_words {
    simd_u32 word[4], turned[4];
};

SIMD_INLINE simd_u64 codec_set_u64(uint64_t x)
{
    return x - (simd_u64){0};
}

/* `first`: the first block that will be asked for; those with the same upper half are quick. */
static __attribute__((unused)) void codec_philox_init(struct codec_philox *ph,
                                                      const struct rng *rng, uint64_t first)
{
    uint32_t key0[CODEC_PHILOX_ROUNDS], key1[CODEC_PHILOX_ROUNDS];
    for (uint32_t i = 0; i < CODEC_PHILOX_ROUNDS; i++) {
        key0[i] = rng->key[0] + i * UINT32_C(0x9E3779B9);
        key1[i] = rng->key[1] + i * UINT32_C(0xBB67AE85);
        ph->key0[i] = codec_set_u64(key0[i]);
        ph->key1[i] = codec_set_u64(key1[i]);
    }
    ph->key0[CODEC_PHILOX_ROUNDS - 1] |= ph->key0[CODEC_PHILOX_ROUNDS - 1] << 32;
    ph->key1[CODEC_PHILOX_ROUNDS - 1] |= ph->key1[CODEC_PHILOX_ROUNDS - 1] << 32;
    ph->rng = *rng;
    ph->high = (uint32_t)(first >> 32);

    /* Words 0 and 1 after the first round, and the product of word 0 in the second. */
    const uint64_t product1 = (uint64_t)CODEC_PHILOX_M1 * rng->step;
    const uint32_t word0 = (uint32_t)(product1 >> 32) ^ ph->high ^ key0[0];
    const uint32_t word1 = (uint32_t)product1;
    const uint64_t product0 = (uint64_t)CODEC_PHILOX_M0 * word0;
    ph->folded[0] = codec_set_u64(rng->stream ^ key1[0]);
    ph->folded[1] = codec_set_u64(word1 ^ key0[1]);
    ph->folded[2] = codec_set_u64((uint32_t)(product0 >> 32) ^ key1[1]);
    ph->folded[3] = codec_set_u64((uint32_t)product0 ^ key1[2]);
}

/* Product of the lower halves. */
SIMD_INLINE simd_u64 codec_mul_low(simd_u64 a, uint32_t b)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u64)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64((long long)b));
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_u64)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x((long long)b));
#elif CODEC_SSE2
    return (simd_u64)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x((long long)b));
#else
    return (a & UINT64_C(0xFFFFFFFF)) * (uint64_t)b;
#endif
}

SIMD_INLINE simd_u64 codec_xor3(simd_u64 a, simd_u64 b, simd_u64 c)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u64)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
#else
    return a ^ (b ^ c); /* a comes last */
#endif
}

/* Lower halves of even lanes and odd lanes in turn; and upper halves. */
SIMD_INLINE simd_u64 codec_zip_low(simd_u64 even, simd_u64 odd)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u64)_mm512_mask_shuffle_epi32((__m512i)even, 0xAAAA, (__m512i)odd, _MM_PERM_CCAA);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_u64)_mm256_blend_epi32((__m256i)even, (__m256i)(odd << 32), 0xAA);
#else
    return (even & UINT64_C(0xFFFFFFFF)) | odd << 32;
#endif
}

SIMD_INLINE simd_u64 codec_zip_high(simd_u64 even, simd_u64 odd)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u64)_mm512_mask_shuffle_epi32((__m512i)odd, 0x5555, (__m512i)even, _MM_PERM_DDBB);
#elif SIMD_ISA == SIMD_ISA_avx2
    return (simd_u64)_mm256_blend_epi32((__m256i)(even >> 32), (__m256i)odd, 0xAA);
#else
    return even >> 32 | (odd & (UINT64_C(0xFFFFFFFF) << 32));
#endif
}

SIMD_INLINE simd_u32 codec_turn(simd_u32 x)
{
#if SIMD_ISA == SIMD_ISA_avx512
    return (simd_u32)_mm512_ror_epi32((__m512i)x, 8);
#elif SIMD_ISA == SIMD_ISA_avx2
    const __m256i order = _mm256_setr_epi8(1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12, //
                                           1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12);
    return (simd_u32)_mm256_shuffle_epi8((__m256i)x, order);
#else
    return x >> 8 | x << 24;
#endif
}

SIMD_INLINE struct codec_words codec_words_make(const simd_u32 word[4])
{
    struct codec_words w;
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        w.word[i] = word[i];
        w.turned[i] = codec_turn(word[i]);
    }
    return w;
}

SIMD_INLINE void codec_philox_round(simd_u64 x[4], simd_u64 key0, simd_u64 key1)
{
    const simd_u64 p0 = codec_mul_low(x[0], CODEC_PHILOX_M0);
    const simd_u64 p1 = codec_mul_low(x[2], CODEC_PHILOX_M1);
    x[0] = codec_xor3(p1 >> 32, x[1], key0);
    x[1] = p1;
    x[2] = codec_xor3(p0 >> 32, x[3], key1);
    x[3] = p0;
}

/* Rounds 0, 1 and 2 of the blocks whose numbers' lower halves gave these products with M0. */
SIMD_INLINE void codec_philox_start(const struct codec_philox *ph, simd_u64 product, simd_u64 x[4])
{
    const simd_u64 round1 = codec_mul_low((product >> 32) ^ ph->folded[0], CODEC_PHILOX_M1);
    const simd_u64 word0 = (round1 >> 32) ^ ph->folded[1], word2 = product ^ ph->folded[2];
    const simd_u64 p0 = codec_mul_low(word0, CODEC_PHILOX_M0);
    const simd_u64 p1 = codec_mul_low(word2, CODEC_PHILOX_M1);
    x[0] = codec_xor3(p1 >> 32, round1, ph->key0[2]);
    x[1] = p1;
    x[2] = (p0 >> 32) ^ ph->folded[3];
    x[3] = p0;
}

/* The last round, with the lanes of both sets put in order. */
SIMD_INLINE struct codec_words codec_philox_finish(const struct codec_philox *ph,
                                                   const simd_u64 a[4], const simd_u64 b[4])
{
    const simd_u64 a0 = codec_mul_low(a[0], CODEC_PHILOX_M0);
    const simd_u64 a1 = codec_mul_low(a[2], CODEC_PHILOX_M1);
    const simd_u64 b0 = codec_mul_low(b[0], CODEC_PHILOX_M0);
    const simd_u64 b1 = codec_mul_low(b[2], CODEC_PHILOX_M1);
    const simd_u64 key0 = ph->key0[CODEC_PHILOX_ROUNDS - 1];
    const simd_u64 key1 = ph->key1[CODEC_PHILOX_ROUNDS - 1];
    const simd_u32 word[4] = {
        (simd_u32)codec_xor3(codec_zip_high(a1, b1), codec_zip_low(a[1], b[1]), key0),
        (simd_u32)codec_zip_low(a1, b1),
        (simd_u32)codec_xor3(codec_zip_high(a0, b0), codec_zip_low(a[3], b[3]), key1),
        (simd_u32)codec_zip_low(a0, b0),
    };
    return codec_words_make(word);
}

/* --- drawing ---------------------------------------------------------------------------------- */

/* Lane i gets block `first` + i, where `product` is codec_philox_product of `first`. */
SIMD_INLINE struct codec_words codec_draw(const struct codec_philox *ph, simd_u64 product)
{
    simd_u64 even[4], odd[4];
    codec_philox_start(ph, product, even);
    codec_philox_start(ph, product + CODEC_PHILOX_M0, odd);
#pragma GCC unroll 8
    for (unsigned i = 3; i < CODEC_PHILOX_ROUNDS - 1; i++) {
        codec_philox_round(even, ph->key0[i], ph->key1[i]);
        codec_philox_round(odd, ph->key0[i], ph->key1[i]);
    }
    return codec_philox_finish(ph, even, odd);
}

/* Products of M0 and the lower halves of blocks first, first + 2, …; those of blocks n further are
 * n * M0 larger. */
SIMD_INLINE simd_u64 codec_philox_product(uint64_t first)
{
    simd_u64 block;
    for (size_t i = 0; i < SIMD_LANES / 2; i++) {
        block[i] = (first + 2 * i) & UINT64_C(0xFFFFFFFF);
    }
    return block * (uint64_t)CODEC_PHILOX_M0;
}

/* Whether all blocks first .. last have the folded upper half. */
SIMD_INLINE int codec_philox_is_near(const struct codec_philox *ph, uint64_t first, uint64_t last)
{
    return first >> 32 == ph->high && last >> 32 == ph->high;
}

/* Any blocks: lane i gets block `first` + i. */
static __attribute__((noinline, unused)) struct codec_words
codec_philox_any(const struct codec_philox *ph, uint64_t first)
{
    simd_u32 word[4];
    if (codec_philox_is_near(ph, first, first + SIMD_LANES - 1)) {
        return codec_draw(ph, codec_philox_product(first));
    }
    for (size_t i = 0; i < SIMD_LANES; i++) {
        uint32_t block[4];
        rng_block(&ph->rng, first + i, block);
        for (size_t j = 0; j < 4; j++) {
            word[j][i] = block[j];
        }
    }
    return codec_words_make(word);
}

#endif
