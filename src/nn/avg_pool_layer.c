/* Average pooling over windows; backward needs nothing but the gradient. */
#include <stdio.h>

#include "kernels/pool.h"
#include "nn/layer.h"
#include "nn/layers.h"

extern const struct layer_type layer_avg_pool;

struct avg_pool_layer {
    struct layer base;
    struct pool_geom geom;
};

static const struct pool_geom *geom_of(const struct layer *l)
{
    return &((const struct avg_pool_layer *)l)->geom;
}

static void forward(const struct layer *l, struct layer_io *io)
{
    avg_pool_forward(io->ctx->kernels, geom_of(l), &io->x[0], &io->y);
}

static void backward(const struct layer *l, struct layer_io *io)
{
    if (io->want_dx[0]) {
        avg_pool_backward(io->ctx->kernels, geom_of(l), &io->dy, &io->dx[0], io->accumulate[0]);
    }
}

static void describe(const struct layer *l, char *buf, size_t cap)
{
    const struct pool_geom *g = geom_of(l);
    snprintf(buf, cap, "%zux%zu s%zu p%zu", g->r, g->r, g->stride, g->pad);
}

const struct layer_type layer_avg_pool = {
    .name = "avg_pool",
    .summary = "mean over windows, padding counted",
    .recomputable = 1,
    .forward = forward,
    .backward = backward,
    .describe = describe,
};

uint32_t graph_avg_pool(struct graph *g, const char *name, uint32_t x, size_t r, size_t stride,
                        size_t pad)
{
    struct avg_pool_layer *l = layer_new(g, &layer_avg_pool, sizeof *l, name, x);
    if (!l) {
        return 0;
    }
    l->geom = (struct pool_geom){.r = r, .stride = stride, .pad = pad};
    return graph_add_layer(g, &l->base, pool_out_shape(&l->geom, &g->values[x].shape));
}
