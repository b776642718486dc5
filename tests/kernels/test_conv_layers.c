/* Every 3x3 stride-1 layer of ResNet-18 and ResNet-50, CIFAR and ImageNet, against a plain loop in
 * double: how far each algorithm's results are off, relative to the largest entry; and equal bits
 * for 1 to 4 threads. */
#include "kernels/conv.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The worst seen is 3.8e-6 for Winograd, 2.5e-6 for igemm; a wrong constant gives 1e-2. */
static const struct {
    const char *algorithm;
    double worst;
} bounds[] = {{"winograd", 2e-5}, {"igemm", 1e-5}};

static const struct {
    size_t n, side, channels;
} layers[] = {
    {2, 32, 64}, {3, 16, 128}, {5, 8, 256},  {7, 4, 512}, /* ResNet-18, CIFAR */
    {1, 56, 64}, {1, 28, 128}, {1, 14, 256}, {2, 7, 512}, /* both, 224 px */
};
enum { N_LAYERS = sizeof(layers) / sizeof(layers[0]) };

static unsigned random_state;

/* About normal, variance 1. */
static float random_normal(void)
{
    double sum = -2;
    for (int i = 0; i < 4; i++) {
        random_state = random_state * 1664525u + 1013904223u;
        sum += (random_state >> 8) / 16777216.0;
    }
    return (float)(sum * sqrt(3));
}

static void *new_array(size_t n, size_t bytes)
{
    void *const p = mem_calloc(MEM_OTHER, n, bytes);
    ck_assert_ptr_nonnull(p);
    return p;
}

struct layer_case {
    struct conv_geom g;
    struct shape shape; /* of x and, as channels are equal, of y */
    float *x, *dy, *w;
    double *expected[3]; /* y, dx, dw */
    size_t n_map, n_w;
};

static void expect(struct layer_case *l)
{
    const size_t side = l->shape.h, c = l->g.c;
    for (size_t q = 0; q < shape_pixels(&l->shape); q++) {
        for (size_t t = 0; t < 9; t++) {
            const size_t i = q / side % side + t / 3, j = q % side + t % 3;
            if (i < 1 || j < 1 || i > side || j > side) {
                continue;
            }
            const size_t in = (q / (side * side) * side + i - 1) * side + j - 1;
            for (size_t e = 0; e < c; e++) {
                const float *const w = l->w + (t * c + e) * c, *const dy = l->dy + q * c;
                double *const y = l->expected[0] + q * c, *const dw = l->expected[2] +
                                                                      (t * c + e) * c;
                const double x = (double)l->x[in * c + e];
                double dx = 0;
                for (size_t f = 0; f < c; f++) {
                    y[f] += x * (double)w[f];
                    dx += (double)dy[f] * (double)w[f];
                    dw[f] += x * (double)dy[f];
                }
                l->expected[1][in * c + e] += dx;
            }
        }
    }
}

static void layer_init(struct layer_case *l, int row)
{
    const size_t side = layers[row].side, c = layers[row].channels;

    random_state = (unsigned)row;
    *l = (struct layer_case){.g = {.c = c, .k = c, .r = 3, .s = 3, .stride = 1, .pad = 1},
                             .shape = {.n = layers[row].n, .h = side, .w = side, .c = c}};
    l->n_map = shape_elements(&l->shape);
    l->n_w = 9 * c * c;
    l->x = new_array(l->n_map, sizeof(float));
    l->dy = new_array(l->n_map, sizeof(float));
    l->w = new_array(l->n_w, sizeof(float));
    for (size_t i = 0; i < l->n_map; i++) {
        l->x[i] = fmaxf(random_normal(), 0); /* as behind a ReLU: the sums do not cancel */
        l->dy[i] = random_normal();
    }
    for (size_t i = 0; i < l->n_w; i++) {
        l->w[i] = random_normal();
    }
    for (int i = 0; i < 3; i++) {
        l->expected[i] = new_array(i < 2 ? l->n_map : l->n_w, sizeof(double));
    }
    expect(l);
}

static void layer_fini(struct layer_case *l)
{
    mem_free(l->x);
    mem_free(l->dy);
    mem_free(l->w);
    for (int i = 0; i < 3; i++) {
        mem_free(l->expected[i]);
    }
}

static void run(const struct kernels *k, struct layer_case *l, enum conv_op op, float *out,
                int n_threads)
{
    void *const workspace = new_array(conv2d_workspace_bytes(k, &l->g, &l->shape, op, n_threads),
                                      1);
    struct tensor x = tensor_view(l->x, l->shape), dy = tensor_view(l->dy, l->shape);
    struct tensor map = tensor_view(out, l->shape);

    switch (op) {
    case CONV_FORWARD: conv2d_forward(k, &l->g, &x, l->w, NULL, &map, workspace, n_threads); break;
    case CONV_BACKWARD_DATA:
        conv2d_backward_data(k, &l->g, &dy, l->w, &map, 0, workspace, n_threads);
        break;
    case CONV_BACKWARD_WEIGHT:
        conv2d_backward_weight(k, &l->g, &x, &dy, out, NULL, workspace, n_threads);
        break;
    }
    mem_free(workspace);
}

/* Largest error / largest expected entry. */
static double relative_error(const double *expected, const float *got, size_t n)
{
    double error = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double e = fabs((double)got[i] - expected[i]);
        error = e <= error ? error : e; /* a NaN is the worst, and stays it */
        largest = fmax(largest, fabs(expected[i]));
    }
    return error / largest;
}

START_TEST(test_layer)
{
    static const char *const names[] = {"y", "dx", "dw"};
    size_t n_isas;
    const char *const *isas = kernels_isas(&n_isas);
    struct err err = {0};
    struct layer_case l;

    layer_init(&l, _i);
    for (size_t i = 1; i < n_isas; i++) { /* behind "ref" */
        for (size_t a = 0; a < sizeof(bounds) / sizeof(bounds[0]); a++) {
            struct kernels k;
            ck_assert_msg(kernels_fill(&k, isas[i], &err) == 0, "%s", err.msg);
            ck_assert_int_eq(kernels_set_algorithm(&k, bounds[a].algorithm, &err), 0);
            for (int op = 0; op < 3; op++) {
                const size_t n = op < 2 ? l.n_map : l.n_w;
                float *const first = new_array(n, sizeof(float));
                run(&k, &l, (enum conv_op)op, first, 1);
                const double error = relative_error(l.expected[op], first, n);
                ck_assert_msg(error <= bounds[a].worst,
                              "%s %s: %s of %zux%zux%zu channels is off by %.2g of the largest "
                              "entry, expected %.2g at most",
                              isas[i], bounds[a].algorithm, names[op], l.shape.h, l.shape.w, l.g.c,
                              error, bounds[a].worst);
                for (int threads = 2; threads <= 4 && i == n_isas - 1; threads++) {
                    float *const again = new_array(n, sizeof(float));
                    run(&k, &l, (enum conv_op)op, again, threads);
                    ck_assert_msg(memcmp(first, again, n * sizeof(float)) == 0,
                                  "%s %s: other bits of %s with %d threads than with 1", isas[i],
                                  bounds[a].algorithm, names[op], threads);
                    mem_free(again);
                }
                mem_free(first);
            }
        }
    }
    layer_fini(&l);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("conv_layers");
    TCase *const tcase = tcase_create("layers");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, test_layer, 0, N_LAYERS);
    suite_add_tcase(suite, tcase);

    SRunner *const runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
