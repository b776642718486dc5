/* The double convolution is the oracle of the whole program's gradient checks: here its gradients
 * are checked against central differences along random directions. The loss is half the sum of
 * squares of the output, hence quadratic in x, w and b: central differences are exact up to rounding. */
#include "kernels/conv.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

static unsigned random_state = 1;

static real *random_array(size_t n)
{
    real *const p = mem_calloc(MEM_OTHER, n, sizeof(real));
    ck_assert_ptr_nonnull(p);
    for (size_t i = 0; i < n; i++) {
        random_state = random_state * 1664525u + 1013904223u;
        p[i] = (real)(random_state >> 8) / (1 << 23) - 1;
    }
    return p;
}

struct network {
    struct kernels k;
    struct conv_geom g;
    struct shape in, out;
    real *x, *w, *b, *y;
    void *scratch[3];
};

static double loss(const struct network *n)
{
    const struct tensor x = tensor_view(n->x, n->in);
    struct tensor y = tensor_view(n->y, n->out);
    double sum = 0;

    conv2d_forward(&n->k, &n->g, &x, n->w, n->b, &y, n->scratch[CONV_FORWARD], 1);
    for (size_t i = 0; i < shape_elements(&n->out); i++) {
        sum += n->y[i] * n->y[i] / 2;
    }
    return sum;
}

/* Moves p by +-h along a random direction and compares with the gradient's share of it. */
static void check_direction(const struct network *n, real *p, const real *gradient, size_t size,
                            const char *what)
{
    const real h = 0.125;
    real *const direction = random_array(size);
    double expected = 0, scale = 0;

    for (size_t i = 0; i < size; i++) {
        expected += gradient[i] * direction[i];
        scale += fabs(gradient[i] * direction[i]);
        p[i] += h * direction[i];
    }
    const double above = loss(n);
    for (size_t i = 0; i < size; i++) {
        p[i] -= 2 * h * direction[i];
    }
    const double below = loss(n);
    for (size_t i = 0; i < size; i++) {
        p[i] += h * direction[i];
    }
    const double got = (above - below) / (2 * h);
    ck_assert_msg(fabs(got - expected) <= 1e-11 * (scale + above + below),
                  "%s, filter %zux%zu stride %zu pad %zu: difference %.15g, gradient %.15g", what,
                  n->g.r, n->g.s, n->g.stride, n->g.pad, got, expected);
    mem_free(direction);
}

static void check_case(struct conv_geom g, struct shape in, const char *algorithm)
{
    struct network n = {.g = g, .in = in, .out = conv2d_out_shape(&g, &in)};
    struct err err = {0};
    const size_t n_w = g.r * g.s * g.c * g.k;

    ck_assert_msg(kernels_fill(&n.k, NULL, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(n.k.isa, "ref");
    ck_assert_msg(kernels_set_algorithm(&n.k, algorithm, &err) == 0, "%s", err.msg);
    for (int op = CONV_FORWARD; op <= CONV_BACKWARD_WEIGHT; op++) {
        n.scratch[op] = mem_alloc(MEM_OTHER,
                                  conv2d_workspace_bytes(&n.k, &g, &in, (enum conv_op)op, 1));
        ck_assert_ptr_nonnull(n.scratch[op]);
    }
    n.x = random_array(shape_elements(&in));
    n.w = random_array(n_w);
    n.b = random_array(g.k);
    n.y = random_array(shape_elements(&n.out));
    real *const dx = random_array(shape_elements(&in)), *const dw = random_array(n_w);
    real *const db = random_array(g.k);
    const struct tensor x = tensor_view(n.x, in), dy = tensor_view(n.y, n.out);
    struct tensor tdx = tensor_view(dx, in);

    loss(&n); /* of which dy = y is the gradient */
    conv2d_backward_data(&n.k, &g, &dy, n.w, &tdx, 0, n.scratch[CONV_BACKWARD_DATA], 1);
    conv2d_backward_weight(&n.k, &g, &x, &dy, x.shape.n, dw, db, n.scratch[CONV_BACKWARD_WEIGHT],
                           1);
    for (int i = 0; i < 5; i++) {
        check_direction(&n, n.x, dx, shape_elements(&in), "data gradient");
        check_direction(&n, n.w, dw, n_w, "weight gradient");
        check_direction(&n, n.b, db, g.k, "bias gradient");
    }
    for (int op = 0; op < 3; op++) {
        mem_free(n.scratch[op]);
    }
    real *const arrays[] = {n.x, n.w, n.b, n.y, dx, dw, db};
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        mem_free(arrays[i]);
    }
}

static const char *const algorithms[] = {"direct", "im2col"};

START_TEST(test_gradients)
{
    static const size_t filters[][2] = {{1, 1}, {2, 2}, {3, 3}, {5, 5}, {7, 7}, {3, 1}};
    for (size_t f = 0; f < sizeof(filters) / sizeof(filters[0]); f++) {
        for (size_t stride = 1; stride <= 3; stride++) {
            for (size_t pad = 0; pad <= 3; pad++) {
                check_case((struct conv_geom){.c = 3,
                                              .k = 4,
                                              .r = filters[f][0],
                                              .s = filters[f][1],
                                              .stride = stride,
                                              .pad = pad},
                           (struct shape){.n = 2, .h = 7, .w = 8, .c = 3}, algorithms[_i]);
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("conv_grad");
    TCase *const tcase = tcase_create("conv_grad");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, test_gradients, 0, 2);
    suite_add_tcase(suite, tcase);

    SRunner *const runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
