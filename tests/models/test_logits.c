/* Whole networks under every convolution algorithm: logits against those of the plain loops. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/models.h"
#include "nn/exec.h"

enum { N = 2, CLASSES = 10, SIDE = 32 };

static void logits_of(const char *model, const char *algorithm, float logits[N * CLASSES])
{
    struct err err = {0};
    struct kernels k;
    struct graph g;
    struct exec exec;
    struct loss_result result;
    struct shape shape = {.n = N, .h = SIDE, .w = SIDE, .c = 3};
    struct rng rng = rng_make(5, RNG_TEST, 0, 0);
    uint32_t labels[N] = {0};
    struct model_config cfg = {.name = model,
                               .form = MODEL_CIFAR,
                               .channels = 3,
                               .height = SIDE,
                               .width = SIDE,
                               .classes = CLASSES};
    ck_assert_msg(model_build(&cfg, &g, &err) == 0, "%s", err.msg);
    ck_assert_msg(graph_alloc_params(&g, &err) == 0, "%s", err.msg);
    graph_init_params(&g, 1);
    ck_assert_msg(kernels_fill(&k, "auto", &err) == 0, "%s", err.msg);
    ck_assert_msg(kernels_set_algorithm(&k, algorithm, &err) == 0, "%s", err.msg);
    struct exec_config ec = {.graph = &g, .kernels = &k, .n_threads = 2, .eval_batch_size = N};
    ck_assert_msg(exec_init(&exec, &ec, &err) == 0, "%s", err.msg);
    struct tensor images = tensor_view(mem_alloc(MEM_DATA, shape_bytes(&shape)), shape);
    for (size_t i = 0; i < shape_elements(&shape); i++) {
        images.data[i] = (real)rng_normal(&rng, i);
    }
    ck_assert(exec_evaluate(&exec, &images, labels, logits, &result, &err) == 0);
    mem_free(images.data);
    exec_fini(&exec);
    graph_fini(&g);
}

static const char *const models[] = {"resnet18", "wrn-16-4", "resnet20"};
static const char *const algorithms[] = {"winograd", "igemm", "im2col", "auto"};

START_TEST(logits_agree)
{
    float direct[N * CLASSES], other[N * CLASSES];
    logits_of(models[_i], "direct", direct);
    double largest = 0;
    for (size_t i = 0; i < N * CLASSES; i++) {
        largest = fmax(largest, fabs((double)direct[i]));
    }
    for (size_t a = 0; a < sizeof algorithms / sizeof *algorithms; a++) {
        logits_of(models[_i], algorithms[a], other);
        for (size_t i = 0; i < N * CLASSES; i++) {
            double off = fabs((double)other[i] - (double)direct[i]);
            ck_assert_msg(off <= 1e-4 * largest, "%s, %s: logit %zu is %g, direct %g", models[_i],
                          algorithms[a], i, (double)other[i], (double)direct[i]);
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("logits");
    TCase *t = tcase_create("logits");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, logits_agree, 0, sizeof models / sizeof *models);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
