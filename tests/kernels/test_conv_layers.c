/* Every convolution of ResNet-18 (CIFAR) and of ResNet-18 and ResNet-50 at 224 pixels against a plain
 * loop in double: how far each algorithm's results are off, relative to the largest entry; and equal
 * bits for 1 to 4 threads. */
#include "kernels/conv.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The worst seen is 3.8e-6 for Winograd, 2.5e-6 for igemm; a wrong constant gives 1e-2. An algorithm
 * that cannot do a layer is replaced by one that can. */
static const struct {
    const char *algorithm;
    double worst;
} bounds[] = {{"winograd", 2e-5}, {"igemm", 1e-5}, {"im2col", 1e-5}};
enum { N_BOUNDS = sizeof(bounds) / sizeof(bounds[0]) };

static const struct {
    size_t n, side, c, k, r, stride;
} layers[] = {
    /* ResNet-18, CIFAR */
    {2, 32, 3, 64, 3, 1},
    {2, 32, 64, 64, 3, 1},
    {2, 32, 64, 128, 3, 2},
    {2, 32, 64, 128, 1, 2},
    {3, 16, 128, 128, 3, 1},
    {3, 16, 128, 256, 3, 2},
    {3, 16, 128, 256, 1, 2},
    {5, 8, 256, 256, 3, 1},
    {5, 8, 256, 512, 3, 2},
    {5, 8, 256, 512, 1, 2},
    {7, 4, 512, 512, 3, 1},
    /* both at 224 pixels */
    {1, 224, 3, 64, 7, 2},
    {1, 56, 64, 64, 3, 1},
    {1, 28, 128, 128, 3, 1},
    {1, 14, 256, 256, 3, 1},
    {2, 7, 512, 512, 3, 1},
    /* ResNet-18 at 224 pixels */
    {1, 56, 64, 128, 3, 2},
    {1, 28, 128, 256, 3, 2},
    {1, 14, 256, 512, 3, 2},
    {1, 56, 64, 128, 1, 2},
    {1, 28, 128, 256, 1, 2},
    {1, 14, 256, 512, 1, 2},
    /* ResNet-50 */
    {1, 56, 64, 64, 1, 1},
    {1, 56, 64, 256, 1, 1},
    {1, 56, 256, 64, 1, 1},
    {1, 56, 256, 128, 1, 1},
    {1, 56, 128, 128, 3, 2},
    {1, 28, 128, 512, 1, 1},
    {1, 56, 256, 512, 1, 2},
    {1, 28, 512, 128, 1, 1},
    {1, 28, 512, 256, 1, 1},
    {1, 28, 256, 256, 3, 2},
    {1, 14, 256, 1024, 1, 1},
    {1, 28, 512, 1024, 1, 2},
    {1, 14, 1024, 256, 1, 1},
    {1, 14, 1024, 512, 1, 1},
    {1, 14, 512, 512, 3, 2},
    {2, 7, 512, 2048, 1, 1},
    {1, 14, 1024, 2048, 1, 2},
    {2, 7, 2048, 512, 1, 1},
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
    struct shape shape, out; /* of x and of y */
    float *x, *dy, *w;
    double *expected[3]; /* y, dx, dw */
    size_t n[3];         /* entries of each */
};

/* Adds what input pixel `in` and output pixel `q` have to do with each other through tap `t`. */
static void expect_tap(struct layer_case *l, size_t in, size_t q, size_t t)
{
    const size_t c = l->g.c, k = l->g.k;
    const float *const dy = l->dy + q * k;
    double *const y = l->expected[0] + q * k;
    for (size_t e = 0; e < c; e++) {
        const float *const w = l->w + (t * c + e) * k;
        double *const dw = l->expected[2] + (t * c + e) * k;
        const double x = (double)l->x[in * c + e];
        double dx = 0;
        for (size_t f = 0; f < k; f++) {
            y[f] += x * (double)w[f];
            dx += (double)dy[f] * (double)w[f];
            dw[f] += x * (double)dy[f];
        }
        l->expected[1][in * c + e] += dx;
    }
}

static void expect(struct layer_case *l)
{
    const size_t side = l->shape.h, out = l->out.h, stride = l->g.stride, pad = l->g.pad;
    for (size_t q = 0; q < shape_pixels(&l->out); q++) {
        for (size_t t = 0; t < l->g.r * l->g.s; t++) {
            const size_t i = q / out % out * stride + t / l->g.s;
            const size_t j = q % out * stride + t % l->g.s;
            if (i >= pad && j >= pad && i < side + pad && j < side + pad) {
                expect_tap(l, (q / (out * out) * side + i - pad) * side + j - pad, q, t);
            }
        }
    }
}

static void layer_init(struct layer_case *l, int row)
{
    const size_t side = layers[row].side, r = layers[row].r;

    random_state = (unsigned)row;
    *l = (struct layer_case){
        .g = {.c = layers[row].c,
              .k = layers[row].k,
              .r = r,
              .s = r,
              .stride = layers[row].stride,
              .pad = r / 2},
        .shape = {.n = layers[row].n, .h = side, .w = side, .c = layers[row].c}};
    l->out = conv2d_out_shape(&l->g, &l->shape);
    l->n[0] = shape_elements(&l->out);
    l->n[1] = shape_elements(&l->shape);
    l->n[2] = r * r * l->g.c * l->g.k;
    l->x = new_array(l->n[1], sizeof(float));
    l->dy = new_array(l->n[0], sizeof(float));
    l->w = new_array(l->n[2], sizeof(float));
    for (size_t i = 0; i < l->n[1]; i++) {
        l->x[i] = fmaxf(random_normal(), 0); /* as behind a ReLU: the sums do not cancel */
    }
    for (size_t i = 0; i < l->n[0]; i++) {
        l->dy[i] = random_normal();
    }
    for (size_t i = 0; i < l->n[2]; i++) {
        l->w[i] = random_normal();
    }
    for (int i = 0; i < 3; i++) {
        l->expected[i] = new_array(l->n[i], sizeof(double));
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
    struct tensor x = tensor_view(l->x, l->shape), dy = tensor_view(l->dy, l->out);
    struct tensor y = tensor_view(out, l->out), dx = tensor_view(out, l->shape);

    switch (op) {
    case CONV_FORWARD: conv2d_forward(k, &l->g, &x, l->w, NULL, &y, workspace, n_threads); break;
    case CONV_BACKWARD_DATA:
        conv2d_backward_data(k, &l->g, &dy, l->w, &dx, 0, workspace, n_threads);
        break;
    case CONV_BACKWARD_WEIGHT:
        conv2d_backward_weight(k, &l->g, &x, &dy, x.shape.n, out, NULL, workspace, n_threads);
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
        for (size_t a = 0; a < N_BOUNDS; a++) {
            struct kernels k;
            ck_assert_msg(kernels_fill(&k, isas[i], &err) == 0, "%s", err.msg);
            ck_assert_int_eq(kernels_set_algorithm(&k, bounds[a].algorithm, &err), 0);
            for (int op = 0; op < 3; op++) {
                const size_t n = l.n[op];
                float *const first = new_array(n, sizeof(float));
                run(&k, &l, (enum conv_op)op, first, 1);
                const double error = relative_error(l.expected[op], first, n);
                ck_assert_msg(error <= bounds[a].worst,
                              "%s %s: %s of %zux%zu, %zu to %zu channels, is off by %.2g of the "
                              "largest entry, expected %.2g at most",
                              isas[i], bounds[a].algorithm, names[op], l.shape.h, l.shape.w, l.g.c,
                              l.g.k, error, bounds[a].worst);
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
