/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011). A number depends on its key and its index alone, so results do not depend on
 * the number of threads or the order of calls, and can be replayed after a resume. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

enum rng_purpose {
    RNG_INIT = 1,  /* weights:            step 0,     stream = parameter index */
    RNG_SHUFFLE,   /* order of an epoch:  step epoch, stream 0 */
    RNG_AUGMENT,   /* crop and flip:      step epoch, stream 0, index = sample index */
    RNG_DROPOUT,   /* masks:              step = training step, stream = node index */
    RNG_QUANTISE,  /* stochastic rounding: step = training step, stream = value index */
    RNG_SYNTHETIC, /* made-up images:     step split, stream 0 */
    RNG_TEST,
    RNG_PLAN, /* urgency of buffers: step = attempt, stream 0, index = buffer by first step */
};

/* One stream of 2^64 blocks of four 32-bit words. A plain value; copy freely. */
struct rng {
    uint32_t key[2];
    uint32_t step;
    uint32_t stream;
};

/* Words of block b are Philox4x32-10(counter = {b low, b high, step, stream}, key), where the
 * 64-bit key is splitmix64(seed + 0x9E3779B97F4A7C15 * purpose): one output of that generator from
 * this state. Of a step of 2^32 or more, the upper half is xored into the key's upper half. */
struct rng rng_make(uint64_t seed, enum rng_purpose purpose, uint64_t step, uint32_t stream);

void rng_block(const struct rng *rng, uint64_t block, uint32_t out[4]);

/* Word `index` of the stream (word index & 3 of block index >> 2). */
uint32_t rng_u32(const struct rng *rng, uint64_t index);

/* (word + 1/2) / 2^32, never 0 or 1. */
double rng_uniform(const struct rng *rng, uint64_t index);

/* Uniform in 0 .. n-1 from one word by multiplication; n > 0; bias below n / 2^32. */
uint32_t rng_below(const struct rng *rng, uint64_t index, uint32_t n);

/* Standard normal number `index` by Box-Muller, from words 2*index and 2*index + 1. */
double rng_normal(const struct rng *rng, uint64_t index);

#endif
