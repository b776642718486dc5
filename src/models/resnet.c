/* ResNets with post-activation blocks (He et al. 2015), with torchvision's parameter names.
 *
 *   resnet18/34/50, wide_resnet50_2   torchvision's (stride of a bottleneck in its 3x3); form cifar
 *                                     has a 3x3 stride-1 stem and no max-pool
 *   resnet20/32/44/56/110             CIFAR: 16, 32, 64 channels, 1x1 convolution with batch-norm on
 *                                     the shortcut where the shape changes */
#include <stdio.h>

#include "models/models.h"
#include "nn/layers.h"

enum { NAME = 64 };

static const char *join(char buf[NAME], const char *prefix, const char *suffix)
{
    snprintf(buf, NAME, "%s.%s", prefix, suffix);
    return buf;
}

static uint32_t conv_bn(struct graph *g, const char *prefix, int i, uint32_t x, size_t k, size_t r,
                        size_t stride)
{
    char name[NAME], suffix[16];
    snprintf(suffix, sizeof suffix, "conv%d", i);
    x = graph_conv2d(g, join(name, prefix, suffix), x, k, r, stride, r / 2, 0);
    snprintf(suffix, sizeof suffix, "bn%d", i);
    return graph_batch_norm(g, join(name, prefix, suffix), x);
}

static uint32_t shortcut(struct graph *g, const char *prefix, uint32_t x, size_t k, size_t stride)
{
    if (stride == 1 && g->values[x].shape.c == k) {
        return x;
    }
    char name[NAME];
    uint32_t y = graph_conv2d(g, join(name, prefix, "downsample.0"), x, k, 1, stride, 0, 0);
    graph_mark(g, y, STORE_MARK_SHORTCUT);
    return graph_batch_norm(g, join(name, prefix, "downsample.1"), y);
}

static uint32_t add_relu(struct graph *g, const char *prefix, uint32_t y, uint32_t identity)
{
    char name[NAME];
    y = graph_add(g, join(name, prefix, "add"), y, identity);
    return graph_relu(g, join(name, prefix, "relu"), y);
}

static uint32_t basic_block(struct graph *g, const char *prefix, uint32_t x, size_t width,
                            size_t stride)
{
    char name[NAME];
    uint32_t identity = shortcut(g, prefix, x, width, stride);
    uint32_t y = conv_bn(g, prefix, 1, x, width, 3, stride);
    y = graph_relu(g, join(name, prefix, "relu1"), y);
    y = conv_bn(g, prefix, 2, y, width, 3, 1);
    return add_relu(g, prefix, y, identity);
}

/* `inner` channels in the 3x3, `width` at the ends. */
static uint32_t bottleneck(struct graph *g, const char *prefix, uint32_t x, size_t inner,
                           size_t width, size_t stride)
{
    char name[NAME];
    uint32_t identity = shortcut(g, prefix, x, width, stride);
    uint32_t y = conv_bn(g, prefix, 1, x, inner, 1, 1);
    y = graph_relu(g, join(name, prefix, "relu1"), y);
    y = conv_bn(g, prefix, 2, y, inner, 3, stride);
    y = graph_relu(g, join(name, prefix, "relu2"), y);
    y = conv_bn(g, prefix, 3, y, width, 1, 1);
    return add_relu(g, prefix, y, identity);
}

struct plan_of_stages {
    size_t stem;
    size_t n_stages;
    size_t blocks[4];
    size_t width[4];  /* of the block's output; a bottleneck's 3x3 has width / expansion */
    size_t expansion; /* 0: basic blocks */
};

static uint32_t build_stages(struct graph *g, const struct model_config *cfg,
                             const struct plan_of_stages *p)
{
    uint32_t x = 0;
    if (cfg->form == MODEL_IMAGENET) {
        x = graph_conv2d(g, "conv1", x, p->stem, 7, 2, 3, 0);
    } else {
        x = graph_conv2d(g, "conv1", x, p->stem, 3, 1, 1, 0);
    }
    x = graph_batch_norm(g, "bn1", x);
    x = graph_relu(g, "relu", x);
    if (cfg->form == MODEL_IMAGENET) {
        x = graph_max_pool(g, "maxpool", x, 3, 2, 1);
    }
    graph_mark_stem(g);
    for (size_t s = 0; s < p->n_stages; s++) {
        for (size_t b = 0; b < p->blocks[s]; b++) {
            char prefix[48];
            snprintf(prefix, sizeof prefix, "layer%zu.%zu", s + 1, b);
            size_t stride = s > 0 && b == 0 ? 2 : 1;
            x = p->expansion
                    ? bottleneck(g, prefix, x, p->width[s] / p->expansion, p->width[s], stride)
                    : basic_block(g, prefix, x, p->width[s], stride);
            graph_mark(g, x, STORE_MARK_BLOCK_END);
        }
        if (s + 1 < p->n_stages) {
            graph_mark(g, x, STORE_MARK_STAGE_END);
        }
    }
    x = graph_global_avg_pool(g, "avgpool", x);
    return graph_linear(g, "fc", x, cfg->classes);
}

static uint32_t build_basic(struct graph *g, const struct model_config *cfg, size_t b0, size_t b1,
                            size_t b2, size_t b3)
{
    struct plan_of_stages p = {64, 4, {b0, b1, b2, b3}, {64, 128, 256, 512}, 0};
    return build_stages(g, cfg, &p);
}

static uint32_t build_resnet18(struct graph *g, const struct model_config *cfg)
{
    return build_basic(g, cfg, 2, 2, 2, 2);
}

static uint32_t build_resnet34(struct graph *g, const struct model_config *cfg)
{
    return build_basic(g, cfg, 3, 4, 6, 3);
}

static uint32_t build_resnet50(struct graph *g, const struct model_config *cfg)
{
    struct plan_of_stages p = {64, 4, {3, 4, 6, 3}, {256, 512, 1024, 2048}, 4};
    return build_stages(g, cfg, &p);
}

static uint32_t build_wide_resnet50_2(struct graph *g, const struct model_config *cfg)
{
    struct plan_of_stages p = {64, 4, {3, 4, 6, 3}, {256, 512, 1024, 2048}, 2};
    return build_stages(g, cfg, &p);
}

/* 6n + 2 layers. */
static uint32_t build_small(struct graph *g, const struct model_config *cfg, size_t n)
{
    struct plan_of_stages p = {16, 3, {n, n, n}, {16, 32, 64}, 0};
    return build_stages(g, cfg, &p);
}

static uint32_t build_resnet20(struct graph *g, const struct model_config *cfg)
{
    return build_small(g, cfg, 3);
}

static uint32_t build_resnet32(struct graph *g, const struct model_config *cfg)
{
    return build_small(g, cfg, 5);
}

static uint32_t build_resnet44(struct graph *g, const struct model_config *cfg)
{
    return build_small(g, cfg, 7);
}

static uint32_t build_resnet56(struct graph *g, const struct model_config *cfg)
{
    return build_small(g, cfg, 9);
}

static uint32_t build_resnet110(struct graph *g, const struct model_config *cfg)
{
    return build_small(g, cfg, 18);
}

enum { BOTH_FORMS = 1U << MODEL_CIFAR | 1U << MODEL_IMAGENET, CIFAR_ONLY = 1U << MODEL_CIFAR };

const struct model_type model_resnet18 = {
    .pattern = "resnet18",
    .summary = "ResNet-18, torchvision's layout",
    .forms = BOTH_FORMS,
    .build = build_resnet18,
};
const struct model_type model_resnet34 = {
    .pattern = "resnet34",
    .summary = "ResNet-34, torchvision's layout",
    .forms = BOTH_FORMS,
    .build = build_resnet34,
};
const struct model_type model_resnet50 = {
    .pattern = "resnet50",
    .summary = "ResNet-50 v1.5, torchvision's layout (stride in the 3x3)",
    .forms = BOTH_FORMS,
    .build = build_resnet50,
};
const struct model_type model_wide_resnet50_2 = {
    .pattern = "wide_resnet50_2",
    .summary = "ResNet-50 with bottlenecks twice as wide, torchvision's layout",
    .forms = BOTH_FORMS,
    .build = build_wide_resnet50_2,
};
const struct model_type model_resnet20 = {
    .pattern = "resnet20",
    .summary = "CIFAR ResNet of 20 layers, 16/32/64 channels, projection shortcuts",
    .forms = CIFAR_ONLY,
    .build = build_resnet20,
};
const struct model_type model_resnet32 = {
    .pattern = "resnet32",
    .summary = "the same with 32 layers",
    .forms = CIFAR_ONLY,
    .build = build_resnet32,
};
const struct model_type model_resnet44 = {
    .pattern = "resnet44",
    .summary = "the same with 44 layers",
    .forms = CIFAR_ONLY,
    .build = build_resnet44,
};
const struct model_type model_resnet56 = {
    .pattern = "resnet56",
    .summary = "the same with 56 layers",
    .forms = CIFAR_ONLY,
    .build = build_resnet56,
};
const struct model_type model_resnet110 = {
    .pattern = "resnet110",
    .summary = "the same with 110 layers",
    .forms = CIFAR_ONLY,
    .build = build_resnet110,
};
