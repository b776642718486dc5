/* Batch normalisation over (n, h, w) per channel, in groups of samples (torch.nn.BatchNorm2d's
 * formulas; Ioffe and Szegedy 2015).
 *
 * Samples g*group .. min((g+1)*group, n) - 1 form group g, n_groups = ceil(n / group); each is
 * normalised alone. group >= n: one group. Per-group arrays are [n_groups][c].
 * Statistics: per block of pixels count, mean and M2, merged in block order in double. */
#ifndef KERNELS_BATCH_NORM_H
#define KERNELS_BATCH_NORM_H

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

/* A batch-norm's numbers, and the ReLU behind it where that is part of its passes: apply then gives
 * the ReLU's output, and dy in backward is that output's gradient. No bit differs from the passes
 * one by one. */
struct batch_norm {
    size_t group;
    const real *mean, *invstd; /* [n_groups][c] */
    const real *gamma, *beta;  /* [c] */
    int relu;
    uint8_t *signs; /* with relu: the bits of relu_forward (eltwise.h) of the whole tensor at hand.
                       apply writes them, backward reads them. NULL: not kept; backward makes the
                       output again from x, which must then be the exact one */
    int is_given;   /* apply reads the bits too, and gives 0 where they are 0: x is a lossy copy */
};

size_t batch_norm_workspace_bytes(const struct shape *x, size_t group);

/* The statistics of one of sample_runs_cut(x, group)'s runs into the workspace; runs in any order,
 * on any thread. Then the merge: mean [n_groups][c], var [n_groups][c] (biased: M2 / count). */
void batch_norm_stats_run(const struct kernels *k, const struct tensor *x, size_t group, size_t run,
                          void *workspace);
void batch_norm_stats_merge(const struct shape *x, size_t group, real *mean, real *var,
                            void *workspace);
/* All runs and the merge. */
void batch_norm_stats(const struct kernels *k, const struct tensor *x, size_t group, real *mean,
                      real *var, void *workspace);

/* y = gamma * (x - mean) * invstd + beta. y may be x. */
void batch_norm_apply(const struct kernels *k, const struct tensor *x, const struct batch_norm *bn,
                      struct tensor *y);

/* With xhat = (x - mean) * invstd: means [n_groups][2][c] = mean of dy, mean of dy * xhat over a
 * group's pixels; dbeta [c] and dgamma [c] = sums over all groups in order (overwritten). By runs,
 * as above, and all at once. */
void batch_norm_backward_sums_run(const struct kernels *k, const struct tensor *dy,
                                  const struct tensor *x, size_t x_first,
                                  const struct batch_norm *bn, size_t run, void *workspace);
void batch_norm_backward_sums_merge(const struct shape *x, size_t group, const real *invstd,
                                    real *means, real *dgamma, real *dbeta, void *workspace);
void batch_norm_backward_reduce(const struct kernels *k, const struct tensor *dy,
                                const struct tensor *x, const struct batch_norm *bn, real *means,
                                real *dgamma, real *dbeta, void *workspace);

/* dx = gamma * invstd * (dy - means[0] - xhat * means[1]); or dx += it.
 * Without accumulate dx may be dy or x. */
void batch_norm_backward_apply(const struct kernels *k, const struct tensor *dy,
                               const struct tensor *x, const struct batch_norm *bn,
                               const real *means, struct tensor *dx, int accumulate);

#endif
