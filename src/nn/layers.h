/* Builders: each adds one layer to a graph and returns the value it makes.
 *
 * Names are PyTorch's module names; parameters become NAME.weight, NAME.bias, NAME.running_mean, …
 * Errors are sticky: the first one stays in graph->err, later calls do nothing and return 0. */
#ifndef NN_LAYERS_H
#define NN_LAYERS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/conv.h"
#include "nn/graph.h"

/* Convolution with k filters of r x r. Weights: He normal, fan-out (torchvision's ResNet);
 * bias (if any): U(+-1/sqrt(fan_in)), PyTorch's default. */
uint32_t graph_conv2d(struct graph *g, const char *name, uint32_t x, size_t k, size_t r,
                      size_t stride, size_t pad, int bias);
/* Its geometry; NULL for layers of other types. */
const struct conv_geom *conv2d_layer_geom(const struct layer *l);

/* torch.nn.BatchNorm2d: eps 1e-5, momentum 0.1, weight 1, bias 0. */
uint32_t graph_batch_norm(struct graph *g, const char *name, uint32_t x);

uint32_t graph_relu(struct graph *g, const char *name, uint32_t x);
uint32_t graph_add(struct graph *g, const char *name, uint32_t a, uint32_t b);
uint32_t graph_max_pool(struct graph *g, const char *name, uint32_t x, size_t r, size_t stride,
                        size_t pad);
uint32_t graph_avg_pool(struct graph *g, const char *name, uint32_t x, size_t r, size_t stride,
                        size_t pad);
uint32_t graph_global_avg_pool(struct graph *g, const char *name, uint32_t x);

/* y = x W^T + b on a value of 1 x 1 pixels; weight and bias U(+-1/sqrt(in)), PyTorch's default. */
uint32_t graph_linear(struct graph *g, const char *name, uint32_t x, size_t out);

/* Drops with probability p while training; p = 0 adds no layer. */
uint32_t graph_dropout(struct graph *g, const char *name, uint32_t x, double p);

#endif
