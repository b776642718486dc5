/* The weight gradient by runs of samples: parts in any order, x and dy in copies of a run's size, and
 * yet the bits of the whole batch's call; which in turn is right to rounding. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/conv.h"
#include "kernels/sample_runs.h"

static const struct {
    size_t n, h, w;
    struct conv_geom g;
} cases[] = {
    {13, 32, 32, {64, 16, 1, 1, 1, 0}}, /* a sample a run */
    {9, 32, 32, {16, 16, 3, 3, 1, 1}},
    {40, 8, 8, {64, 32, 1, 1, 1, 0}}, /* eight samples a run, the last run shorter */
    {7, 19, 23, {32, 40, 1, 1, 2, 0}},
    {3, 33, 31, {20, 9, 5, 5, 2, 2}},
    {1, 32, 32, {64, 16, 1, 1, 1, 0}},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static float *random_values(size_t n, uint32_t stream)
{
    const struct rng rng = rng_make(0, RNG_TEST, 0, stream);
    float *v = mem_alloc(MEM_OTHER, n * sizeof *v);
    for (size_t i = 0; i < n; i++) {
        v[i] = (float)rng_normal(&rng, i);
    }
    return v;
}

static struct tensor copy_of(const struct tensor *t, size_t first, size_t n)
{
    const struct tensor some = tensor_samples(t, first, n);
    float *data = mem_alloc(MEM_OTHER, shape_bytes(&some.shape));
    memcpy(data, some.data, shape_bytes(&some.shape));
    return tensor_view(data, some.shape);
}

static void by_runs(const struct kernels *k, const struct conv_geom *g, const struct tensor *x,
                    const struct tensor *dy, size_t group, float *dw, float *db, void *workspace)
{
    const struct sample_runs runs = sample_runs_cut(&x->shape, group);
    const size_t n_parts = conv2d_gradient_parts(k, g, &x->shape, group);
    ck_assert_uint_le(n_parts, runs.n_runs);
    for (size_t part = n_parts; part-- > 0;) {
        const size_t from = sample_runs_part(&runs, part, n_parts);
        for (size_t run = from; run < sample_runs_part(&runs, part + 1, n_parts); run++) {
            size_t first, n;
            (void)sample_runs_get(&runs, run, &first, &n);
            struct tensor some_x = copy_of(x, first, n), some_dy = copy_of(dy, first, n);
            conv2d_gradient_run(k, g, &x->shape, &some_x, &some_dy, db != NULL, part, run == from,
                                workspace);
            mem_free(some_x.data);
            mem_free(some_dy.data);
        }
    }
    conv2d_gradient_end(k, g, &x->shape, group, dw, db, workspace, 2);
}

static void check_case(const struct kernels *k, const struct kernels *ref, size_t i, size_t group)
{
    const struct conv_geom *const g = &cases[i].g;
    const struct shape in = {.n = cases[i].n, .h = cases[i].h, .w = cases[i].w, .c = g->c};
    const struct shape out = conv2d_out_shape(g, &in);
    const struct tensor x = tensor_view(random_values(shape_elements(&in), 1), in);
    const struct tensor dy = tensor_view(random_values(shape_elements(&out), 2), out);
    const size_t n_dw = g->r * g->s * g->c * g->k, n = n_dw + g->k;
    const size_t bytes = conv2d_workspace_bytes(k, g, &in, CONV_BACKWARD_WEIGHT, 3);
    void *const workspace = mem_alloc(MEM_OTHER, bytes);
    float *const found = mem_calloc(MEM_OTHER, 3 * n, sizeof *found);
    float *const runs = found + n, *const want = runs + n;
    conv2d_backward_weight(k, g, &x, &dy, group, found, found + n_dw, workspace, 3);
    memset(workspace, 0xFF, bytes); /* NaN */
    by_runs(k, g, &x, &dy, group, runs, runs + n_dw, workspace);
    ck_assert_msg(memcmp(found, runs, n * sizeof *found) == 0, "case %zu on %s", i, k->isa);

    mem_free(workspace);
    void *const own = mem_alloc(MEM_OTHER,
                                conv2d_workspace_bytes(ref, g, &in, CONV_BACKWARD_WEIGHT, 1) + 64);
    conv2d_backward_weight(ref, g, &x, &dy, group, want, want + n_dw, own, 1);
    const double tolerance = 1e-5 * sqrt((double)shape_pixels(&out)) * 4;
    for (size_t e = 0; e < n; e++) {
        if (!(fabs((double)found[e] - (double)want[e]) <= tolerance)) {
            ck_abort_msg("case %zu on %s, element %zu: %g, expected %g", i, k->isa, e,
                         (double)found[e], (double)want[e]);
        }
    }
    mem_free(own);
    mem_free(found);
    mem_free(x.data);
    mem_free(dy.data);
}

START_TEST(runs_equal_the_whole)
{
    struct err err = {0};
    size_t n_isas;
    const char *const *isas = kernels_isas(&n_isas);
    struct kernels ref;
    ck_assert_int_eq(kernels_fill(&ref, "ref", &err), 0);
    for (size_t i = 0; i < n_isas; i++) {
        struct kernels k;
        ck_assert_int_eq(kernels_fill(&k, isas[i], &err), 0);
        const struct shape x = {cases[_i].n, cases[_i].h, cases[_i].w, cases[_i].g.c};
        if (strcmp(isas[i], "ref") == 0) {
            ck_assert_uint_eq(conv2d_gradient_parts(&k, &cases[_i].g, &x, x.n), 0);
            continue;
        }
        check_case(&k, &ref, (size_t)_i, x.n);
        check_case(&k, &ref, (size_t)_i, 2);
    }
}
END_TEST

/* What a plan for a large batch relies on: a smaller one goes by runs if the large one does. */
START_TEST(smaller_batches_go_by_runs_too)
{
    struct err err = {0};
    struct kernels k;
    ck_assert_int_eq(kernels_fill(&k, "base", &err), 0);
    for (size_t i = 0; i < N_CASES; i++) {
        for (size_t n = 1; n <= 128; n++) {
            const struct shape x = {n, cases[i].h, cases[i].w, cases[i].g.c};
            ck_assert_uint_gt(conv2d_gradient_parts(&k, &cases[i].g, &x, n), 0);
        }
    }
    const struct conv_geom image = {3, 16, 3, 3, 1, 1}, large = {512, 512, 1, 1, 1, 0};
    const struct shape x = {128, 32, 32, 3}, y = {128, 8, 8, 512};
    ck_assert_uint_eq(conv2d_gradient_parts(&k, &image, &x, 128), 0);
    ck_assert_uint_eq(conv2d_gradient_parts(&k, &large, &y, 128), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("conv_runs");
    TCase *t = tcase_create("conv_runs");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, runs_equal_the_whole, 0, N_CASES);
    tcase_add_test(t, smaller_batches_go_by_runs_too);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    const int n_failed = srunner_ntests_failed(r);
    srunner_free(r);
    return n_failed > 0;
}
