/* Pooling and loss: every ISA of this processor against plain loops in double. */

#include "base/threads.h"
#include "kernels/loss.h"
#include "kernels/pool.h"

#include "loops_fixture.h"

/* Place of tap (i, j) of window (oh, ow) in the input, or -1 outside. */
static long tap_at(const struct pool_geom *g, const struct shape *x, size_t n, size_t oh, size_t ow,
                   size_t tap)
{
    const long h = (long)(oh * g->stride + tap / g->r) - (long)g->pad;
    const long w = (long)(ow * g->stride + tap % g->r) - (long)g->pad;
    if (h < 0 || w < 0 || h >= (long)x->h || w >= (long)x->w) {
        return -1;
    }
    return ((long)n * (long)x->h + h) * (long)x->w + w;
}

/* Scatters as torch's backward does: from every output to its winner or to all of its window. */
static void pool_scatter(const struct pool_geom *g, const struct shape *x, const struct shape *y,
                         const struct guarded *dy, const uint8_t *index, double *dx)
{
    const size_t c = x->c;
    for (size_t o = 0; o < shape_pixels(y); o++) {
        const size_t n = o / (y->h * y->w), oh = o / y->w % y->h, ow = o % y->w;
        for (size_t ch = 0; ch < c; ch++) {
            const double d = (double)*element(dy, o * c + ch);
            for (size_t tap = 0; tap < g->r * g->r; tap++) {
                const long at = tap_at(g, x, n, oh, ow, tap);
                if (at >= 0 && (!index || index[o * c + ch] == tap)) {
                    dx[(size_t)at * c + ch] += index ? d : d / (double)(g->r * g->r);
                }
            }
        }
    }
}

static void check_pool_forward(const struct kernels *k, const struct pool_geom *g,
                               const struct guarded *x, struct guarded *y, uint8_t *index)
{
    const struct shape *const xs = &x->t.shape, *const ys = &y->t.shape;
    const size_t c = xs->c, n_out = shape_elements(ys);
    memset(index, 0xa5, n_out + 1);
    max_pool_forward(k, g, &x->t, &y->t, index);
    ck_assert_uint_eq(index[n_out], 0xa5);
    for (size_t e = 0; e < n_out; e++) {
        const size_t o = e / c;
        double best = -INFINITY;
        size_t winner = SIZE_MAX;
        for (size_t tap = 0; tap < g->r * g->r; tap++) {
            const long at = tap_at(g, xs, o / (ys->h * ys->w), o / ys->w % ys->h, o % ys->w, tap);
            if (at >= 0) {
                const double v = (double)*element(x, (size_t)at * c + e % c);
                if (winner == SIZE_MAX || v > best || isnan(v)) {
                    best = v;
                    winner = tap;
                }
            }
        }
        expect_same((double)*element(y, e), best, "max pool", e);
        expect_same(index[e], (double)winner, "winner", e);
    }
    struct guarded again = guarded_new(*ys, 1);
    max_pool_forward(k, g, &x->t, &again.t, NULL);
    avg_pool_forward(k, g, &x->t, &y->t);
    for (size_t e = 0; e < n_out; e++) {
        const size_t o = e / c;
        double sum = 0, best = -INFINITY;
        int huge = 0; /* the sum may overflow in float */
        for (size_t tap = 0; tap < g->r * g->r; tap++) {
            const long at = tap_at(g, xs, o / (ys->h * ys->w), o / ys->w % ys->h, o % ys->w, tap);
            const double v = at < 0 ? 0 : (double)*element(x, (size_t)at * c + e % c);
            sum += v;
            huge |= isfinite(v) && fabs(v) > 1e30;
            best = at >= 0 && (v > best || isnan(v)) ? v : best;
        }
        expect_same((double)*element(&again, e), best, "max pool without index", e);
        if (!huge) {
            expect_near((double)*element(y, e), sum / (double)(g->r * g->r), 2e-6, "avg pool", e);
        }
    }
    guarded_free(&again);
}

static void check_pool(const struct kernels *k, struct pool_geom g, struct shape xs, size_t extra,
                       int special)
{
    const struct shape ys = pool_out_shape(&g, &xs);
    ck_assert_uint_eq(ys.h, (xs.h + 2 * g.pad - g.r) / g.stride + 1);
    struct guarded x = guarded_new(xs, extra), y = guarded_new(ys, extra / 2);
    fill_normal(&x, 1, 0);
    for (size_t i = 0; i < n_elements_of(&x); i += 3) {
        *element(&x, i) = (real)(i % 2); /* ties */
    }
    if (special) {
        sprinkle_special(&x, 2);
    }
    uint8_t *const index = malloc(shape_elements(&ys) + 1);
    check_pool_forward(k, &g, &x, &y, index);

    struct guarded dy = guarded_new(ys, extra);
    fill_normal(&dy, 3, 0);
    for (int mode = 0; mode < 4; mode++) {
        const int accumulate = mode & 1, maximum = mode & 2;
        struct guarded dx = guarded_new(xs, extra);
        fill_normal(&dx, 4, 0);
        double *const expected = calloc(n_elements_of(&dx), sizeof(double));
        for (size_t i = 0; i < n_elements_of(&dx); i++) {
            expected[i] = accumulate ? (double)*element(&dx, i) : 0;
        }
        pool_scatter(&g, &xs, &ys, &dy, maximum ? index : NULL, expected);
        if (maximum) {
            max_pool_backward(k, &g, &dy.t, index, &dx.t, accumulate);
        } else {
            avg_pool_backward(k, &g, &dy.t, &dx.t, accumulate);
        }
        for (size_t i = 0; i < n_elements_of(&dx); i++) {
            expect_near((double)*element(&dx, i), expected[i], 4e-6, "pool backward", i);
        }
        free(expected);
        guarded_free(&dx);
    }
    free(index);
    guarded_free(&x);
    guarded_free(&y);
    guarded_free(&dy);
}

START_TEST(pools)
{
    const struct kernels k = kernels_round(_i);
    static const struct pool_geom geoms[] = {{2, 2, 0}, {3, 2, 1}, {3, 1, 1}, {3, 3, 0},
                                             {2, 3, 0}, {5, 2, 2}, {1, 2, 0}, {15, 4, 7}};
    for (size_t i = 0; i < N_CHANNEL_COUNTS; i++) {
        check_pool(&k, geoms[i % 3], (struct shape){2, 5, 6, channel_counts[i]}, 0, 1);
        check_pool(&k, geoms[i % 3], (struct shape){2, 6, 5, channel_counts[i]}, 4, 0);
    }
    for (size_t i = 0; i < sizeof(geoms) / sizeof(geoms[0]); i++) {
        check_pool(&k, geoms[i], (struct shape){2, 9, 8, 17}, 0, 1);
        check_pool(&k, geoms[i], (struct shape){1, 7, 11, 16}, 3, 0);
    }
    const struct pool_geom large = {4, 1, 0};
    const struct shape small = {2, 3, 3, 8};
    ck_assert_uint_eq(pool_out_shape(&large, &small).h, 0); /* does not fit */
}
END_TEST

static void check_global(const struct kernels *k, struct shape xs, size_t extra)
{
    const struct shape ys = {xs.n, 1, 1, xs.c};
    struct guarded x = guarded_new(xs, extra), y = guarded_new(ys, extra);
    struct guarded dx = guarded_new(xs, extra), dx2 = guarded_new(xs, 0);
    fill_normal(&x, 1, 2);
    fill_normal(&dx, 2, 0);
    fill_normal(&dx2, 2, 0);
    const size_t hw = xs.h * xs.w;
    global_avg_pool_forward(k, &x.t, &y.t);
    for (size_t e = 0; e < n_elements_of(&y); e++) {
        double sum = 0;
        for (size_t p = 0; p < hw; p++) {
            sum += (double)*element(&x, (e / xs.c * hw + p) * xs.c + e % xs.c);
        }
        expect_near((double)*element(&y, e), sum / (double)hw, 2e-6, "global average", e);
    }
    global_avg_pool_backward(k, &y.t, &dx.t, 0);
    for (size_t e = 0; e < n_elements_of(&x); e++) {
        const double d = (double)*element(&y, e / xs.c / hw * xs.c + e % xs.c) / (double)hw;
        expect_near((double)*element(&dx, e), d, 1e-6, "global average backward", e);
        const double before = (double)*element(&dx2, e);
        *element(&dx, e) = (real)(before + d);
    }
    global_avg_pool_backward(k, &y.t, &dx2.t, 1);
    for (size_t e = 0; e < n_elements_of(&x); e++) {
        expect_near((double)*element(&dx2, e), (double)*element(&dx, e), 1e-6, "added", e);
    }
    guarded_free(&x);
    guarded_free(&y);
    guarded_free(&dx);
    guarded_free(&dx2);
}

START_TEST(global_average)
{
    const struct kernels k = kernels_round(_i);
    for (size_t i = 0; i < N_CHANNEL_COUNTS; i++) {
        check_global(&k, (struct shape){2, 3, 3, channel_counts[i]}, 0);
        check_global(&k, (struct shape){2, 15, 17, channel_counts[i]}, 5);
    }
    check_global(&k, (struct shape){8, 32, 32, 16}, 0);
}
END_TEST

/* All pools with this number of threads. */
static real *run_pools(const struct kernels *k, int n_threads, size_t *n_out)
{
    threads_set(n_threads);
    const struct pool_geom g = {3, 2, 1};
    const struct shape xs = {5, 31, 29, 24}, ys = pool_out_shape(&g, &xs), zs = {5, 1, 1, 24};
    const size_t n_x = shape_elements(&xs), n_y = shape_elements(&ys);
    *n_out = 4 * n_x + 2 * n_y + shape_elements(&zs);
    real *const out = calloc(*n_out, sizeof(real));
    struct guarded x = guarded_new(xs, 0);
    fill_normal(&x, 1, 0);
    uint8_t *const index = malloc(n_y);
    struct tensor y1 = tensor_view(out + 3 * n_x, ys), y2 = tensor_view(out + 3 * n_x + n_y, ys);
    struct tensor z = tensor_view(out + 3 * n_x + 2 * n_y, zs);
    struct tensor d1 = tensor_view(out, xs), d2 = tensor_view(out + n_x, xs);
    struct tensor d3 = tensor_view(out + 2 * n_x, xs);
    max_pool_forward(k, &g, &x.t, &y1, index);
    avg_pool_forward(k, &g, &x.t, &y2);
    global_avg_pool_forward(k, &x.t, &z);
    max_pool_backward(k, &g, &y2, index, &d1, 0);
    avg_pool_backward(k, &g, &y1, &d2, 0);
    global_avg_pool_backward(k, &z, &d3, 0);
    free(index);
    guarded_free(&x);
    return out;
}

START_TEST(same_bits_for_any_threads)
{
    const struct kernels k = kernels_round(_i);
    size_t n;
    real *const one = run_pools(&k, 1, &n);
    for (int n_threads = 2; n_threads <= 3; n_threads++) {
        real *const many = run_pools(&k, n_threads, &n);
        ck_assert_mem_eq(one, many, n * sizeof(real));
        free(many);
    }
    free(one);
}
END_TEST

START_TEST(loss_formula)
{
    static const double smoothings[] = {0, 0.1};
    static const size_t classes[] = {1, 2, 3, 10, 1000};
    for (size_t round = 0; round < 10; round++) {
        const double eps = smoothings[round % 2];
        const struct shape shape = {300, 1, 1, classes[round / 2]};
        const size_t c = shape.c;
        struct guarded z = guarded_new(shape, round % 3), dz = guarded_new(shape, 0);
        fill_normal(&z, 1, 0);
        uint32_t labels[300];
        const struct rng rng = test_rng(5);
        double loss = 0;
        size_t top1 = 0, top5 = 0;
        for (size_t i = 0; i < shape.n; i++) {
            labels[i] = rng_below(&rng, i, (uint32_t)c);
        }
        struct loss_result r[2];
        softmax_xent(&z.t, labels, eps, 1.0 / 300, &dz.t, &r[0]);
        for (size_t i = 0; i < shape.n; i++) {
            const size_t y = labels[i];
            double sum = 0;
            size_t rank = 0;
            for (size_t j = 0; j < c; j++) {
                const double v = (double)*element(&z, i * c + j);
                sum += exp(v);
                rank += v > (double)*element(&z, i * c + y);
            }
            for (size_t j = 0; j < c; j++) {
                const double target = (j == y ? 1 - eps : 0) + eps / (double)c;
                const double q = exp((double)*element(&z, i * c + j)) / sum;
                loss -= target * log(q);
                expect_near((double)*element(&dz, i * c + j), (q - target) / 300, 1e-9,
                            "gradient of the loss", i * c + j);
            }
            top1 += rank < 1;
            top5 += rank < 5;
        }
        expect_near(r[0].loss_sum, loss, 1e-9 * loss + 1e-12, "loss", round);
        ck_assert_uint_eq(r[0].n_top1, top1);
        ck_assert_uint_eq(r[0].n_top5, top5);

        threads_set(3);
        softmax_xent(&z.t, labels, eps, 1.0 / 300, &z.t, &r[1]); /* in place */
        ck_assert_mem_eq(&r[0].loss_sum, &r[1].loss_sum, sizeof(double));
        for (size_t i = 0; i < n_elements_of(&z); i++) {
            expect_same((double)*element(&z, i), (double)*element(&dz, i), "in place", i);
        }
        guarded_free(&z);
        guarded_free(&dz);
    }
}
END_TEST

/* One sample of n logits; gradient in dz unless NULL. */
static struct loss_result loss_of(const double *logits, size_t n, uint32_t label, double smoothing,
                                  real *dz)
{
    real z[16];
    for (size_t i = 0; i < n; i++) {
        z[i] = (real)logits[i];
    }
    const struct shape shape = {1, 1, 1, n};
    struct tensor t = tensor_view(z, shape), d = tensor_view(dz, shape);
    struct loss_result r;
    softmax_xent(&t, &label, smoothing, 1, dz ? &d : NULL, &r);
    return r;
}

START_TEST(loss_hard_values)
{
    /* Large logits neither overflow nor lose the difference. */
    struct loss_result r = loss_of((const double[]){1e4, 1e4 - 1, -1e4}, 3, 0, 0, NULL);
    expect_near(r.loss_sum, log1p(exp(-1)), 1e-12, "large logits", 0);
    /* Equal logits: the lower index ranks first. */
    const double equal[6] = {1, 1, 1, 1, 1, 1};
    ck_assert_uint_eq(loss_of(equal, 6, 0, 0, NULL).n_top1, 1);
    ck_assert_uint_eq(loss_of(equal, 6, 1, 0, NULL).n_top1, 0);
    ck_assert_uint_eq(loss_of(equal, 6, 4, 0, NULL).n_top5, 1);
    ck_assert_uint_eq(loss_of(equal, 6, 5, 0, NULL).n_top5, 0);
    /* NaN at the label never hits, and shows in the loss. */
    r = loss_of((const double[]){NAN, 1, 2}, 3, 0, 0, NULL);
    ck_assert(isnan(r.loss_sum) && r.n_top1 == 0 && r.n_top5 == 0);
    r = loss_of((const double[]){3, NAN, 2}, 3, 0, 0, NULL);
    ck_assert(isnan(r.loss_sum));
    /* An impossible class is no fault without smoothing, and infinite with it. */
    real dz[3];
    r = loss_of((const double[]){0, -INFINITY, 0}, 3, 0, 0, dz);
    expect_near(r.loss_sum, log(2), 1e-12, "impossible class", 0);
    expect_near((double)dz[0], -0.5, 1e-7, "impossible class", 0);
    expect_same((double)dz[1], 0, "impossible class", 1);
    ck_assert(isinf(loss_of((const double[]){0, -INFINITY, 0}, 3, 0, 0.1, NULL).loss_sum));
}
END_TEST

static Suite *make_suite(void)
{
    Suite *s = suite_create("pools");
    TCase *t = tcase_create("pools");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, pools, 0, n_isas());
    tcase_add_loop_test(t, global_average, 0, n_isas());
    tcase_add_loop_test(t, same_bits_for_any_threads, 0, n_isas());
    tcase_add_test(t, loss_formula);
    tcase_add_test(t, loss_hard_values);
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
