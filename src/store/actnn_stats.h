/* What policy actnn measures of one sample of a tensor. By one thread each; for store/ alone. */
#ifndef STORE_ACTNN_STATS_H
#define STORE_ACTNN_STATS_H

#include "tensor/tensor.h"

/* Values that share a range: consecutive ones of a sample, in memory order (h, w, c). */
#define ACTNN_GROUP 256

/* Sum over the sample's groups of (max - min)^2. NaN is passed over, infinities make it infinite. */
double actnn_square_ranges(const struct tensor *x, size_t sample);

/* Sum of squares of the sample's values. */
double actnn_square_norm(const struct tensor *x, size_t sample);

#endif
