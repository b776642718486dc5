/* The convolution layer's struct and functions, shared with the linear layer (a 1x1 convolution on
 * one pixel that keeps its input exact). */
#ifndef NN_CONV2D_PRIV_H
#define NN_CONV2D_PRIV_H

#include "kernels/conv.h"
#include "nn/layer.h"

struct conv2d_layer {
    struct layer base;
    struct conv_geom geom;
};

size_t conv2d_layer_workspace_bytes(const struct layer *l, const struct layer_context *ctx,
                                    const struct shape *x, enum layer_phase phase, int want_dx);
double conv2d_layer_macs(const struct layer *l, const struct shape *x);
void conv2d_layer_forward(const struct layer *l, struct layer_io *io);
void conv2d_layer_gradients(const struct layer *l, struct layer_io *io);
void conv2d_layer_backward(const struct layer *l, struct layer_io *io);

#endif
