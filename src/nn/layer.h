/* What a layer is to plan and executor: a type with a few functions, and a private struct that
 * begins with struct layer. A layer type is one file (src/nn/NAME_layer.c), one row in layers.def
 * and one builder in layers.h. */
#ifndef NN_LAYER_H
#define NN_LAYER_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "kernels/kernels.h"
#include "nn/graph.h"
#include "store/store.h"
#include "tensor/tensor.h"

struct layer_type;

struct layer {
    const struct layer_type *type;
    char *name;
    uint32_t index; /* in graph.layers */
    uint32_t in[GRAPH_MAX_INPUTS];
    size_t n_in;
    uint32_t out;
    uint32_t params[LAYER_MAX_PARAMS]; /* trainable ones first */
    size_t n_params, n_trainable;
};

/* What forward must leave for backward. */
struct layer_needs {
    int map_input;    /* input 0 again, lossy allowed */
    int exact_input;  /* input 0 again, exact */
    int output_sign;  /* where the output is positive: 1 bit per element, or the kept output */
    unsigned map_use; /* STORE_USE_ bit of the map */
    enum store_piece side_piece;
    size_t side_bytes; /* exact side data that forward writes (statistics, indices) */
};

/* Batch-dependent settings of one step. */
struct layer_context {
    const struct kernels *kernels;
    int n_threads;
    int training;
    size_t bn_group; /* > 0 */
    uint64_t seed, step;
};

/* Everything one call works on. All tensors have the batch's n. */
struct layer_io {
    const struct layer_context *ctx;
    real *params[LAYER_MAX_PARAMS];  /* in the layer's order */
    real *dparams[LAYER_MAX_PARAMS]; /* backward: gradients of the trainable ones, overwritten */
    struct tensor x[GRAPH_MAX_INPUTS], y;   /* forward; backward: x[0] if needed again */
    struct tensor dy, dx[GRAPH_MAX_INPUTS]; /* backward */
    int want_dx[GRAPH_MAX_INPUTS];
    int accumulate[GRAPH_MAX_INPUTS]; /* dx += instead of dx = */
    void *side;                       /* exact side data [needs.side_bytes], NULL in evaluation */
    uint8_t *signs; /* sign bits; NULL: not kept (evaluation), or y is kept instead */
    void *workspace;
    int recompute; /* forward again for a lost map: reads `side` and `signs`, changes no state */
    int relu;     /* the ReLU behind is part of the call (layer_type.takes_relu): y and dy are those
                      of its output, signs too; NULL: they can be had from y and x */
    size_t first; /* number in the batch of the tensors' first sample; signs begin there too */
    size_t x_first; /* backward_sums: of x[0]'s alone */
    size_t batch;   /* samples of the whole batch */
    size_t thread;  /* number of the calling thread where several call */
};

enum layer_phase { LAYER_FORWARD, LAYER_GRADIENTS, LAYER_BACKWARD };

struct layer_type {
    const char *name, *summary;
    int forward_in_place;  /* y may be x[0] (and x[1]) */
    int backward_in_place; /* dx[0] may be dy */
    int passes_gradient;   /* backward is dx[i] = dy for every input: no work where shared */
    int recomputable;      /* forward can be run again in backward */
    int takes_relu;        /* the ReLU behind may be part of forward, sums and backward (io.relu) */
    int by_sample;         /* forward and backward may be called for some samples of the batch, by
                              several threads at once: io holds their tensors and signs; side and
                              workspace are the whole batch's */

    /* NULL: no. The same for forward alone, with a batch like x (its n is the batch's, or larger). */
    int (*forward_by_sample)(const struct layer *l, const struct layer_context *ctx,
                             const struct shape *x);

    /* NULL: nothing needed. */
    void (*needs)(const struct layer *l, const struct shape *x, size_t bn_group,
                  struct layer_needs *needs);
    /* NULL: none. x: shape of input 0 with the batch's n. */
    size_t (*workspace_bytes)(const struct layer *l, const struct layer_context *ctx,
                              const struct shape *x, enum layer_phase phase, int want_dx);
    /* NULL: 0. Multiply-adds of one image. */
    double (*macs)(const struct layer *l, const struct shape *x);
    /* NULL: none. What forward needs of the whole batch first (io holds all of it): for each run of
     * kernels/sample_runs.h, in any order and on any thread, in training alone; then the end, once.
     * Side and workspace stay as they are until forward. */
    void (*forward_sums)(const struct layer *l, struct layer_io *io, size_t run);
    void (*forward_sums_end)(const struct layer *l, struct layer_io *io);
    void (*backward_sums)(const struct layer *l, struct layer_io *io, size_t run);
    void (*backward_sums_end)(const struct layer *l, struct layer_io *io);
    void (*forward)(const struct layer *l, struct layer_io *io);
    /* NULL: backward does it. The gradients of the parameters alone, of x and dy, in a step of its own
     * before backward, which then has no x: that may make room for dx. */
    void (*gradients)(const struct layer *l, struct layer_io *io);
    /* NULL, or 0: no. In so many parts gradients may go by runs of samples, those of input 0, for a
     * batch like x or smaller: the runs of a part in order, parts on any threads, io with a run's
     * tensors; then the end, once. The workspace is the whole batch's. */
    size_t (*gradient_parts)(const struct layer *l, const struct layer_context *ctx,
                             const struct shape *x);
    void (*gradients_run)(const struct layer *l, struct layer_io *io, size_t part, int is_first);
    void (*gradients_end)(const struct layer *l, struct layer_io *io);
    /* NULL: no. As forward_by_sample, for backward behind gradients. */
    int (*backward_by_sample)(const struct layer *l, const struct layer_context *ctx,
                              const struct shape *x);
    void (*backward)(const struct layer *l, struct layer_io *io); /* NULL if passes_gradient */
    /* NULL: nothing to tell. What backward has found out, for policies that adapt to it. */
    void (*gradient)(const struct layer *l, const struct layer_io *io, struct store_gradient *g);
    /* NULL: not a batch-norm. How it normalises its input: from `side` and the parameters. */
    void (*norm)(const struct layer *l, const struct layer_io *io, struct codec_norm *n);
    /* NULL: no attributes worth printing. "3x3 s2 p1". */
    void (*describe)(const struct layer *l, char *buf, size_t cap);
};

/* What the layer needs under that store (NULL: none, evaluation). With `compat: official` an exact
 * policy keeps pooling indices in 8 bytes each, as PyTorch does. */
struct layer_needs layer_needs(const struct layer *l, const struct shape *x, size_t bn_group,
                               const struct store *store);

const struct layer_type *const *layer_types(size_t *n);

/* Allocates a private struct of `bytes` (beginning with struct layer) with its name copied. On
 * failure sets g->err and returns NULL. */
void *layer_new(struct graph *g, const struct layer_type *type, size_t bytes, const char *name,
                uint32_t x);

#endif
