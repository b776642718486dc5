/* 2-D convolution, NHWC, weights HWIO: forward, data gradient, weight gradient.
 *
 *   x  (n, h, w, c)      y  (n, oh, ow, k)      w  [r][s][c][k]
 *   oh = (h + 2*pad - r) / stride + 1, likewise ow
 *
 * A linear layer is the case h = w = r = s = 1. Formulas as torch.nn.functional.conv2d (cross-
 * correlation), groups = 1, dilation = 1. */
#ifndef KERNELS_CONV_H
#define KERNELS_CONV_H

#include <stddef.h>

#include "base/real.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

struct conv_geom {
    size_t c, k, r, s;  /* channels in, filters, filter height and width */
    size_t stride, pad; /* the same in both directions */
};

enum conv_op { CONV_FORWARD, CONV_BACKWARD_DATA, CONV_BACKWARD_WEIGHT };

/* Output shape; 0 pixels if the filter does not fit. */
struct shape conv2d_out_shape(const struct conv_geom *g, const struct shape *x);

/* Multiply-adds of the forward pass for this input. */
double conv2d_macs(const struct conv_geom *g, const struct shape *x);

/* The algorithm that CONV_AUTO (or the forced setting) means here; never CONV_AUTO. */
enum conv_algorithm conv2d_algorithm(const struct kernels *k, const struct conv_geom *g,
                                     const struct shape *x, enum conv_op op);

/* Multiply-adds of that algorithm, its transforms not counted: conv2d_macs, or a quarter of it for
 * Winograd F(4x4, 3x3) and whole tiles. */
double conv2d_algorithm_macs(const struct kernels *k, const struct conv_geom *g,
                             const struct shape *x, enum conv_op op);

/* Scratch that the call needs, 64-byte aligned; grows with x->n and does not depend on the number
 * of threads beyond `n_threads`. Contents do not matter before or after. */
size_t conv2d_workspace_bytes(const struct kernels *k, const struct conv_geom *g,
                              const struct shape *x, enum conv_op op, int n_threads);

/* y = conv(x, w) + b. b [k] or NULL. y must not overlap x. */
void conv2d_forward(const struct kernels *k, const struct conv_geom *g, const struct tensor *x,
                    const real *w, const real *b, struct tensor *y, void *workspace, int n_threads);

/* dx = d loss / d x from dy, or dx += it. */
void conv2d_backward_data(const struct kernels *k, const struct conv_geom *g,
                          const struct tensor *dy, const real *w, struct tensor *dx, int accumulate,
                          void *workspace, int n_threads);

/* dw [r][s][c][k] = d loss / d w (overwritten), and db [k] unless NULL. group: samples of a batch-norm
 * group; the order of the sums may follow it (>= n: one group). */
void conv2d_backward_weight(const struct kernels *k, const struct conv_geom *g,
                            const struct tensor *x, const struct tensor *dy, size_t group, real *dw,
                            real *db, void *workspace, int n_threads);

/* The same bits from the runs of sample_runs_cut(x, group), so that neither x nor dy need ever be
 * there as a whole. The runs are dealt to so many parts: part p has sample_runs_part(p) up to that of
 * p + 1, and takes them in order. 0: this case does not go by runs; for a batch that is no larger the
 * answer to that is the same. */
size_t conv2d_gradient_parts(const struct kernels *k, const struct conv_geom *g,
                             const struct shape *x, size_t group);

/* A run's x and dy; parts on any threads. `batch` is the whole batch's input, as is the workspace. */
void conv2d_gradient_run(const struct kernels *k, const struct conv_geom *g,
                         const struct shape *batch, const struct tensor *x, const struct tensor *dy,
                         int want_db, size_t part, int is_first /* of the part */, void *workspace);

/* After all runs. */
void conv2d_gradient_end(const struct kernels *k, const struct conv_geom *g,
                         const struct shape *batch, size_t group, real *dw, real *db,
                         void *workspace, int n_threads);

#endif
