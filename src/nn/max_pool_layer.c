/* Maximum pooling; keeps the winner's place in the window, one byte per output element. */
#include <stdio.h>

#include "kernels/pool.h"
#include "nn/layer.h"
#include "nn/layers.h"

extern const struct layer_type layer_max_pool;

struct max_pool_layer {
    struct layer base;
    struct pool_geom geom;
};

static const struct pool_geom *geom_of(const struct layer *l)
{
    return &((const struct max_pool_layer *)l)->geom;
}

static void needs(const struct layer *l, const struct shape *x, size_t bn_group,
                  struct layer_needs *n)
{
    (void)bn_group;
    struct shape y = pool_out_shape(geom_of(l), x);
    n->side_piece = STORE_PIECE_INDICES;
    n->side_bytes = shape_elements(&y);
}

static void forward(const struct layer *l, struct layer_io *io)
{
    max_pool_forward(io->ctx->kernels, geom_of(l), &io->x[0], &io->y, io->side);
}

static void backward(const struct layer *l, struct layer_io *io)
{
    if (io->want_dx[0]) {
        max_pool_backward(io->ctx->kernels, geom_of(l), &io->dy, io->side, &io->dx[0],
                          io->accumulate[0]);
    }
}

static void describe(const struct layer *l, char *buf, size_t cap)
{
    const struct pool_geom *g = geom_of(l);
    snprintf(buf, cap, "%zux%zu s%zu p%zu", g->r, g->r, g->stride, g->pad);
}

const struct layer_type layer_max_pool = {
    .name = "max_pool",
    .summary = "maximum over windows; keeps one byte per output element",
    .recomputable = 1,
    .needs = needs,
    .forward = forward,
    .backward = backward,
    .describe = describe,
};

uint32_t graph_max_pool(struct graph *g, const char *name, uint32_t x, size_t r, size_t stride,
                        size_t pad)
{
    struct max_pool_layer *l = layer_new(g, &layer_max_pool, sizeof *l, name, x);
    if (!l) {
        return 0;
    }
    l->geom = (struct pool_geom){.r = r, .stride = stride, .pad = pad};
    return graph_add_layer(g, &l->base, pool_out_shape(&l->geom, &g->values[x].shape));
}
