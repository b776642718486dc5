/* Policy actnn: who gets how many bits, and that the pool lasts whatever the statistics say. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "store/actnn_stats.h"
#include "store/bit_budget.h"
#include "store/store.h"
#include "tests/nn/net.h"

/* A passed ck_assert writes a message to the parent: too slow for each of many values. */
#define EXPECT(condition, ...)         \
    do {                               \
        if (!(condition)) {            \
            ck_abort_msg(__VA_ARGS__); \
        }                              \
    } while (0)

/* --- the budget ------------------------------------------------------------------------------- */

enum { MAX_UNITS = 256 };

/* The rule as it is told: lower the cheapest, one at a time, the last one among equals. */
static void share_by_queue(const struct bit_row *rows, size_t n_rows, size_t n, size_t budget,
                           uint8_t *bits)
{
    size_t spent = 0;
    for (size_t u = 0; u < n_rows * n; u++) {
        bits[u] = (uint8_t)rows[u / n].most;
        spent += bits[u] * rows[u / n].weight;
    }
    while (spent > budget) {
        size_t cheapest = n_rows * n;
        double least = INFINITY;
        for (size_t u = 0; u < n_rows * n; u++) {
            const struct bit_row *row = &rows[u / n];
            const unsigned wide = bits[u], narrow = wide / 2;
            if (narrow == 0) {
                continue;
            }
            const double steps = (1u << wide) - 1, fewer = (1u << narrow) - 1;
            const double cost = fmax(row->cost[u % n] * row->factor, 1e-280) / (double)row->weight;
            const double loss = cost *
                                ((1 / (fewer * fewer) - 1 / (steps * steps)) / (wide - narrow));
            if (loss <= least) {
                least = loss;
                cheapest = u;
            }
        }
        if (cheapest == n_rows * n) {
            return;
        }
        spent -= bits[cheapest] / 2 * rows[cheapest / n].weight;
        bits[cheapest] /= 2;
    }
}

START_TEST(bisection_equals_the_queue)
{
    static const size_t n_rows[] = {1, 1, 3, 5}, ns[] = {1, 37, 16, 7};
    const struct rng rng = rng_make((uint64_t)_i, RNG_TEST, 0, 0);
    const size_t rows = n_rows[_i % 4], n = ns[_i % 4];
    double cost[MAX_UNITS];
    struct bit_row row[8];
    uint8_t bits[MAX_UNITS], expected[MAX_UNITS];
    size_t all = 0;
    for (size_t u = 0; u < rows * n; u++) {
        const double z = exp(3 * rng_normal(&rng, u));
        cost[u] = _i % 3 == 0 && u % 2 ? 1 : z; /* some are equal */
        cost[u] = _i % 5 == 0 && u % 3 ? 0 : cost[u];
    }
    for (size_t r = 0; r < rows; r++) {
        row[r] = (struct bit_row){.cost = cost + r * n,
                                  .factor = rows > 1 ? 1 + 0.37 * (double)r : 1,
                                  .weight = rows > 1 ? 3 + 2 * r : 4,
                                  .most = _i % 7 == 6 && r == 1 ? 4 : 8};
        all += n * row[r].weight;
    }
    for (size_t budget = all / 2; budget <= 9 * all; budget += all / 2 + 1) {
        bit_budget_share(row, rows, n, budget, bits);
        share_by_queue(row, rows, n, budget, expected);
        for (size_t u = 0; u < rows * n; u++) {
            EXPECT(bits[u] == expected[u], "%zu of %zu bits: unit %zu has %u, not %u", budget, all,
                   u, bits[u], expected[u]);
        }
        size_t sum = 0;
        for (size_t r = 0; r < rows; r++) {
            size_t of_row = 0;
            for (size_t i = 0; i < n; i++) {
                of_row += bits[r * n + i];
            }
            ck_assert_uint_eq(row[r].bits, of_row);
            sum += of_row * row[r].weight;
        }
        ck_assert_uint_le(sum, budget > all ? budget : all); /* 1 bit each at least */
    }
}
END_TEST

START_TEST(damage_and_nothing_cost_nothing)
{
    const double cost[6] = {NAN, 1, INFINITY, 1, 0, 1};
    const double none[6] = {0};
    uint8_t bits[6];
    struct bit_row row = {.cost = cost, .factor = 1, .weight = 1, .most = 8};
    bit_budget_share(&row, 1, 6, 3 * 8 + 3, bits);
    ck_assert_mem_eq(bits, ((uint8_t[]){1, 8, 1, 8, 1, 8}), 6);
    row.cost = none;
    bit_budget_share(&row, 1, 6, 12, bits);
    ck_assert_mem_eq(bits, ((uint8_t[]){2, 2, 2, 2, 2, 2}), 6);
}
END_TEST

/* --- statistics ------------------------------------------------------------------------------- */

START_TEST(statistics_are_what_they_say)
{
    static const struct shape shapes[] = {
        {2, 1, 1, 1}, {2, 4, 4, 16}, {3, 5, 7, 11}, {1, 9, 9, 37}, {2, 1, 3, 700}};
    const struct shape shape = shapes[_i];
    const size_t stride = shape.c + 5, pixels = shape.h * shape.w;
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    real *wide = mem_alloc(MEM_OTHER, shape.n * pixels * stride * sizeof(real));
    real *dense = mem_alloc(MEM_OTHER, shape_bytes(&shape));
    for (size_t i = 0; i < shape.n * pixels * stride; i++) {
        wide[i] = (real)NAN;
    }
    for (size_t e = 0; e < shape_elements(&shape); e++) {
        dense[e] = wide[e / shape.c * stride + e % shape.c] = (real)rng_normal(&rng, e);
    }
    const struct tensor a = tensor_view(dense, shape);
    const struct tensor b = {.data = wide, .shape = shape, .pixel_stride = stride};
    for (size_t i = 0; i < shape.n; i++) {
        const real *v = dense + i * pixels * shape.c;
        double squares = 0, ranges = 0;
        for (size_t e = 0; e < pixels * shape.c; e += 256) {
            double low = INFINITY, high = -INFINITY;
            for (size_t j = e; j < e + 256 && j < pixels * shape.c; j++) {
                low = fmin(low, (double)v[j]);
                high = fmax(high, (double)v[j]);
                squares += (double)v[j] * (double)v[j];
            }
            ranges += (high - low) * (high - low);
        }
        ck_assert_double_le(fabs(actnn_square_ranges(&a, i) - ranges), 1e-9 * ranges);
        ck_assert(actnn_square_ranges(&a, i) == actnn_square_ranges(&b, i));
        ck_assert_double_eq_tol(actnn_square_norm(&a, i), squares, 1e-6 * squares);
        ck_assert(actnn_square_norm(&a, i) == actnn_square_norm(&b, i));
    }
    mem_free(wide);
    mem_free(dense);
}
END_TEST

/* --- maps ------------------------------------------------------------------------------------- */

struct bench {
    struct kernels kernels;
    struct store store;
};

static void bench_open(struct bench *b, const char *policy, const struct store_params *params)
{
    struct err err = {0};
    ck_assert_msg(kernels_fill(&b->kernels, "auto", &err) == 0, "%s", err.msg);
    ck_assert_msg(store_open(&b->store, policy, params, &b->kernels, 2, &err) == 0, "%s", err.msg);
}

/* A map with its values, its code and what comes back. */
struct coded {
    struct store_map map;
    struct store_choice choice;
    struct tensor x, out;
    unsigned char *slot;
    void *workspace;
    size_t bytes;
};

/* Sample i's values are normal with deviation scale^i. */
static void coded_init(struct coded *c, struct bench *b, uint32_t id, unsigned uses,
                       struct shape shape, double scale)
{
    const struct rng rng = rng_make(3, RNG_TEST, 0, id);
    *c = (struct coded){.map = {.id = id,
                                .name = "map",
                                .producer = "conv2d",
                                .shape = shape,
                                .uses = uses,
                                .n_readers = 1}};
    b->store.policy->plan(&b->store, &c->map, &c->choice);
    ck_assert_int_eq(c->choice.action, STORE_ENCODE);
    c->x = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&shape)), shape);
    c->out = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&shape)), shape);
    c->slot = mem_alloc(MEM_OTHER, 8 * c->choice.bytes);
    c->workspace = mem_alloc(MEM_OTHER, c->choice.workspace_bytes);
    const size_t of_sample = shape.h * shape.w * shape.c;
    for (size_t e = 0; e < shape_elements(&shape); e++) {
        c->x.data[e] = (real)(pow(scale, (double)(e / of_sample)) * rng_normal(&rng, e));
    }
}

static void coded_fini(struct coded *c)
{
    mem_free(c->x.data);
    mem_free(c->out.data);
    mem_free(c->slot);
    mem_free(c->workspace);
}

static void encode(struct coded *c, struct bench *b, uint64_t seed, size_t cap)
{
    const struct rng rng = rng_make(seed, RNG_QUANTISE, 0, c->map.id);
    c->bytes = b->store.policy->encode(&b->store, &c->map, &c->x, &rng, c->slot, cap, c->workspace);
}

static void decode(struct coded *c, struct bench *b)
{
    const struct shape *s = &c->map.shape;
    const struct codec_block whole = {0, s->n, 0, s->h, 0, s->c};
    b->store.policy->decode(&b->store, &c->map, c->slot, &whole, &c->out, c->workspace);
}

static double square_error(const struct coded *c)
{
    double sum = 0;
    for (size_t e = 0; e < shape_elements(&c->x.shape); e++) {
        const double d = (double)c->out.data[e] - (double)c->x.data[e];
        sum += d * d;
    }
    return sum;
}

/* Bits of a level L3 code stand in front, a byte for each sample. */
static double mean_bits(const struct coded *c)
{
    double sum = 0;
    for (size_t i = 0; i < c->map.shape.n; i++) {
        sum += c->slot[i];
    }
    return sum / (double)c->map.shape.n;
}

/* Fixed levels are policy fixed with group 256; level L3 is too where no sample is more sensitive
 * than another. */
START_TEST(equal_bits_are_those_of_policy_fixed)
{
    const struct shape shape = {5, 9, 7, 19};
    struct store_params params = store_params_default();
    params.bits = 1u << _i % 4;
    params.level = (enum store_level)(_i / 4);
    struct bench a, b;
    struct coded x, y;
    bench_open(&a, "actnn", &params);
    params.group = 256;
    params.level = STORE_LEVEL_L3;
    bench_open(&b, "fixed", &params);
    coded_init(&x, &a, 3, STORE_USE_CONV, shape, 1);
    coded_init(&y, &b, 3, STORE_USE_CONV, shape, 1);
    for (size_t i = 1; i < shape.n; i++) {
        memcpy(x.x.data + i * 9 * 7 * 19, x.x.data, 9 * 7 * 19 * sizeof(real));
        memcpy(y.x.data + i * 9 * 7 * 19, x.x.data, 9 * 7 * 19 * sizeof(real));
    }
    encode(&x, &a, 1, x.choice.bytes);
    encode(&y, &b, 1, y.choice.bytes);
    decode(&x, &a);
    decode(&y, &b);
    ck_assert_mem_eq(x.out.data, y.out.data, shape_bytes(&shape));
    ck_assert_uint_eq(x.bytes, y.bytes + (params.level == 0 && _i / 4 == 0 ? shape.n : 0));
    coded_fini(&x);
    coded_fini(&y);
    store_close(&a.store);
    store_close(&b.store);
}
END_TEST

START_TEST(wide_samples_get_more_bits_and_the_noise_falls)
{
    const struct shape shape = {8, 14, 14, 24};
    struct store_params params = store_params_default();
    struct bench a, b;
    struct coded x, y;
    double adaptive = 0, fixed = 0;
    bench_open(&a, "actnn", &params);
    params.level = STORE_LEVEL_L2;
    bench_open(&b, "actnn", &params);
    coded_init(&x, &a, 3, STORE_USE_CONV, shape, 2);
    coded_init(&y, &b, 3, STORE_USE_CONV, shape, 2);
    for (uint64_t seed = 0; seed < 5; seed++) {
        encode(&x, &a, seed, x.choice.bytes);
        encode(&y, &b, seed, y.choice.bytes);
        decode(&x, &a);
        decode(&y, &b);
        adaptive += square_error(&x);
        fixed += square_error(&y);
    }
    ck_assert_double_lt(adaptive, 0.5 * fixed);
    ck_assert_double_eq(mean_bits(&x), 2); /* at the same average */
    for (size_t i = 1; i < shape.n; i++) {
        ck_assert_uint_ge(x.slot[i], x.slot[i - 1]);
    }
    ck_assert_uint_eq(x.slot[0], 1);
    ck_assert_uint_eq(x.slot[7], 4);
    coded_fini(&x);
    coded_fini(&y);
    store_close(&a.store);
    store_close(&b.store);
}
END_TEST

/* Also where samples have different numbers of bits. A sample's groups of 256 values have at most
 * its own range; Hoeffding's bound at 1e-6 for all values. */
START_TEST(mixed_bits_are_unbiased)
{
    enum { N_SEEDS = 400 };
    const struct shape shape = {6, 5, 5, 23};
    const struct store_params params = store_params_default();
    const size_t n = shape_elements(&shape), of_sample = n / shape.n;
    struct bench b;
    struct coded x;
    bench_open(&b, "actnn", &params);
    coded_init(&x, &b, 3, STORE_USE_CONV, shape, 3);
    double *sum = mem_calloc(MEM_OTHER, n, sizeof *sum);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        encode(&x, &b, seed, x.choice.bytes);
        decode(&x, &b);
        for (size_t e = 0; e < n; e++) {
            sum[e] += (double)x.out.data[e] - (double)x.x.data[e];
        }
    }
    ck_assert_uint_lt(x.slot[0], x.slot[5]);
    for (size_t i = 0; i < shape.n; i++) {
        double low = INFINITY, high = -INFINITY, mean = 0;
        for (size_t e = i * of_sample; e < (i + 1) * of_sample; e++) {
            low = fmin(low, (double)x.x.data[e]);
            high = fmax(high, (double)x.x.data[e]);
        }
        const double step = 1.03 * (high - low) / ((1u << x.slot[i]) - 1);
        const double bound = step * sqrt(0.5 * log(2 * (double)n / 1e-6) / N_SEEDS);
        for (size_t e = i * of_sample; e < (i + 1) * of_sample; e++) {
            EXPECT(fabs(sum[e]) / N_SEEDS <= bound, "value %zu is biased by %g", e,
                   sum[e] / N_SEEDS);
            mean += sum[e] / N_SEEDS / (double)of_sample;
        }
        ck_assert_double_le(fabs(mean),
                            step * sqrt(0.5 * log(2 / 1e-6) / N_SEEDS / (double)of_sample));
    }
    mem_free(sum);
    coded_fini(&x);
    store_close(&b.store);
}
END_TEST

/* Level L1 leaves batch-norm alone. */
START_TEST(level_1_keeps_batch_norm_exact)
{
    struct store_params params = store_params_default();
    struct store_choice choice;
    struct store_map map = {.producer = "conv2d", .shape = {4, 8, 8, 16}, .uses = STORE_USE_BN};
    struct bench b;
    params.level = STORE_LEVEL_L1;
    bench_open(&b, "actnn", &params);
    b.store.policy->plan(&b.store, &map, &choice);
    ck_assert_int_eq(choice.action, STORE_REFERENCE);
    map.uses |= STORE_USE_CONV;
    b.store.policy->plan(&b.store, &map, &choice);
    ck_assert_int_eq(choice.action, STORE_ENCODE);
    store_close(&b.store);
}
END_TEST

/* --- the pool --------------------------------------------------------------------------------- */

static const struct shape pool_shapes[] = {
    {7, 9, 9, 5}, {7, 4, 4, 33}, {7, 1, 1, 120}, {7, 5, 3, 16}, {7, 8, 8, 8}, {7, 2, 2, 130},
};
enum { N_POOL = sizeof pool_shapes / sizeof *pool_shapes };

static void set_batch(struct coded *c, struct bench *b, size_t n)
{
    c->map.shape.n = c->x.shape.n = c->out.shape.n = n;
    b->store.policy->plan(&b->store, &c->map, &c->choice);
    ck_assert_int_eq(c->choice.action, STORE_ENCODE);
}

/* Encodes all maps as the executor does, in a pool that is the sum of shares. */
static void fill_pool(struct coded *c, struct bench *b, uint64_t step)
{
    size_t pool = 0, used = 0;
    for (size_t i = 0; i < N_POOL; i++) {
        ck_assert_uint_eq(c[i].choice.bytes % 64, 0);
        pool += c[i].choice.bytes;
    }
    store_begin(&b->store, step);
    for (size_t i = 0; i < N_POOL; i++) {
        ck_assert_uint_le(used, pool);
        encode(&c[i], b, step, pool - used);
        ck_assert_uint_le(c[i].bytes, pool - used);
        used += (c[i].bytes + 63) / 64 * 64;
        decode(&c[i], b);
        for (size_t s = 0; s < c[i].map.shape.n; s++) {
            ck_assert_uint_ge(c[i].slot[s], 1);
        }
    }
    ck_assert_uint_le(used, pool);
}

/* Whatever averages the layers are to have, and for smaller batches too. */
START_TEST(the_pool_is_never_exceeded)
{
    struct store_params params = store_params_default();
    params.bits = 1 + (unsigned)_i;
    struct bench b;
    struct coded c[N_POOL];
    struct err err = {0};
    bench_open(&b, "actnn", &params);
    for (size_t i = 0; i < N_POOL; i++) {
        coded_init(&c[i], &b, (uint32_t)(3 * i + 1), i % 2 ? STORE_USE_BN : STORE_USE_CONV,
                   pool_shapes[i], 1.7);
    }
    fill_pool(c, &b, 0);
    struct {
        uint64_t id;
        double bits;
    } state[N_POOL];
    ck_assert_uint_eq(b.store.policy->state_bytes(&b.store), sizeof state);
    for (size_t n = 7; n > 0; n--) {
        for (int mode = 0; mode < 4; mode++) { /* all want 8; early ones; late ones; odd ones */
            for (size_t i = 0; i < N_POOL; i++) {
                const int greedy = mode == 0 || (mode == 1 && i < 3) || (mode == 2 && i >= 3) ||
                                   (mode == 3 && i % 2);
                state[i].id = 3 * i + 1;
                state[i].bits = greedy ? 8 : 1;
                set_batch(&c[i], &b, n);
            }
            ck_assert_msg(b.store.policy->state_load(&b.store, state, sizeof state, &err) == 0,
                          "%s", err.msg);
            fill_pool(c, &b, 1);
            ck_assert(mode != 1 || params.bits < 3 || params.bits == 8 ||
                      mean_bits(&c[0]) > params.bits);
        }
    }
    for (size_t i = 0; i < N_POOL; i++) {
        coded_fini(&c[i]);
    }
    store_close(&b.store);
}
END_TEST

/* --- layers ----------------------------------------------------------------------------------- */

static void observe_conv(struct coded *c, struct bench *b, double size)
{
    struct tensor dy = c->out;
    for (size_t e = 0; e < shape_elements(&dy.shape); e++) {
        dy.data[e] = (real)size;
    }
    const struct store_gradient g = {.use = STORE_USE_CONV, .dy = &dy, .r = 3, .s = 3, .stride = 1};
    b->store.policy->observe(&b->store, &c->map, &g);
}

START_TEST(sensitive_layers_get_more_bits)
{
    enum { N_MAPS = 5 };
    static const unsigned uses[N_MAPS] = {STORE_USE_BN, STORE_USE_CONV, STORE_USE_BN,
                                          STORE_USE_CONV, STORE_USE_BN};
    const struct shape shape = {8, 8, 8, 32};
    struct store_params params = store_params_default();
    params.adapt = _i ? STORE_ADAPT_SAMPLE : STORE_ADAPT_LAYER;
    struct bench b;
    struct coded c[N_MAPS];
    bench_open(&b, "actnn", &params);
    for (uint32_t i = 0; i < N_MAPS; i++) {
        coded_init(&c[i], &b, i + 1, uses[i], shape, 1.1);
    }
    for (uint64_t step = 0; step < 3; step++) {
        size_t bytes = 0, planned = 0;
        store_begin(&b.store, step);
        for (size_t i = 0; i < N_MAPS; i++) {
            encode(&c[i], &b, step, 8 * c[i].choice.bytes);
            bytes += c[i].bytes;
            planned += c[i].choice.bytes;
        }
        ck_assert_uint_le(bytes, planned);
        ck_assert_double_eq(mean_bits(&c[0]), 2); /* no convolution's input in front of it */
        if (step == 0 || params.adapt == STORE_ADAPT_SAMPLE) {
            ck_assert_double_eq(mean_bits(&c[1]), 2);
            ck_assert_double_eq(mean_bits(&c[3]), 2);
        } else { /* the layer of the larger gradient, which has moved to the other map since */
            const size_t more = step == 1 ? 3 : 1, less = step == 1 ? 1 : 3;
            ck_assert_double_gt(mean_bits(&c[more]), 2.5);
            ck_assert_double_lt(mean_bits(&c[less]), 1.5);
            ck_assert_double_eq_tol(mean_bits(&c[1]) + mean_bits(&c[3]), 4, 0.5);
            ck_assert_double_eq_tol(mean_bits(&c[more + 1]), mean_bits(&c[more]), 0.5);
            ck_assert_double_eq_tol(mean_bits(&c[less + 1]), mean_bits(&c[less]), 0.5);
        }
        observe_conv(&c[3], &b, step == 0 ? 10 : 0.1);
        observe_conv(&c[1], &b, 1);
    }
    for (size_t i = 0; i < N_MAPS; i++) {
        coded_fini(&c[i]);
    }
    store_close(&b.store);
}
END_TEST

/* --- networks --------------------------------------------------------------------------------- */

static uint32_t two_stages(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "stem", 0, 16, 3, 1, 1, 0);
    x = graph_relu(g, "stem.relu", graph_batch_norm(g, "stem.bn", x));
    uint32_t y = graph_relu(g, "1.r",
                            graph_batch_norm(g, "1.bn", graph_conv2d(g, "1.a", x, 16, 3, 1, 1, 0)));
    y = graph_batch_norm(g, "1.bn2", graph_conv2d(g, "1.b", y, 16, 3, 1, 1, 0));
    x = graph_relu(g, "1.out", graph_add(g, "1.add", y, x));
    uint32_t id = graph_batch_norm(g, "2.id.bn", graph_conv2d(g, "2.id", x, 24, 1, 2, 0, 0));
    y = graph_batch_norm(g, "2.bn", graph_conv2d(g, "2.a", x, 24, 3, 2, 1, 0));
    x = graph_relu(g, "2.out", graph_add(g, "2.add", y, id));
    return graph_linear(g, "fc", graph_global_avg_pool(g, "gap", x), 5);
}

static void open_net(struct net *net, size_t n, int n_threads, int unshared)
{
    const struct net_options o = {
        .policy_name = "actnn",
        .params = {.bits = 2, .stochastic = 1, .unshared = unshared, .official = unshared},
        .n = n,
        .size = 16,
        .n_threads = n_threads,
        .poison = 1};
    net_init(net, two_stages, &o);
    for (size_t i = 0; i < net->graph.n_params; i++) { /* a layer whose gradient is small */
        struct param *p = &net->graph.params[i];
        for (size_t e = 0; strcmp(p->name, "1.bn2.weight") == 0 && e < p->n; e++) {
            p->w[e] *= (real)0.05;
        }
    }
}

/* Nothing of the step after the last one differs, trainable parameters' gradients above all. */
static int equal_gradients(const struct net *a, const struct net *b)
{
    for (size_t i = 0; i < a->graph.n_params; i++) {
        if (a->graph.params[i].trainable &&
            memcmp(a->grad[i], b->grad[i], a->graph.params[i].n * sizeof(real)) != 0) {
            return 0;
        }
    }
    return 1;
}

START_TEST(any_number_of_threads_gives_the_same_bits)
{
    struct net one, many;
    open_net(&one, 12, 1, 0);
    open_net(&many, 12, _i, 0);
    for (uint64_t step = 0; step < 3; step++) {
        ck_assert(net_loss(&one, step) == net_loss(&many, step));
        ck_assert_uint_eq(one.exec.saved_bytes, many.exec.saved_bytes);
        ck_assert(equal_gradients(&one, &many));
    }
    net_fini(&one);
    net_fini(&many);
}
END_TEST

/* The plan is an upper bound, and a close one; the loop allocates nothing. */
START_TEST(saves_no_more_than_planned)
{
    struct net net;
    struct mem_count before, after;
    open_net(&net, 12, 2, _i);
    mem_count_get(&before);
    for (uint64_t step = 0; step < 6; step++) {
        const size_t n = step % 3 == 2 ? 7 : 12;
        (void)net_loss_n(&net, step, n);
        ck_assert_uint_le(net.exec.saved_bytes, net.exec.train.saved_bytes);
        ck_assert(n < 12 ||
                  (double)net.exec.saved_bytes > 0.97 * (double)net.exec.train.saved_bytes);
    }
    mem_count_get(&after);
    ck_assert_uint_eq(after.n_allocs, before.n_allocs);
    net_fini(&net);
}
END_TEST

START_TEST(a_resumed_run_has_the_same_bits)
{
    struct net net, resumed, fresh;
    struct err err = {0};
    open_net(&net, 12, 1, 0);
    open_net(&resumed, 12, 1, 0);
    open_net(&fresh, 12, 1, 0);
    for (uint64_t step = 0; step < 3; step++) {
        (void)net_loss(&net, step);
    }
    const struct store_policy *policy = net.store.policy;
    const size_t bytes = policy->state_bytes(&net.store);
    char *state = mem_alloc(MEM_OTHER, bytes);
    policy->state_save(&net.store, state);
    ck_assert_msg(policy->state_load(&resumed.store, state, bytes, &err) == 0, "%s", err.msg);
    (void)net_loss(&net, 3);
    (void)net_loss(&resumed, 3);
    (void)net_loss(&fresh, 3);
    ck_assert(equal_gradients(&net, &resumed));
    ck_assert(!equal_gradients(&net, &fresh)); /* without it, layers begin at the average */

    ck_assert_int_eq(policy->state_load(&fresh.store, state, bytes - 16, &err), ERR_FORMAT);
    const double absurd = 1e9;
    memcpy(state + 8, &absurd, sizeof absurd);
    err = (struct err){0};
    ck_assert_int_eq(policy->state_load(&fresh.store, state, bytes, &err), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.msg, "1e+09 bits"));
    mem_free(state);
    net_fini(&net);
    net_fini(&resumed);
    net_fini(&fresh);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("actnn");
    TCase *t = tcase_create("actnn");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, bisection_equals_the_queue, 0, 30);
    tcase_add_test(t, damage_and_nothing_cost_nothing);
    tcase_add_loop_test(t, statistics_are_what_they_say, 0, 5);
    tcase_add_loop_test(t, equal_bits_are_those_of_policy_fixed, 0, 12);
    tcase_add_test(t, wide_samples_get_more_bits_and_the_noise_falls);
    tcase_add_test(t, mixed_bits_are_unbiased);
    tcase_add_test(t, level_1_keeps_batch_norm_exact);
    tcase_add_loop_test(t, the_pool_is_never_exceeded, 0, 8);
    tcase_add_loop_test(t, sensitive_layers_get_more_bits, 0, 2);
    tcase_add_loop_test(t, any_number_of_threads_gives_the_same_bits, 2, 5);
    tcase_add_loop_test(t, saves_no_more_than_planned, 0, 2);
    tcase_add_test(t, a_resumed_run_has_the_same_bits);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
