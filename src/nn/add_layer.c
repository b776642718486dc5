/* Residual addition: y = a + b. Backward hands dy to both inputs; where nothing else writes into
 * it, they share one buffer and no work is done. */
#include "kernels/eltwise.h"
#include "nn/layer.h"
#include "nn/layers.h"

extern const struct layer_type layer_add;

static void forward(const struct layer *l, struct layer_io *io)
{
    (void)l;
    add_forward(io->ctx->kernels, &io->x[0], &io->x[1], &io->y);
}

const struct layer_type layer_add = {
    .name = "add",
    .summary = "sum of two maps of the same shape",
    .forward_in_place = 1,
    .passes_gradient = 1,
    .recomputable = 1,
    .by_sample = 1,
    .forward = forward,
};

uint32_t graph_add(struct graph *g, const char *name, uint32_t a, uint32_t b)
{
    struct layer *l = layer_new(g, &layer_add, sizeof *l, name, a);
    if (!l) {
        return 0;
    }
    l->in[1] = b;
    l->n_in = 2;
    const struct shape *s = &g->values[a].shape, *t = &g->values[b].shape;
    if (s->h != t->h || s->w != t->w || s->c != t->c) {
        err_set(&g->err, ERR_SHAPE, "%s: adds %zu x %zu x %zu to %zu x %zu x %zu", name, s->h, s->w,
                s->c, t->h, t->w, t->c);
    }
    return graph_add_layer(g, l, *s);
}
