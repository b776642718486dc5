/* Plan, ledger and executor: they agree on every byte, buffers never overlap while both live, the
 * step allocates nothing, and policies of every kind fit through the interface. */
#include <check.h>
#include <math.h>
#include <stdio.h>

#include "base/threads.h"
#include "models/models.h"
#include "tests/nn/net.h"

#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif

/* --- networks ------------------------------------------------------------------------------- */

static uint32_t post_activation(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "stem", 0, 16, 3, 1, 1, 0);
    x = graph_relu(g, "stem.relu", graph_batch_norm(g, "stem.bn", x));
    x = graph_max_pool(g, "pool", x, 3, 2, 1);
    graph_mark_stem(g);
    uint32_t y = graph_conv2d(g, "1.a", x, 16, 3, 1, 1, 0);
    y = graph_relu(g, "1.r", graph_batch_norm(g, "1.bn", y));
    y = graph_batch_norm(g, "1.bn2", graph_conv2d(g, "1.b", y, 16, 3, 1, 1, 0));
    x = graph_relu(g, "1.out", graph_add(g, "1.add", y, x));
    graph_mark(g, x, STORE_MARK_BLOCK_END);
    graph_mark(g, x, STORE_MARK_STAGE_END);
    uint32_t id = graph_batch_norm(g, "2.id.bn", graph_conv2d(g, "2.id", x, 32, 1, 2, 0, 0));
    y = graph_conv2d(g, "2.a", x, 32, 3, 2, 1, 0);
    y = graph_relu(g, "2.r", graph_batch_norm(g, "2.bn", y));
    y = graph_batch_norm(g, "2.bn2", graph_conv2d(g, "2.b", y, 32, 3, 1, 1, 0));
    x = graph_relu(g, "2.out", graph_add(g, "2.add", y, id));
    return graph_linear(g, "fc", graph_global_avg_pool(g, "gap", x), 5);
}

static uint32_t pre_activation(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "stem", 0, 16, 3, 1, 1, 0);
    for (int i = 0; i < 3; i++) {
        char name[5][16];
        for (int j = 0; j < 5; j++) {
            snprintf(name[j], sizeof name[j], "%d.%d", i, j);
        }
        uint32_t y = graph_relu(g, name[1], graph_batch_norm(g, name[0], x));
        y = graph_dropout(g, name[2], y, 0.2);
        y = graph_conv2d(g, name[3], y, 16, 3, 1, 1, 1);
        x = graph_add(g, name[4], y, x);
        graph_mark(g, x, STORE_MARK_BLOCK_END);
    }
    x = graph_relu(g, "last.r", graph_batch_norm(g, "last", x));
    x = graph_avg_pool(g, "avg", x, 2, 2, 0);
    return graph_linear(g, "fc", graph_global_avg_pool(g, "gap", x), 5);
}

static net_builder *const networks[] = {post_activation, pre_activation};

/* CIFAR ResNet-18, for the test of gradients under 8 bits. */
static uint32_t resnet18(struct graph *g)
{
    struct model_config cfg = {.name = "resnet18", .form = MODEL_CIFAR, .classes = 10};
    return model_find(cfg.name)->build(g, &cfg);
}
enum { N_NETWORKS = sizeof networks / sizeof *networks };

/* --- policies of this test ------------------------------------------------------------------ */

static const char *const no_keys[] = {NULL};

/* Keeps what convolutions make and recomputes everything else that can be. */
static void recompute_plan(const struct store *s, const struct store_map *map,
                           struct store_choice *choice)
{
    (void)s;
    int keep = !map->can_recompute || strcmp(map->producer, "conv2d") == 0 ||
               strcmp(map->producer, "add") == 0 || strcmp(map->producer, "max_pool") == 0;
    *choice = (struct store_choice){.action = keep ? STORE_REFERENCE : STORE_RECOMPUTE};
}

static const struct store_policy recompute = {
    .name = "recompute", .keys = no_keys, .exact = 1, .unbiased = 1, .plan = recompute_plan};

/* Copies late, as a policy with I/O in flight would: encode only remembers the source, settle (or
 * the buffer's end) makes the copy, prefetch already fills the restored map. */
struct late {
    const struct tensor *pending_x[256];
    struct tensor x[256];
    void *slot[256];
    size_t n_settled, n_prefetched, n_decoded;
};

static struct late late_state;

static void late_plan(const struct store *s, const struct store_map *map,
                      struct store_choice *choice)
{
    (void)s;
    size_t bytes = shape_bytes(&map->shape);
    *choice = (struct store_choice){.action = STORE_ENCODE, .bytes = bytes, .lead = 4};
    choice->pieces[STORE_PIECE_MAPS] = bytes;
}

static size_t late_encode(struct store *s, const struct store_map *map, const struct tensor *x,
                          const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    (void)s, (void)rng, (void)cap, (void)workspace;
    late_state.x[map->id] = *x;
    late_state.slot[map->id] = slot;
    return shape_bytes(&map->shape);
}

static int late_settle(struct store *s, const struct store_map *map, struct err *err)
{
    (void)s, (void)err;
    const struct tensor *x = &late_state.x[map->id];
    memcpy(late_state.slot[map->id], x->data, shape_bytes(&x->shape));
    late_state.n_settled++;
    return 0;
}

static int late_prefetch(struct store *s, const struct store_map *map, struct tensor *out,
                         struct err *err)
{
    (void)s, (void)err;
    memcpy(out->data, late_state.slot[map->id], shape_bytes(&map->shape));
    late_state.n_prefetched++;
    return 0;
}

static void late_decode(struct store *s, const struct store_map *map, const void *slot,
                        const struct codec_block *block, struct tensor *out, void *workspace)
{
    (void)s, (void)block, (void)workspace;
    ck_assert_msg(memcmp(out->data, slot, shape_bytes(&map->shape)) == 0,
                  "%s: what was prefetched is gone before it is decoded", map->name);
    late_state.n_decoded++;
}

static const struct store_policy late = {.name = "late",
                                         .keys = no_keys,
                                         .exact = 1,
                                         .unbiased = 1,
                                         .plan = late_plan,
                                         .encode = late_encode,
                                         .decode = late_decode,
                                         .settle = late_settle,
                                         .prefetch = late_prefetch};

/* Maps in a pool, of which every second takes half its share (the upper 16 bits of each value), as
 * an adaptive policy might. */
static void pooled_plan(const struct store *s, const struct store_map *map,
                        struct store_choice *choice)
{
    (void)s;
    size_t bytes = (shape_bytes(&map->shape) + 63) / 64 * 64;
    *choice = (struct store_choice){.action = STORE_ENCODE, .bytes = bytes, .pooled = 1};
    choice->pieces[STORE_PIECE_CODES] = bytes;
}

static size_t pooled_encode(struct store *s, const struct store_map *map, const struct tensor *x,
                            const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    (void)s, (void)rng, (void)workspace;
    size_t n = shape_elements(&x->shape), bytes = n * (map->id % 2 ? 4 : 2);
    ck_assert_uint_le(bytes, cap);
    for (size_t i = 0; i < n; i++) {
        memcpy((char *)slot + i * bytes / n, (const char *)&x->data[i] + 4 - bytes / n, bytes / n);
    }
    return bytes;
}

static void pooled_decode(struct store *s, const struct store_map *map, const void *slot,
                          const struct codec_block *block, struct tensor *out, void *workspace)
{
    (void)s, (void)block, (void)workspace;
    size_t n = shape_elements(&map->shape), each = map->id % 2 ? 4 : 2;
    memset(out->data, 0, n * sizeof(real));
    for (size_t i = 0; i < n; i++) {
        memcpy((char *)&out->data[i] + 4 - each, (const char *)slot + i * each, each);
    }
}

static const struct store_policy pooled = {.name = "pooled",
                                           .keys = no_keys,
                                           .plan = pooled_plan,
                                           .encode = pooled_encode,
                                           .decode = pooled_decode};

#define REBUILD .block = 8, .bits = 2, .stochastic = 1, .rebuild_bn = 1

#define ACTNN .bits = 2, .stochastic = 1

static const struct net_options policies[] = {
    {.policy_name = "normal"},
    {.policy_name = "fixed"},
    {.policy_name = "division"},
    {.policy = &recompute},
    {.policy = &late},
    {.policy = &pooled},
    {.policy_name = "normal", .params = {REBUILD}},
    {.policy_name = "normal", .params = {REBUILD, .derived_mask = 1}},
    {.policy_name = "checkpoint"},
    {.policy_name = "checkpoint",
     .params = {.bits = 2, .block = 8, .segments = STORE_SEGMENTS_BLOCK}},
    {.policy_name = "division", .params = {REBUILD}},
    {.policy_name = "division", .params = {REBUILD, .derived_mask = 1, .unshared = 1}},
    {.policy_name = "blpa"},
    {.policy_name = "swap"},
    {.policy_name = "swap", .params = {REBUILD, .unshared = 1}},
    {.policy_name = "actnn", .params = {ACTNN, .adapt = STORE_ADAPT_SAMPLE}},
    {.policy_name = "actnn", .params = {ACTNN, .adapt = STORE_ADAPT_SAMPLE, .unshared = 1}},
    {.policy_name = "acgc"},
    {.policy_name = "fixed", .params = {.bits = 2, .stochastic = 1, .rebuild_bn = 1}},
};
enum { N_POLICIES = sizeof policies / sizeof *policies };

static int is_adaptive(int i)
{
    const char *name = policies[i % N_POLICIES].policy_name;
    return name && strcmp(name, "acgc") == 0;
}

/* A pool is planned in full. */
static void open_net(struct net *net, int i, size_t n, size_t bn_group)
{
    struct net_options o = policies[i % N_POLICIES];
    o.n = n;
    o.bn_group = bn_group;
    o.size = 16;
    o.poison = 1;
    net_init(net, networks[i / N_POLICIES], &o);
}

/* --- tests ---------------------------------------------------------------------------------- */

START_TEST(plan_and_ledger_agree)
{
    struct net net;
    struct mem_count before, after;
    open_net(&net, _i, 6, 0);
    mem_peak_reset();
    mem_count_get(&before);
    for (uint64_t step = 0; step < 3; step++) {
        net_loss(&net, step);
    }
    mem_count_get(&after);
    size_t live_peak = after.live_peak_bytes - before.live_bytes;
    if (net.exec.train.pool != PLAN_NONE) { /* a pool is planned in full */
        ck_assert_uint_le(live_peak, net.exec.train.peak_bytes);
        ck_assert_uint_lt(net.exec.saved_bytes, net.exec.train.saved_bytes);
    } else {
        ck_assert_uint_eq(live_peak, net.exec.train.peak_bytes);
        ck_assert_uint_eq(net.exec.saved_bytes, net.exec.train.saved_bytes);
        for (int i = 0; i < STORE_N_PIECES; i++) {
            ck_assert_uint_eq(net.exec.saved_pieces[i], net.exec.train.saved_pieces[i]);
        }
    }
    ck_assert_uint_eq(after.live_bytes, before.live_bytes);
    ck_assert_uint_eq(net.exec.vault.bytes, 0);
    ck_assert(net.exec.train.arena_bytes >= net.exec.train.peak_bytes);
    net_fini(&net);
}
END_TEST

START_TEST(a_step_allocates_nothing)
{
    struct net net;
    struct mem_count before, after;
    open_net(&net, _i, 4, 0);
    mem_count_get(&before);
    net_loss(&net, 0);
    net_loss_n(&net, 1, 3);
    mem_count_get(&after);
    ck_assert_uint_eq(after.n_allocs, before.n_allocs);
    net_fini(&net);
}
END_TEST

START_TEST(live_buffers_never_overlap)
{
    struct net net;
    open_net(&net, _i, 4, 0);
    const struct plan *p = &net.exec.train;
    for (size_t i = 0; i < p->n_buffers; i++) {
        const struct plan_buffer *a = &p->buffers[i];
        ck_assert_uint_eq(a->offset % 64, 0);
        ck_assert(a->offset + a->bytes <= p->arena_bytes);
        for (size_t j = 0; j < i; j++) {
            const struct plan_buffer *b = &p->buffers[j];
            int both_live = a->first <= b->last && b->first <= a->last;
            int overlap = a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
            ck_assert(!both_live || !overlap);
        }
    }
    net_fini(&net);
}
END_TEST

/* A smaller batch through the plan of the larger one gives what a plan of its own gives. */
START_TEST(smaller_batch_same_result)
{
    struct net big, small;
    open_net(&big, _i, 7, 3);
    open_net(&small, _i, 5, 3);
    net_loss(&big, 0);
    double a = net_loss_n(&big, 1, 5);
    size_t saved = big.exec.saved_bytes;
    net_loss(&small, 0);
    double b = net_loss_n(&small, 1, 5);
    ck_assert(a == b);
    /* What adapts has learnt from other images. */
    ck_assert(is_adaptive(_i) || saved == small.exec.saved_bytes);
    for (size_t i = 0; i < big.graph.n_params && !is_adaptive(_i); i++) {
        size_t bytes = big.graph.params[i].n * sizeof(real);
        if (big.graph.params[i].trainable) {
            ck_assert_mem_eq(big.grad[i], small.grad[i], bytes);
        }
    }
    net_loss(&big, 2); /* and back to the full batch */
    net_fini(&big);
    net_fini(&small);
}
END_TEST

enum { N_EXACT = 8 };
/* Exact policies change no bit of any gradient. */
START_TEST(exact_policies_equal_normal)
{
    struct net normal, other;
    static const int exact[N_EXACT] = {3, 4, 6, 7, 8, 9, 13, 14};
    int network = _i / N_EXACT, policy = exact[_i % N_EXACT];
    open_net(&normal, network * N_POLICIES, 4, 0);
    open_net(&other, network * N_POLICIES + policy, 4, 0);
    memset(&late_state, 0, sizeof late_state);
    for (uint64_t step = 0; step < 2; step++) {
        ck_assert(net_loss(&normal, step) == net_loss(&other, step));
        for (size_t i = 0; i < normal.graph.n_params; i++) {
            if (normal.graph.params[i].trainable) {
                ck_assert_mem_eq(normal.grad[i], other.grad[i],
                                 normal.graph.params[i].n * sizeof(real));
            }
        }
    }
    if (policy == 4) {
        ck_assert(late_state.n_settled > 0);
        ck_assert(late_state.n_prefetched > 0);
        ck_assert_uint_eq(late_state.n_decoded % 2, 0);
    }
    net_fini(&normal);
    net_fini(&other);
}
END_TEST

START_TEST(recompute_saves_memory)
{
    struct net normal, other;
    open_net(&normal, _i * N_POLICIES, 4, 0);
    open_net(&other, _i * N_POLICIES + 3, 4, 0);
    ck_assert(other.exec.train.saved_bytes < normal.exec.train.saved_bytes);
    net_fini(&normal);
    net_fini(&other);
}
END_TEST

/* Runs step 1; true if loss and all gradients have the bits of `right` (filled if `fill`). */
static int same_as(struct net *net, double *loss, real **right, int fill)
{
    double now = net_loss(net, 1);
    int same = fill || now == *loss;
    *loss = fill ? now : *loss;
    for (size_t i = 0; i < net->graph.n_params; i++) {
        const struct param *p = &net->graph.params[i];
        size_t bytes = p->trainable ? p->n * sizeof(real) : 0;
        if (fill) {
            right[i] = mem_alloc(MEM_OTHER, bytes);
            memcpy(right[i], net->grad[i], bytes);
        }
        same = same && memcmp(right[i], net->grad[i], bytes) == 0;
    }
    return same;
}

/* Does a step of backward read it? (Some are kept although none does: nn/plan_backward.c.) */
static int is_read_late(const struct plan *p, int buffer)
{
    for (size_t i = p->loss_step + 1; i < p->n_steps; i++) {
        const struct plan_step *s = &p->steps[i];
        if (s->x[0] == buffer || s->x[1] == buffer || s->y == buffer) {
            return 1;
        }
    }
    return 0;
}

/* A life that ends too early must not go unnoticed: kept values that die before backward change
 * the gradients of a poisoned run. The address sanitizer ends it at the first read. */
START_TEST(a_shortened_life_is_noticed)
{
    struct net net;
    double loss;
    real *right[NET_MAX_PARAMS];
    struct err err = {0};
    open_net(&net, 0, 4, 0);
    struct plan *p = &net.exec.train;
    same_as(&net, &loss, right, 1);
    size_t tried = 0;
    for (size_t b = 0; b < p->n_buffers; b++) {
        struct plan_buffer *buf = &p->buffers[b];
        size_t last = buf->last;
        if (buf->kind != PLAN_VALUE || last <= p->loss_step || !is_read_late(p, (int)b)) {
            continue;
        }
        buf->last = p->loss_step;
        mem_free(p->order);
        ck_assert(plan_pack(p, &err) == 0);
        ck_assert_msg(!same_as(&net, &loss, right, 0), "%s", net.graph.values[buf->owner].name);
        buf->last = last;
        tried++;
    }
    ck_assert_uint_gt(tried, 3);
    mem_free(p->order);
    ck_assert(plan_pack(p, &err) == 0);
    ck_assert(same_as(&net, &loss, right, 0));
    for (size_t i = 0; i < net.graph.n_params; i++) {
        mem_free(right[i]);
    }
    net_fini(&net);
}
END_TEST

/* Chains of steps change no bit, nor what is kept. */
START_TEST(chains_equal_single_steps)
{
    struct net_options o = policies[_i % N_POLICIES];
    struct net nets[2];
    struct loss_result evaluated[2];
    struct err err = {0};
    double loss[2];
    size_t n_chains = 0, n_convs = 0, n_fused[2] = {0};
    o.n = 6;
    o.size = 16;
    o.isa = "auto";
    o.bn_group = 4; /* the second group is smaller */
    o.n_threads = 2;
    for (int u = 0; u < 2; u++) {
        o.unchained = u;
        net_init(&nets[u], networks[_i / N_POLICIES], &o);
        threads_set(2);
        net_loss(&nets[u], 3);
        loss[u] = net_loss(&nets[u], 4);
        ck_assert(exec_evaluate(&nets[u].exec, &nets[u].images, nets[u].labels, NULL, &evaluated[u],
                                &err) == 0);
    }
    ck_assert(evaluated[0].loss_sum == evaluated[1].loss_sum);
    for (int u = 0; u < 2; u++) {
        for (size_t i = 0; i < nets[u].exec.train.n_steps; i++) {
            n_fused[u] += nets[u].exec.train.steps[i].relu != PLAN_NONE;
        }
    }
    ck_assert_uint_eq(n_fused[1], 0);
    ck_assert(n_fused[0] > 0 || nets[0].store.policy->observe); /* adaptive ones see between */
    for (size_t i = 0; i < nets[0].exec.train.n_steps; i++) {
        const struct plan_step *s = &nets[0].exec.train.steps[i];
        const int is_layer = s->kind == PLAN_FORWARD && s->n_chain > 1;
        n_chains += s->n_chain > 1;
        n_convs += is_layer && strcmp(nets[0].graph.layers[s->layer]->type->name, "conv2d") == 0;
    }
    ck_assert_uint_gt(n_chains, 0);
    /* A convolution and the sums of its output, unless a code that takes the whole batch comes between,
     * or all that there is is ref. */
    if (!o.policy && strcmp(o.policy_name, "normal") == 0) {
        ck_assert(n_convs > 0 || nets[0].exec.cfg.kernels->conv.lanes == 0);
    }
    ck_assert(loss[0] == loss[1]);
    ck_assert_uint_eq(nets[0].exec.saved_bytes, nets[1].exec.saved_bytes);
    for (size_t i = 0; i < nets[0].graph.n_params; i++) {
        const struct param *p = &nets[0].graph.params[i];
        if (p->trainable) {
            ck_assert_mem_eq(nets[0].grad[i], nets[1].grad[i], p->n * sizeof(real));
        } else { /* running statistics */
            ck_assert_mem_eq(p->w, nets[1].graph.params[i].w, p->n * sizeof(real));
        }
    }
    net_fini(&nets[0]);
    net_fini(&nets[1]);
}
END_TEST

/* Maps that are there run by run alone, one for each thread: the same bits, in less memory; with a
 * smaller batch too, and where there are fewer runs than threads. */
START_TEST(local_maps_equal_whole_ones)
{
    struct net_options o = {.n = 8, .size = 32, .isa = "auto", .n_threads = 2, .poison = 1};
    static const size_t batches[] = {8, 5, 1};
    struct net nets[2];
    size_t n_local[2] = {0};
    o.policy_name = _i == 1 ? "fixed" : "division";
    o.params = store_params_default();
    o.params.rebuild_bn = _i == 2;
    o.bn_group = _i == 1 ? 3 : 0;
    threads_set(2);
    for (int u = 0; u < 2; u++) {
        o.unchained = u;
        net_init(&nets[u], resnet18, &o);
        for (size_t i = 0; i < nets[u].exec.train.n_buffers; i++) {
            n_local[u] += nets[u].exec.train.buffers[i].local > 0;
        }
    }
    ck_assert_uint_gt(n_local[0], 10);
    ck_assert_uint_eq(n_local[1], 0);
    ck_assert_uint_le(nets[0].exec.train.peak_bytes, nets[1].exec.train.peak_bytes);
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        ck_assert(net_loss_n(&nets[0], b, batches[b]) == net_loss_n(&nets[1], b, batches[b]));
        for (size_t i = 0; i < nets[0].graph.n_params; i++) {
            ck_assert_mem_eq(nets[0].grad[i], nets[1].grad[i],
                             nets[0].graph.params[i].n * sizeof(real));
        }
    }
    net_fini(&nets[0]);
    net_fini(&nets[1]);
}
END_TEST

START_TEST(same_seed_same_bits_for_any_number_of_threads)
{
    struct net_options o = policies[_i % N_POLICIES];
    o.n = 6;
    o.size = 16;
    o.isa = "auto";
    enum { MOST = 4 };
    double loss[MOST];
    real *kept[MOST][NET_MAX_PARAMS] = {{0}};
    struct net nets[MOST];
    for (int t = 0; t < MOST; t++) {
        o.n_threads = t + 1;
        net_init(&nets[t], networks[_i / N_POLICIES], &o);
        threads_set(t + 1);
        loss[t] = net_loss(&nets[t], 4);
        memcpy(kept[t], nets[t].grad, sizeof kept[t]);
    }
    for (int t = 1; t < MOST; t++) {
        ck_assert(loss[t] == loss[0]);
        for (size_t i = 0; i < nets[0].graph.n_params; i++) {
            if (nets[0].graph.params[i].trainable) {
                ck_assert_mem_eq(kept[t][i], kept[0][i], nets[0].graph.params[i].n * sizeof(real));
            }
        }
    }
    for (int t = 0; t < MOST; t++) {
        net_fini(&nets[t]);
    }
}
END_TEST

/* With 8 bits the lossy policies' gradients point where normal's do. */
START_TEST(eight_bits_keep_the_gradient)
{
    static const char *const names[] = {"fixed", "division"};
    net_builder *build = _i / 2 < N_NETWORKS ? networks[_i / 2] : resnet18;
    struct net_options o = {.n = 8, .size = build == resnet18 ? 32 : 16, .isa = "auto"};
    struct net normal, lossy;
    net_init(&normal, build, &o);
    o.policy_name = names[_i % 2];
    o.params = store_params_default();
    o.params.bits = 8;
    net_init(&lossy, build, &o);
    net_loss(&normal, 0);
    net_loss(&lossy, 0);
    for (size_t i = 0; i < normal.graph.n_params; i++) {
        const struct param *p = &normal.graph.params[i];
        double ab = 0, aa = 0, bb = 0;
        for (size_t e = 0; p->layout != PARAM_VECTOR && e < p->n; e++) {
            ab += (double)normal.grad[i][e] * (double)lossy.grad[i][e];
            aa += (double)normal.grad[i][e] * (double)normal.grad[i][e];
            bb += (double)lossy.grad[i][e] * (double)lossy.grad[i][e];
        }
        if (p->layout != PARAM_VECTOR) {
            ck_assert_msg(ab / sqrt(aa * bb) >= 0.999, "%s: cosine %g", p->name,
                          ab / sqrt(aa * bb));
        }
    }
    net_fini(&normal);
    net_fini(&lossy);
}
END_TEST

/* Squared error of the weights' gradients in a first step, relative to their squares. */
static double gradient_error(const struct net *exact, struct net_options o)
{
    struct net lossy;
    double error = 0, square = 0;
    net_init(&lossy, resnet18, &o);
    net_loss(&lossy, 0);
    for (size_t i = 0; i < exact->graph.n_params; i++) {
        const struct param *p = &exact->graph.params[i];
        for (size_t e = 0; p->layout != PARAM_VECTOR && e < p->n; e++) {
            const double right = (double)exact->grad[i][e], d = (double)lossy.grad[i][e] - right;
            error += d * d;
            square += right * right;
        }
    }
    net_fini(&lossy);
    return error / square;
}

/* A convolution's input that is rebuilt from the batch-norm's is no worse than one of as many bits
 * that is saved: the exact signs go into the code. */
START_TEST(rebuilt_inputs_are_as_good_as_saved_ones)
{
    static const char *const names[] = {"fixed", "division"};
    struct net_options o = {.n = 8, .size = 32, .isa = "auto"};
    struct net exact;
    net_init(&exact, resnet18, &o);
    net_loss(&exact, 0);
    o.policy_name = names[_i];
    o.params = store_params_default();
    const double saved = gradient_error(&exact, o);
    o.params.rebuild_bn = 1;
    const double rebuilt = gradient_error(&exact, o);
    ck_assert_msg(rebuilt < saved, "%s: %g rebuilt, %g saved", names[_i], rebuilt, saved);
    net_fini(&exact);
}
END_TEST

START_TEST(running_statistics_follow_the_groups)
{
    struct net whole, groups;
    struct net_options o = {.n = 4, .size = 8};
    net_init(&whole, pre_activation, &o);
    o.bn_group = 2;
    net_init(&groups, pre_activation, &o);
    net_loss(&whole, 0);
    net_loss(&groups, 0);
    /* The first batch-norm sees the same input: mean of group means = mean of the whole. */
    const struct param *a = graph_find_param(&whole.graph, "0.0.running_mean");
    const struct param *b = graph_find_param(&groups.graph, "0.0.running_mean");
    const struct param *va = graph_find_param(&whole.graph, "0.0.running_var");
    const struct param *vb = graph_find_param(&groups.graph, "0.0.running_var");
    int differs = 0;
    for (size_t i = 0; i < a->n; i++) {
        ck_assert(fabs((double)a->w[i] - (double)b->w[i]) < 1e-6);
        differs |= va->w[i] != vb->w[i];
    }
    ck_assert(differs); /* variances do not average that way */
    net_fini(&whole);
    net_fini(&groups);
}
END_TEST

START_TEST(single_value_per_channel_is_refused)
{
    struct graph g;
    struct err err = {0};
    ck_assert(graph_init(&g, 3, 1, 1, &err) == 0);
    uint32_t x = graph_batch_norm(&g, "bn", graph_conv2d(&g, "a", 0, 4, 1, 1, 0, 0));
    ck_assert(graph_finish(&g, graph_linear(&g, "fc", x, 3), &err) == 0);
    ck_assert(graph_check_batch(&g, 2, 0, &err) == 0);
    ck_assert(graph_check_batch(&g, 1, 0, &err) == ERR_CONFIG);
    ck_assert(strstr(err.msg, "bn") != NULL);
    err = (struct err){0};
    ck_assert(graph_check_batch(&g, 5, 2, &err) == ERR_CONFIG);
    graph_fini(&g);
}
END_TEST

static void every_failed_allocation(net_builder *build, const char *policy)
{
    for (size_t n = 1;; n++) {
        struct net net = {.n = 2};
        struct err err = {0};
        struct exec_config ec = {.graph = &net.graph,
                                 .store = &net.store,
                                 .kernels = &net.kernels,
                                 .n_threads = 1,
                                 .batch_size = 2,
                                 .eval_batch_size = 2};
        struct store_params params = store_params_default();
        ck_assert(kernels_fill(&net.kernels, "ref", &err) == 0);
        ck_assert(store_open(&net.store, policy, &params, &net.kernels, 1, &err) == 0);
        mem_fail_after(n);
        int rc = graph_init(&net.graph, 3, 16, 16, &err);
        if (!rc) {
            uint32_t logits = build(&net.graph);
            rc = graph_finish(&net.graph, logits, &err);
            if (!rc) {
                rc = graph_alloc_params(&net.graph, &err);
            }
            if (!rc) {
                rc = exec_init(&net.exec, &ec, &err);
            }
            exec_fini(&net.exec);
            graph_fini(&net.graph);
        }
        mem_fail_after(0);
        store_close(&net.store);
        struct mem_count count;
        mem_count_get(&count);
        for (int t = 0; t < MEM_N_TAGS; t++) {
            ck_assert_uint_eq(count.now_bytes[t], 0);
        }
        if (rc == 0) {
            ck_assert_uint_gt(n, 50);
            return;
        }
        ck_assert_int_eq(rc, ERR_NOMEM);
    }
}

START_TEST(out_of_memory_is_an_error_and_leaks_nothing)
{
    every_failed_allocation(networks[_i], "division");
    every_failed_allocation(networks[_i], "swap");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan");
    TCase *t = tcase_create("plan");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, plan_and_ledger_agree, 0, N_NETWORKS * N_POLICIES);
    tcase_add_loop_test(t, a_step_allocates_nothing, 0, N_NETWORKS * N_POLICIES);
    tcase_add_loop_test(t, live_buffers_never_overlap, 0, N_NETWORKS * N_POLICIES);
    tcase_add_loop_test(t, smaller_batch_same_result, 0, N_NETWORKS * N_POLICIES);
    tcase_add_loop_test(t, exact_policies_equal_normal, 0, N_NETWORKS * N_EXACT);
    tcase_add_loop_test(t, recompute_saves_memory, 0, N_NETWORKS);
#ifdef TEST_ASAN
    tcase_add_exit_test(t, a_shortened_life_is_noticed, 1);
#else
    tcase_add_test(t, a_shortened_life_is_noticed);
#endif
    tcase_add_loop_test(t, chains_equal_single_steps, 0, N_NETWORKS * N_POLICIES);
    tcase_add_loop_test(t, local_maps_equal_whole_ones, 0, 3);
    tcase_add_loop_test(t, same_seed_same_bits_for_any_number_of_threads, 0,
                        N_NETWORKS * N_POLICIES);
    tcase_add_loop_test(t, eight_bits_keep_the_gradient, 0, (N_NETWORKS + 1) * 2);
    tcase_add_loop_test(t, rebuilt_inputs_are_as_good_as_saved_ones, 0, 2);
    tcase_add_test(t, running_statistics_follow_the_groups);
    tcase_add_test(t, single_value_per_channel_is_refused);
    tcase_add_loop_test(t, out_of_memory_is_an_error_and_leaks_nothing, 0, N_NETWORKS);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
