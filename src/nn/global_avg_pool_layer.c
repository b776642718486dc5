/* Mean over all pixels; backward spreads dy / (h * w). */
#include "kernels/pool.h"
#include "nn/layer.h"
#include "nn/layers.h"

extern const struct layer_type layer_global_avg_pool;

static void forward(const struct layer *l, struct layer_io *io)
{
    (void)l;
    global_avg_pool_forward(io->ctx->kernels, &io->x[0], &io->y);
}

static void backward(const struct layer *l, struct layer_io *io)
{
    (void)l;
    if (io->want_dx[0]) {
        global_avg_pool_backward(io->ctx->kernels, &io->dy, &io->dx[0], io->accumulate[0]);
    }
}

const struct layer_type layer_global_avg_pool = {
    .name = "global_avg_pool",
    .summary = "mean over all pixels of a map",
    .recomputable = 1,
    .forward = forward,
    .backward = backward,
};

uint32_t graph_global_avg_pool(struct graph *g, const char *name, uint32_t x)
{
    struct shape out = {.n = 1, .h = 1, .w = 1, .c = g->values[x].shape.c};
    return graph_add_layer(g, layer_new(g, &layer_global_avg_pool, sizeof(struct layer), name, x),
                           out);
}
