/* Element-wise passes, batch-norm and SGD: every ISA of this processor against plain loops in
 * double. */
#include "config.h"

#include "base/threads.h"
#include "kernels/batch_norm.h"
#include "kernels/eltwise.h"
#include "kernels/sgd.h"

#include "loops_fixture.h"

static int is_positive(double x)
{
    return x > 0;
}

static double relu(double x)
{
    return x <= 0 ? 0 : x;
}

/* A supported ISA that is not in the list would be skipped silently by every test below. */
START_TEST(every_isa_runs)
{
    size_t n;
    const char *const *names = kernels_isas(&n);
    int has_ref = 0, has_base = 0, has_avx2 = 0, has_avx512 = 0;
    for (size_t i = 0; i < n; i++) {
        has_ref |= strcmp(names[i], "ref") == 0;
        has_base |= strcmp(names[i], "base") == 0;
        has_avx2 |= strcmp(names[i], "avx2") == 0;
        has_avx512 |= strcmp(names[i], "avx512") == 0;
    }
    ck_assert(has_ref && has_base);
#ifdef HAVE_KERNELS_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        ck_assert(has_avx2);
    }
#endif
#ifdef HAVE_KERNELS_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        ck_assert(has_avx512);
    }
#endif
    (void)has_avx2;
    (void)has_avx512;
    /* Each has its own loops, not an inherited table. */
    const struct kernels ref = kernels_of("ref");
    for (size_t i = 1; i < n; i++) {
        const struct kernels k = kernels_of(names[i]), before = kernels_of(names[i - 1]);
        ck_assert(k.loop.add != ref.loop.add && k.loop.add != before.loop.add);
        ck_assert(k.loop.bn_moments != before.loop.bn_moments);
        ck_assert(k.loop.max_pool != before.loop.max_pool);
        ck_assert(k.loop.dropout != before.loop.dropout);
    }
}
END_TEST

/* One shape, strides c + extra. `in_place`: y is x. */
static void check_relu(const struct kernels *k, struct shape shape, size_t extra, int in_place)
{
    struct guarded x = guarded_new(shape, extra), y = guarded_new(shape, in_place ? extra : 0);
    fill_normal(&x, 1, 0);
    sprinkle_special(&x, 2);
    const size_t n = n_elements_of(&x), row = (shape.c + 7) / 8;
    ck_assert_uint_eq(relu_sign_bytes(&shape), row * n_pixels_of(&x));
    double *const in = malloc(n * sizeof(double));
    uint8_t *const signs = malloc(relu_sign_bytes(&shape) + 1);
    for (size_t i = 0; i < n; i++) {
        in[i] = (double)*element(&x, i);
    }
    memset(signs, 0xa5, relu_sign_bytes(&shape) + 1);

    relu_forward(k, &x.t, &y.t, NULL);
    for (size_t i = 0; i < n; i++) {
        expect_same((double)*element(&y, i), relu(in[i]), "relu", i);
    }
    struct guarded *const out = in_place ? &x : &y;
    relu_forward(k, &x.t, &out->t, signs);
    for (size_t i = 0; i < n; i++) {
        expect_same((double)*element(out, i), relu(in[i]), "relu with signs", i);
    }
    for (size_t p = 0; p < n_pixels_of(&x); p++) {
        for (size_t i = 0; i < row * 8; i++) {
            const int expected = i < shape.c && is_positive(in[p * shape.c + i]);
            expect_same(signs[p * row + i / 8] >> i % 8 & 1, expected, "sign bit", p * row * 8 + i);
        }
    }
    ck_assert_uint_eq(signs[relu_sign_bytes(&shape)], 0xa5);

    /* Backward from the bits and from the output, plain and added. */
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        struct guarded dy = guarded_new(shape, extra), dx = guarded_new(shape, in_place ? 0 : 3);
        struct guarded dx2 = guarded_new(shape, 1);
        fill_normal(&dy, 3, 0);
        fill_normal(&dx, 4, 0);
        fill_normal(&dx2, 4, 0);
        struct guarded start = guarded_new(shape, 0);
        fill_normal(&start, 4, 0);
        relu_backward_signs(k, &dy.t, signs, &dx.t, accumulate);
        relu_backward_output(k, &dy.t, &out->t, &dx2.t, accumulate);
        for (size_t i = 0; i < n; i++) {
            const real d = is_positive(in[i]) ? *element(&dy, i) : 0;
            const real expected = accumulate ? *element(&start, i) + d : d;
            expect_same((double)*element(&dx, i), (double)expected, "relu backward, signs", i);
            expect_same((double)*element(&dx2, i), (double)expected, "relu backward, output", i);
        }
        if (!accumulate) {
            relu_backward_signs(k, &dy.t, signs, &dy.t, 0);
            for (size_t i = 0; i < n; i++) {
                expect_same((double)*element(&dy, i), (double)*element(&dx, i), "in place", i);
            }
        }
        guarded_free(&dy);
        guarded_free(&dx);
        guarded_free(&dx2);
        guarded_free(&start);
    }
    guarded_free(&x);
    guarded_free(&y);
    free(in);
    free(signs);
}

START_TEST(relu_passes)
{
    const struct kernels k = kernels_round(_i);
    for (size_t i = 0; i < N_CHANNEL_COUNTS; i++) {
        check_relu(&k, (struct shape){2, 3, 5, channel_counts[i]}, 0, i % 2 != 0);
        check_relu(&k, (struct shape){1, 3, 3, channel_counts[i]}, 5, i % 2 == 0);
    }
    check_relu(&k, (struct shape){5, 23, 29, 16}, 0, 0); /* several blocks */
    check_relu(&k, (struct shape){5, 23, 29, 12}, 0, 1);
    check_relu(&k, (struct shape){0, 4, 4, 16}, 0, 0);
}
END_TEST

static void check_add_copy(const struct kernels *k, struct shape shape, size_t extra)
{
    struct guarded a = guarded_new(shape, extra), b = guarded_new(shape, 2 * extra);
    struct guarded y = guarded_new(shape, extra), z = guarded_new(shape, extra ? 0 : 3);
    fill_normal(&a, 1, 0);
    fill_normal(&b, 2, 0);
    sprinkle_special(&a, 3);
    add_forward(k, &a.t, &b.t, &y.t);
    tensor_copy(k, &a.t, &z.t);
    for (size_t i = 0; i < n_elements_of(&a); i++) {
        expect_same((double)*element(&z, i), (double)*element(&a, i), "copy", i);
        expect_same((double)*element(&y, i), (double)(*element(&a, i) + *element(&b, i)), "add", i);
    }
    tensor_accumulate(k, &b.t, &a.t);
    add_forward(k, &z.t, &b.t, &b.t);
    for (size_t i = 0; i < n_elements_of(&a); i++) {
        expect_same((double)*element(&a, i), (double)*element(&y, i), "accumulate", i);
        expect_same((double)*element(&b, i), (double)*element(&y, i), "add in place", i);
    }
    guarded_free(&a);
    guarded_free(&b);
    guarded_free(&y);
    guarded_free(&z);
}

START_TEST(add_and_copy)
{
    const struct kernels k = kernels_round(_i);
    for (size_t i = 0; i < N_CHANNEL_COUNTS; i++) {
        check_add_copy(&k, (struct shape){2, 3, 5, channel_counts[i]}, 0);
        check_add_copy(&k, (struct shape){2, 3, 5, channel_counts[i]}, 3);
    }
    check_add_copy(&k, (struct shape){5, 23, 29, 16}, 0);
    check_add_copy(&k, (struct shape){5, 23, 29, 16}, 16);
}
END_TEST

static struct rng dropout_rng(void)
{
    return rng_make(3, RNG_DROPOUT, 11, 5);
}

static void check_dropout(const struct kernels *k, struct shape shape, size_t extra, double p)
{
    struct guarded x = guarded_new(shape, extra), y = guarded_new(shape, extra / 2);
    struct guarded sum = guarded_new(shape, extra);
    fill_normal(&x, 1, 0);
    fill_normal(&sum, 2, 0);
    struct guarded start = guarded_new(shape, 0);
    fill_normal(&start, 2, 0);
    const struct rng rng = dropout_rng();
    dropout_apply(k, &x.t, p, &rng, &y.t, 0);
    dropout_apply(k, &x.t, p, &rng, &sum.t, 1);
    const real scale = p < 1 ? (real)(1 / (1 - p)) : 0;
    for (size_t i = 0; i < n_elements_of(&x); i++) {
        const int dropped = (double)rng_u32(&rng, i) < p * 4294967296.0;
        const double expected = dropped ? 0 : (double)(*element(&x, i) * scale);
        expect_same((double)*element(&y, i), expected, "dropout", i);
        const double total = (double)*element(&start, i) + expected;
        expect_near((double)*element(&sum, i), total, 1e-6 * (1 + fabs(total)), "added", i);
    }
    dropout_apply(k, &x.t, p, &rng, &x.t, 0);
    for (size_t i = 0; i < n_elements_of(&x); i++) {
        expect_same((double)*element(&x, i), (double)*element(&y, i), "dropout in place", i);
    }
    guarded_free(&x);
    guarded_free(&y);
    guarded_free(&sum);
    guarded_free(&start);
}

START_TEST(dropout)
{
    const struct kernels k = kernels_round(_i);
    for (size_t i = 0; i < N_CHANNEL_COUNTS; i++) {
        check_dropout(&k, (struct shape){2, 3, 5, channel_counts[i]}, 0, 0.3);
        check_dropout(&k, (struct shape){2, 3, 5, channel_counts[i]}, 3, 0.5);
    }
    check_dropout(&k, (struct shape){3, 31, 29, 16}, 0, 0.3);
    /* A word that equals p * 2^32 is not below it. */
    const struct rng rng = dropout_rng();
    check_dropout(&k, (struct shape){1, 3, 3, 16}, 0, rng_u32(&rng, 17) / 4294967296.0);
    check_dropout(&k, (struct shape){1, 3, 3, 16}, 0, 0);
    check_dropout(&k, (struct shape){1, 3, 3, 16}, 1, 1);
    check_dropout(&k, (struct shape){1, 3, 3, 16}, 1, 1 - 0x1p-40);
}
END_TEST

START_TEST(sgd)
{
    const struct kernels k = kernels_round(_i);
    static const size_t sizes[] = {1, 7, 16, 33, 1000, 40000};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (int mode = 0; mode < 3; mode++) { /* no momentum, momentum, Nesterov */
            const struct shape shape = {1, 1, 1, sizes[s]};
            struct guarded w = guarded_new(shape, 0), dw = guarded_new(shape, 0);
            struct guarded m = guarded_new(shape, 0);
            fill_normal(&w, 1, 0);
            fill_normal(&dw, 2, 0);
            memset(m.t.data, 0, sizes[s] * sizeof(real));
            struct guarded w0 = guarded_new(shape, 0);
            fill_normal(&w0, 1, 0);
            const struct sgd_params p = {
                .lr = 0.1, .momentum = mode ? 0.9 : 0, .weight_decay = 0.01, .nesterov = mode == 2};
            for (int step = 0; step < 3; step++) {
                sgd_update(&k, &p, sizes[s], w.t.data, dw.t.data, mode ? m.t.data : NULL);
            }
            for (size_t i = 0; i < sizes[s]; i++) {
                double ew = (double)w0.t.data[i], em = 0;
                for (int step = 0; step < 3; step++) {
                    const double g = (double)dw.t.data[i] + 0.01 * ew;
                    em = p.momentum * em + g;
                    ew -= 0.1 * (mode == 2 ? g + 0.9 * em : em);
                }
                expect_near((double)w.t.data[i], ew, 2e-6, "weight", i);
                if (mode) {
                    expect_near((double)m.t.data[i], em, 5e-6, "momentum", i);
                }
            }
            guarded_free(&w);
            guarded_free(&dw);
            guarded_free(&m);
            guarded_free(&w0);
        }
    }
}
END_TEST

/* What is in the sum before the first part does not count. */
START_TEST(sgd_sums)
{
    const struct kernels k = kernels_round(_i);
    static const size_t sizes[] = {1, 7, 16, 33, 1000, 40000};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        const struct shape shape = {1, 1, 1, sizes[s]};
        struct guarded a = guarded_new(shape, 0), b = guarded_new(shape, 0);
        struct guarded sum = guarded_new(shape, 0);
        fill_normal(&a, 1, 0);
        fill_normal(&b, 2, 0);
        fill_normal(&sum, 3, 0);
        sgd_accumulate(&k, sizes[s], a.t.data, sum.t.data, 1);
        ck_assert_mem_eq(sum.t.data, a.t.data, sizes[s] * sizeof(real));
        sgd_accumulate(&k, sizes[s], b.t.data, sum.t.data, 0);
        sgd_accumulate(&k, sizes[s], b.t.data, sum.t.data, 0);
        for (size_t i = 0; i < sizes[s]; i++) {
            ck_assert(sum.t.data[i] == (real)((real)(a.t.data[i] + b.t.data[i]) + b.t.data[i]));
        }
        guarded_free(&a);
        guarded_free(&b);
        guarded_free(&sum);
    }
}
END_TEST

/* The formulas of batch_norm.h for one group and channel, in double. */
struct bn_expected {
    double mean, var, sum_dy, sum_dy_xhat;
};

static struct bn_expected bn_formula(const struct guarded *x, const struct guarded *dy, size_t p0,
                                     size_t p1, size_t ch, double invstd)
{
    const size_t c = x->t.shape.c;
    const double n = (double)(p1 - p0);
    struct bn_expected e = {0};
    for (size_t p = p0; p < p1; p++) {
        e.mean += (double)*element(x, p * c + ch) / n;
    }
    for (size_t p = p0; p < p1; p++) {
        const double d = (double)*element(x, p * c + ch) - e.mean;
        e.var += d * d / n;
        e.sum_dy += (double)*element(dy, p * c + ch);
        e.sum_dy_xhat += (double)*element(dy, p * c + ch) * d * invstd;
    }
    return e;
}

static void check_bn(const struct kernels *k, struct shape shape, size_t extra, size_t group,
                     double x_mean)
{
    const size_t c = shape.c, n_groups = (shape.n + group - 1) / group;
    struct guarded x = guarded_new(shape, extra), y = guarded_new(shape, 2 * extra);
    struct guarded dy = guarded_new(shape, extra / 2), dx = guarded_new(shape, extra);
    struct guarded params = guarded_new((struct shape){1, 1, 2, c}, 0);
    struct guarded per_group = guarded_new((struct shape){1, n_groups, 5, c}, 0);
    struct guarded dparams = guarded_new((struct shape){1, 1, 2, c}, 0);
    fill_normal(&x, 1, x_mean);
    fill_normal(&dy, 2, 0.5);
    fill_normal(&params, 3, 1);
    fill_normal(&dx, 4, 0);
    const real *const gamma = params.t.data, *const beta = gamma + c;
    real *const mean = per_group.t.data, *const var = mean + n_groups * c;
    real *const invstd = var + n_groups * c, *const means = invstd + n_groups * c;
    real *const dgamma = dparams.t.data, *const dbeta = dgamma + c;
    void *const workspace = malloc(batch_norm_workspace_bytes(&shape, group));

    batch_norm_stats(k, &x.t, group, mean, var, workspace);
    for (size_t i = 0; i < n_groups * c; i++) {
        invstd[i] = (real)(1 / sqrt((double)var[i] + 1e-5));
    }
    const struct batch_norm bn = {
        .group = group, .mean = mean, .invstd = invstd, .gamma = gamma, .beta = beta};
    batch_norm_apply(k, &x.t, &bn, &y.t);
    batch_norm_backward_reduce(k, &dy.t, &x.t, &bn, means, dgamma, dbeta, workspace);
    batch_norm_backward_apply(k, &dy.t, &x.t, &bn, means, &dx.t, 1);
    struct guarded start = guarded_new(shape, 0);
    fill_normal(&start, 4, 0);

    /* x has the rounding of its size in every difference. */
    const double ulp = 1e-6 * (1 + fabs(x_mean));
    for (size_t ch = 0; ch < c; ch++) {
        double dg = 0, db = 0, total_abs = 0;
        for (size_t g = 0; g < n_groups; g++) {
            const size_t n_samples = (g + 1) * group < shape.n ? group : shape.n - g * group;
            const size_t p0 = g * group * shape.h * shape.w, n = n_samples * shape.h * shape.w;
            const double is = (double)invstd[g * c + ch];
            const struct bn_expected e = bn_formula(&x, &dy, p0, p0 + n, ch, is);
            expect_near((double)mean[g * c + ch], e.mean, ulp, "mean", g * c + ch);
            expect_near((double)var[g * c + ch], e.var, 2e-6 * e.var + ulp * ulp, "variance",
                        g * c + ch);
            const double sum_tol = 4 * ulp * (double)n * (1 + is);
            expect_near((double)means[g * 2 * c + ch] * (double)n, e.sum_dy, sum_tol, "sum dy", ch);
            expect_near((double)means[g * 2 * c + c + ch] * (double)n, e.sum_dy_xhat, sum_tol,
                        "sum dy xhat", ch);
            dg += e.sum_dy_xhat;
            db += e.sum_dy;
            total_abs += sum_tol;
            for (size_t i = 0; i < n; i++) {
                const size_t at = (p0 + i) * c + ch;
                const double xhat = ((double)*element(&x, at) - e.mean) * is;
                const double ga = (double)gamma[ch];
                const double tol = 10 * ulp * (1 + fabs(ga)) * (1 + is) * (1 + fabs(xhat));
                expect_near((double)*element(&y, at), ga * xhat + (double)beta[ch], tol, "y", at);
                const double d = ga * is *
                                 ((double)*element(&dy, at) - e.sum_dy / (double)n -
                                  xhat * e.sum_dy_xhat / (double)n);
                expect_near((double)*element(&dx, at), (double)*element(&start, at) + d,
                            10 * tol * (1 + is), "dx added", at);
            }
        }
        expect_near((double)dgamma[ch], dg, total_abs, "dgamma", ch);
        expect_near((double)dbeta[ch], db, total_abs, "dbeta", ch);
    }

    /* In place: dx in dy, y in x. */
    struct guarded dx2 = guarded_new(shape, 1);
    batch_norm_backward_apply(k, &dy.t, &x.t, &bn, means, &dx2.t, 0);
    batch_norm_backward_apply(k, &dy.t, &x.t, &bn, means, &dy.t, 0);
    batch_norm_apply(k, &x.t, &bn, &x.t);
    for (size_t i = 0; i < n_elements_of(&x); i++) {
        expect_same((double)*element(&dy, i), (double)*element(&dx2, i), "dx in dy", i);
        expect_same((double)*element(&x, i), (double)*element(&y, i), "y in x", i);
    }
    free(workspace);
    guarded_free(&x);
    guarded_free(&y);
    guarded_free(&dy);
    guarded_free(&dx);
    guarded_free(&dx2);
    guarded_free(&start);
    guarded_free(&params);
    guarded_free(&dparams);
    guarded_free(&per_group);
}

START_TEST(batch_norm)
{
    const struct kernels k = kernels_round(_i);
    for (size_t i = 0; i < N_CHANNEL_COUNTS; i++) {
        const size_t c = channel_counts[i];
        check_bn(&k, (struct shape){3, 3, 5, c}, 0, 3, 0);
        check_bn(&k, (struct shape){5, 3, 5, c}, 4, 2, 1); /* the last group is smaller */
    }
    check_bn(&k, (struct shape){7, 21, 23, 16}, 0, 3, 0); /* several blocks per group */
    check_bn(&k, (struct shape){7, 21, 23, 16}, 0, 100, 30);
    check_bn(&k, (struct shape){7, 9, 7, 70}, 6, 1, 0);
    check_bn(&k, (struct shape){2, 1, 1, 300}, 0, 2, 0);
    check_bn(&k, (struct shape){1, 1, 1, 20}, 0, 1, 0); /* one pixel: variance 0 */
}
END_TEST

/* But for rounding: a compiler may contract one of two loops and not the other. */
static void expect_equal(const struct guarded *a, const struct guarded *b, const char *what)
{
    for (size_t i = 0; i < n_elements_of(a); i++) {
        const double expected = (double)*element(b, i);
        expect_near((double)*element(a, i), expected, 4e-7 * (1 + fabs(expected)), what, i);
    }
}

/* The bits of the ReLU behind, `dy` and `x` being as they were when forward wrote them. */
static void check_bn_relu_backward(const struct kernels *k, const struct guarded *x,
                                   const struct guarded *dy, const struct batch_norm *bn,
                                   const uint8_t *signs)
{
    const struct shape shape = x->t.shape;
    const size_t c = shape.c, n_means = (shape.n + bn->group - 1) / bn->group * 2 * c;
    real *const sums = calloc(2 * (n_means + 2 * c), sizeof(real));
    real *const sums_fused = sums + n_means + 2 * c;
    struct guarded masked = guarded_new(shape, 0), dx = guarded_new(shape, 0);
    struct guarded dx_fused = guarded_new(shape, 3);
    void *const workspace = malloc(batch_norm_workspace_bytes(&shape, bn->group));
    struct batch_norm plain = *bn;
    plain.relu = 0;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        fill_normal(&dx, 4, 0);
        fill_normal(&dx_fused, 4, 0);
        relu_backward_signs(k, &dy->t, signs, &masked.t, 0);
        batch_norm_backward_reduce(k, &masked.t, &x->t, &plain, sums, sums + n_means,
                                   sums + n_means + c, workspace);
        batch_norm_backward_apply(k, &masked.t, &x->t, &plain, sums, &dx.t, accumulate);
        batch_norm_backward_reduce(k, &dy->t, &x->t, bn, sums_fused, sums_fused + n_means,
                                   sums_fused + n_means + c, workspace);
        batch_norm_backward_apply(k, &dy->t, &x->t, bn, sums_fused, &dx_fused.t, accumulate);
        for (size_t i = 0; i < n_means + 2 * c; i++) {
            expect_same((double)sums_fused[i], (double)sums[i], "sums with the ReLU", i);
        }
        expect_equal(&dx_fused, &dx, "dx with the ReLU");
    }
    free(workspace);
    free(sums);
    guarded_free(&masked);
    guarded_free(&dx);
    guarded_free(&dx_fused);
}

/* Batch-norm and ReLU in one pass, and one after the other: the same bits. */
static void check_bn_relu(const struct kernels *k, struct shape shape, size_t extra, size_t group)
{
    const size_t c = shape.c, n_groups = (shape.n + group - 1) / group;
    struct guarded x = guarded_new(shape, extra), dy = guarded_new(shape, extra / 2);
    struct guarded want = guarded_new(shape, 0), y = guarded_new(shape, 2 * extra);
    struct guarded params = guarded_new((struct shape){1, 1, 2 + 2 * n_groups, c}, 0);
    fill_normal(&x, 1, 0.5);
    fill_normal(&dy, 2, 0);
    fill_normal(&params, 3, 0.5);
    const real *const gamma = params.t.data, *const beta = gamma + c, *const mean = beta + c;
    struct batch_norm bn = {
        .group = group, .mean = mean, .invstd = mean + n_groups * c, .gamma = gamma, .beta = beta};
    *element(&x, 0) = mean[0]; /* 0 or beta at least once */
    uint8_t *const signs = calloc(2, relu_sign_bytes(&shape));
    uint8_t *const signs_fused = signs + relu_sign_bytes(&shape);
    batch_norm_apply(k, &x.t, &bn, &want.t);
    relu_forward(k, &want.t, &want.t, signs);

    bn.relu = 1;
    batch_norm_apply(k, &x.t, &bn, &y.t);
    expect_equal(&y, &want, "y with the ReLU");
    check_bn_relu_backward(k, &x, &dy, &bn, signs);
    bn.signs = signs_fused;
    batch_norm_apply(k, &x.t, &bn, &y.t);
    expect_equal(&y, &want, "y with the ReLU's signs");
    ck_assert_mem_eq(signs_fused, signs, relu_sign_bytes(&shape));
    check_bn_relu_backward(k, &x, &dy, &bn, signs);

    /* Another x under the same bits. */
    fill_normal(&x, 5, 0.5);
    bn.relu = 0;
    batch_norm_apply(k, &x.t, &bn, &want.t);
    relu_backward_signs(k, &want.t, signs, &want.t, 0);
    bn.relu = bn.is_given = 1;
    batch_norm_apply(k, &x.t, &bn, &y.t);
    expect_equal(&y, &want, "y under given signs");
    check_bn_relu_backward(k, &x, &dy, &bn, signs);
    free(signs);
    guarded_free(&x);
    guarded_free(&dy);
    guarded_free(&want);
    guarded_free(&y);
    guarded_free(&params);
}

START_TEST(batch_norm_and_relu)
{
    const struct kernels k = kernels_round(_i);
    for (size_t i = 0; i < N_CHANNEL_COUNTS; i++) {
        const size_t c = channel_counts[i];
        check_bn_relu(&k, (struct shape){3, 3, 5, c}, 0, 3);
        check_bn_relu(&k, (struct shape){5, 3, 5, c}, 4, 2);
    }
    check_bn_relu(&k, (struct shape){7, 21, 23, 16}, 0, 3);
    check_bn_relu(&k, (struct shape){7, 9, 7, 70}, 6, 1);
}
END_TEST

/* A large mean must not eat the variance's digits; constants have variance 0; NaN shows. */
START_TEST(batch_norm_hard_values)
{
    const struct kernels k = kernels_round(_i);
    const struct shape shape = {4, 31, 33, 20};
    struct guarded x = guarded_new(shape, 0);
    const size_t c = shape.c;
    for (size_t i = 0; i < n_elements_of(&x); i++) {
        *element(&x, i) = (real)(4096 + (double)(i / c % 2)); /* 4096, 4097, … */
    }
    for (size_t p = 0; p < n_pixels_of(&x); p++) {
        *element(&x, p * c + 1) = (real)0.1;
        *element(&x, p * c + 5) = (real)(1e6 + (double)(p % 2));
    }
    *element(&x, 1000 * c + 2) = (real)NAN;
    *element(&x, 1000 * c + 3) = (real)INFINITY;
    real mean[20], var[20];
    void *const workspace = malloc(batch_norm_workspace_bytes(&shape, 4));
    batch_norm_stats(&k, &x.t, 4, mean, var, workspace);
    expect_near((double)mean[0], 4096.5, 1e-3, "large mean", 0);
    expect_near((double)var[0], 0.25, 1e-6, "variance at a large mean", 0);
    expect_near((double)mean[1], (double)(real)0.1, 1e-8, "constant", 1);
    expect_near((double)var[1], 0, 1e-15, "variance of a constant", 1);
    ck_assert(var[1] >= 0);
    expect_near((double)var[5], 0.25, 1e-6, "variance at a huge mean", 5);
    ck_assert(isnan((double)mean[2]) && isnan((double)var[2]));
    ck_assert(!isfinite((double)mean[3]) && !isfinite((double)var[3]));
    ck_assert(isfinite((double)mean[4]) && isfinite((double)var[4]));
    free(workspace);
    guarded_free(&x);
}
END_TEST

/* Everything that sums: bytes of the results with this number of threads. */
static real *run_all(const struct kernels *k, int n_threads, size_t *n_out)
{
    threads_set(n_threads);
    const struct shape shape = {9, 19, 17, 40};
    const size_t c = shape.c, group = 4, n_groups = 3, n = shape_elements(&shape);
    struct guarded x = guarded_new(shape, 2), dy = guarded_new(shape, 0);
    fill_normal(&x, 1, 1);
    fill_normal(&dy, 2, 0);
    *n_out = 3 * n + (5 * n_groups + 4) * c;
    real *const out = calloc(*n_out, sizeof(real));
    real *const mean = out + 3 * n, *const var = mean + n_groups * c;
    real *const means = var + n_groups * c, *const dgamma = means + 2 * n_groups * c;
    real *const dbeta = dgamma + c, *const ones = dbeta + c;
    real *const invstd = ones + c + c;
    for (size_t i = 0; i < c; i++) {
        ones[i] = 1;
    }
    void *const workspace = malloc(batch_norm_workspace_bytes(&shape, group));
    struct tensor y = tensor_view(out, shape), dx = tensor_view(out + n, shape);
    struct tensor drop = tensor_view(out + 2 * n, shape);
    batch_norm_stats(k, &x.t, group, mean, var, workspace);
    for (size_t i = 0; i < n_groups * c; i++) {
        invstd[i] = (real)(1 / sqrt((double)var[i] + 1e-5));
    }
    const struct batch_norm bn = {
        .group = group, .mean = mean, .invstd = invstd, .gamma = ones, .beta = ones};
    batch_norm_apply(k, &x.t, &bn, &y);
    batch_norm_backward_reduce(k, &dy.t, &x.t, &bn, means, dgamma, dbeta, workspace);
    batch_norm_backward_apply(k, &dy.t, &x.t, &bn, means, &dx, 0);
    const struct rng rng = test_rng(9);
    dropout_apply(k, &y, 0.25, &rng, &drop, 0);
    uint8_t *const signs = malloc(relu_sign_bytes(&shape));
    relu_forward(k, &drop, &drop, signs);
    relu_backward_signs(k, &dx, signs, &dx, 1);
    add_forward(k, &dx, &y, &y);
    const struct sgd_params p = {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1};
    sgd_update(k, &p, n, y.data, dx.data, drop.data);
    free(signs);
    free(workspace);
    guarded_free(&x);
    guarded_free(&dy);
    return out;
}

START_TEST(same_bits_for_any_threads)
{
    const struct kernels k = kernels_round(_i);
    size_t n;
    real *const one = run_all(&k, 1, &n);
    for (int n_threads = 2; n_threads <= 3; n_threads++) {
        real *const many = run_all(&k, n_threads, &n);
        ck_assert_mem_eq(one, many, n * sizeof(real));
        free(many);
    }
    free(one);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *s = suite_create("loops");
    TCase *t = tcase_create("loops");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_isa_runs);
    tcase_add_loop_test(t, relu_passes, 0, n_isas());
    tcase_add_loop_test(t, add_and_copy, 0, n_isas());
    tcase_add_loop_test(t, dropout, 0, n_isas());
    tcase_add_loop_test(t, sgd, 0, n_isas());
    tcase_add_loop_test(t, sgd_sums, 0, n_isas());
    tcase_add_loop_test(t, batch_norm, 0, n_isas());
    tcase_add_loop_test(t, batch_norm_and_relu, 0, n_isas());
    tcase_add_loop_test(t, batch_norm_hard_values, 0, n_isas());
    tcase_add_loop_test(t, same_bits_for_any_threads, 0, n_isas());
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(make_suite());
    srunner_run_all(r, CK_ENV);
    const int n_failed = srunner_ntests_failed(r);
    srunner_free(r);
    return n_failed > 0;
}
