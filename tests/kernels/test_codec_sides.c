/* Codes that count from a batch-norm's threshold: every ISA against the reference bit for bit, parts
 * against the whole, and the promises in codec.h: each value on its own side, unbiased, closer than
 * a code over the whole range. */
#include "codec_fixture.h"

#include "kernels/batch_norm.h"
#include "kernels/eltwise.h"

#define MAX_CHANNELS 70
#define MAX_GROUPS 3

/* A map, and the batch-norm that reads it, with the signs of its output. */
struct sides_fixture {
    struct tensor x;
    struct codec_norm norm;
    struct guarded_bytes values, signs;
    real mean[MAX_GROUPS * MAX_CHANNELS], invstd[MAX_GROUPS * MAX_CHANNELS];
    real gamma[MAX_CHANNELS], beta[MAX_CHANNELS];
};

/* Batch-norms of all kinds: gammas of either sign and 0, thresholds in the midst of the values and
 * beyond all of them. */
static void make(struct sides_fixture *f, struct shape shape, size_t gap, size_t group)
{
    const struct kernels k = kernels_of("ref");
    const struct rng rng = rng_make(8, RNG_TEST, 0, 0);
    f->x = guarded_tensor(shape, gap, &f->values);
    fill_map(&f->x, 3);
    for (size_t i = 0; i < MAX_GROUPS * shape.c; i++) {
        f->mean[i] = (real)((double)(i % shape.c % 3) + 0.2 * rng_normal(&rng, 2 * i));
        f->invstd[i] = (real)(exp(0.2 * rng_normal(&rng, 2 * i + 1)) /
                              (double)(1 + i % shape.c % 5));
    }
    for (size_t i = 0; i < shape.c; i++) {
        f->gamma[i] = (real)(i % 11 == 7 ? 0 : rng_normal(&rng, 1000 + i));
        f->beta[i] = (real)((i % 5 == 4 ? 20 : 1) * rng_normal(&rng, 2000 + i));
    }
    struct guarded_bytes y_values;
    struct tensor y = guarded_tensor(shape, 0, &y_values);
    f->signs = guarded_bytes_new(relu_sign_bytes(&shape));
    const struct batch_norm bn = {.group = group,
                                  .mean = f->mean,
                                  .invstd = f->invstd,
                                  .gamma = f->gamma,
                                  .beta = f->beta,
                                  .relu = 1,
                                  .signs = f->signs.p};
    batch_norm_apply(&k, &f->x, &bn, &y);
    guarded_bytes_free(&y_values);
    f->norm = (struct codec_norm){.mean = f->mean,
                                  .invstd = f->invstd,
                                  .gamma = f->gamma,
                                  .beta = f->beta,
                                  .group = group,
                                  .signs = f->signs.p};
}

static void end(struct sides_fixture *f)
{
    guarded_bytes_free(&f->values);
    guarded_bytes_free(&f->signs);
}

static int is_positive(const struct sides_fixture *f, size_t pixel, size_t ch)
{
    return f->signs.p[pixel * ((f->x.shape.c + 7) / 8) + ch / 8] >> ch % 8 & 1;
}

static const struct shape shapes[] = {{3, 1, 1, 1},    {2, 3, 5, 17},   {5, 4, 4, 64},
                                      {3, 7, 7, 65},   {1, 8, 8, 3},    {3, 9, 2, 16},
                                      {2, 16, 16, 36}, {1, 14, 14, 32}, {2, 20, 3, 24}};
#define N_SHAPES ((int)(sizeof(shapes) / sizeof(shapes[0])))

static const unsigned widths[] = {1, 2, 4, 8};
static const size_t blocks[] = {0, 3, 8};

static void compare_isas(const struct sides_fixture *f, const struct codec_spec *spec)
{
    struct kernels k[MAX_ISAS];
    const size_t n_isas = kernels_all(k);
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    struct guarded_bytes want_values, values, want_code, code;
    struct tensor want = guarded_tensor(f->x.shape, 2, &want_values);
    round_trip(&k[0], spec, &f->x, &rng, &want, 1, &want_code);
    for (size_t i = 1; i < n_isas; i++) {
        struct tensor out = guarded_tensor(f->x.shape, 1, &values);
        round_trip(&k[i], spec, &f->x, &rng, &out, 2, &code);
        ck_assert_uint_eq(code.n, want_code.n);
        EXPECT(memcmp(code.p, want_code.p, code.n) == 0, "%s, %u bits, block %zu: codes differ",
               k[i].isa, spec->bits, spec->block);
        for (size_t p = 0; p < shape_pixels(&f->x.shape); p++) {
            for (size_t ch = 0; ch < f->x.shape.c; ch++) {
                EXPECT(same_value(pixel_at(&want, p)[ch], pixel_at(&out, p)[ch]),
                       "%s, %u bits, block %zu: pixel %zu channel %zu: %.9g, not %.9g", k[i].isa,
                       spec->bits, spec->block, p, ch, (double)pixel_at(&out, p)[ch],
                       (double)pixel_at(&want, p)[ch]);
            }
        }
        check_gaps(&out);
        guarded_bytes_free(&values);
        guarded_bytes_free(&code);
    }
    guarded_bytes_free(&want_values);
    guarded_bytes_free(&want_code);
}

START_TEST(every_isa_equals_ref)
{
    struct sides_fixture f;
    make(&f, shapes[_i], 3, 2);
    for (size_t b = 0; b < sizeof(widths) / sizeof(widths[0]); b++) {
        for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
            const struct codec_spec spec = {.kind = CODEC_SIDES,
                                            .bits = widths[b],
                                            .block = blocks[i],
                                            .stochastic = i != 1,
                                            .norm = &f.norm};
            pixel_at(&f.x, 0)[0] = 1;
            compare_isas(&f, &spec);
            pixel_at(&f.x, 0)[0] = (real)NAN;
            compare_isas(&f, &spec);
            pixel_at(&f.x, 0)[0] = (real)3e38;
            compare_isas(&f, &spec);
        }
    }
    end(&f);
}
END_TEST

START_TEST(parts_equal_the_whole)
{
    const struct kernels k = kernels_of("auto");
    const struct shape shape = {5, 7, 9, 41};
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    struct sides_fixture f;
    make(&f, shape, 0, 2);
    const struct codec_spec spec = {
        .kind = CODEC_SIDES, .bits = 2, .block = 4, .stochastic = 1, .norm = &f.norm};
    struct guarded_bytes out_values, part_values, code;
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    round_trip(&k, &spec, &f.x, &rng, &out, 1, &code);
    unsigned char *samples = mem_calloc(MEM_OTHER, code.n, 1);
    for (size_t n = 0; n < shape.n; n++) {
        struct tensor one = f.x;
        one.data += n * shape.h * shape.w * f.x.pixel_stride;
        one.shape.n = 1;
        codec_encode_samples(&k, &spec, &one, n, &rng, samples, NULL);
    }
    ck_assert_mem_eq(samples, code.p, code.n);
    const struct codec_block parts[] = {{.n0 = 3, .n1 = 5, .h0 = 2, .h1 = 5, .c0 = 5, .c1 = 39},
                                        {.n0 = 1, .n1 = 3, .h0 = 1, .h1 = 4, .c0 = 8, .c1 = 41}};
    for (size_t i = 0; i < 2; i++) {
        const struct codec_block *b = &parts[i];
        const struct shape size = {2, 3, 9, b->c1 - b->c0};
        struct tensor part = guarded_tensor(size, 4, &part_values);
        codec_decode(&k, &spec, &shape, samples, b, &part, 1);
        for (size_t p = 0; p < shape_pixels(&part.shape); p++) {
            const size_t whole = (b->n0 + p / 27) * 63 + b->h0 * 9 + p % 27;
            ck_assert_mem_eq(pixel_at(&part, p), pixel_at(&out, whole) + b->c0,
                             size.c * sizeof(real));
        }
        check_gaps(&part);
        guarded_bytes_free(&part_values);
    }
    mem_free(samples);
    guarded_bytes_free(&out_values);
    guarded_bytes_free(&code);
    end(&f);
}
END_TEST

/* Where the batch-norm changes its sign, in double. */
static double threshold(const struct sides_fixture *f, size_t n, size_t ch)
{
    const size_t at = n / f->norm.group * f->x.shape.c + ch;
    return (double)f->mean[at] -
           (double)f->beta[ch] / ((double)f->gamma[ch] * (double)f->invstd[at]);
}

/* Not beyond the threshold, but for float's rounding; flat maps are exact. */
START_TEST(values_stay_on_their_side)
{
    const struct kernels k = kernels_of("auto");
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    const struct shape shape = {4, 16, 16, 60};
    struct sides_fixture f;
    make(&f, shape, 0, 2);
    const struct codec_spec spec = {
        .kind = CODEC_SIDES, .bits = widths[_i], .block = 8, .stochastic = 1, .norm = &f.norm};
    struct guarded_bytes out_values;
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    round_trip(&k, &spec, &f.x, &rng, &out, 1, NULL);
    size_t n_near = 0;
    for (size_t p = 0; p < shape_pixels(&shape); p++) {
        for (size_t ch = 0; ch < shape.c; ch++) {
            const double x = (double)pixel_at(&f.x, p)[ch], y = (double)pixel_at(&out, p)[ch];
            if (ch % 7 == 6) {
                EXPECT(pixel_at(&f.x, p)[ch] == pixel_at(&out, p)[ch], "flat map %zu", ch);
                continue;
            }
            if (f.gamma[ch] == 0) {
                continue; /* no threshold */
            }
            const double t = threshold(&f, p / 256, ch);
            const int is_above = is_positive(&f, p, ch) != (f.gamma[ch] < 0);
            n_near += fabs(t - x) < 1;
            EXPECT(fabs(x - t) < 1e-5 || is_above == (x > t), "the fixture's signs are wrong");
            EXPECT(is_above ? y >= t - 1e-5 : y <= t + 1e-5,
                   "channel %zu: %g is on the other side of %g than %g", ch, y, t, x);
        }
    }
    ck_assert_uint_gt(n_near, 5000);
    guarded_bytes_free(&out_values);
    end(&f);
}
END_TEST

/* A value at the threshold comes back, whichever way its sign bit fell. */
START_TEST(sides_meet_at_the_threshold)
{
    const struct kernels k = kernels_of("auto");
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    const struct shape shape = {2, 8, 8, 16};
    struct sides_fixture f;
    make(&f, shape, 0, 1);
    for (size_t ch = 0; ch < shape.c; ch++) {
        f.gamma[ch] = ch % 2 == 0 ? 1 : -1;
        f.beta[ch] = (real)0.25;
        for (size_t n = 0; n < shape.n; n++) {
            pixel_at(&f.x, n * 64 + 20)[ch] = (real)threshold(&f, n, ch);
            pixel_at(&f.x, n * 64 + 21)[ch] += 1; /* flat channels are none */
        }
    }
    const struct codec_spec spec = {
        .kind = CODEC_SIDES, .bits = 2, .block = 8, .stochastic = 1, .norm = &f.norm};
    struct guarded_bytes out_values;
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    for (int sign = 0; sign < 2; sign++) {
        memset(f.signs.p, sign ? 0xFF : 0, f.signs.n);
        round_trip(&k, &spec, &f.x, &rng, &out, 1, NULL);
        for (size_t n = 0; n < shape.n; n++) {
            for (size_t ch = 0; ch < shape.c; ch++) {
                const double t = threshold(&f, n, ch);
                const double y = (double)pixel_at(&out, n * 64 + 20)[ch];
                EXPECT(fabs(y - t) < 1e-4 || fabs(t) > 4, "%g has become %g", t, y);
            }
        }
    }
    guarded_bytes_free(&out_values);
    end(&f);
}
END_TEST

/* Least and largest value of a channel. */
static void extent(const struct tensor *x, size_t ch, double *low, double *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (size_t p = 0; p < shape_pixels(&x->shape); p++) {
        *low = fmin(*low, (double)pixel_at(x, p)[ch]);
        *high = fmax(*high, (double)pixel_at(x, p)[ch]);
    }
}

/* Mean error of each value over many seeds, by Bernstein's bound as in test_codec.c (r spans at most
 * twice its channel); and the squares of errors beside CODEC_MAP's, in channels whose threshold lies
 * in the middle half of their values. */
START_TEST(unbiased_and_closer_than_the_whole_range)
{
    enum { N_SEEDS = 1000, H = 9, W = 7, C = 17, N = H * W * C };
    const struct kernels k = kernels_of("auto");
    const struct shape shape = {1, H, W, C};
    const unsigned bits = widths[_i];
    struct sides_fixture f;
    make(&f, shape, 0, 1);
    const struct codec_spec sides = {
        .kind = CODEC_SIDES, .bits = bits, .block = 4, .stochastic = 1, .norm = &f.norm};
    struct codec_spec map = sides;
    map.kind = CODEC_MAP;
    ck_assert_uint_eq(codec_bytes(&sides, &shape, NULL), codec_bytes(&map, &shape, NULL));
    struct guarded_bytes out_values;
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    static double sum[N];
    memset(sum, 0, sizeof(sum));
    double squares[C] = {0}, map_squares[C] = {0};
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        const struct rng rng = rng_make(seed, RNG_QUANTISE, 0, 0);
        round_trip(&k, &sides, &f.x, &rng, &out, 1, NULL);
        for (size_t e = 0; e < N; e++) {
            const double error = (double)out.data[e] - (double)f.x.data[e];
            sum[e] += error;
            squares[e % C] += error * error;
        }
        round_trip(&k, &map, &f.x, &rng, &out, 1, NULL);
        for (size_t e = 0; e < N; e++) {
            const double error = (double)out.data[e] - (double)f.x.data[e];
            map_squares[e % C] += error * error;
        }
    }
    const double log_term = log(2.0 * N / 1e-6);
    const double bound = sqrt(0.5 * log_term / N_SEEDS) + log_term / (3 * N_SEEDS) + 0x1p-16;
    size_t n_middle = 0;
    for (size_t ch = 0; ch < C; ch++) {
        double low, high;
        extent(&f.x, ch, &low, &high);
        const double span = high - low, step = 2.05 * span / ((1u << bits) - 1u) + 1e-6;
        for (size_t e = ch; e < N; e += C) {
            EXPECT(fabs(sum[e]) / N_SEEDS / step <= bound, "value %zu is off by %g steps", e,
                   sum[e] / N_SEEDS / step);
        }
        const double t = threshold(&f, 0, ch);
        EXPECT(squares[ch] <= 1.05 * map_squares[ch], "channel %zu: %g against %g", ch, squares[ch],
               map_squares[ch]);
        if (t > low + span / 4 && t < high - span / 4) {
            n_middle++;
            EXPECT(squares[ch] < 0.6 * map_squares[ch], "channel %zu: %g against %g", ch,
                   squares[ch], map_squares[ch]);
        }
    }
    ck_assert_uint_ge(n_middle, 4);
    guarded_bytes_free(&out_values);
    end(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("codec_sides");
    TCase *t = tcase_create("codec_sides");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_isa_equals_ref, 0, N_SHAPES);
    tcase_add_test(t, parts_equal_the_whole);
    tcase_add_loop_test(t, values_stay_on_their_side, 0, 4);
    tcase_add_test(t, sides_meet_at_the_threshold);
    tcase_add_loop_test(t, unbiased_and_closer_than_the_whole_range, 0, 4);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
