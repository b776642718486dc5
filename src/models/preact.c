/* Pre-activation networks (He et al. 2016): every convolution is preceded by BN and ReLU.
 *
 *   resnet164  CIFAR, 18 bottlenecks per stage, 64/128/256 channels at 32/16/8 pixels; stride in
 *              the first 1x1; the third convolution of every block has a bias; the shortcut is a
 *              plain 1x1 convolution of the raw block input where the width changes (the official
 *              code's network: paper.md section 4.2)
 *   wrn-D-K    Wide ResNet (Zagoruyko and Komodakis 2016): depth D = 6n + 4, widths 16K/32K/64K,
 *              basic blocks; where the width changes BN-ReLU comes before the split, so that the
 *              shortcut convolution reads the activated map. Parameter names as in the common
 *              PyTorch port: conv1, block1.layer.0.bn1, …, bn1, fc */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/models.h"
#include "nn/layers.h"

enum { NAME = 64 };

static const char *join(char buf[NAME], const char *prefix, const char *suffix)
{
    snprintf(buf, NAME, "%s.%s", prefix, suffix);
    return buf;
}

static uint32_t bn_relu(struct graph *g, const char *prefix, const char *i, uint32_t x)
{
    char name[NAME], suffix[16];
    snprintf(suffix, sizeof suffix, "bn%s", i);
    x = graph_batch_norm(g, prefix ? join(name, prefix, suffix) : suffix, x);
    snprintf(suffix, sizeof suffix, "relu%s", i);
    return graph_relu(g, prefix ? join(name, prefix, suffix) : suffix, x);
}

/* --- ResNet-164 ----------------------------------------------------------------------------- */

static uint32_t bottleneck164(struct graph *g, const char *prefix, uint32_t x, size_t width,
                              size_t stride)
{
    char name[NAME];
    uint32_t identity = x;
    if (g->values[x].shape.c != width) {
        identity = graph_conv2d(g, join(name, prefix, "downsample.0"), x, width, 1, stride, 0, 0);
        graph_mark(g, identity, STORE_MARK_SHORTCUT);
    }
    uint32_t y = bn_relu(g, prefix, "1", x);
    y = graph_conv2d(g, join(name, prefix, "conv1"), y, width / 4, 1, stride, 0, 0);
    y = bn_relu(g, prefix, "2", y);
    y = graph_conv2d(g, join(name, prefix, "conv2"), y, width / 4, 3, 1, 1, 0);
    y = bn_relu(g, prefix, "3", y);
    y = graph_conv2d(g, join(name, prefix, "conv3"), y, width, 1, 1, 0, 1);
    return graph_add(g, join(name, prefix, "add"), y, identity);
}

static uint32_t build_resnet164(struct graph *g, const struct model_config *cfg)
{
    uint32_t x = graph_conv2d(g, "conv1", 0, 16, 3, 1, 1, 0);
    graph_mark_stem(g);
    for (size_t s = 0; s < 3; s++) {
        for (size_t b = 0; b < 18; b++) {
            char prefix[48];
            snprintf(prefix, sizeof prefix, "layer%zu.%zu", s + 1, b);
            x = bottleneck164(g, prefix, x, (size_t)64 << s, s > 0 && b == 0 ? 2 : 1);
            graph_mark(g, x, STORE_MARK_BLOCK_END);
        }
        if (s < 2) {
            graph_mark(g, x, STORE_MARK_STAGE_END);
        }
    }
    x = bn_relu(g, NULL, "1", x);
    x = graph_global_avg_pool(g, "avgpool", x);
    return graph_linear(g, "fc", x, cfg->classes);
}

const struct model_type model_resnet164 = {
    .pattern = "resnet164",
    .summary = "CIFAR pre-activation ResNet of 164 layers, bottlenecks",
    .forms = 1U << MODEL_CIFAR,
    .build = build_resnet164,
};

/* --- Wide ResNet ---------------------------------------------------------------------------- */

/* "wrn-28-10" -> depth 28, width 10. False unless D = 6n + 4 with n >= 1 and 1 <= K <= 64. */
static int parse_wrn(const char *name, size_t *blocks, size_t *width)
{
    if (strncmp(name, "wrn-", 4) != 0) {
        return 0;
    }
    char *end;
    const char *p = name + 4;
    if (*p < '1' || *p > '9') {
        return 0;
    }
    unsigned long depth = strtoul(p, &end, 10);
    if (*end != '-' || end[1] < '1' || end[1] > '9') {
        return 0;
    }
    unsigned long k = strtoul(end + 1, &end, 10);
    if (*end != '\0' || depth < 10 || depth > 1000 || (depth - 4) % 6 != 0 || k > 64) {
        return 0;
    }
    *blocks = (depth - 4) / 6;
    *width = k;
    return 1;
}

static int matches_wrn(const char *name)
{
    size_t blocks, width;
    return parse_wrn(name, &blocks, &width);
}

static uint32_t wide_block(struct graph *g, const char *prefix, uint32_t x, size_t width,
                           size_t stride, double dropout)
{
    char name[NAME];
    int widens = g->values[x].shape.c != width || stride != 1;
    uint32_t identity = x;
    uint32_t y = bn_relu(g, prefix, "1", x);
    if (widens) {
        identity = graph_conv2d(g, join(name, prefix, "convShortcut"), y, width, 1, stride, 0, 0);
        graph_mark(g, identity, STORE_MARK_SHORTCUT);
    }
    y = graph_conv2d(g, join(name, prefix, "conv1"), y, width, 3, stride, 1, 0);
    y = bn_relu(g, prefix, "2", y);
    y = graph_dropout(g, join(name, prefix, "dropout"), y, dropout);
    y = graph_conv2d(g, join(name, prefix, "conv2"), y, width, 3, 1, 1, 0);
    return graph_add(g, join(name, prefix, "add"), y, identity);
}

static uint32_t build_wrn(struct graph *g, const struct model_config *cfg)
{
    size_t blocks = 0, width = 0;
    parse_wrn(cfg->name, &blocks, &width);
    uint32_t x = graph_conv2d(g, "conv1", 0, 16, 3, 1, 1, 0);
    graph_mark_stem(g);
    for (size_t s = 0; s < 3; s++) {
        for (size_t b = 0; b < blocks; b++) {
            char prefix[48];
            snprintf(prefix, sizeof prefix, "block%zu.layer.%zu", s + 1, b);
            x = wide_block(g, prefix, x, (16 * width) << s, s > 0 && b == 0 ? 2 : 1, cfg->dropout);
            graph_mark(g, x, STORE_MARK_BLOCK_END);
        }
        if (s < 2) {
            graph_mark(g, x, STORE_MARK_STAGE_END);
        }
    }
    x = bn_relu(g, NULL, "1", x);
    x = graph_global_avg_pool(g, "avgpool", x);
    return graph_linear(g, "fc", x, cfg->classes);
}

const struct model_type model_wrn = {
    .pattern = "wrn-D-K",
    .summary = "Wide ResNet for CIFAR, depth D = 6n + 4 and width K, optional dropout",
    .forms = 1U << MODEL_CIFAR,
    .has_dropout = 1,
    .matches = matches_wrn,
    .build = build_wrn,
};
