/* Inner loops of batch-norm, element-wise passes, pooling and SGD for one ISA; called by the drivers
 * in batch_norm.c, eltwise.c, pool.c and sgd.c only.
 *
 * Single-threaded; nothing here allocates. No alignment beyond sizeof(real) is asked for; nothing
 * beyond the named elements is read or written, so a tensor may be a slice of channels of a wider
 * one. A stride is counted in reals, from one row or pixel to the next. An output may be one of the
 * inputs of the same element (same pointer, same stride) unless a comment says otherwise.
 *
 * "Rows" are n_rows runs of len reals. The driver makes one long row out of many pixels where they
 * lie densely, so that these loops do not care how few channels there are. */
#ifndef KERNELS_LOOPS_ISA_H
#define KERNELS_LOOPS_ISA_H

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "base/rng.h"

/* The ReLU behind a batch-norm as part of its loops. y is the batch-norm's output, positive where
 * y > 0. */
enum bn_relu {
    BN_NO_RELU,
    BN_RELU, /* apply: out = y <= 0 ? 0 : y; backward: dy counts where y, made again, is positive */
    BN_RELU_WRITE, /* apply: the same, and bits of where it is positive */
    BN_RELU_READ,  /* apply: out = y where the bit is set, else 0; backward: dy counts there */
};

/* A run of pixels of one group for batch-norm; each loop reads the members it needs. */
struct bn_run {
    size_t n_pixels, c;
    const real *x, *dy;
    size_t x_stride, dy_stride;
    const real *mean, *invstd, *gamma, *beta; /* [c] */
    const real *means;                        /* [2][c]: mean of dy and of dy * xhat */
    real *out;
    size_t out_stride;
    int accumulate;
    enum bn_relu relu;
    uint8_t *signs;     /* bit i % 8 of byte i / 8: channel i */
    size_t sign_stride; /* bytes from one pixel to the next */
};

/* Geometry of a pooling: input h x w, output oh x ow, windows r x r. */
struct pool_run {
    size_t h, w, oh, ow, c;
    size_t r, stride, pad;
};

/* Dropout of rows whose first element has the dense index `first`; row i begins at first + i*len. */
struct dropout_run {
    size_t n_rows, len;
    const real *x;
    size_t x_stride;
    real *y;
    size_t y_stride;
    struct rng rng;
    uint64_t first;
    uint64_t threshold; /* dropped where the word is below; 0 .. 2^32 */
    real scale;         /* of what is kept */
    int accumulate;
};

struct sgd_run {
    size_t n;
    real *w;
    const real *dw;
    real *m; /* may be NULL when momentum is 0 */
    real lr, momentum, weight_decay;
    int nesterov;
};

struct loop_kernels {
    /* y = x; y must not overlap x. */
    void (*copy)(size_t n_rows, size_t len, const real *x, size_t xs, real *y, size_t ys);
    /* y = a + b. */
    void (*add)(size_t n_rows, size_t len, const real *a, size_t as, const real *b, size_t bs,
                real *y, size_t ys);
    /* y = max(x, 0), NaN stays NaN. */
    void (*relu)(size_t n_rows, size_t len, const real *x, size_t xs, real *y, size_t ys);
    /* The same with the sign bits: ceil(len/8) bytes per row, rows without gaps; bits behind the
     * last element are 0. */
    void (*relu_signs)(size_t n_rows, size_t len, const real *x, size_t xs, real *y, size_t ys,
                       uint8_t *signs);
    /* dx (+)= dy where the bit is 1, else 0. */
    void (*relu_back_signs)(size_t n_rows, size_t len, const real *dy, size_t dys,
                            const uint8_t *signs, real *dx, size_t dxs, int accumulate);
    /* dx (+)= dy where y > 0, else 0. */
    void (*relu_back_output)(size_t n_rows, size_t len, const real *dy, size_t dys, const real *y,
                             size_t ys, real *dx, size_t dxs, int accumulate);
    void (*dropout)(const struct dropout_run *d);
    void (*sgd)(const struct sgd_run *s);

    /* Merges these pixels' mean and M2 (sum of squared differences from the mean) into mean[c] and
     * m2[c], which stand for n_before pixels. The vector versions sum in float: one call is to
     * have at most a few hundred pixels. Reads x twice. */
    void (*bn_moments)(size_t n_pixels, size_t c, const real *x, size_t xs, size_t n_before,
                       double *mean, double *m2);
    /* out = gamma * invstd * (x - mean) + beta, then the ReLU. */
    void (*bn_apply)(const struct bn_run *r);
    /* sum_dy[c] += sum of dy, sum_dy_dev[c] += sum of dy * (x - mean); as many pixels as above.
     * Of a dy that the ReLU stops, nothing. */
    void (*bn_reduce)(const struct bn_run *r, double *sum_dy, double *sum_dy_dev);
    /* out (+)= gamma * invstd * (dy - means[0] - (x - mean) * invstd * means[1]). */
    void (*bn_backward)(const struct bn_run *r);

    /* Output row `row`: x is the sample's first pixel, y and index (NULL: not wanted) the row's. */
    void (*max_pool)(const struct pool_run *p, size_t row, const real *x, size_t xs, real *y,
                     size_t ys, uint8_t *index);
    void (*avg_pool)(const struct pool_run *p, size_t row, const real *x, size_t xs, real *y,
                     size_t ys);
    /* Input row `row`: each pixel gathers from the windows that cover it, in their order. dy and
     * index are the sample's first, dx the row's first pixel. */
    void (*max_pool_back)(const struct pool_run *p, size_t row, const real *dy, size_t dys,
                          const uint8_t *index, real *dx, size_t dxs, int accumulate);
    void (*avg_pool_back)(const struct pool_run *p, size_t row, const real *dy, size_t dys,
                          real *dx, size_t dxs, int accumulate);
    /* y[c] = mean over the pixels. */
    void (*mean)(size_t n_pixels, size_t c, const real *x, size_t xs, real *y);
    /* dx (+)= scale * dy[c] for every pixel. */
    void (*spread)(size_t n_pixels, size_t c, const real *dy, real scale, real *dx, size_t dxs,
                   int accumulate);
};

void loop_kernels_fill_ref(struct loop_kernels *k);
void loop_kernels_fill_base(struct loop_kernels *k);
void loop_kernels_fill_avx2(struct loop_kernels *k);
void loop_kernels_fill_avx512(struct loop_kernels *k);

#endif
