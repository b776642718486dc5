/* Linear: y = x W^T + b, a 1x1 convolution on a map of one pixel. Its input is kept exact. */
#include <math.h>

#include "nn/conv2d_priv.h"
#include "nn/layers.h"

extern const struct layer_type layer_linear;

static void needs(const struct layer *l, const struct shape *x, size_t bn_group,
                  struct layer_needs *n)
{
    (void)l, (void)x, (void)bn_group;
    n->exact_input = 1;
}

const struct layer_type layer_linear = {
    .name = "linear",
    .summary = "fully connected layer on a map of one pixel, with bias",
    .recomputable = 1,
    .needs = needs,
    .workspace_bytes = conv2d_layer_workspace_bytes,
    .macs = conv2d_layer_macs,
    .forward = conv2d_layer_forward,
    .gradients = conv2d_layer_gradients,
    .backward = conv2d_layer_backward,
};

uint32_t graph_linear(struct graph *g, const char *name, uint32_t x, size_t out)
{
    struct conv2d_layer *l = layer_new(g, &layer_linear, sizeof *l, name, x);
    if (!l) {
        return 0;
    }
    struct shape in = g->values[x].shape;
    l->geom = (struct conv_geom){.c = in.c, .k = out, .r = 1, .s = 1, .stride = 1};
    if (in.h != 1 || in.w != 1) {
        err_set(&g->err, ERR_SHAPE, "%s: a linear layer needs 1 x 1 pixels, found %zu x %zu", name,
                in.h, in.w);
    }
    double bound = 1 / sqrt((double)in.c);
    l->base.params[0] = graph_add_param(g, name, "weight", PARAM_OI, (size_t[]){out, in.c}, 2, 1,
                                        PARAM_INIT_UNIFORM, bound);
    l->base.params[1] = graph_add_param(g, name, "bias", PARAM_VECTOR, &out, 1, 1,
                                        PARAM_INIT_UNIFORM, bound);
    l->base.n_params = l->base.n_trainable = 2;
    return graph_add_layer(g, &l->base, conv2d_out_shape(&l->geom, &in));
}
