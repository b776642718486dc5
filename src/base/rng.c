/* Philox4x32-10, from the paper's formulas; constants from its reference code (Random123). The
 * vector form that the codec uses is in kernels/ and is tested against this one. */
#include "base/rng.h"

#include <math.h>

#define PHILOX_MUL_0 UINT32_C(0xD2511F53)
#define PHILOX_MUL_1 UINT32_C(0xCD9E8D57)
#define PHILOX_KEY_0 UINT32_C(0x9E3779B9) /* golden ratio */
#define PHILOX_KEY_1 UINT32_C(0xBB67AE85) /* sqrt(3) - 1 */
#define PHILOX_ROUNDS 10

#define GOLDEN_64 UINT64_C(0x9E3779B97F4A7C15)

/* One output of the SplitMix64 generator whose state is x (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t splitmix64(uint64_t x)
{
    x += GOLDEN_64;
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

struct rng rng_make(uint64_t seed, enum rng_purpose purpose, uint64_t step, uint32_t stream)
{
    const uint64_t key = splitmix64(seed + GOLDEN_64 * (uint64_t)purpose);
    return (struct rng){
        /* The counter has 32 bits for the step; a larger one changes the key as well. */
        .key = {(uint32_t)key, (uint32_t)(key >> 32) ^ (uint32_t)(step >> 32)},
        .step = (uint32_t)step,
        .stream = stream,
    };
}

void rng_block(const struct rng *rng, uint64_t block, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = rng->step, c3 = rng->stream;
    uint32_t k0 = rng->key[0], k1 = rng->key[1];
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const uint64_t p0 = (uint64_t)PHILOX_MUL_0 * c0;
        const uint64_t p1 = (uint64_t)PHILOX_MUL_1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += PHILOX_KEY_0;
        k1 += PHILOX_KEY_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t rng_u32(const struct rng *rng, uint64_t index)
{
    uint32_t words[4];
    rng_block(rng, index >> 2, words);
    return words[index & 3];
}

static double uniform_of(uint32_t word)
{
    return ((double)word + 0.5) * 0x1p-32;
}

double rng_uniform(const struct rng *rng, uint64_t index)
{
    return uniform_of(rng_u32(rng, index));
}

uint32_t rng_below(const struct rng *rng, uint64_t index, uint32_t n)
{
    return (uint32_t)(((uint64_t)rng_u32(rng, index) * n) >> 32);
}

double rng_normal(const struct rng *rng, uint64_t index)
{
    /* Words 2*index and 2*index + 1 lie in one block. */
    uint32_t words[4];
    rng_block(rng, index >> 1, words);
    const unsigned at = (unsigned)(index & 1) * 2;
    const double two_pi = 6.283185307179586476925286766559;
    return sqrt(-2.0 * log(uniform_of(words[at]))) * cos(two_pi * uniform_of(words[at + 1]));
}
