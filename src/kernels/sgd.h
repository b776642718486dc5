/* The SGD update in one pass (torch.optim.SGD):
 *   g = dw + weight_decay * w;  m = momentum * m + g (m = g on the first step: m starts at 0);
 *   w -= lr * (nesterov ? g + momentum * m : m). */
#ifndef KERNELS_SGD_H
#define KERNELS_SGD_H

#include <stddef.h>

#include "base/real.h"
#include "kernels/kernels.h"

struct sgd_params {
    double lr, momentum, weight_decay;
    int nesterov;
};

/* w, dw, m [n]; m may be NULL when momentum is 0. */
void sgd_update(const struct kernels *k, const struct sgd_params *p, size_t n, real *w,
                const real *dw, real *m);

/* Gradients of several parts of a batch: sum = dw for the first, sum += dw for the others. [n] */
void sgd_accumulate(const struct kernels *k, size_t n, const real *dw, real *sum, int is_first);

#endif
