/* The codec's bins of the normalised value: every ISA against the reference bit for bit, parts
 * against the whole, and the reference against the formulas in codec.h. */
#include "codec_fixture.h"

#define MAX_CHANNELS 70
#define MAX_GROUPS 3

/* Batch-norm of all kinds: either sign of gamma, 0 among them, biases far out. */
struct norm_fixture {
    struct codec_norm norm;
    real mean[MAX_GROUPS * MAX_CHANNELS], invstd[MAX_GROUPS * MAX_CHANNELS];
    real gamma[MAX_CHANNELS], beta[MAX_CHANNELS];
};

static void make_norm(struct norm_fixture *f, size_t c, size_t group)
{
    const struct rng rng = rng_make(8, RNG_TEST, 0, 0);
    for (size_t i = 0; i < MAX_GROUPS * c; i++) {
        f->mean[i] = (real)(3 * rng_normal(&rng, 2 * i));
        f->invstd[i] = (real)exp(rng_normal(&rng, 2 * i + 1));
    }
    for (size_t i = 0; i < c; i++) {
        f->gamma[i] = (real)(i % 11 == 7 ? 0 : rng_normal(&rng, 1000 + i));
        f->beta[i] = (real)((i % 5 == 4 ? 20 : 1) * rng_normal(&rng, 2000 + i));
    }
    f->norm = (struct codec_norm){
        .mean = f->mean, .invstd = f->invstd, .gamma = f->gamma, .beta = f->beta, .group = group};
}

/* Normal numbers with the mean and deviation that the fixture says. */
static void fill_normal(const struct tensor *x, const struct norm_fixture *f)
{
    const struct rng rng = rng_make(9, RNG_TEST, 0, 0);
    const size_t c = x->shape.c, per_sample = x->shape.h * x->shape.w;
    for (size_t p = 0; p < shape_pixels(&x->shape); p++) {
        for (size_t ch = 0; ch < c; ch++) {
            const size_t at = p / per_sample / f->norm.group * c + ch;
            pixel_at(x, p)[ch] = (real)((double)f->mean[at] +
                                        rng_normal(&rng, p * c + ch) / (double)f->invstd[at]);
        }
    }
}

static const struct shape shapes[] = {{3, 1, 1, 1},  {2, 3, 5, 17}, {5, 4, 4, 64},
                                      {3, 7, 7, 65}, {1, 8, 8, 3},  {3, 9, 2, 16}};
#define N_SHAPES ((int)(sizeof(shapes) / sizeof(shapes[0])))

static const unsigned widths[] = {4, 8, 2};

START_TEST(every_isa_equals_ref)
{
    struct kernels k[MAX_ISAS];
    struct norm_fixture f;
    const size_t n_isas = kernels_all(k);
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    make_norm(&f, shapes[_i].c, 2);
    struct guarded_bytes x_values, want_values, values, want_code, code;
    const struct tensor x = guarded_tensor(shapes[_i], 3, &x_values);
    fill_normal(&x, &f);
    pixel_at(&x, 0)[0] = (real)NAN;
    for (size_t b = 0; b < 3; b++) {
        const struct codec_spec spec = {.kind = CODEC_BINS, .bits = widths[b], .norm = &f.norm};
        struct tensor want = guarded_tensor(x.shape, 2, &want_values);
        round_trip(&k[0], &spec, &x, &rng, &want, 1, &want_code);
        for (size_t i = 1; i < n_isas; i++) {
            struct tensor out = guarded_tensor(x.shape, 1, &values);
            round_trip(&k[i], &spec, &x, &rng, &out, 2, &code);
            ck_assert_uint_eq(code.n, want_code.n);
            ck_assert_msg(memcmp(code.p, want_code.p, code.n) == 0, "%s: codes differ", k[i].isa);
            for (size_t p = 0; p < shape_pixels(&x.shape); p++) {
                for (size_t ch = 0; ch < x.shape.c; ch++) {
                    EXPECT(same_value(pixel_at(&want, p)[ch], pixel_at(&out, p)[ch]),
                           "%s: pixel %zu channel %zu", k[i].isa, p, ch);
                }
            }
            check_gaps(&out);
            guarded_bytes_free(&values);
            guarded_bytes_free(&code);
        }
        guarded_bytes_free(&want_values);
        guarded_bytes_free(&want_code);
    }
    guarded_bytes_free(&x_values);
}
END_TEST

START_TEST(parts_equal_the_whole)
{
    const struct kernels k = kernels_of("auto");
    struct norm_fixture f;
    const struct shape shape = {5, 7, 3, 33};
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    make_norm(&f, shape.c, 2);
    const struct codec_spec spec = {.kind = CODEC_BINS, .bits = 4, .norm = &f.norm};
    struct guarded_bytes x_values, out_values, part_values, code;
    const struct tensor x = guarded_tensor(shape, 0, &x_values);
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    fill_normal(&x, &f);
    round_trip(&k, &spec, &x, &rng, &out, 1, &code);
    unsigned char *samples = mem_calloc(MEM_OTHER, code.n, 1);
    for (size_t n = 0; n < shape.n; n++) {
        struct tensor one = x;
        one.data += n * shape.h * shape.w * x.pixel_stride;
        one.shape.n = 1;
        codec_encode_samples(&k, &spec, &one, n, &rng, samples, NULL);
    }
    ck_assert_mem_eq(samples, code.p, code.n);
    const struct codec_block block = {.n0 = 3, .n1 = 5, .h0 = 2, .h1 = 5, .c0 = 5, .c1 = 31};
    struct tensor part = guarded_tensor((struct shape){2, 3, 3, 26}, 4, &part_values);
    codec_decode(&k, &spec, &shape, samples, &block, &part, 1);
    for (size_t p = 0; p < shape_pixels(&part.shape); p++) {
        const size_t whole = (3 + p / 9) * 21 + 6 + p % 9;
        ck_assert_mem_eq(pixel_at(&part, p), pixel_at(&out, whole) + 5, 26 * sizeof(real));
    }
    check_gaps(&part);
    mem_free(samples);
    guarded_bytes_free(&x_values);
    guarded_bytes_free(&out_values);
    guarded_bytes_free(&part_values);
    guarded_bytes_free(&code);
}
END_TEST

/* From the formulas: the centre of the value's bin, on the right side of 0. */
START_TEST(values_are_bin_centres)
{
    const struct kernels k = kernels_of("ref");
    struct norm_fixture f;
    const struct shape shape = {4, 16, 16, 60};
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    make_norm(&f, shape.c, 2);
    const unsigned bits = widths[_i];
    const double w = 6.0 / (1u << bits);
    const struct codec_spec spec = {.kind = CODEC_BINS, .bits = bits, .norm = &f.norm};
    struct guarded_bytes x_values, out_values;
    const struct tensor x = guarded_tensor(shape, 0, &x_values);
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    fill_normal(&x, &f);
    round_trip(&k, &spec, &x, &rng, &out, 1, NULL);
    size_t n_far = 0, n_changed = 0;
    for (size_t p = 0; p < shape_pixels(&shape); p++) {
        for (size_t ch = 0; ch < shape.c; ch++) {
            const size_t at = p / 256 / 2 * shape.c + ch;
            const double mean = (double)f.mean[at], invstd = (double)f.invstd[at];
            const double value = ((double)pixel_at(&x, p)[ch] - mean) * invstd;
            const double decoded = ((double)pixel_at(&out, p)[ch] - mean) * invstd;
            const double gamma = (double)f.gamma[ch], beta = (double)f.beta[ch];
            const double y = gamma * value + beta, y_decoded = gamma * decoded + beta;
            const int is_near = fabs(beta) <= 3 * fabs(gamma);
            /* The outer bins end between 3 - w and 3 + w, as the edge at 0 falls. */
            EXPECT(fabs(value) > 3 - w || fabs(decoded - value) <= w / 2 + 1e-4,
                   "channel %zu: %g decodes to %g", ch, value, decoded);
            EXPECT(fabs(decoded) <= 3 + 1.5 * w, "channel %zu: %g decodes to %g", ch, value,
                   decoded);
            if (is_near) {
                EXPECT((y > 0) == (y_decoded > 0) || fabs(y) < 1e-5 * fabs(gamma),
                       "channel %zu: %g has become %g", ch, y, y_decoded);
            } else {
                n_far++;
                n_changed += (y > 0) != (y_decoded > 0);
                EXPECT((y > 0) == (y_decoded > 0) || fabs(value) >= 3 - 1e-4,
                       "channel %zu: %g has become %g, and %g is no outlier", ch, y, y_decoded,
                       value);
            }
        }
    }
    ck_assert_uint_gt(n_far, 1000);
    ck_assert_uint_lt(n_changed, n_far / 200);
    guarded_bytes_free(&x_values);
    guarded_bytes_free(&out_values);
}
END_TEST

/* Codes alone: 16 pixels of 4 bits are 8 bytes per channel. */
START_TEST(bytes_are_those_of_the_codes)
{
    const struct shape shape = {3, 4, 4, 5};
    struct codec_bytes parts;
    const struct codec_spec spec = {.kind = CODEC_BINS, .bits = 4};
    ck_assert_uint_eq(codec_bytes(&spec, &shape, &parts), 3 * 8 * 5);
    ck_assert_uint_eq(parts.codes, 3 * 8 * 5);
    ck_assert_uint_eq(parts.ranges, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("codec_bins");
    TCase *t = tcase_create("codec_bins");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_isa_equals_ref, 0, N_SHAPES);
    tcase_add_test(t, parts_equal_the_whole);
    tcase_add_loop_test(t, values_are_bin_centres, 0, 2);
    tcase_add_test(t, bytes_are_those_of_the_codes);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
