/* Random numbers: the published vectors, the layout of the counter, and plain statistics. */
#include <math.h>
#include <stdint.h>

#include "base/rng.h"
#include "test_base.h"

/* kat_vectors of Random123, "philox4x32 10". */
static const struct {
    uint32_t counter[4], key[2], out[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

START_TEST(known_answers)
{
    const uint32_t *c = known[_i].counter;
    const struct rng r = {
        .key = {known[_i].key[0], known[_i].key[1]}, .step = c[2], .stream = c[3]};
    uint32_t out[4];
    rng_block(&r, (uint64_t)c[1] << 32 | c[0], out);
    ck_assert_mem_eq(out, known[_i].out, sizeof out);
}
END_TEST

START_TEST(make_is_as_documented)
{
    /* SplitMix64 from state 0 begins with 0xE220A8397B1DCDAF; this seed cancels the purpose. */
    const uint64_t seed = 0 - UINT64_C(0x9E3779B97F4A7C15) * (uint64_t)RNG_TEST;
    const struct rng r = rng_make(seed, RNG_TEST, 7, 9);
    ck_assert_uint_eq(r.key[0], 0x7B1DCDAF);
    ck_assert_uint_eq(r.key[1], 0xE220A839);
    ck_assert_uint_eq(r.step, 7);
    ck_assert_uint_eq(r.stream, 9);
    const struct rng late = rng_make(seed, RNG_TEST, UINT64_C(5) << 32 | 7, 9);
    ck_assert_uint_eq(late.key[0], r.key[0]);
    ck_assert_uint_eq(late.key[1], r.key[1] ^ 5);
    ck_assert_uint_eq(late.step, 7);
}
END_TEST

START_TEST(words_are_those_of_the_blocks)
{
    const struct rng r = rng_make(1, RNG_TEST, 2, 3);
    const uint64_t blocks[] = {0, 1, 12345, UINT64_C(1) << 40};
    for (int i = 0; i < 4; i++) {
        uint32_t out[4];
        rng_block(&r, blocks[i], out);
        for (unsigned w = 0; w < 4; w++) {
            ck_assert_uint_eq(rng_u32(&r, 4 * blocks[i] + w), out[w]);
        }
    }
}
END_TEST

START_TEST(each_part_of_the_key_matters)
{
    const struct rng all[] = {
        rng_make(1, RNG_TEST, 2, 3), rng_make(2, RNG_TEST, 2, 3), rng_make(1, RNG_INIT, 2, 3),
        rng_make(1, RNG_TEST, 3, 3), rng_make(1, RNG_TEST, 2, 4), rng_make(1, RNG_TEST, 2, 3),
    };
    for (int i = 1; i < 5; i++) {
        ck_assert_uint_ne(rng_u32(&all[i], 0), rng_u32(&all[0], 0));
    }
    ck_assert_uint_eq(rng_u32(&all[5], 0), rng_u32(&all[0], 0));
}
END_TEST

START_TEST(uniform_is_open_and_flat)
{
    const struct rng r = rng_make(42, RNG_TEST, 0, 0);
    enum { N = 100000, BINS = 16 };
    size_t bins[BINS] = {0};
    double sum = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double u = rng_uniform(&r, i);
        ck_assert(u > 0 && u < 1);
        ck_assert_double_eq(u, ((double)rng_u32(&r, i) + 0.5) / 4294967296.0);
        bins[(size_t)(u * BINS)]++;
        sum += u;
    }
    ck_assert_double_lt(fabs(sum / N - 0.5), 4 * sqrt(1.0 / 12 / N));
    double chi2 = 0;
    for (int b = 0; b < BINS; b++) {
        const double d = (double)bins[b] - (double)N / BINS;
        chi2 += d * d / ((double)N / BINS);
    }
    ck_assert_double_lt(chi2, 45.0); /* 15 degrees of freedom: 1e-4 */
}
END_TEST

START_TEST(below_stays_below_and_reaches_all)
{
    const struct rng r = rng_make(3, RNG_TEST, 0, 0);
    unsigned seen = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        const uint32_t v = rng_below(&r, i, 9);
        ck_assert_uint_lt(v, 9);
        seen |= 1u << v;
        ck_assert_uint_eq(rng_below(&r, i, 1), 0);
        ck_assert_uint_lt(rng_below(&r, i, UINT32_MAX), UINT32_MAX);
    }
    ck_assert_uint_eq(seen, 0x1ff);
}
END_TEST

START_TEST(normal_has_the_moments_of_one)
{
    const struct rng r = rng_make(4, RNG_TEST, 0, 0);
    enum { N = 100000 };
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double z = rng_normal(&r, i);
        ck_assert(isfinite(z));
        m1 += z;
        m2 += z * z;
        m3 += z * z * z;
        m4 += z * z * z * z;
    }
    /* Standard errors of the mean powers: sqrt(1, 2, 15, 96) / sqrt(N); 4 of them. */
    ck_assert_double_lt(fabs(m1 / N), 4 * sqrt(1.0 / N));
    ck_assert_double_lt(fabs(m2 / N - 1), 4 * sqrt(2.0 / N));
    ck_assert_double_lt(fabs(m3 / N), 4 * sqrt(15.0 / N));
    ck_assert_double_lt(fabs(m4 / N - 3), 4 * sqrt(96.0 / N));

    const double u = rng_uniform(&r, 10), v = rng_uniform(&r, 11);
    ck_assert_double_eq_tol(rng_normal(&r, 5), sqrt(-2 * log(u)) * cos(2 * acos(-1.0) * v), 1e-14);
}
END_TEST

Suite *rng_suite(void)
{
    Suite *s = suite_create("rng");
    TCase *t = tcase_create("rng");
    tcase_add_loop_test(t, known_answers, 0, (int)(sizeof known / sizeof known[0]));
    tcase_add_test(t, make_is_as_documented);
    tcase_add_test(t, words_are_those_of_the_blocks);
    tcase_add_test(t, each_part_of_the_key_matters);
    tcase_add_test(t, uniform_is_open_and_flat);
    tcase_add_test(t, below_stays_below_and_reaches_all);
    tcase_add_test(t, normal_has_the_moments_of_one);
    suite_add_tcase(s, t);
    return s;
}
