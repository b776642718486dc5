/* Gradient accumulation: a batch in micro-batches trains as the whole batch does. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/threads.h"
#include "data/micro_batch.h"
#include "nn/layers.h"
#include "train/trainer.h"

/* --- the cut ---------------------------------------------------------------------------------- */

START_TEST(micro_batches_are_nearly_equal)
{
    for (size_t batch = 1; batch <= 24; batch++) {
        for (size_t accumulate = 1; accumulate <= batch; accumulate++) {
            const size_t largest = micro_batch_largest(batch, accumulate);
            ck_assert_uint_eq(micro_batch_count(batch, batch, accumulate), accumulate);
            ck_assert(largest * accumulate >= batch && (largest - 1) * accumulate < batch);
            for (size_t n = 1; n <= batch; n++) {
                const size_t count = micro_batch_count(n, batch, accumulate);
                size_t last = largest;
                ck_assert(count >= 1 && count <= accumulate);
                for (size_t i = 0; i < count; i++) {
                    const size_t first = micro_batch_first(n, count, i);
                    const size_t size = micro_batch_first(n, count, i + 1) - first;
                    ck_assert(size >= 1 && size <= last && size + 1 >= n / count + (n % count > 0));
                    last = size;
                }
                ck_assert_uint_eq(micro_batch_first(n, count, 0), 0);
                ck_assert_uint_eq(micro_batch_first(n, count, count), n);
            }
        }
    }
}
END_TEST

/* --- training --------------------------------------------------------------------------------- */

enum { N_IMAGES = 22, BATCH = 8, EPOCHS = 2, MAX_STEPS = 16, MAX_DRAWS = 256 }; /* 8, 8, 6 images */

/* What a training left. */
struct outcome {
    size_t n_steps, n_weights, n_stats;
    double lr[MAX_STEPS], loss[MAX_STEPS];
    size_t n[MAX_STEPS];
    real *weights, *stats; /* trainable; running statistics */
    size_t n_updates;
};

struct training {
    size_t accumulate, bn_group;
    int n_threads, has_bn;
    const char *policy;
    double dropout;
};

/* A policy that keeps by reference and notes, when a micro-batch begins, its step and the key of its
 * random numbers. */
static uint64_t draws[MAX_DRAWS], steps[MAX_DRAWS];
static size_t n_draws;
static const struct exec *running;

static void note_begin(struct store *s, uint64_t step)
{
    (void)s;
    ck_assert(n_draws < MAX_DRAWS);
    steps[n_draws] = step;
    draws[n_draws++] = running->context.step;
}

static void note_plan(const struct store *s, const struct store_map *map, struct store_choice *c)
{
    (void)s, (void)map;
    *c = (struct store_choice){.action = STORE_REFERENCE};
}

static const struct store_policy noting = {
    .name = "noting", .exact = 1, .begin = note_begin, .plan = note_plan};

static uint32_t build(struct graph *g, const struct training *t)
{
    uint32_t x = graph_conv2d(g, "conv1", 0, 8, 3, 1, 1, 1);
    if (t->has_bn) {
        x = graph_batch_norm(g, "bn1", x);
    }
    x = graph_relu(g, "relu1", x);
    uint32_t y = graph_conv2d(g, "conv2", x, 8, 3, 1, 1, 0);
    if (t->has_bn) {
        y = graph_batch_norm(g, "bn2", y);
    }
    x = graph_relu(g, "relu2", graph_add(g, "add", x, y));
    x = graph_max_pool(g, "pool", x, 2, 2, 0);
    x = graph_dropout(g, "dropout", x, t->dropout);
    return graph_linear(g, "fc", graph_global_avg_pool(g, "mean", x), 10);
}

static int note_step(void *ctx, const struct train_step_info *info, struct err *err)
{
    struct outcome *out = ctx;
    (void)err;
    ck_assert(out->n_steps < MAX_STEPS && info->step == out->n_steps);
    ck_assert_uint_eq(info->n_epoch_steps, 3);
    out->lr[out->n_steps] = info->lr;
    out->loss[out->n_steps] = info->loss;
    out->n[out->n_steps++] = info->n;
    return 0;
}

static void copy_params(const struct graph *g, struct outcome *out)
{
    out->weights = calloc(graph_n_weights(g), sizeof(real));
    out->stats = calloc(graph_param_bytes(g), 1);
    for (size_t i = 0; i < g->n_params; i++) {
        const struct param *p = &g->params[i];
        real *to = p->trainable ? out->weights : out->stats;
        size_t *at = p->trainable ? &out->n_weights : &out->n_stats;
        memcpy(to + *at, p->w, p->n * sizeof(real));
        *at += p->n;
    }
}

static struct outcome train(const struct training *t)
{
    struct outcome out = {0};
    struct err err = {0};
    struct graph g;
    struct kernels k;
    struct store store;
    struct store_params params = store_params_default();
    struct exec exec;
    struct trainer trainer;
    struct dataset *data;
    const struct dataset_config dc = {.name = "synthetic",
                                      .path = "",
                                      .limit = N_IMAGES,
                                      .test_limit = 5,
                                      .seed = 1,
                                      .size = 8,
                                      .channels = 3,
                                      .classes = 10};
    threads_set(t->n_threads);
    n_draws = 0;
    ck_assert_msg(dataset_open(&dc, &data, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(graph_init(&g, 3, 8, 8, &err), 0);
    ck_assert_msg(graph_finish(&g, build(&g, t), &err) == 0, "%s", err.msg);
    ck_assert_int_eq(graph_alloc_params(&g, &err), 0);
    if (t->accumulate > 1) {
        struct mem_count before, after;
        mem_count_get(&before);
        ck_assert_int_eq(graph_alloc_gradients(&g, &err), 0);
        mem_count_get(&after);
        ck_assert_uint_eq(after.live_bytes - before.live_bytes, graph_gradient_bytes(&g));
    }
    graph_init_params(&g, 3);
    ck_assert_int_eq(kernels_fill(&k, "auto", &err), 0);
    int rc = t->policy ? store_open(&store, t->policy, &params, &k, t->n_threads, &err)
                       : store_open_policy(&store, &noting, &params, &k, t->n_threads, &err);
    ck_assert_msg(rc == 0, "%s", err.msg);
    const struct exec_config ec = {.graph = &g,
                                   .store = &store,
                                   .kernels = &k,
                                   .n_threads = t->n_threads,
                                   .batch_size = micro_batch_largest(BATCH, t->accumulate),
                                   .eval_batch_size = 5,
                                   .bn_group = t->bn_group,
                                   .seed = 5,
                                   .poison = 1};
    ck_assert_msg(exec_init(&exec, &ec, &err) == 0, "%s", err.msg);
    running = &exec;
    const struct train_config tc = {
        .exec = &exec,
        .train = data,
        .test = data,
        .batch_size = BATCH,
        .accumulate = t->accumulate,
        .eval_batch_size = 5,
        .epochs = EPOCHS,
        .eval_every = 1,
        .shuffle = 1,
        .augment = AUGMENT_FLIP,
        .seed = 2,
        .sgd = {.momentum = 0.9, .weight_decay = 1e-3},
        .schedule = {.kind = SCHEDULE_COSINE, .lr = 0.05, .epochs = EPOCHS, .warmup_epochs = 0.5}};
    const struct train_hooks hooks = {.ctx = &out, .on_step = note_step};
    ck_assert_msg(trainer_init(&trainer, &tc, &err) == 0, "%s", err.msg);
    ck_assert_msg(trainer_run(&trainer, &hooks, &err) == 0, "%s", err.msg);
    copy_params(&g, &out);
    trainer_fini(&trainer);
    exec_fini(&exec);
    store_close(&store);
    graph_fini(&g);
    dataset_close(data);
    return out;
}

static void outcome_fini(struct outcome *o)
{
    free(o->weights);
    free(o->stats);
}

static double largest_difference(const real *a, const real *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

/* The same steps, rates and losses, and the same weights up to rounding. */
static void assert_equivalent(const struct outcome *a, const struct outcome *b)
{
    ck_assert_uint_eq(a->n_steps, 3 * EPOCHS);
    ck_assert_uint_eq(b->n_steps, a->n_steps);
    for (size_t i = 0; i < a->n_steps; i++) {
        ck_assert_uint_eq(a->n[i], i % 3 == 2 ? 6 : BATCH);
        ck_assert_uint_eq(b->n[i], a->n[i]);
        ck_assert(a->lr[i] == b->lr[i]);
        ck_assert_double_eq_tol(a->loss[i], b->loss[i], 1e-5);
    }
    ck_assert_uint_eq(a->n_weights, b->n_weights);
    ck_assert_double_lt(largest_difference(a->weights, b->weights, a->n_weights), 1e-5);
}

static const size_t parts[] = {2, 3, 4, 8}; /* of 8 and 6 images: 4+4, 3+3; 3+3+2; 2+…; 1+… */

START_TEST(without_batch_norm_it_is_the_whole_batch)
{
    struct training t = {.accumulate = 1, .n_threads = 2, .policy = "normal"};
    struct outcome whole = train(&t);
    ck_assert_double_gt(fabs(whole.loss[0] - whole.loss[5]), 1e-3); /* it has learnt something */
    t.accumulate = parts[_i];
    struct outcome cut = train(&t);
    assert_equivalent(&whole, &cut);
    outcome_fini(&whole);
    outcome_fini(&cut);
}
END_TEST

/* Batch-norm sees micro-batches as it sees groups; its running statistics move more often. */
START_TEST(batch_norm_sees_micro_batches)
{
    struct training t = {
        .accumulate = 1, .n_threads = 2, .policy = "normal", .has_bn = 1, .bn_group = 2};
    struct outcome groups = train(&t);
    t = (struct training){.accumulate = 4, .n_threads = 2, .policy = "normal", .has_bn = 1};
    struct outcome cut = train(&t);
    assert_equivalent(&groups, &cut);
    ck_assert_double_gt(largest_difference(groups.stats, cut.stats, cut.n_stats), 1e-2);
    outcome_fini(&groups);
    outcome_fini(&cut);
}
END_TEST

START_TEST(threads_change_no_bit)
{
    static const char *const policies[] = {"normal", "fixed", "division"};
    struct training t = {
        .accumulate = 3, .n_threads = 1, .policy = policies[_i], .has_bn = 1, .dropout = 0.2};
    struct outcome one = train(&t);
    for (t.n_threads = 2; t.n_threads <= 4; t.n_threads++) {
        struct outcome many = train(&t);
        ck_assert_mem_eq(one.weights, many.weights, one.n_weights * sizeof(real));
        ck_assert_mem_eq(one.stats, many.stats, one.n_stats * sizeof(real));
        ck_assert_mem_eq(one.loss, many.loss, sizeof one.loss);
        outcome_fini(&many);
    }
    outcome_fini(&one);
}
END_TEST

/* No two micro-batches of a run get the same random numbers; whole batches get those of their
 * step. A policy that counts steps counts updates. */
START_TEST(random_numbers_differ_between_micro_batches)
{
    struct training t = {.accumulate = 1, .n_threads = 1};
    struct outcome out = train(&t);
    ck_assert_uint_eq(n_draws, 3 * EPOCHS);
    for (size_t i = 0; i < n_draws; i++) {
        ck_assert_uint_eq(draws[i], i);
        ck_assert_uint_eq(steps[i], i);
    }
    outcome_fini(&out);
    t.accumulate = 4;
    out = train(&t);
    ck_assert_uint_eq(n_draws, (4 + 4 + 3) * EPOCHS);
    for (size_t i = 1; i < n_draws; i++) {
        ck_assert_uint_gt(draws[i], draws[i - 1]);
    }
    for (size_t i = 0; i < n_draws; i++) { /* 4, 4 and 3 in an epoch */
        ck_assert_uint_eq(steps[i], i / 11 * 3 + i % 11 / 4);
    }
    outcome_fini(&out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("accumulate");
    TCase *tc = tcase_create("accumulate");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, micro_batches_are_nearly_equal);
    tcase_add_loop_test(tc, without_batch_norm_it_is_the_whole_batch, 0,
                        sizeof parts / sizeof *parts);
    tcase_add_test(tc, batch_norm_sees_micro_batches);
    tcase_add_loop_test(tc, threads_change_no_bit, 0, 3);
    tcase_add_test(tc, random_numbers_differ_between_micro_batches);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
