/* What the drivers of the loops share: how a tensor's pixels are cut into blocks.
 *
 * Blocks depend on sizes alone, never on the number of threads, and partial sums of blocks are
 * added in their order: the same bits for any number of threads. */
#ifndef KERNELS_LOOPS_PRIV_H
#define KERNELS_LOOPS_PRIV_H

#include <stddef.h>

#include "base/real.h"
#include "base/threads.h"
#include "tensor/tensor.h"

/* A block of one tensor: small enough for the second-level cache together with its neighbours in
 * the same pass, large enough that its start-up does not count. */
#define LOOP_BLOCK_BYTES 32768u

/* Below this, waking the threads costs more than they save (some microseconds; 128 KiB pass through
 * one core in about ten). */
#define LOOP_PARALLEL_BYTES 131072u

/* n_items items in groups of `group` (the last may be smaller), each cut into blocks of `block`
 * items (the last of a group may be smaller). */
struct blocks {
    size_t n_items, group, block;
    size_t per_group; /* blocks of a full group */
    size_t n_blocks;
};

/* Pixels of a tensor in groups of group_n samples, at least min_pixels in a block of about
 * `bytes`. */
static inline struct blocks blocks_cut(const struct shape *s, size_t group_n, size_t bytes,
                                       size_t min_pixels)
{
    struct blocks b = {.n_items = shape_pixels(s)};
    const size_t pixel_bytes = s->c * sizeof(real);
    b.block = pixel_bytes > 0 ? bytes / pixel_bytes : 1;
    b.block = b.block < min_pixels ? min_pixels : b.block;
    b.block = b.block < 1 ? 1 : b.block;
    group_n = group_n < s->n ? group_n : s->n;
    b.group = group_n * s->h * s->w;
    if (b.n_items == 0 || s->c == 0 || b.group == 0) {
        return b; /* no blocks */
    }
    b.per_group = (b.group - 1) / b.block + 1;
    const size_t n_full = b.n_items / b.group;
    const size_t rest = b.n_items % b.group;
    b.n_blocks = n_full * b.per_group + (rest > 0 ? (rest - 1) / b.block + 1 : 0);
    return b;
}

/* Block i: its group, and its items first .. first + *n - 1. */
static inline size_t blocks_get(const struct blocks *b, size_t i, size_t *group, size_t *n)
{
    const size_t g = i / b->per_group;
    const size_t first = g * b->group + i % b->per_group * b->block;
    size_t end = (g + 1) * b->group;
    end = end < b->n_items ? end : b->n_items;
    end = first + b->block < end ? first + b->block : end;
    *group = g;
    *n = end - first;
    return first;
}

/* How many threads a loop over a tensor takes. One inside a chain of passes over a run of samples
 * (kernels/sample_runs.h): the others are busy. */
static inline int loop_threads(const struct shape *s)
{
    return threads_are_busy() || shape_bytes(s) < LOOP_PARALLEL_BYTES ? 1 : threads_max();
}

static inline int loop_same_shape(const struct shape *a, const struct shape *b)
{
    return a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c;
}

/* The windows along one axis that cover input position `at`: *first .. *end - 1 (may be none). */
static inline void pool_cover(size_t at, size_t r, size_t stride, size_t pad, size_t n_out,
                              size_t *first, size_t *end)
{
    *first = at + pad < r ? 0 : (at + pad - r) / stride + 1;
    const size_t last = (at + pad) / stride;
    *end = last < n_out ? last + 1 : n_out;
}

/* The taps of window `out` along one axis that lie inside the input: *first .. *end - 1. */
static inline void pool_taps(size_t out, size_t r, size_t stride, size_t pad, size_t size,
                             size_t *first, size_t *end)
{
    const size_t start = out * stride; /* in the padded input */
    *first = start < pad ? pad - start : 0;
    *end = start + r > size + pad ? size + pad - start : r;
}

#endif
