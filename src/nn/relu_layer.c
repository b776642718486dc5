/* ReLU: y = max(x, 0); backward: dx = dy where y > 0, from the sign bits or from the kept output. */
#include "kernels/eltwise.h"
#include "nn/layer.h"
#include "nn/layers.h"

extern const struct layer_type layer_relu;

static void needs(const struct layer *l, const struct shape *x, size_t bn_group,
                  struct layer_needs *n)
{
    (void)l, (void)x, (void)bn_group;
    n->output_sign = 1;
}

static void forward(const struct layer *l, struct layer_io *io)
{
    (void)l;
    if (io->recompute && io->signs) { /* of a lossy input: the mask is that of the exact one */
        relu_backward_signs(io->ctx->kernels, &io->x[0], io->signs, &io->y, 0);
        return;
    }
    relu_forward(io->ctx->kernels, &io->x[0], &io->y, io->signs);
}

static void backward(const struct layer *l, struct layer_io *io)
{
    (void)l;
    if (!io->want_dx[0]) {
        return;
    }
    if (io->signs) {
        relu_backward_signs(io->ctx->kernels, &io->dy, io->signs, &io->dx[0], io->accumulate[0]);
    } else {
        relu_backward_output(io->ctx->kernels, &io->dy, &io->y, &io->dx[0], io->accumulate[0]);
    }
}

const struct layer_type layer_relu = {
    .name = "relu",
    .summary = "max(x, 0); keeps one sign bit per element, or its output where that is kept anyway",
    .forward_in_place = 1,
    .backward_in_place = 1,
    .recomputable = 1,
    .by_sample = 1,
    .needs = needs,
    .forward = forward,
    .backward = backward,
};

uint32_t graph_relu(struct graph *g, const char *name, uint32_t x)
{
    return graph_add_layer(g, layer_new(g, &layer_relu, sizeof(struct layer), name, x),
                           g->values[x].shape);
}
