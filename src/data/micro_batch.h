/* Gradient accumulation's arithmetic: how a batch is cut into micro-batches, which go through the
 * network one after the other. A full batch becomes `accumulate` of them; a smaller last batch its
 * share of that, rounded up. The micro-batches of a batch differ by one image at most, the larger
 * ones first: none is so small that batch-norm would see too little of the data. */
#ifndef DATA_MICRO_BATCH_H
#define DATA_MICRO_BATCH_H

#include <stddef.h>

/* Images of the largest micro-batch: memory is planned for it. 1 <= accumulate <= batch_size. */
static inline size_t micro_batch_largest(size_t batch_size, size_t accumulate)
{
    return (batch_size + accumulate - 1) / accumulate;
}

/* Micro-batches of a batch of n images, 1 <= n <= batch_size. At most n. */
static inline size_t micro_batch_count(size_t n, size_t batch_size, size_t accumulate)
{
    return (n * accumulate + batch_size - 1) / batch_size;
}

/* The first image of micro-batch i of `count`; for i = count: n. */
static inline size_t micro_batch_first(size_t n, size_t count, size_t i)
{
    const size_t n_larger = n % count;
    return i * (n / count) + (i < n_larger ? i : n_larger);
}

#endif
