/* Weights in and out: safetensors with PyTorch's parameter names and shapes. */
#ifndef RUN_WEIGHTS_H
#define RUN_WEIGHTS_H

#include <stddef.h>

#include "base/err.h"
#include "nn/graph.h"

/* Every parameter and running statistic, and BN's num_batches_tracked (= steps). `meta`: pairs of
 * key and value for the file's metadata. Appears whole or not at all. */
int weights_save(const struct graph *g, const char *path, size_t steps, const char *const *meta,
                 size_t n_meta, struct err *err) MUST_USE;

/* ERR_DIVERGED, with the tensor, if a number is not finite. */
int weights_check(const struct graph *g, struct err *err) MUST_USE;

/* Reads all of them; num_batches_tracked is ignored. ERR_MISSING, ERR_IO; ERR_FORMAT if the file
 * is damaged or does not fit the network: which tensor is missing, unexpected, of another shape, or
 * holds a value that is not finite. */
int weights_load(struct graph *g, const char *path, struct err *err) MUST_USE;

#endif
