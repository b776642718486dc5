/* Batch normalisation over (n, h, w) per channel, in groups of samples (torch.nn.BatchNorm2d's
 * formulas; Ioffe and Szegedy 2015).
 *
 * Samples g*group .. min((g+1)*group, n) - 1 form group g, n_groups = ceil(n / group); each is
 * normalised alone. group >= n: one group. Per-group arrays are [n_groups][c].
 * Statistics: per block of pixels count, mean and M2, merged in block order in double. */
#ifndef KERNELS_BATCH_NORM_H
#define KERNELS_BATCH_NORM_H

#include <stddef.h>

#include "base/real.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

size_t batch_norm_workspace_bytes(const struct shape *x, size_t group);

/* mean [n_groups][c], var [n_groups][c] (biased: M2 / count). */
void batch_norm_stats(const struct kernels *k, const struct tensor *x, size_t group, real *mean,
                      real *var, void *workspace);

/* y = gamma * (x - mean) * invstd + beta. y may be x. */
void batch_norm_apply(const struct kernels *k, const struct tensor *x, size_t group,
                      const real *mean, const real *invstd, const real *gamma, const real *beta,
                      struct tensor *y);

/* With xhat = (x - mean) * invstd: sums [n_groups][2][c] = sum of dy, sum of dy * xhat per group;
 * dbeta [c] and dgamma [c] = their totals over the groups in order (overwritten). */
void batch_norm_backward_reduce(const struct kernels *k, const struct tensor *dy,
                                const struct tensor *x, size_t group, const real *mean,
                                const real *invstd, real *sums, real *dgamma, real *dbeta,
                                void *workspace);

/* dx = gamma * invstd * (dy - sums[0]/m - xhat * sums[1]/m), m = pixels of the group; or dx += it.
 * Without accumulate dx may be dy or x. */
void batch_norm_backward_apply(const struct kernels *k, const struct tensor *dy,
                               const struct tensor *x, size_t group, const real *mean,
                               const real *invstd, const real *gamma, const real *sums,
                               struct tensor *dx, int accumulate);

#endif
