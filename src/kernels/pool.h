/* Pooling: maximum (with the winner's place in one byte), average, global average.
 * Windows r x r, stride, pad as torch.nn.functional.max_pool2d / avg_pool2d (floor mode; maximum:
 * padding never wins, first of equals wins, NaN wins; average: count_include_pad). */
#ifndef KERNELS_POOL_H
#define KERNELS_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

struct pool_geom {
    size_t r, stride, pad; /* r <= 15, pad <= r / 2 */
};

struct shape pool_out_shape(const struct pool_geom *g, const struct shape *x);

/* index: one byte per output element, dense: window row * r + window column; NULL in evaluation. */
void max_pool_forward(const struct kernels *k, const struct pool_geom *g, const struct tensor *x,
                      struct tensor *y, uint8_t *index);
/* dx = or += ; windows of one sample are added in order, so any overlap is deterministic. */
void max_pool_backward(const struct kernels *k, const struct pool_geom *g, const struct tensor *dy,
                       const uint8_t *index, struct tensor *dx, int accumulate);

void avg_pool_forward(const struct kernels *k, const struct pool_geom *g, const struct tensor *x,
                      struct tensor *y);
void avg_pool_backward(const struct kernels *k, const struct pool_geom *g, const struct tensor *dy,
                       struct tensor *dx, int accumulate);

/* y (n, 1, 1, c) = mean over h, w. */
void global_avg_pool_forward(const struct kernels *k, const struct tensor *x, struct tensor *y);
void global_avg_pool_backward(const struct kernels *k, const struct tensor *dy, struct tensor *dx,
                              int accumulate);

#endif
