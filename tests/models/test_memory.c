/* What a run keeps: the paper's memory table cell by cell, the savings of rebuilding, and how close
 * the packing comes to the live peak on the paper's networks. All from plans: nothing is run. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "models/models.h"
#include "nn/plan.h"
#include "store/store.h"

struct network {
    const char *name;
    enum model_form form;
    size_t size, classes;
};

static void make_plan(const struct network *net, const char *policy,
                      const struct store_params *params, size_t n, struct plan *plan)
{
    struct err err = {0};
    struct kernels k;
    struct store store;
    struct graph g;
    struct model_config cfg = {.name = net->name,
                               .form = net->form,
                               .channels = 3,
                               .height = net->size,
                               .width = net->size,
                               .classes = net->classes};
    ck_assert_msg(model_build(&cfg, &g, &err) == 0, "%s", err.msg);
    ck_assert_msg(kernels_fill(&k, "ref", &err) == 0, "%s", err.msg);
    ck_assert_msg(store_open(&store, policy, params, &k, 1, &err) == 0, "%s", err.msg);
    struct layer_context ctx = {.kernels = &k, .n_threads = 1, .training = 1, .bn_group = n};
    struct plan_config pc = {.graph = &g, .store = &store, .context = &ctx, .n = n};
    ck_assert_msg(plan_make(&pc, plan, &err) == 0, "%s", err.msg);
    store_close(&store);
    graph_fini(&g);
}

/* --- the paper's table (arXiv 2208.04187 and its published figures), GB of 2^30 bytes ---------- */

static const size_t batches[] = {64, 128, 256, 512};
static const struct network paper_nets[] = {{"resnet50", MODEL_IMAGENET, 224, 1000},
                                            {"wide_resnet50_2", MODEL_IMAGENET, 224, 1000}};

/* Activation memory; 0: out of memory there. `tolerance`: relative, or 0.03 GB if that is more. */
static const struct {
    const char *row, *policy;
    struct store_params params;
    double tolerance;
    double cells[2][4];
} rows[] = {
    {"Normal", "normal", {.official = 1}, 0.01, {{5.14, 10.25, 20.48, 0}, {6.70, 13.38, 26.75, 0}}},
    {"DIVISION",
     "division",
     {.block = 8, .bits = 2, .stochastic = 1, .official = 1, .unshared = 1},
     0.01,
     {{0.49, 0.99, 1.97, 3.94}, {0.64, 1.27, 2.52, 5.02}}},
    {"BLPA, which looks like DIVISION's code at 4 bits",
     "division",
     {.block = 8, .bits = 4, .stochastic = 1, .official = 1, .unshared = 1},
     0.02,
     {{0.82, 1.64, 3.28, 6.56}, {1.06, 2.11, 4.22, 8.44}}},
    {"AC-GC, which looks like DIVISION's code at 8 bits",
     "division",
     {.block = 8, .bits = 8, .stochastic = 1, .official = 1, .unshared = 1},
     0.02,
     {{1.47, 2.94, 5.88, 11.75}, {1.91, 3.81, 7.61, 15.20}}},
    {"ActNN",
     "actnn",
     {.bits = 2, .stochastic = 1, .official = 1, .unshared = 1},
     0.06,
     {{0.49, 0.97, 1.94, 3.89}, {0.62, 1.25, 2.49, 4.97}}},
    {"Checkpoint, first version",
     "checkpoint",
     {.official = 1},
     0.05,
     {{0.90, 1.80, 3.59, 7.18}, {0.90, 1.80, 3.59, 7.18}}},
    {"Checkpoint, last version",
     "checkpoint",
     {.official = 1, .segments = STORE_SEGMENTS_BLOCK},
     0.05,
     {{2.24, 4.48, 8.95, 17.90}, {2.24, 4.48, 8.95, 0}}},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

START_TEST(the_papers_table)
{
    const int net = _i % 2, row = _i / 2;
    for (size_t b = 0; b < 4; b++) {
        const double cell = rows[row].cells[net][b];
        struct plan plan;
        make_plan(&paper_nets[net], rows[row].policy, &rows[row].params, batches[b], &plan);
        /* What is allocated after the loss holds the log-softmax too, in our case the gradient of
         * the logits, which is of the same size. */
        const size_t logits = batches[b] * paper_nets[net].classes * sizeof(float);
        const double gb = (double)(plan.saved_bytes + logits) / 1073741824.0;
        const double allowed = fmax(0.03, rows[row].tolerance * cell);
        ck_assert_msg(cell <= 0 || fabs(gb - cell) <= allowed,
                      "%s, %s, %zu images: %.4f GB planned, %.2f in the paper", rows[row].row,
                      paper_nets[net].name, batches[b], gb, cell);
        plan_fini(&plan);
    }
}
END_TEST

/* --- rebuilding ------------------------------------------------------------------------------- */

static const struct {
    struct network net;
    size_t n;
    double least, least_derived; /* times less than normal; 0: not asked */
} rebuilt[] = {
    {{"resnet164", MODEL_CIFAR, 32, 10}, 128, 18, 25},
    {{"resnet50", MODEL_IMAGENET, 224, 1000}, 64, 12, 0},
    {{"resnet18", MODEL_CIFAR, 32, 10}, 128, 13, 0},
};

START_TEST(rebuilding_saves)
{
    struct store_params params = store_params_default();
    struct plan normal, plan;
    make_plan(&rebuilt[_i].net, "normal", &params, rebuilt[_i].n, &normal);
    params.rebuild_bn = 1;
    make_plan(&rebuilt[_i].net, "division", &params, rebuilt[_i].n, &plan);
    ck_assert_double_ge((double)normal.saved_bytes / (double)plan.saved_bytes, rebuilt[_i].least);
    plan_fini(&plan);
    params.derived_mask = 1;
    make_plan(&rebuilt[_i].net, "division", &params, rebuilt[_i].n, &plan);
    ck_assert_double_ge((double)normal.saved_bytes / (double)plan.saved_bytes,
                        rebuilt[_i].least_derived);
    plan_fini(&plan);
    plan_fini(&normal);
}
END_TEST

/* --- packing ---------------------------------------------------------------------------------- */

static const struct network packed[] = {
    {"resnet18", MODEL_CIFAR, 32, 10},       {"resnet20", MODEL_CIFAR, 32, 10},
    {"resnet164", MODEL_CIFAR, 32, 100},     {"wrn-28-10", MODEL_CIFAR, 32, 10},
    {"resnet50", MODEL_IMAGENET, 224, 1000}, {"wide_resnet50_2", MODEL_IMAGENET, 224, 1000},
    {"resnet18", MODEL_IMAGENET, 224, 1000},
};
static const size_t packed_batches[] = {64, 100, 128, 512};
enum {
    N_PACKED = sizeof packed / sizeof *packed,
    N_PACKED_BATCHES = sizeof packed_batches / sizeof *packed_batches,
};

START_TEST(the_arena_is_hardly_larger_than_the_peak)
{
    const struct network *net = &packed[_i % N_PACKED];
    const size_t batch = packed_batches[_i / N_PACKED];
    size_t n;
    const struct store_policy *const *policies = store_policies(&n);
    for (size_t p = 0; p < n; p++) {
        for (int rebuild = 0; rebuild < 2; rebuild++) {
            struct store_params params = store_params_default();
            struct err err = {0};
            struct plan plan;
            params.rebuild_bn = rebuild;
            if (policies[p]->check && policies[p]->check(&params, &err)) {
                continue; /* its bits are others */
            }
            make_plan(net, policies[p]->name, &params, batch, &plan);
            ck_assert_msg((double)plan.arena_bytes <= 1.02 * (double)plan.peak_bytes,
                          "%s, %s%s, %zu images: an arena of %zu bytes for a peak of %zu "
                          "(%.1f %% more)",
                          net->name, policies[p]->name, rebuild ? " rebuilt" : "", batch,
                          plan.arena_bytes, plan.peak_bytes,
                          100 * ((double)plan.arena_bytes / (double)plan.peak_bytes - 1));
            plan_fini(&plan);
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory");
    TCase *t = tcase_create("memory");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, the_papers_table, 0, N_ROWS * 2);
    tcase_add_loop_test(t, rebuilding_saves, 0, sizeof rebuilt / sizeof *rebuilt);
    tcase_add_loop_test(t, the_arena_is_hardly_larger_than_the_peak, 0,
                        N_PACKED * N_PACKED_BATCHES);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
