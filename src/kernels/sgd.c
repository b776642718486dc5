/* The SGD update: one pass over weights, gradients and momentum. And sums of gradients. */
#include "kernels/sgd.h"

#include <assert.h>

#include "kernels/loops_priv.h"

void sgd_update(const struct kernels *k, const struct sgd_params *p, size_t n, real *w,
                const real *dw, real *m)
{
    assert(m || p->momentum == 0);
    const size_t block = LOOP_BLOCK_BYTES / sizeof(real);
    const size_t n_blocks = n / block + (n % block > 0);

#pragma omp parallel for schedule(static) if (n * sizeof(real) >= LOOP_PARALLEL_BYTES)
    for (size_t i = 0; i < n_blocks; i++) {
        const size_t first = i * block;
        const struct sgd_run run = {
            .n = n - first < block ? n - first : block,
            .w = w + first,
            .dw = dw + first,
            .m = m ? m + first : NULL,
            .lr = (real)p->lr,
            .momentum = (real)p->momentum,
            .weight_decay = (real)p->weight_decay,
            .nesterov = p->nesterov,
        };
        k->loop.sgd(&run);
    }
}

void sgd_accumulate(const struct kernels *k, size_t n, const real *dw, real *sum, int is_first)
{
    const size_t block = LOOP_BLOCK_BYTES / sizeof(real);
    const size_t n_blocks = n / block + (n % block > 0);

#pragma omp parallel for schedule(static) if (n * sizeof(real) >= LOOP_PARALLEL_BYTES)
    for (size_t i = 0; i < n_blocks; i++) {
        const size_t first = i * block, len = n - first < block ? n - first : block;
        if (is_first) {
            k->loop.copy(1, len, dw + first, len, sum + first, len);
        } else {
            k->loop.add(1, len, sum + first, len, dw + first, len, sum + first, len);
        }
    }
}
