/* Contract tests: what every row of the table of policies must keep, under each of its settings;
 * the table itself; the vault's account. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "store/store.h"
#include "store/vault.h"

/* A passed ck_assert writes a message to the parent: too slow for each of many values. */
#define EXPECT(condition, ...)         \
    do {                               \
        if (!(condition)) {            \
            ck_abort_msg(__VA_ARGS__); \
        }                              \
    } while (0)

#define MAX_SETTINGS 128

static int takes(const struct store_policy *policy, const char *key)
{
    for (const char *const *k = policy->keys; *k != NULL; k++) {
        if (strcmp(*k, key) == 0) {
            return 1;
        }
    }
    return 0;
}

/* All combinations of some values of the keys that the policy takes and its check allows. */
static size_t make_settings(const struct store_policy *policy, struct store_params *out)
{
    static const unsigned bits[] = {2, 1, 4, 8};
    static const size_t blocks[] = {8, 3}, groups[] = {0, 256};
    size_t n = 0;
    for (int i = 0; i < 4 * 2 * 2 * 3 * 2 * 2 * 3 * 2; i++) {
        struct store_params p = store_params_of(policy);
        int rest = i, differs = 0;
        p.bits = takes(policy, "bits") ? bits[rest % 4] : p.bits;
        differs |= rest % 4 != 0 && !takes(policy, "bits");
        rest /= 4;
        p.block = blocks[rest % 2];
        differs |= rest % 2 != 0 && !takes(policy, "block");
        rest /= 2;
        p.group = groups[rest % 2];
        differs |= rest % 2 != 0 && !takes(policy, "group");
        rest /= 2;
        p.keep = (enum codec_keep)(rest % 3);
        differs |= rest % 3 != 0 && !takes(policy, "keep");
        rest /= 3;
        p.stochastic = rest % 2 == 0;
        differs |= rest % 2 != 0 && !takes(policy, "rounding");
        rest /= 2;
        p.official = rest % 2;
        differs |= rest % 2 != 0 && !takes(policy, "compat");
        rest /= 2;
        p.level = (enum store_level)(rest % 3);
        differs |= rest % 3 != 0 && !takes(policy, "level");
        rest /= 3;
        p.adapt = (enum store_adapt)rest;
        differs |= rest != 0 && !takes(policy, "adapt");
        struct err err = {0};
        if (!differs && (policy->check == NULL || policy->check(&p, &err) == 0)) {
            ck_assert_uint_lt(n, MAX_SETTINGS);
            out[n++] = p;
        }
    }
    return n;
}

static struct kernels kernels_of(const char *isa)
{
    struct kernels k;
    struct err err = {0};
    ck_assert_msg(kernels_fill(&k, isa, &err) == 0, "%s", err.msg);
    return k;
}

static const struct store_policy *policy_of(int i)
{
    size_t n;
    const struct store_policy *const *all = store_policies(&n);
    ck_assert_uint_lt((size_t)i, n);
    return all[i];
}

static struct store open_store(const struct store_policy *policy, const struct store_params *params,
                               const struct kernels *k)
{
    struct store s;
    struct err err = {0};
    ck_assert_msg(store_open(&s, policy->name, params, k, 2, &err) == 0, "%s", err.msg);
    return s;
}

static const struct shape shapes[] = {
    {1, 1, 1, 1},  {1, 1, 1, 17}, {3, 2, 2, 5},   {2, 3, 3, 16},  {2, 4, 4, 64},   {1, 5, 7, 3},
    {2, 7, 7, 33}, {1, 8, 8, 1},  {1, 9, 9, 16},  {2, 14, 14, 5}, {1, 28, 28, 3},  {1, 32, 32, 16},
    {1, 1, 40, 8}, {1, 40, 1, 8}, {1, 56, 56, 2}, {5, 16, 16, 1}, {3, 28, 28, 17},
};
#define N_SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static struct store_map map_of(struct shape shape)
{
    return (struct store_map){
        .id = 3, .name = "map", .producer = "conv2d", .shape = shape, .uses = STORE_USE_CONV};
}

/* Channels like activations: signed, cut at 0, far from 0, flat, with one outlier. */
static void fill(const struct tensor *x)
{
    const struct rng rng = rng_make(4, RNG_TEST, 0, 0);
    const size_t c = x->shape.c, n = shape_elements(&x->shape);
    for (size_t e = 0; e < n; e++) {
        const double z = rng_normal(&rng, e);
        double v = z;
        switch (e % c % 5) {
        case 1: v = z > 0 ? 3 * z : 0; break;
        case 2: v = 100 + z; break;
        case 3: v = -0.7; break;
        case 4: v = e / c % 37 == 5 ? -50 : 0.01 * z; break;
        default: break;
        }
        x->data[e] = (real)v;
    }
}

/* ranges[n][c]: the range, with 0 in it, of each map; or of all of a sample, for runs of values; or
 * of a channel. */
static double *make_ranges(const struct tensor *x, int whole_sample, int whole_channel)
{
    const size_t c = x->shape.c, n = x->shape.n, pixels = x->shape.h * x->shape.w;
    double *ranges = mem_alloc(MEM_OTHER, n * c * sizeof(*ranges));
    ck_assert_ptr_nonnull(ranges);
    for (size_t i = 0; i < n * c; i++) {
        const real *sample = whole_channel ? x->data : x->data + i / c * pixels * c;
        const size_t end = whole_channel ? n * pixels * c : pixels * c;
        double low = 0, high = 0;
        for (size_t e = whole_sample ? 0 : i % c; e < end; e += whole_sample ? 1 : c) {
            low = fmin(low, (double)sample[e]);
            high = fmax(high, (double)sample[e]);
        }
        ranges[i] = high - low;
    }
    return ranges;
}

/* The one that holds for element e. */
static double range_at(const double *ranges, const struct shape *shape, size_t e)
{
    const size_t c = shape->c;
    return ranges[e / (shape->h * shape->w * c) * c + e % c];
}

static size_t sum_pieces(const size_t pieces[STORE_N_PIECES])
{
    size_t sum = 0;
    for (int i = 0; i < STORE_N_PIECES; i++) {
        sum += pieces[i];
    }
    return sum;
}

/* One map through the vault; bytes are as planned and declared, errors within what is declared. */
static void check_round_trip(struct store *s, struct shape shape)
{
    const struct store_policy *policy = s->policy;
    const struct store_map map = map_of(shape);
    const double bits = policy->bits_per_value(&s->params, &shape);
    const double worst = policy->worst_error(&s->params, &shape);
    const size_t n = shape_elements(&shape);
    struct store_choice choice;
    policy->plan(s, &map, &choice);
    ck_assert_uint_eq(sum_pieces(choice.pieces), choice.bytes);
    if (choice.action == STORE_REFERENCE) {
        ck_assert_double_ge(bits, 8.0 * sizeof(real)); /* else it should have been encoded */
        return;
    }
    ck_assert_int_eq(choice.action, STORE_ENCODE);
    ck_assert_uint_lt(choice.bytes, shape_bytes(&shape));
    ck_assert_double_eq_tol(bits, 8.0 * (double)choice.bytes / (double)n, 1e-9);

    struct tensor x = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&shape)), shape);
    struct tensor out = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&shape)), shape);
    unsigned char *slot = mem_alloc(MEM_OTHER, choice.bytes + 1);
    void *workspace = mem_alloc(MEM_OTHER, choice.workspace_bytes);
    ck_assert(x.data != NULL && out.data != NULL && slot != NULL && workspace != NULL);
    fill(&x);
    slot[choice.bytes] = 0xA5;
    const struct rng rng = rng_make(1, RNG_QUANTISE, 2, map.id);
    const struct codec_block whole = {0, shape.n, 0, shape.h, 0, shape.c};
    struct vault v;
    vault_reset(&v);
    const size_t bytes = vault_encode(&v, s, &map, &choice, &x, &rng, slot, choice.bytes,
                                      workspace);
    ck_assert_uint_le(bytes, choice.bytes);
    ck_assert_uint_eq(slot[choice.bytes], 0xA5);
    ck_assert_uint_eq(v.bytes, bytes);
    ck_assert_uint_eq(sum_pieces(v.pieces), bytes);
    vault_decode(&v, s, &map, slot, &whole, &out, workspace);
    ck_assert_double_ge(v.encode_s, 0);
    ck_assert_double_ge(v.decode_s, 0);
    double *ranges = make_ranges(&x, s->params.group != 0, policy->batch_ranges);
    for (size_t e = 0; e < n; e++) {
        const double range = range_at(ranges, &shape, e);
        const double error = fabs((double)out.data[e] - (double)x.data[e]);
        EXPECT(error <= worst * range * (1 + 1e-6),
               "%s: (%zu, %zu, %zu, %zu): value %zu, %g, decodes to %g: error %g, declared %g",
               policy->name, shape.n, shape.h, shape.w, shape.c, e, (double)x.data[e],
               (double)out.data[e], error, worst * range);
        EXPECT(!policy->exact || error == 0, "%s is not exact", policy->name);
    }

    /* The same seed gives the same bytes, whatever was in slot and workspace before. */
    unsigned char *again = mem_alloc(MEM_OTHER, choice.bytes);
    ck_assert_ptr_nonnull(again);
    memset(again, 0xFF, choice.bytes);
    memset(workspace, 0xFF, choice.workspace_bytes);
    (void)vault_encode(&v, s, &map, &choice, &x, &rng, again, choice.bytes, workspace);
    ck_assert_mem_eq(again, slot, bytes);
    ck_assert_uint_eq(v.bytes, 2 * bytes);
    vault_drop_map(&v, &choice, bytes);
    vault_drop_map(&v, &choice, bytes);
    ck_assert_uint_eq(v.bytes, 0);
    ck_assert_uint_eq(sum_pieces(v.pieces), 0);
    mem_free(x.data);
    mem_free(out.data);
    mem_free(slot);
    mem_free(again);
    mem_free(workspace);
    mem_free(ranges);
}

START_TEST(round_trip_keeps_the_contract)
{
    const struct store_policy *policy = policy_of(_i);
    const struct kernels k = kernels_of("auto");
    struct store_params settings[MAX_SETTINGS];
    const size_t n = make_settings(policy, settings);
    ck_assert_uint_gt(n, 0);
    for (size_t i = 0; i < n; i++) {
        struct store s = open_store(policy, &settings[i], &k);
        for (size_t j = 0; j < N_SHAPES; j++) {
            check_round_trip(&s, shapes[j]);
        }
        store_close(&s);
    }
}
END_TEST

/* E[decoded] = x for those that say so, over 1,000 seeds: Bernstein's bound at 1e-6 for every
 * value, in units of the declared worst error, which bounds the step. */
START_TEST(unbiased_policies_are)
{
    enum { N_SEEDS = 1000 };
    const struct store_policy *policy = policy_of(_i);
    const struct kernels k = kernels_of("auto");
    struct store_params settings[MAX_SETTINGS];
    const size_t n_settings = policy->unbiased ? make_settings(policy, settings) : 0;
    const struct shape shape = {1, 9, 7, 15};
    const struct store_map map = map_of(shape);
    const size_t n = shape_elements(&shape);
    struct tensor x = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&shape)), shape);
    struct tensor out = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&shape)), shape);
    double *sum = mem_alloc(MEM_OTHER, n * sizeof(*sum));
    ck_assert(x.data != NULL && out.data != NULL && sum != NULL);
    fill(&x);
    for (size_t i = 0; i < n_settings; i++) {
        const struct store_params *p = &settings[i];
        if (!p->stochastic || p->keep != CODEC_KEEP_BOTH || p->official) {
            continue; /* official: bf16 of m and 1/s is a bias of its own */
        }
        struct store s = open_store(policy, p, &k);
        struct store_choice choice;
        policy->plan(&s, &map, &choice);
        if (choice.action != STORE_ENCODE) {
            store_close(&s);
            continue;
        }
        void *slot = mem_alloc(MEM_OTHER, choice.bytes);
        void *workspace = mem_alloc(MEM_OTHER, choice.workspace_bytes);
        ck_assert(slot != NULL && workspace != NULL);
        memset(sum, 0, n * sizeof(*sum));
        const struct codec_block whole = {0, shape.n, 0, shape.h, 0, shape.c};
        for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
            const struct rng rng = rng_make(seed, RNG_QUANTISE, 0, map.id);
            (void)policy->encode(&s, &map, &x, &rng, slot, choice.bytes, workspace);
            policy->decode(&s, &map, slot, &whole, &out, workspace);
            for (size_t e = 0; e < n; e++) {
                sum[e] += (double)out.data[e] - (double)x.data[e];
            }
        }
        double *ranges = make_ranges(&x, s.params.group != 0, policy->batch_ranges);
        const double worst = policy->worst_error(p, &shape), terms = log(2.0 * (double)n / 1e-6);
        for (size_t e = 0; e < n; e++) {
            const double step = worst * range_at(ranges, &shape, e);
            const double bound = sqrt(0.5 * terms / N_SEEDS) + terms / (3 * N_SEEDS) + 0x1p-16;
            EXPECT(fabs(sum[e]) / N_SEEDS <= bound * step, "%s: value %zu is biased by %g",
                   policy->name, e, sum[e] / N_SEEDS);
        }
        mem_free(ranges);
        mem_free(slot);
        mem_free(workspace);
        store_close(&s);
    }
    mem_free(x.data);
    mem_free(out.data);
    mem_free(sum);
}
END_TEST

/* The input image is never offered to a policy's loss; an empty batch costs nothing. */
START_TEST(images_are_kept_by_reference)
{
    const struct store_policy *policy = policy_of(_i);
    const struct kernels k = kernels_of("auto");
    const struct store_params params = store_params_of(policy);
    struct store s = open_store(policy, &params, &k);
    struct store_choice choice;
    struct store_map map = map_of((struct shape){4, 32, 32, 3});
    map.producer = NULL;
    policy->plan(&s, &map, &choice);
    ck_assert_int_eq(choice.action, STORE_REFERENCE);
    ck_assert_uint_eq(choice.bytes, 0);
    map = map_of((struct shape){0, 32, 32, 3});
    policy->plan(&s, &map, &choice);
    ck_assert_uint_eq(choice.bytes, 0);
    store_close(&s);
}
END_TEST

START_TEST(rows_are_complete)
{
    const struct store_policy *policy = policy_of(_i);
    const struct store_params params = store_params_of(policy);
    char label[64];
    ck_assert_ptr_eq(store_policy_find(policy->name), policy);
    ck_assert_uint_gt(strlen(policy->summary), 10);
    ck_assert_ptr_nonnull(policy->keys);
    ck_assert_int_eq(policy->encode == NULL, policy->decode == NULL);
    policy->label(&params, label, sizeof(label));
    ck_assert_str_eq(label, policy->name); /* all settings at their defaults */
}
END_TEST

/* No two settings share a label, or two runs would share a folder. */
START_TEST(labels_differ)
{
    const struct store_policy *policy = policy_of(_i);
    struct store_params settings[MAX_SETTINGS];
    static char labels[MAX_SETTINGS][64];
    const size_t n = make_settings(policy, settings);
    for (size_t i = 0; i < n; i++) {
        policy->label(&settings[i], labels[i], sizeof(labels[i]));
        for (size_t j = 0; j < i; j++) {
            ck_assert_str_ne(labels[i], labels[j]);
        }
    }
}
END_TEST

static void check_label(const char *policy, const struct store_params *p, const char *expected)
{
    char label[64];
    store_policy_find(policy)->label(p, label, sizeof(label));
    ck_assert_str_eq(label, expected);
}

START_TEST(labels_are_as_documented)
{
    struct store_params p = store_params_default();
    p.bits = 4;
    check_label("fixed", &p, "fixed-b4");
    check_label("division", &p, "division-B8-Q4");
    p.block = 4;
    check_label("division", &p, "division-B4-Q4");
    p.bits = 2;
    check_label("division", &p, "division-B4-Q2");
    p = store_params_default();
    p.group = 256;
    check_label("fixed", &p, "fixed-g256");
    p.stochastic = 0;
    check_label("fixed", &p, "fixed-g256-nearest");
    p = store_params_default();
    p.keep = CODEC_KEEP_LOW;
    check_label("division", &p, "division-low");
    p.keep = CODEC_KEEP_HIGH;
    check_label("division", &p, "division-high");
    p.keep = CODEC_KEEP_BOTH;
    p.official = 1;
    check_label("division", &p, "division-official");
    p.bits = 4;
    check_label("actnn", &p, "actnn-b4-official");
    p = store_params_default();
    p.adapt = STORE_ADAPT_SAMPLE;
    check_label("actnn", &p, "actnn-sample");
    p.adapt = STORE_ADAPT_LAYER;
    p.level = STORE_LEVEL_L1;
    check_label("actnn", &p, "actnn-L1");
}
END_TEST

static void check_refused(const char *policy, const struct store_params *p, const char *says)
{
    const struct kernels k = kernels_of("ref");
    struct store s = {.n_threads = 77};
    struct err err = {0};
    ck_assert_int_eq(store_open(&s, policy, p, &k, 1, &err), ERR_CONFIG);
    ck_assert_msg(strstr(err.msg, says) != NULL, "'%s' does not say '%s'", err.msg, says);
    ck_assert_int_eq(s.n_threads, 77); /* written only on success */
}

START_TEST(nonsense_is_refused)
{
    struct store_params p = store_params_default();
    check_refused("divison", &p, "did you mean 'division'");
    check_refused("", &p, "normal, fixed, division");
    p.bits = 3;
    check_refused("fixed", &p, "bits is 3");
    check_refused("division", &p, "1, 2, 4 or 8");
    p = store_params_default();
    p.block = 0;
    check_refused("division", &p, "block is 0");
    p.block = 65;
    check_refused("division", &p, "block is 65");
    p = store_params_default();
    p.group = 100;
    check_refused("fixed", &p, "group is 100");
    p = store_params_default();
    p.official = 1;
    p.keep = CODEC_KEEP_LOW;
    check_refused("division", &p, "keep");
    p = store_params_default();
    p.bits = 9;
    check_refused("actnn", &p, "bits is 9");
    p.bits = 3;
    p.level = STORE_LEVEL_L2;
    check_refused("actnn", &p, "bits is 3");
    p.bits = 2;
    p.adapt = STORE_ADAPT_SAMPLE;
    check_refused("actnn", &p, "adapt is sample");
    ck_assert_ptr_null(store_policy_find("nothing"));
    store_close(NULL);
    struct store none = {0};
    store_close(&none);
}
END_TEST

START_TEST(vault_counts_by_piece)
{
    struct vault v = {.bytes = 5};
    vault_reset(&v);
    ck_assert_uint_eq(v.bytes, 0);
    vault_keep(&v, STORE_PIECE_IMAGE, 100);
    vault_keep(&v, STORE_PIECE_SIGNS, 7);
    vault_keep(&v, STORE_PIECE_SIGNS, 5);
    ck_assert_uint_eq(v.bytes, 112);
    ck_assert_uint_eq(v.pieces[STORE_PIECE_SIGNS], 12);
    vault_drop(&v, STORE_PIECE_SIGNS, 7);
    ck_assert_uint_eq(v.pieces[STORE_PIECE_SIGNS], 5);
    ck_assert_uint_eq(v.bytes, 105);
    for (int i = 0; i < STORE_N_PIECES; i++) {
        ck_assert_uint_gt(strlen(store_piece_name((enum store_piece)i)), 0);
    }
}
END_TEST

/* A policy that writes less than it planned: the difference is missing from the codes. */
static size_t short_encode(struct store *s, const struct store_map *map, const struct tensor *x,
                           const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    (void)s, (void)map, (void)x, (void)rng, (void)slot, (void)cap, (void)workspace;
    return 70;
}

START_TEST(vault_counts_what_was_written)
{
    const struct store_policy policy = {.name = "short", .encode = short_encode};
    const struct store_params params = store_params_default();
    const struct kernels k = kernels_of("ref");
    struct store s;
    struct err err = {0};
    ck_assert_int_eq(store_open_policy(&s, &policy, &params, &k, 1, &err), 0);
    const struct store_choice choice = {
        .action = STORE_ENCODE,
        .bytes = 100,
        .pieces = {[STORE_PIECE_CODES] = 80, [STORE_PIECE_RANGES] = 20},
    };
    const struct store_map map = map_of((struct shape){1, 4, 4, 4});
    struct vault v;
    vault_reset(&v);
    const size_t bytes = vault_encode(&v, &s, &map, &choice, NULL, NULL, NULL, 100, NULL);
    ck_assert_uint_eq(bytes, 70);
    ck_assert_uint_eq(v.bytes, 70);
    ck_assert_uint_eq(v.pieces[STORE_PIECE_CODES], 50);
    ck_assert_uint_eq(v.pieces[STORE_PIECE_RANGES], 20);
    vault_drop_map(&v, &choice, bytes);
    ck_assert_uint_eq(v.bytes, 0);
    store_close(&s);
}
END_TEST

int main(void)
{
    size_t n;
    (void)store_policies(&n);
    Suite *suite = suite_create("store");
    TCase *t = tcase_create("store");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, rows_are_complete, 0, (int)n);
    tcase_add_loop_test(t, round_trip_keeps_the_contract, 0, (int)n);
    tcase_add_loop_test(t, unbiased_policies_are, 0, (int)n);
    tcase_add_loop_test(t, images_are_kept_by_reference, 0, (int)n);
    tcase_add_loop_test(t, labels_differ, 0, (int)n);
    tcase_add_test(t, labels_are_as_documented);
    tcase_add_test(t, nonsense_is_refused);
    tcase_add_test(t, vault_counts_by_piece);
    tcase_add_test(t, vault_counts_what_was_written);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
