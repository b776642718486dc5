/* A network as a static graph: values (activation maps), layers in topological order, parameters.
 *
 * Built once by the functions of nn/layers.h, then only read. Batch size is not part of the graph:
 * the plan (nn/plan.h) binds it. */
#ifndef NN_GRAPH_H
#define NN_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/real.h"
#include "store/store.h"
#include "tensor/tensor.h"

#define GRAPH_NO_LAYER UINT32_MAX
#define GRAPH_MAX_INPUTS 2
#define LAYER_MAX_PARAMS 4

/* One activation map. Value 0 is the input image. */
struct value {
    char *name;         /* the name of the layer that makes it; "image" for value 0 */
    struct shape shape; /* n = 1 */
    uint32_t producer;  /* layer index, GRAPH_NO_LAYER for the image */
    unsigned marks;     /* enum store_mark: its place in the network, for checkpointing */
};

enum param_init {
    PARAM_INIT_CONSTANT, /* `init_value` */
    PARAM_INIT_NORMAL,   /* N(0, init_value^2) */
    PARAM_INIT_UNIFORM,  /* U(-init_value, init_value) */
};

/* How a parameter lies in memory, against PyTorch's order in files. */
enum param_layout {
    PARAM_VECTOR, /* [c] */
    PARAM_OIHW,   /* file [k][c][r][s], memory [r][s][c][k] */
    PARAM_OI,     /* file [out][in], memory [in][out] */
};

/* A parameter (trainable) or a running statistic (not). */
struct param {
    char *name; /* PyTorch's name: "layer1.0.conv1.weight" */
    enum param_layout layout;
    size_t dims[4]; /* in PyTorch's order */
    size_t n_dims, n;
    int trainable;
    enum param_init init;
    double init_value;
    real *w;        /* [n], MEM_PARAM */
    real *momentum; /* [n], MEM_OPTIMIZER; NULL if not trainable */
    real *gradient; /* [n], MEM_GRAD: sum over the parts of a batch; NULL if they need no summing */
};

struct layer; /* nn/layer.h */

struct graph {
    struct value *values;
    size_t n_values, cap_values;
    struct layer **layers;
    size_t n_layers, cap_layers;
    struct param *params;
    size_t n_params, cap_params;
    uint32_t output; /* the logits: shape (1, 1, 1, classes) */
    struct err err;  /* first builder error; builders do nothing once it is set */
};

/* An empty graph with the image as value 0. */
int graph_init(struct graph *g, size_t channels, size_t height, size_t width, struct err *err)
    MUST_USE;
void graph_fini(struct graph *g);

/* After building: the builders' error, or a missing or misshapen output. */
int graph_finish(struct graph *g, uint32_t output, struct err *err) MUST_USE;

/* Allocates all parameters, running statistics and momenta, and draws the initial weights
 * (element i of parameter p from rng_make(seed, RNG_INIT, 0, p)). */
int graph_alloc_params(struct graph *g, struct err *err) MUST_USE;
void graph_init_params(struct graph *g, uint64_t seed);

/* Where gradients are added up over the parts of a batch: param.gradient of trainable ones. */
int graph_alloc_gradients(struct graph *g, struct err *err) MUST_USE;

/* Trainable parameters, and bytes of parameters + running statistics (+ momenta). */
size_t graph_n_weights(const struct graph *g);
size_t graph_param_bytes(const struct graph *g);
size_t graph_momentum_bytes(const struct graph *g);
size_t graph_gradient_bytes(const struct graph *g); /* what graph_alloc_gradients allocates */
/* Multiply-adds of the forward pass of one image. */
double graph_macs(const struct graph *g);

/* NULL if there is none of that name. */
struct param *graph_find_param(const struct graph *g, const char *name);

/* Between memory order and PyTorch's order. */
void param_to_file_order(const struct param *p, const real *memory, real *file);
void param_from_file_order(const struct param *p, const real *file, real *memory);
/* The same for elements first .. first + n of the file's order alone: `file` holds n values. */
void param_get_in_file_order(const struct param *p, const real *memory, size_t first, size_t n,
                             real *file);
void param_put_in_file_order(const struct param *p, const real *file, size_t first, size_t n,
                             real *memory);

/* Is this batch possible? ERR_CONFIG where a batch-norm would see a single value per channel in
 * training (its unbiased variance does not exist); `bn_group` 0 or >= n: one group. */
int graph_check_batch(const struct graph *g, size_t n, size_t bn_group, struct err *err) MUST_USE;

/* For the models: the value's place in the network. */
void graph_mark(struct graph *g, uint32_t value, enum store_mark mark);
/* All values so far belong to the stem. */
void graph_mark_stem(struct graph *g);

/* Builders' helpers (nn/ only). Each returns 0 or an index that exists even after an error. */
uint32_t graph_add_layer(struct graph *g, struct layer *take_layer, struct shape out);
uint32_t graph_add_param(struct graph *g, const char *layer_name, const char *suffix,
                         enum param_layout layout, const size_t *dims, size_t n_dims, int trainable,
                         enum param_init init, double init_value);

#endif
