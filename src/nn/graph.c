#include "nn/graph.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "nn/layer.h"

/* Doubles the capacity of a growing array; contents stay. */
static int grow(void **array, size_t *cap, size_t n, size_t size, struct err *err)
{
    if (n < *cap) {
        return 0;
    }
    size_t cap_new = *cap ? *cap * 2 : 64;
    void *p = mem_realloc(MEM_OTHER, *array, cap_new * size);
    if (!p) {
        return err_nomem(err, "the network's graph", cap_new * size);
    }
    *array = p;
    *cap = cap_new;
    return 0;
}

static uint32_t add_value(struct graph *g, const char *name, struct shape shape, uint32_t producer)
{
    void *values = g->values;
    if (grow(&values, &g->cap_values, g->n_values, sizeof *g->values, &g->err)) {
        return 0;
    }
    g->values = values;
    char *copy = mem_strdup(name);
    if (!copy) {
        err_nomem(&g->err, "the network's graph", strlen(name) + 1);
        return 0;
    }
    g->values[g->n_values] = (struct value){.name = copy, .shape = shape, .producer = producer};
    return (uint32_t)g->n_values++;
}

/* No map of one image may have more elements than this: keeps every later product in range. */
static const size_t max_map_elements = (size_t)1 << 40;

static int check_shape(const struct shape *s, const char *name, struct err *err)
{
    int overflow = 0;
    size_t n = size_mul(size_mul(s->h, s->w, &overflow), s->c, &overflow);
    if (overflow || n > max_map_elements) {
        return err_set(err, ERR_SHAPE,
                       "%s: a map of %zu x %zu pixels and %zu channels is too large", name, s->h,
                       s->w, s->c);
    }
    if (n == 0) {
        return err_set(err, ERR_SHAPE,
                       "%s: nothing is left of the image here (%zu x %zu pixels, %zu channels): "
                       "the network needs larger images",
                       name, s->h, s->w, s->c);
    }
    return 0;
}

int graph_init(struct graph *g, size_t channels, size_t height, size_t width, struct err *err)
{
    *g = (struct graph){0};
    struct shape image = {.n = 1, .h = height, .w = width, .c = channels};
    if (check_shape(&image, "image", err)) {
        return (int)err->code;
    }
    add_value(g, "image", image, GRAPH_NO_LAYER);
    if (g->err.code) {
        *err = g->err;
        graph_fini(g);
        return (int)err->code;
    }
    return 0;
}

void graph_fini(struct graph *g)
{
    if (!g) {
        return;
    }
    for (size_t i = 0; i < g->n_values; i++) {
        mem_free(g->values[i].name);
    }
    for (size_t i = 0; i < g->n_layers; i++) {
        mem_free(g->layers[i]->name);
        mem_free(g->layers[i]);
    }
    for (size_t i = 0; i < g->n_params; i++) {
        mem_free(g->params[i].name);
        mem_free(g->params[i].w);
        mem_free(g->params[i].momentum);
        mem_free(g->params[i].gradient);
    }
    mem_free(g->values);
    mem_free(g->layers);
    mem_free(g->params);
    *g = (struct graph){0};
}

void graph_mark(struct graph *g, uint32_t value, enum store_mark mark)
{
    if (!g->err.code) {
        g->values[value].marks |= mark;
    }
}

void graph_mark_stem(struct graph *g)
{
    for (size_t v = 0; v < g->n_values; v++) {
        graph_mark(g, (uint32_t)v, STORE_MARK_STEM);
    }
}

int graph_finish(struct graph *g, uint32_t output, struct err *err)
{
    if (g->err.code) {
        *err = g->err;
        return (int)err->code;
    }
    const struct shape *s = &g->values[output].shape;
    if (output == 0 || s->h != 1 || s->w != 1) {
        return err_set(err, ERR_SHAPE, "the network's output is %zu x %zu pixels, expected 1 x 1",
                       s->h, s->w);
    }
    g->output = output;
    return 0;
}

void *layer_new(struct graph *g, const struct layer_type *type, size_t bytes, const char *name,
                uint32_t x)
{
    if (g->err.code) {
        return NULL;
    }
    struct layer *l = mem_alloc(MEM_OTHER, bytes);
    char *copy = mem_strdup(name);
    if (!l || !copy) {
        mem_free(l);
        mem_free(copy);
        err_nomem(&g->err, "the network's graph", bytes);
        return NULL;
    }
    l->type = type;
    l->name = copy;
    l->in[0] = x;
    l->n_in = 1;
    return l;
}

uint32_t graph_add_layer(struct graph *g, struct layer *l, struct shape out)
{
    if (!l) {
        return 0;
    }
    void *layers = g->layers;
    if (g->err.code || check_shape(&out, l->name, &g->err) ||
        grow(&layers, &g->cap_layers, g->n_layers, sizeof *g->layers, &g->err)) {
        mem_free(l->name);
        mem_free(l);
        return 0;
    }
    g->layers = layers;
    l->index = (uint32_t)g->n_layers;
    g->layers[g->n_layers++] = l;
    l->out = add_value(g, l->name, out, l->index);
    return l->out;
}

uint32_t graph_add_param(struct graph *g, const char *layer_name, const char *suffix,
                         enum param_layout layout, const size_t *dims, size_t n_dims, int trainable,
                         enum param_init init, double init_value)
{
    void *params = g->params;
    if (g->err.code || grow(&params, &g->cap_params, g->n_params, sizeof *g->params, &g->err)) {
        return 0;
    }
    g->params = params;
    char name[256];
    snprintf(name, sizeof name, "%s.%s", layer_name, suffix);
    if (graph_find_param(g, name)) {
        err_set(&g->err, ERR_CONFIG, "two parameters are named %s", name);
        return 0;
    }
    struct param p = {.layout = layout,
                      .n_dims = n_dims,
                      .n = 1,
                      .trainable = trainable,
                      .init = init,
                      .init_value = init_value};
    int overflow = 0;
    for (size_t i = 0; i < n_dims; i++) {
        p.dims[i] = dims[i];
        p.n = size_mul(p.n, dims[i], &overflow);
    }
    if (overflow || p.n > max_map_elements) {
        err_set(&g->err, ERR_SHAPE, "%s: too many elements", name);
        return 0;
    }
    p.name = mem_strdup(name);
    if (!p.name) {
        err_nomem(&g->err, "the network's graph", strlen(name) + 1);
        return 0;
    }
    g->params[g->n_params] = p;
    return (uint32_t)g->n_params++;
}

struct param *graph_find_param(const struct graph *g, const char *name)
{
    for (size_t i = 0; i < g->n_params; i++) {
        if (strcmp(g->params[i].name, name) == 0) {
            return &g->params[i];
        }
    }
    return NULL;
}

size_t graph_n_weights(const struct graph *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_params; i++) {
        n += g->params[i].trainable ? g->params[i].n : 0;
    }
    return n;
}

size_t graph_param_bytes(const struct graph *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_params; i++) {
        n += g->params[i].n * sizeof(real);
    }
    return n;
}

size_t graph_momentum_bytes(const struct graph *g)
{
    return graph_n_weights(g) * sizeof(real);
}

size_t graph_gradient_bytes(const struct graph *g)
{
    return graph_n_weights(g) * sizeof(real);
}

double graph_macs(const struct graph *g)
{
    double macs = 0;
    for (size_t i = 0; i < g->n_layers; i++) {
        const struct layer *l = g->layers[i];
        if (l->type->macs) {
            macs += l->type->macs(l, &g->values[l->in[0]].shape);
        }
    }
    return macs;
}

int graph_check_batch(const struct graph *g, size_t n, size_t bn_group, struct err *err)
{
    size_t last = bn_group && bn_group < n && n % bn_group ? n % bn_group
                  : bn_group && bn_group < n               ? bn_group
                                                           : n;
    for (size_t i = 0; i < g->n_layers; i++) {
        const struct layer *l = g->layers[i];
        const struct shape *s = &g->values[l->in[0]].shape;
        if (strcmp(l->type->name, "batch_norm") == 0 && last * s->h * s->w < 2) {
            return err_set(err, ERR_CONFIG,
                           "%s: a batch of %zu images leaves a batch-norm group with one value per "
                           "channel, which has no variance: change train.batch_size, "
                           "train.accumulate, train.bn_group or set train.drop_last",
                           l->name, n);
        }
    }
    return 0;
}
