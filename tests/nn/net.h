/* Small networks on made-up images, for the tests of nn/. */
#ifndef TESTS_NN_NET_H
#define TESTS_NN_NET_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "nn/exec.h"
#include "nn/layers.h"
#include "store/store.h"

#define NET_MAX_PARAMS 1024

struct net {
    struct graph graph;
    struct kernels kernels;
    struct store store;
    struct exec exec;
    struct tensor images;
    uint32_t labels[256];
    real *grad[NET_MAX_PARAMS]; /* collected by the gradient hook */
    size_t n;
};

typedef uint32_t net_builder(struct graph *g); /* returns the logits */

static inline void net_collect(void *ctx, struct param *p, const real *dw)
{
    struct net *net = ctx;
    size_t i = (size_t)(p - net->graph.params);
    memcpy(net->grad[i], dw, p->n * sizeof(real));
}

struct net_options {
    const struct store_policy *policy; /* NULL: by name */
    const char *policy_name;           /* default "normal" */
    const char *isa;                   /* default "ref" */
    struct store_params params;        /* zero: defaults */
    size_t n, bn_group, channels, size;
    double smoothing;
    int poison, unchained;
    int n_threads; /* 0: one thread */
};

static inline void net_images(struct net *net, size_t n, size_t size, size_t channels,
                              size_t classes)
{
    struct shape s = {.n = n, .h = size, .w = size, .c = channels};
    struct rng rng = rng_make(7, RNG_TEST, 0, 99);
    real *data = mem_alloc(MEM_DATA, shape_bytes(&s));
    for (size_t i = 0; i < shape_elements(&s); i++) {
        data[i] = (real)rng_normal(&rng, i);
    }
    for (size_t i = 0; i < n; i++) {
        net->labels[i] = (uint32_t)((i * 7 + 1) % classes);
    }
    net->images = tensor_view(data, s);
}

static inline void net_init(struct net *net, net_builder *build, const struct net_options *o)
{
    struct err err = {0};
    memset(net, 0, sizeof *net);
    net->n = o->n;
    int threads = o->n_threads ? o->n_threads : 1;
    size_t channels = o->channels ? o->channels : 3, size = o->size ? o->size : 8;
    ck_assert_msg(graph_init(&net->graph, channels, size, size, &err) == 0, "%s", err.msg);
    uint32_t logits = build(&net->graph);
    ck_assert_msg(graph_finish(&net->graph, logits, &err) == 0, "%s", err.msg);
    ck_assert_msg(graph_alloc_params(&net->graph, &err) == 0, "%s", err.msg);
    graph_init_params(&net->graph, 3);
    ck_assert(net->graph.n_params <= NET_MAX_PARAMS);
    /* Batch-norm starts at weight 1, bias 0: too special for a test. */
    for (size_t i = 0; i < net->graph.n_params; i++) {
        struct param *p = &net->graph.params[i];
        struct rng rng = rng_make(11, RNG_TEST, 0, (uint32_t)i);
        net->grad[i] = mem_calloc(MEM_OTHER, p->n, sizeof(real));
        for (size_t e = 0; p->trainable && p->layout == PARAM_VECTOR && e < p->n; e++) {
            p->w[e] += (real)(0.3 * (rng_uniform(&rng, e) - 0.5));
        }
    }
    ck_assert_msg(kernels_fill(&net->kernels, o->isa ? o->isa : "ref", &err) == 0, "%s", err.msg);
    const struct store_policy *policy =
        o->policy ? o->policy : store_policy_find(o->policy_name ? o->policy_name : "normal");
    struct store_params params = o->params.bits ? o->params : store_params_of(policy);
    int rc = o->policy
                 ? store_open_policy(&net->store, o->policy, &params, &net->kernels, threads, &err)
                 : store_open(&net->store, o->policy_name ? o->policy_name : "normal", &params,
                              &net->kernels, threads, &err);
    ck_assert_msg(rc == 0, "%s", err.msg);
    net_images(net, o->n, size, channels, net->graph.values[net->graph.output].shape.c);
    struct exec_config ec = {.graph = &net->graph,
                             .store = &net->store,
                             .kernels = &net->kernels,
                             .n_threads = threads,
                             .batch_size = o->n,
                             .eval_batch_size = o->n,
                             .bn_group = o->bn_group,
                             .seed = 5,
                             .label_smoothing = o->smoothing,
                             .unchained = o->unchained,
                             .poison = o->poison};
    ck_assert_msg(exec_init(&net->exec, &ec, &err) == 0, "%s", err.msg);
    net->exec.hooks = (struct exec_hooks){.ctx = net, .gradient = net_collect};
}

static inline void net_fini(struct net *net)
{
    exec_fini(&net->exec);
    store_close(&net->store);
    for (size_t i = 0; i < net->graph.n_params; i++) {
        mem_free(net->grad[i]);
    }
    graph_fini(&net->graph);
    mem_free(net->images.data);
}

/* Mean loss of one training step on the first n images. */
static inline double net_loss_n(struct net *net, uint64_t step, size_t n)
{
    struct err err = {0};
    struct loss_result r;
    struct tensor images = net->images;
    images.shape.n = n;
    ck_assert_msg(exec_train(&net->exec, &images, net->labels, step, &r, &err) == 0, "%s", err.msg);
    return r.loss_sum / (double)n;
}

static inline double net_loss(struct net *net, uint64_t step)
{
    return net_loss_n(net, step, net->n);
}

#endif
