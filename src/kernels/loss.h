/* Softmax cross-entropy with label smoothing, and the hit counts. Everything in double. */
#ifndef KERNELS_LOSS_H
#define KERNELS_LOSS_H

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "tensor/tensor.h"

struct loss_result {
    double loss_sum; /* sum over samples (not the mean); label smoothing included */
    size_t n_top1;   /* samples whose class has rank 0 */
    size_t n_top5;   /* rank below 5 */
};

/* logits (n, 1, 1, classes); labels [n] < classes. Rank of a sample: classes with a higher logit,
 * plus those with an equal one and a lower index; a NaN logit at the label never hits.
 * Loss as torch.nn.functional.cross_entropy: (1-eps) * nll + eps * mean over classes of -log p.
 * dlogits (may be NULL, may be logits): gradient of scale * loss_sum; scale = 1/n for the mean. */
void softmax_xent(const struct tensor *logits, const uint32_t *labels, double smoothing,
                  double scale, struct tensor *dlogits, struct loss_result *result);

#endif
