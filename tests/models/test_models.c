/* Networks: parameter names, shapes and counts against the published ones, saved bytes against a
 * count by hand, and one training step of each small one. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "models/models.h"
#include "nn/exec.h"
#include "nn/plan.h"
#include "store/store.h"

static void build(struct graph *g, const char *name, enum model_form form, size_t size,
                  size_t classes)
{
    struct err err = {0};
    struct model_config cfg = {.name = name,
                               .form = form,
                               .channels = 3,
                               .height = size,
                               .width = size,
                               .classes = classes};
    ck_assert_msg(model_build(&cfg, g, &err) == 0, "%s", err.msg);
}

/* Trainable parameters as torchvision (ImageNet forms) and PyTorch builds of the CIFAR forms
 * count them. */
static const struct {
    const char *name;
    enum model_form form;
    size_t size, classes, n_weights;
} counts[] = {
    {"resnet18", MODEL_IMAGENET, 224, 1000, 11689512},
    {"resnet34", MODEL_IMAGENET, 224, 1000, 21797672},
    {"resnet50", MODEL_IMAGENET, 224, 1000, 25557032},
    {"wide_resnet50_2", MODEL_IMAGENET, 224, 1000, 68883240},
    {"resnet18", MODEL_CIFAR, 32, 10, 11173962},
    {"resnet50", MODEL_CIFAR, 32, 10, 23520842},
    {"resnet20", MODEL_CIFAR, 32, 10, 272474},
    {"resnet56", MODEL_CIFAR, 32, 10, 855770},
    {"resnet110", MODEL_CIFAR, 32, 10, 1730714},
    {"resnet164", MODEL_CIFAR, 32, 10, 1711322},
    {"wrn-16-4", MODEL_CIFAR, 32, 10, 2748890},
    {"wrn-28-10", MODEL_CIFAR, 32, 10, 36479194},
};

START_TEST(parameter_count)
{
    struct graph g;
    build(&g, counts[_i].name, counts[_i].form, counts[_i].size, counts[_i].classes);
    ck_assert_msg(graph_n_weights(&g) == counts[_i].n_weights, "%s: %zu", counts[_i].name,
                  graph_n_weights(&g));
    graph_fini(&g);
}
END_TEST

START_TEST(names_and_shapes_are_torchvisions)
{
    static const struct {
        const char *name;
        size_t n_dims, dims[4];
    } expected[] = {
        {"conv1.weight", 4, {64, 3, 7, 7}},
        {"bn1.running_mean", 1, {64}},
        {"layer1.0.conv1.weight", 4, {64, 64, 1, 1}},
        {"layer1.0.downsample.0.weight", 4, {256, 64, 1, 1}},
        {"layer1.0.downsample.1.running_var", 1, {256}},
        {"layer2.0.conv2.weight", 4, {128, 128, 3, 3}},
        {"layer4.2.bn3.bias", 1, {2048}},
        {"fc.weight", 2, {1000, 2048}},
        {"fc.bias", 1, {1000}},
    };
    struct graph g;
    build(&g, "resnet50", MODEL_IMAGENET, 224, 1000);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const struct param *p = graph_find_param(&g, expected[i].name);
        ck_assert_msg(p != NULL, "%s", expected[i].name);
        ck_assert_uint_eq(p->n_dims, expected[i].n_dims);
        for (size_t d = 0; d < p->n_dims; d++) {
            ck_assert_uint_eq(p->dims[d], expected[i].dims[d]);
        }
    }
    ck_assert(graph_find_param(&g, "layer1.1.downsample.0.weight") == NULL);
    graph_fini(&g);
}
END_TEST

/* --- saved bytes by hand: CIFAR ResNet-18 ---------------------------------------------------- */

struct by_hand {
    size_t normal, division; /* bytes of maps, one image */
};

/* Per stage: channels, side, batch-norm inputs and convolution inputs (= ReLU outputs but the
 * network's last), and all ReLUs. */
static const struct {
    size_t c, side, n_bn, n_conv, n_relu;
} stages[] = {{64, 32, 5, 5, 5}, {128, 16, 5, 4, 4}, {256, 8, 5, 4, 4}, {512, 4, 5, 3, 4}};

static struct by_hand count_by_hand(void)
{
    struct by_hand sum = {0};
    for (size_t i = 0; i < 4; i++) {
        size_t pixels = stages[i].side * stages[i].side, c = stages[i].c;
        size_t blocks = stages[i].side <= 8 ? 1 : pixels / 64;
        size_t map = pixels * 2 / 8 + blocks * 2 + 4; /* codes, means, minimum and step */
        sum.normal += (stages[i].n_bn + stages[i].n_relu) * c * pixels * 4;
        sum.division += (stages[i].n_bn + stages[i].n_conv) * c * map +
                        stages[i].n_relu * c * pixels / 8; /* sign bits */
    }
    size_t exact = 3 * 32 * 32 * 4 + 512 * 4; /* the image; the linear layer's input */
    sum.normal += exact;
    sum.division += exact;
    return sum;
}

static size_t planned_saved(const struct graph *g, const char *policy, size_t n)
{
    struct err err = {0};
    struct kernels k;
    struct store store;
    struct store_params params = store_params_default();
    struct plan plan;
    ck_assert_msg(kernels_fill(&k, "ref", &err) == 0, "%s", err.msg);
    ck_assert_msg(store_open(&store, policy, &params, &k, 1, &err) == 0, "%s", err.msg);
    struct layer_context ctx = {.kernels = &k, .n_threads = 1, .training = 1, .bn_group = n};
    struct plan_config pc = {.graph = g, .store = &store, .context = &ctx, .n = n};
    ck_assert_msg(plan_make(&pc, &plan, &err) == 0, "%s", err.msg);
    size_t saved = plan.saved_bytes;
    plan_fini(&plan);
    store_close(&store);
    return saved;
}

START_TEST(saved_bytes_of_resnet18_by_hand)
{
    enum { N = 128 };
    struct graph g;
    build(&g, "resnet18", MODEL_CIFAR, 32, 10);
    struct by_hand hand = count_by_hand();
    size_t channels = 0; /* of all batch-norms: mean and inverse deviation, once per batch */
    for (size_t i = 0; i < 4; i++) {
        channels += stages[i].n_bn * stages[i].c;
    }
    size_t stats = 2 * channels * 4;
    ck_assert_uint_eq(planned_saved(&g, "normal", N), N * hand.normal + stats);
    ck_assert_uint_eq(planned_saved(&g, "division", N), N * hand.division + stats);
    ck_assert(10 * planned_saved(&g, "division", N) <= planned_saved(&g, "normal", N));
    graph_fini(&g);
}
END_TEST

/* --- errors ---------------------------------------------------------------------------------- */

static void refused(const struct model_config *cfg, enum err_code code, const char *part)
{
    struct graph g;
    struct err err = {0};
    ck_assert_int_eq(model_build(cfg, &g, &err), code);
    ck_assert_msg(strstr(err.msg, part) != NULL, "%s", err.msg);
}

START_TEST(bad_models_are_refused)
{
    struct model_config cfg = {
        .name = "resnet19", .channels = 3, .height = 32, .width = 32, .classes = 10};
    refused(&cfg, ERR_CONFIG, "did you mean resnet18?");
    cfg.name = "wrn-27-10"; /* 27 is not 6n + 4 */
    refused(&cfg, ERR_CONFIG, "wrn-D-K");
    cfg.name = "wrn-28-";
    refused(&cfg, ERR_CONFIG, "wrn-D-K");
    cfg.name = "resnet20";
    cfg.form = MODEL_IMAGENET;
    refused(&cfg, ERR_CONFIG, "cifar");
    cfg.form = MODEL_CIFAR;
    cfg.dropout = 0.1;
    refused(&cfg, ERR_CONFIG, "dropout");
    cfg.dropout = 0;
    cfg.height = (size_t)1 << 40;
    refused(&cfg, ERR_SHAPE, "too large");
}
END_TEST

START_TEST(odd_image_sizes_work)
{
    static const size_t sizes[] = {1, 5, 17, 28, 33};
    struct graph g;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        build(&g, "resnet20", MODEL_CIFAR, sizes[i], 10);
        graph_fini(&g);
        build(&g, "resnet50", MODEL_IMAGENET, sizes[i], 10);
        graph_fini(&g);
        build(&g, "wrn-10-1", MODEL_CIFAR, sizes[i], 10);
        graph_fini(&g);
    }
}
END_TEST

/* Same seed, same weights; another seed, others; and the spread is He's. */
START_TEST(initial_weights)
{
    struct graph a, b;
    struct err err = {0};
    build(&a, "resnet20", MODEL_CIFAR, 32, 10);
    build(&b, "resnet20", MODEL_CIFAR, 32, 10);
    ck_assert(graph_alloc_params(&a, &err) == 0 && graph_alloc_params(&b, &err) == 0);
    graph_init_params(&a, 1);
    graph_init_params(&b, 1);
    const struct param *p = graph_find_param(&a, "layer3.2.conv2.weight");
    const struct param *q = graph_find_param(&b, "layer3.2.conv2.weight");
    ck_assert_mem_eq(p->w, q->w, p->n * sizeof(real));
    graph_init_params(&b, 2);
    ck_assert_mem_ne(p->w, q->w, p->n * sizeof(real));
    double sum = 0, squares = 0, expected = 2.0 / (64 * 9);
    for (size_t i = 0; i < p->n; i++) {
        sum += (double)p->w[i];
        squares += (double)p->w[i] * (double)p->w[i];
    }
    double n = (double)p->n, mean = sum / n, var = squares / n - mean * mean;
    ck_assert(mean * mean < 16 * expected / n); /* within 4 standard errors */
    ck_assert(var > 0.95 * expected && var < 1.05 * expected);
    graph_fini(&a);
    graph_fini(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("models");
    TCase *t = tcase_create("models");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, parameter_count, 0, sizeof counts / sizeof *counts);
    tcase_add_test(t, names_and_shapes_are_torchvisions);
    tcase_add_test(t, saved_bytes_of_resnet18_by_hand);
    tcase_add_test(t, bad_models_are_refused);
    tcase_add_test(t, odd_image_sizes_work);
    tcase_add_test(t, initial_weights);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
