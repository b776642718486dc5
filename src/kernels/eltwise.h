/* Element-wise passes: ReLU with sign bits, addition, copies, dropout.
 *
 * Sign bits: one bit per element, ceil(c/8) bytes per pixel, pixels dense in (n, h, w) order;
 * channel i of a pixel is bit i % 8 of byte i / 8. Bit = 1 where x > 0. */
#ifndef KERNELS_ELTWISE_H
#define KERNELS_ELTWISE_H

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

size_t relu_sign_bytes(const struct shape *x);

/* y = max(x, 0) (NaN stays NaN); signs may be NULL. y may be x. */
void relu_forward(const struct kernels *k, const struct tensor *x, struct tensor *y,
                  uint8_t *signs);

/* dx = dy where the sign bit is 1, else 0; or dx += it. Without accumulate dx may be dy. */
void relu_backward_signs(const struct kernels *k, const struct tensor *dy, const uint8_t *signs,
                         struct tensor *dx, int accumulate);

/* The same from the kept output: dx = dy where y > 0. */
void relu_backward_output(const struct kernels *k, const struct tensor *dy, const struct tensor *y,
                          struct tensor *dx, int accumulate);

/* y = a + b; y may be a or b. */
void add_forward(const struct kernels *k, const struct tensor *a, const struct tensor *b,
                 struct tensor *y);

/* dst += src. */
void tensor_accumulate(const struct kernels *k, const struct tensor *src, struct tensor *dst);

void tensor_copy(const struct kernels *k, const struct tensor *src, struct tensor *dst);

/* y = x * keep / (1 - p): element e = dense index in (n, h, w, c) order is dropped if word e of the
 * stream is below p * 2^32. Forward and backward are the same map (x = dy, y = dx); accumulate adds.
 * Without accumulate y may be x. */
void dropout_apply(const struct kernels *k, const struct tensor *x, double p, const struct rng *rng,
                   struct tensor *y, int accumulate);

#endif
