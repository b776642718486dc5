/* Policy acgc: errors against bits, the pool that never overflows, bits that follow the
 * gradients, state, threads. */
#include <math.h>
#include <stdio.h>

#include "store/acgc_priv.h"
#include "tests/nn/net.h"

#define EXPECT(condition, ...)         \
    do {                               \
        if (!(condition)) {            \
            ck_abort_msg(__VA_ARGS__); \
        }                              \
    } while (0)

/* --- codes ---------------------------------------------------------------------------------- */

struct code_fixture {
    struct kernels kernels;
    struct tensor x, out;
    float max[64];
    uint8_t bits[64];
    unsigned char *slot;
    void *workspace;
};

static void code_init(struct code_fixture *f, struct shape shape, size_t gap, int is_signed)
{
    const struct rng rng = rng_make(5, RNG_TEST, 0, 0);
    struct err err = {0};
    ck_assert_msg(kernels_fill(&f->kernels, NULL, &err) == 0, "%s", err.msg);
    const size_t stride = shape.c + gap, pixels = shape_pixels(&shape);
    f->x = f->out = (struct tensor){.shape = shape, .pixel_stride = stride};
    f->x.data = mem_calloc(MEM_OTHER, pixels * stride, sizeof(real));
    f->out.data = mem_calloc(MEM_OTHER, pixels * stride, sizeof(real));
    f->slot = mem_alloc(MEM_OTHER, acgc_code_bytes(&shape, 16 * shape.c));
    f->workspace = mem_alloc(MEM_OTHER, acgc_workspace_bytes(shape.c, 4));
    for (size_t p = 0; p < pixels; p++) {
        for (size_t ch = 0; ch < shape.c; ch++) {
            const double z = rng_normal(&rng, p * shape.c + ch) * ldexp(1, (int)(ch % 9) - 4);
            f->x.data[p * stride + ch] = (real)(is_signed || z > 0 ? z : 0);
        }
    }
    for (size_t ch = 0; ch < shape.c; ch++) {
        f->bits[ch] = (uint8_t)(2 + ch % 15);
    }
}

static void code_fini(struct code_fixture *f)
{
    mem_free(f->x.data);
    mem_free(f->out.data);
    mem_free(f->slot);
    mem_free(f->workspace);
}

static const struct shape shapes[] = {{1, 1, 1, 1},  {3, 3, 5, 17}, {2, 7, 7, 31},
                                      {4, 4, 4, 16}, {1, 1, 1, 50}, {3, 40, 40, 16}};

START_TEST(errors_are_half_a_step)
{
    struct code_fixture f;
    const struct shape shape = shapes[_i / 2];
    const int is_signed = _i % 2;
    code_init(&f, shape, 3, is_signed);
    const int seen = acgc_measure(&f.kernels, &f.x, f.max, f.workspace, 2);
    ck_assert(seen == is_signed || shape_elements(&shape) < 100);
    acgc_write(&f.kernels, &f.x, f.max, f.bits, seen, f.slot, f.workspace, 2);
    const struct codec_block whole = {.n1 = shape.n, .h1 = shape.h, .c1 = shape.c};
    acgc_read(&f.kernels, &shape, f.slot, &whole, &f.out, 2);
    for (size_t p = 0; p < shape_pixels(&shape); p++) {
        for (size_t ch = 0; ch < shape.c; ch++) {
            const double x = (double)f.x.data[p * f.x.pixel_stride + ch];
            const double y = (double)f.out.data[p * f.x.pixel_stride + ch];
            const double max = (double)f.max[ch], top = max + 1e-6;
            const double step = ldexp(top, -(int)f.bits[ch] + seen);
            /* The largest code ends a step below the largest value. */
            const double allowed = x > max - step ? step : step / 2;
            EXPECT(fabs(x) <= max && fabs(y - x) <= allowed * 1.0001 + max * 1e-6,
                   "channel %zu, %u bits: %g decodes to %g, step %g", ch, f.bits[ch], x, y, step);
        }
    }
    /* Parts equal the whole, threads change nothing. */
    unsigned char *again = mem_alloc(MEM_OTHER, acgc_code_bytes(&shape, 16 * shape.c));
    float max[64];
    ck_assert_int_eq(acgc_measure(&f.kernels, &f.x, max, f.workspace, 4), seen);
    ck_assert_mem_eq(max, f.max, shape.c * sizeof(float));
    acgc_write(&f.kernels, &f.x, f.max, f.bits, seen, again, f.workspace, 4);
    ck_assert_mem_eq(again, f.slot, acgc_code_bytes(&shape, 16 * shape.c));
    mem_free(again);
    const struct codec_block part = {.n0 = shape.n / 2,
                                     .n1 = shape.n,
                                     .h0 = shape.h / 3,
                                     .h1 = (shape.h + 1) / 2,
                                     .c0 = shape.c / 4,
                                     .c1 = shape.c};
    const struct shape s = {part.n1 - part.n0, part.h1 - part.h0, shape.w, part.c1 - part.c0};
    struct tensor out = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&s) + 1), s);
    acgc_read(&f.kernels, &shape, f.slot, &part, &out, 1);
    for (size_t p = 0; p < shape_pixels(&s); p++) {
        const size_t n = part.n0 + p / (s.h * s.w), h = part.h0 + p / s.w % s.h;
        const size_t at = (n * shape.h + h) * shape.w + p % s.w;
        ck_assert_mem_eq(out.data + p * s.c, f.out.data + at * f.out.pixel_stride + part.c0,
                         s.c * sizeof(real));
    }
    mem_free(out.data);
    code_fini(&f);
}
END_TEST

/* What is not a number stays in its channel, and shows. */
START_TEST(damage_shows)
{
    struct code_fixture f;
    const struct shape shape = {2, 3, 3, 4};
    code_init(&f, shape, 0, 1);
    f.x.data[4] = (real)NAN;
    f.x.data[9] = (real)INFINITY;
    const int is_signed = acgc_measure(&f.kernels, &f.x, f.max, f.workspace, 2);
    acgc_write(&f.kernels, &f.x, f.max, f.bits, is_signed, f.slot, f.workspace, 2);
    const struct codec_block whole = {.n1 = shape.n, .h1 = shape.h, .c1 = shape.c};
    acgc_read(&f.kernels, &shape, f.slot, &whole, &f.out, 1);
    for (size_t e = 0; e < shape_elements(&shape); e++) {
        ck_assert_int_eq(isnan(f.out.data[e]) != 0, e % 4 < 2);
    }
    code_fini(&f);
}
END_TEST

/* --- in a network ------------------------------------------------------------------------------ */

enum { N = 6, SIDE = 9 };

static uint32_t build(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "stem", 0, 16, 3, 1, 1, 0);
    x = graph_relu(g, "stem.relu", graph_batch_norm(g, "stem.bn", x));
    uint32_t y = graph_conv2d(g, "1.a", x, 19, 3, 1, 1, 0);
    y = graph_relu(g, "1.relu", graph_batch_norm(g, "1.bn", y));
    y = graph_batch_norm(g, "1.bn2", graph_conv2d(g, "1.b", y, 16, 3, 1, 1, 0));
    x = graph_relu(g, "1.out", graph_add(g, "1.add", y, x));
    uint32_t id = graph_batch_norm(g, "2.id.bn", graph_conv2d(g, "2.id", x, 24, 1, 2, 0, 0));
    y = graph_batch_norm(g, "2.bn", graph_conv2d(g, "2.a", x, 24, 3, 2, 1, 0));
    x = graph_relu(g, "2.out", graph_add(g, "2.add", y, id));
    return graph_linear(g, "fc", graph_global_avg_pool(g, "gap", x), 5);
}

struct settings {
    unsigned bits;
    double budget;
    int threads, unshared;
};

static void open_acgc(struct net *net, struct settings set)
{
    const struct net_options o = {
        .policy_name = "acgc",
        .params = {.bits = set.bits, .error_budget = set.budget, .unshared = set.unshared},
        .isa = "auto",
        .n = N,
        .bn_group = 4,
        .size = SIDE,
        .n_threads = set.threads ? set.threads : 1,
        .poison = 1};
    net_init(net, build, &o);
}

static size_t codes_bytes(const struct net *net)
{
    return net->exec.saved_pieces[STORE_PIECE_CODES];
}

/* From the demand of far more than there is room for to that of far less, with smaller batches in
 * between; the executor asserts that no code goes beyond the pool, the ledger says what is kept. */
START_TEST(the_pool_never_overflows)
{
    static const double budgets[] = {1e9, 1, 1e-2, 1e-4, 1e-9};
    static const unsigned pools[] = {2, 3, 5, 8, 12, 16};
    const struct settings set = {
        .bits = pools[_i % 6], .budget = budgets[_i / 6], .unshared = _i % 2};
    struct net net;
    open_acgc(&net, set);
    for (uint64_t step = 0; step < 4; step++) {
        net_loss_n(&net, step, step == 2 ? 4 : N);
        ck_assert_uint_le(net.exec.saved_bytes, net.exec.train.saved_bytes);
        ck_assert_uint_eq(net.exec.vault.bytes, 0);
    }
    net_fini(&net);
}
END_TEST

/* A generous budget leaves much of the pool unused, a strict one fills it. */
START_TEST(bits_follow_the_budget)
{
    size_t last = 0;
    static const double budgets[] = {1e4, 1e2, 1, 1e-2, 1e-4};
    for (size_t i = 0; i < 5; i++) {
        struct net net;
        open_acgc(&net, (struct settings){.bits = 16, .budget = budgets[i]});
        net_loss(&net, 0);
        const size_t first = codes_bytes(&net);
        net_loss(&net, 1);
        ck_assert_uint_gt(codes_bytes(&net), last);
        ck_assert_uint_lt(codes_bytes(&net), first); /* 16 bits before there are statistics */
        last = codes_bytes(&net);
        net_fini(&net);
    }
}
END_TEST

/* A budget 16 times smaller means errors 4 times smaller, 2 bits more, in a channel by itself. */
START_TEST(the_bound_is_the_published_one)
{
    const struct shape shape = {1, 2, 3, 2};
    struct acgc_map *m = acgc_map_new(1, &shape, STORE_USE_CONV | STORE_USE_BN);
    real dy[] = {1, -2, 0, 3, 0, 0, 2, 2, 1, 0, 0, 0}, dx[] = {1, 1, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0};
    real dw[] = {3, 4}, gamma[] = {2, 0.5}, dgamma[] = {0.5, 2}, invstd[] = {1, 2, 3, 4};
    const struct tensor dy_t = tensor_view(dy, shape), dx_t = tensor_view(dx, shape);
    ck_assert_double_eq(acgc_map_error2(m, 1, 7, 0, 1), INFINITY);
    struct store_gradient g = {
        .use = STORE_USE_CONV, .dy = &dy_t, .dw = dw, .n_dw = 2, .r = 3, .s = 3, .stride = 2};
    acgc_map_observe(m, &g);
    acgc_map_observe(m, &g); /* a second reader */
    acgc_map_next(m);
    const double conv = 2 * 25.0 / (2 * 7 * 2 * 2 * 3 * 2 * (9.0 / 4) * 23);
    ck_assert_double_eq_tol(acgc_map_error2(m, 1, 7, 0, 1), conv, 1e-12);
    ck_assert_double_eq_tol(acgc_map_error2(m, 0.25, 7, 1, 1), conv / 4, 1e-12);
    for (int sample = 0; sample < 12; sample++) { /* only the last 10 count, all the same */
        acgc_map_observe(m, &(struct store_gradient){.use = STORE_USE_BN,
                                                     .dy = &dy_t,
                                                     .gamma = gamma,
                                                     .invstd = invstd,
                                                     .dgamma = dgamma,
                                                     .n_groups = 2});
        acgc_map_observe(m, &(struct store_gradient){.use = STORE_USE_BN, .dx = &dx_t});
        acgc_map_next(m);
    }
    /* Channel 1: dy -2, 3, 0, 2, 0, 0; invstd^2 (4 + 16) / 2; max|x| 3. */
    const double invstd2 = 10, extra = invstd2 * 9 * 9 * 1.5 * 1.5;
    const double bn = 8.0 * 7 * 2 * 3 / (2 * 0.25 * invstd2 * invstd2 * (4 + extra));
    ck_assert_double_eq_tol(acgc_map_error2(m, 1, 7, 1, 3), fmin(conv, fmax(bn, 0x1p-16)), 1e-9);
    ck_assert_double_eq_tol(acgc_map_error2(m, 1e-9, 7, 1, 3), conv * 1e-9, 1e-15);
    acgc_map_free(m);
}
END_TEST

static void check_same(const struct net *a, const struct net *b)
{
    for (size_t i = 0; i < a->graph.n_params; i++) {
        ck_assert_mem_eq(a->grad[i], b->grad[i], a->graph.params[i].n * sizeof(real));
    }
    ck_assert_uint_eq(a->exec.saved_bytes, b->exec.saved_bytes);
}

START_TEST(threads_change_nothing)
{
    struct net one, other;
    struct settings set = {.bits = 5, .budget = 0.01};
    open_acgc(&one, set);
    set.threads = _i;
    open_acgc(&other, set);
    for (uint64_t step = 0; step < 3; step++) {
        ck_assert(net_loss(&one, step) == net_loss(&other, step));
        check_same(&one, &other);
    }
    net_fini(&one);
    net_fini(&other);
}
END_TEST

/* A run that goes on from saved state has the same bits. */
START_TEST(state_is_all_there_is)
{
    struct net run, resumed, fresh;
    struct err err = {0};
    const struct settings set = {.bits = 5, .budget = 0.01};
    open_acgc(&run, set);
    open_acgc(&resumed, set);
    open_acgc(&fresh, set);
    net_loss(&run, 0);
    net_loss(&run, 1);
    const struct store_policy *policy = run.store.policy;
    const size_t bytes = policy->state_bytes(&run.store);
    void *state = mem_alloc(MEM_OTHER, bytes);
    policy->state_save(&run.store, state);
    ck_assert_msg(policy->state_load(&resumed.store, state, bytes, &err) == 0, "%s", err.msg);
    net_loss(&fresh, 2);
    for (uint64_t step = 2; step < 4; step++) {
        net_loss(&run, step);
        net_loss(&resumed, step);
        check_same(&run, &resumed);
    }
    ck_assert(memcmp(run.grad[0], fresh.grad[0], run.graph.params[0].n * sizeof(real)) != 0);
    ck_assert_int_eq(policy->state_load(&resumed.store, state, bytes - 4, &err), ERR_FORMAT);
    memset((char *)state + sizeof(uint64_t), 0xff, 4); /* another map's number */
    ck_assert_int_eq(policy->state_load(&resumed.store, state, bytes, &err), ERR_FORMAT);
    mem_free(state);
    net_fini(&run);
    net_fini(&resumed);
    net_fini(&fresh);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("acgc");
    TCase *t = tcase_create("acgc");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, errors_are_half_a_step, 0, 12);
    tcase_add_test(t, damage_shows);
    tcase_add_loop_test(t, the_pool_never_overflows, 0, 30);
    tcase_add_test(t, bits_follow_the_budget);
    tcase_add_test(t, the_bound_is_the_published_one);
    tcase_add_loop_test(t, threads_change_nothing, 2, 5);
    tcase_add_test(t, state_is_all_there_is);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
