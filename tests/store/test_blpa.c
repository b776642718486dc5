/* Policy blpa in small networks: what it keeps and in how many bytes, gradients against exact ones,
 * the same bits for any number of threads. */
#include <math.h>
#include <stdio.h>

#include "tests/nn/net.h"

enum { SIDE = 8, N = 6, WIDTH = 16 };

/* One unit of each kind: behind a batch-norm, behind an addition, in front of a pooling. */
static uint32_t resnet(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "stem", 0, WIDTH, 3, 1, 1, 0);
    x = graph_relu(g, "stem.relu", graph_batch_norm(g, "stem.bn", x));
    uint32_t y = graph_conv2d(g, "1.a", x, WIDTH, 3, 1, 1, 0);
    y = graph_relu(g, "1.relu", graph_batch_norm(g, "1.bn", y));
    y = graph_batch_norm(g, "1.bn2", graph_conv2d(g, "1.b", y, WIDTH, 3, 1, 1, 0));
    x = graph_relu(g, "1.out", graph_add(g, "1.add", y, x));
    x = graph_conv2d(g, "last", x, WIDTH, 3, 1, 1, 0);
    x = graph_relu(g, "last.relu", graph_batch_norm(g, "last.bn", x));
    return graph_linear(g, "fc", graph_global_avg_pool(g, "gap", x), 5);
}

static uint32_t with_max_pool(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "stem", 0, WIDTH, 3, 1, 1, 0);
    x = graph_relu(g, "stem.relu", graph_batch_norm(g, "stem.bn", x));
    x = graph_max_pool(g, "pool", x, 3, 2, 1);
    x = graph_conv2d(g, "a", x, WIDTH, 3, 1, 1, 0);
    x = graph_relu(g, "a.relu", graph_batch_norm(g, "a.bn", x));
    x = graph_conv2d(g, "b", x, WIDTH, 3, 1, 1, 0);
    return graph_linear(g, "fc", graph_global_avg_pool(g, "gap", x), 5);
}

static const struct plan_value *value_of(const struct net *net, const char *name)
{
    for (size_t v = 0; v < net->graph.n_values; v++) {
        if (strcmp(net->graph.values[v].name, name) == 0) {
            return &net->exec.train.values[v];
        }
    }
    ck_abort_msg("no value %s", name);
}

static void open_blpa(struct net *net, net_builder *build, unsigned bits, int threads)
{
    const struct net_options o = {.policy_name = "blpa",
                                  .params = {.bits = bits},
                                  .isa = "auto",
                                  .n = N,
                                  .bn_group = 4,
                                  .size = SIDE,
                                  .n_threads = threads};
    net_init(net, build, &o);
}

START_TEST(one_code_per_unit)
{
    struct net net;
    const size_t elements = N * SIDE * SIDE * WIDTH;
    open_blpa(&net, resnet, 4, 1);
    net_loss(&net, 0);
    ck_assert_uint_eq(net.exec.saved_bytes, net.exec.train.saved_bytes);
    /* Batch-norm inputs but the pooled one, and the code of 1.out. */
    static const char *const coded[] = {"stem", "1.a", "1.b", "1.out"};
    for (size_t i = 0; i < 4; i++) {
        const struct plan_value *v = value_of(&net, coded[i]);
        ck_assert(v->kept && v->choice.action == STORE_ENCODE);
        ck_assert_uint_eq(v->choice.pieces[STORE_PIECE_CODES], elements / 2);
        ck_assert_int_eq(v->choice.normalised, i < 3);
    }
    ck_assert_uint_eq(net.exec.saved_pieces[STORE_PIECE_CODES], 4 * elements / 2);
    ck_assert_uint_eq(net.exec.saved_pieces[STORE_PIECE_RANGES], N * WIDTH * 4); /* of 1.out */
    /* Bits for 1.out and for what is pooled; none for the others. */
    ck_assert_uint_eq(net.exec.saved_pieces[STORE_PIECE_SIGNS], 2 * elements / 8);
    ck_assert_int_eq(value_of(&net, "stem.relu")->choice.action, STORE_RECOMPUTE);
    ck_assert_int_eq(value_of(&net, "last")->choice.action, STORE_REFERENCE);
    net_fini(&net);
}
END_TEST

START_TEST(pooled_maps_are_exact)
{
    struct net net;
    open_blpa(&net, with_max_pool, 4, 1);
    ck_assert_int_eq(value_of(&net, "stem")->choice.action, STORE_REFERENCE);
    ck_assert_int_eq(value_of(&net, "pool")->choice.action, STORE_REFERENCE);
    ck_assert_int_eq(value_of(&net, "a")->choice.action, STORE_ENCODE);
    net_loss(&net, 0);
    ck_assert_uint_eq(net.exec.saved_bytes, net.exec.train.saved_bytes);
    net_fini(&net);
}
END_TEST

/* Relative distance of all gradients from those of `exact`. */
static double distance(const struct net *net, const struct net *exact)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < net->graph.n_params; i++) {
        const struct param *p = &net->graph.params[i];
        for (size_t e = 0; p->trainable && e < p->n; e++) {
            const double a = (double)exact->grad[i][e], b = (double)net->grad[i][e];
            difference += (a - b) * (a - b);
            size += a * a;
        }
    }
    return sqrt(difference / size);
}

/* Masks are exact, so that finer bins err less; what is left at 8 bits are the values beyond 3
 * deviations. */
START_TEST(gradients_are_close)
{
    struct net exact, four, eight;
    net_builder *const build = _i ? with_max_pool : resnet;
    const struct net_options o = {.isa = "auto", .n = N, .bn_group = 4, .size = SIDE};
    net_init(&exact, build, &o);
    open_blpa(&four, build, 4, 1);
    open_blpa(&eight, build, 8, 1);
    ck_assert(net_loss(&exact, 0) == net_loss(&four, 0)); /* forward is exact */
    net_loss(&eight, 0);
    const double d4 = distance(&four, &exact), d8 = distance(&eight, &exact);
    ck_assert_msg(d4 < 0.1 && d8 < 0.03 && d8 > 1e-4 && d8 < d4 / 2, "4 bits: %g, 8 bits: %g", d4,
                  d8);
    net_fini(&exact);
    net_fini(&four);
    net_fini(&eight);
}
END_TEST

START_TEST(threads_change_nothing)
{
    struct net one, other;
    open_blpa(&one, resnet, 4, 1);
    open_blpa(&other, resnet, 4, _i);
    for (uint64_t step = 0; step < 2; step++) {
        ck_assert(net_loss(&one, step) == net_loss(&other, step));
        for (size_t i = 0; i < one.graph.n_params; i++) {
            ck_assert_mem_eq(one.grad[i], other.grad[i], one.graph.params[i].n * sizeof(real));
        }
    }
    net_fini(&one);
    net_fini(&other);
}
END_TEST

START_TEST(other_widths_are_refused)
{
    const struct kernels k = {0};
    for (unsigned bits = 0; bits <= 16; bits++) {
        struct store s;
        struct err err = {0};
        struct store_params p = store_params_default();
        p.bits = bits;
        const int code = store_open(&s, "blpa", &p, &k, 1, &err);
        ck_assert_int_eq(code, bits == 4 || bits == 8 ? 0 : ERR_CONFIG);
        if (code == 0) {
            store_close(&s);
        } else {
            ck_assert_ptr_nonnull(strstr(err.msg, "4 or 8"));
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("blpa");
    TCase *t = tcase_create("blpa");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, one_code_per_unit);
    tcase_add_test(t, pooled_maps_are_exact);
    tcase_add_loop_test(t, gradients_are_close, 0, 2);
    tcase_add_loop_test(t, threads_change_nothing, 2, 5);
    tcase_add_test(t, other_widths_are_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
