/* Dropout: keeps nothing; backward draws the same mask again from its counter. */
#include <stdio.h>

#include "kernels/eltwise.h"
#include "nn/layer.h"
#include "nn/layers.h"

extern const struct layer_type layer_dropout;

struct dropout_layer {
    struct layer base;
    double p;
};

static void apply(const struct layer *l, struct layer_io *io, const struct tensor *x,
                  struct tensor *y, int accumulate)
{
    struct rng rng = rng_make(io->ctx->seed, RNG_DROPOUT, io->ctx->step, l->index);
    dropout_apply(io->ctx->kernels, x, ((const struct dropout_layer *)l)->p, &rng, y, accumulate);
}

static void forward(const struct layer *l, struct layer_io *io)
{
    if (io->ctx->training) {
        apply(l, io, &io->x[0], &io->y, 0);
    } else if (io->y.data != io->x[0].data) {
        tensor_copy(io->ctx->kernels, &io->x[0], &io->y);
    }
}

static void backward(const struct layer *l, struct layer_io *io)
{
    if (io->want_dx[0]) {
        apply(l, io, &io->dy, &io->dx[0], io->accumulate[0]);
    }
}

static void describe(const struct layer *l, char *buf, size_t cap)
{
    snprintf(buf, cap, "p=%g", ((const struct dropout_layer *)l)->p);
}

const struct layer_type layer_dropout = {
    .name = "dropout",
    .summary = "drops elements while training; its mask is regenerated, not kept",
    .forward_in_place = 1,
    .backward_in_place = 1,
    .recomputable = 1,
    .forward = forward,
    .backward = backward,
    .describe = describe,
};

uint32_t graph_dropout(struct graph *g, const char *name, uint32_t x, double p)
{
    if (p <= 0) {
        return x;
    }
    struct dropout_layer *l = layer_new(g, &layer_dropout, sizeof *l, name, x);
    if (!l) {
        return 0;
    }
    l->p = p;
    return graph_add_layer(g, &l->base, g->values[x].shape);
}
