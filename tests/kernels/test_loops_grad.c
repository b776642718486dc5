/* Gradients of batch-norm, pooling, loss and dropout in double: directional derivatives along random
 * directions against central differences. */
#include "kernels/batch_norm.h"
#include "kernels/eltwise.h"
#include "kernels/loss.h"
#include "kernels/pool.h"

#include "loops_fixture.h"

#define N_DIRECTIONS 20
#define STEP 1e-5
#define TOLERANCE 1e-6

/* A scalar function of n inputs under test: value at x; if grad is not NULL also d value / d x. */
typedef double function(void *context, const real *x, real *grad);

/* Fails unless f's gradient agrees with its values; `spoil` falsifies the gradient, to test the test. */
static int gradient_agrees(function *f, void *context, size_t n, const real *x, double spoil)
{
    real *const grad = calloc(n, sizeof(real)), *const moved = calloc(n, sizeof(real));
    f(context, x, grad);
    grad[0] += (real)spoil;
    int agrees = 1;
    for (uint32_t d = 0; d < N_DIRECTIONS; d++) {
        const struct rng rng = test_rng(100 + d);
        double slope = 0, size = 0, value[2];
        for (size_t i = 0; i < n; i++) {
            slope += (double)grad[i] * rng_normal(&rng, i);
            size += (double)grad[i] * (double)grad[i];
        }
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < n; i++) {
                moved[i] = x[i] + (real)((side ? STEP : -STEP) * rng_normal(&rng, i));
            }
            value[side] = f(context, moved, NULL);
        }
        const double difference = (value[1] - value[0]) / (2 * STEP);
        /* Relative to a typical direction: one may happen to be nearly level. */
        agrees &= fabs(slope - difference) <= TOLERANCE * sqrt(size);
    }
    free(grad);
    free(moved);
    return agrees;
}

/* x = numbers away from each other's neighbourhood, so that no maximum changes within a step. */
static real *distinct_numbers(size_t n)
{
    real *const x = calloc(n, sizeof(real));
    const struct rng rng = test_rng(1);
    for (size_t i = 0; i < n; i++) {
        x[i] = (real)i / 64;
    }
    for (size_t i = n - 1; i > 0; i--) {
        const size_t j = rng_below(&rng, i, (uint32_t)(i + 1));
        const real swap = x[i];
        x[i] = x[j];
        x[j] = swap;
    }
    return x;
}

static void check_gradient(function *f, void *context, size_t n)
{
    real *const x = distinct_numbers(n);
    ck_assert(gradient_agrees(f, context, n, x, 0));
    ck_assert(!gradient_agrees(f, context, n, x, 0.01)); /* the check itself can fail */
    free(x);
}

/* Fixed weights that make a scalar of a tensor: value = sum of y * weight. */
static real *weights_of(size_t n)
{
    real *const t = calloc(n, sizeof(real));
    const struct rng rng = test_rng(2);
    for (size_t i = 0; i < n; i++) {
        t[i] = (real)rng_normal(&rng, i);
    }
    return t;
}

static double dot(const real *a, const real *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* Inputs: x, then gamma [c], then beta [c]. */
static double bn_function(void *context, const real *in, real *grad)
{
    const size_t group = *(const size_t *)context;
    const struct kernels k = kernels_of("ref");
    const struct shape shape = {5, 3, 4, 3};
    const size_t n = shape_elements(&shape), c = shape.c;
    real *const copy = calloc(4 * n, sizeof(real));
    memcpy(copy, in, n * sizeof(real));
    struct tensor x = tensor_view(copy, shape), y = tensor_view(copy + n, shape);
    real mean[15], var[15], invstd[15], means[30];
    void *const workspace = malloc(batch_norm_workspace_bytes(&shape, group));
    batch_norm_stats(&k, &x, group, mean, var, workspace);
    for (size_t i = 0; i < (shape.n + group - 1) / group * c; i++) {
        invstd[i] = 1 / (real)sqrt((double)var[i] + 1e-3);
    }
    const struct batch_norm bn = {
        .group = group, .mean = mean, .invstd = invstd, .gamma = in + n, .beta = in + n + c};
    batch_norm_apply(&k, &x, &bn, &y);
    real *const t = weights_of(n);
    const double value = dot(y.data, t, n);
    if (grad) {
        struct tensor dy = tensor_view(t, shape), dx = tensor_view(grad, shape);
        batch_norm_backward_reduce(&k, &dy, &x, &bn, means, grad + n, grad + n + c, workspace);
        batch_norm_backward_apply(&k, &dy, &x, &bn, means, &dx, 0);
    }
    free(t);
    free(copy);
    free(workspace);
    return value;
}

START_TEST(batch_norm_gradient)
{
    static const size_t groups[] = {5, 2, 1, 64};
    size_t group = groups[_i];
    check_gradient(bn_function, &group, 5 * 3 * 4 * 3 + 6);
}
END_TEST

enum pool_kind { POOL_MAX, POOL_AVG, POOL_GLOBAL };

struct pool_case {
    enum pool_kind kind;
    struct pool_geom geom;
};

static const struct shape pool_shape = {2, 6, 5, 3};

static double pool_function(void *context, const real *in, real *grad)
{
    const struct pool_case *const p = context;
    const struct kernels k = kernels_of("ref");
    const size_t n = shape_elements(&pool_shape);
    const struct shape ys = p->kind == POOL_GLOBAL ? (struct shape){2, 1, 1, 3}
                                                   : pool_out_shape(&p->geom, &pool_shape);
    const size_t n_out = shape_elements(&ys);
    real *const copy = calloc(n + n_out, sizeof(real));
    memcpy(copy, in, n * sizeof(real));
    uint8_t *const index = calloc(n_out, 1);
    real *const t = weights_of(n_out);
    struct tensor x = tensor_view(copy, pool_shape), y = tensor_view(copy + n, ys);
    struct tensor dy = tensor_view(t, ys), dx = tensor_view(grad, pool_shape);
    if (p->kind == POOL_MAX) {
        max_pool_forward(&k, &p->geom, &x, &y, index);
    } else if (p->kind == POOL_AVG) {
        avg_pool_forward(&k, &p->geom, &x, &y);
    } else {
        global_avg_pool_forward(&k, &x, &y);
    }
    const double value = dot(y.data, t, n_out);
    if (grad && p->kind == POOL_MAX) {
        max_pool_backward(&k, &p->geom, &dy, index, &dx, 0);
    } else if (grad && p->kind == POOL_AVG) {
        avg_pool_backward(&k, &p->geom, &dy, &dx, 0);
    } else if (grad) {
        global_avg_pool_backward(&k, &dy, &dx, 0);
    }
    free(copy);
    free(index);
    free(t);
    return value;
}

static struct pool_case pool_cases[] = {
    {POOL_MAX, {3, 2, 1}}, {POOL_MAX, {2, 2, 0}}, {POOL_MAX, {3, 1, 1}}, {POOL_AVG, {3, 2, 1}},
    {POOL_AVG, {2, 2, 0}}, {POOL_AVG, {2, 1, 1}}, {POOL_GLOBAL, {0}},
};
#define N_POOL_CASES ((int)(sizeof(pool_cases) / sizeof(pool_cases[0])))

START_TEST(pool_gradient)
{
    check_gradient(pool_function, &pool_cases[_i], shape_elements(&pool_shape));
}
END_TEST

static double loss_function(void *context, const real *in, real *grad)
{
    const double smoothing = *(const double *)context;
    static const uint32_t labels[4] = {0, 6, 3, 3};
    const struct shape shape = {4, 1, 1, 7};
    real z[28];
    memcpy(z, in, sizeof(z));
    struct tensor logits = tensor_view(z, shape), dlogits = tensor_view(grad, shape);
    struct loss_result r;
    softmax_xent(&logits, labels, smoothing, 0.25, grad ? &dlogits : NULL, &r);
    return r.loss_sum * 0.25;
}

START_TEST(loss_gradient)
{
    double smoothing = _i * 0.1;
    check_gradient(loss_function, &smoothing, 28);
}
END_TEST

static double dropout_function(void *context, const real *in, real *grad)
{
    const double p = *(const double *)context;
    const struct kernels k = kernels_of("ref");
    const struct shape shape = {2, 3, 3, 5};
    const struct rng rng = rng_make(1, RNG_DROPOUT, 2, 3);
    real data[90], out[90];
    memcpy(data, in, sizeof(data));
    real *const t = weights_of(90);
    struct tensor x = tensor_view(data, shape), y = tensor_view(out, shape);
    struct tensor dy = tensor_view(t, shape), dx = tensor_view(grad, shape);
    dropout_apply(&k, &x, p, &rng, &y, 0);
    if (grad) {
        dropout_apply(&k, &dy, p, &rng, &dx, 0);
    }
    const double value = dot(out, t, 90);
    free(t);
    return value;
}

START_TEST(dropout_gradient)
{
    double p = 0.3;
    check_gradient(dropout_function, &p, 90);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loops_grad");
    TCase *t = tcase_create("loops_grad");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, batch_norm_gradient, 0, 4);
    tcase_add_loop_test(t, pool_gradient, 0, N_POOL_CASES);
    tcase_add_loop_test(t, loss_gradient, 0, 2);
    tcase_add_test(t, dropout_gradient);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    const int n_failed = srunner_ntests_failed(r);
    srunner_free(r);
    return n_failed > 0;
}
