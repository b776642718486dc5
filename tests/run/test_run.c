/* Jobs, folders and weights: what a run decides before and keeps after it trains. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "config/config.h"
#include "models/models.h"
#include "run/folder.h"
#include "run/job.h"
#include "run/weights.h"
#include "scratch.h"
#include "tensor/safetensors.h"

static struct scratch folder;

static void setup(void)
{
    scratch_make(&folder);
}

static void teardown(void)
{
    scratch_remove(&folder);
}

/* --- jobs ------------------------------------------------------------------------------------- */

static void read_text(const char *text, struct config *cfg)
{
    struct err err = {0};
    ck_assert_msg(config_parse("test.yaml", text, strlen(text), cfg, &err) == 0, "%s", err.msg);
}

START_TEST(one_job_per_policy_and_seed)
{
    static const char text[] = "name: x\n"
                               "seed: [3, 4]\n"
                               "storage:\n"
                               "  - {policy: normal}\n"
                               "  - {policy: fixed, bits: 4}\n"
                               "  - {policy: division, block: 4}\n"
                               "  - {policy: division, label: mine}\n";
    static const char *const dirs[] = {
        "runs/x/normal-seed3",   "runs/x/normal-seed4",         "runs/x/fixed-b4-seed3",
        "runs/x/fixed-b4-seed4", "runs/x/division-B4-Q2-seed3", "runs/x/division-B4-Q2-seed4",
        "runs/x/mine-seed3",     "runs/x/mine-seed4",
    };
    struct config cfg, own;
    struct job_list list;
    struct job single;
    struct err err = {0};
    read_text(text, &cfg);
    ck_assert_msg(job_list_make(&cfg, &list, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(list.n, 8);
    for (size_t i = 0; i < list.n; i++) {
        ck_assert_str_eq(list.jobs[i].dir, dirs[i]);
    }
    job_config(&cfg, &list.jobs[3], &own, &single);
    ck_assert_uint_eq(own.n_storage, 1);
    ck_assert_str_eq(own.storage[0].policy, "fixed");
    ck_assert_int_eq(own.storage[0].bits, 4);
    ck_assert_uint_eq(own.seed.n, 1);
    ck_assert_int_eq(own.seed.item[0], 4);
    ck_assert_uint_eq(single.storage, 0);
    job_list_fini(&list);
}
END_TEST

START_TEST(a_sweep_runs_every_combination)
{
    static const char text[] = "name: x\n"
                               "sweep:\n"
                               "  model.name: [resnet20, resnet18]\n"
                               "  train.lr: [0.1, 0.05]\n"
                               "  storage.bits: [2, 4]\n"
                               "storage: {policy: fixed}\n";
    static const char *const dirs[] = {
        "runs/x/fixed-resnet20-lr0.1-seed0",  "runs/x/fixed-b4-resnet20-lr0.1-seed0",
        "runs/x/fixed-resnet20-lr0.05-seed0", "runs/x/fixed-b4-resnet20-lr0.05-seed0",
        "runs/x/fixed-resnet18-lr0.1-seed0",  "runs/x/fixed-b4-resnet18-lr0.1-seed0",
        "runs/x/fixed-resnet18-lr0.05-seed0", "runs/x/fixed-b4-resnet18-lr0.05-seed0",
    };
    struct config cfg, own;
    struct job_list list;
    struct job single;
    struct err err = {0};
    read_text(text, &cfg);
    ck_assert_msg(job_list_make(&cfg, &list, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(list.n, 8);
    for (size_t i = 0; i < list.n; i++) {
        ck_assert_str_eq(list.jobs[i].dir, dirs[i]);
    }
    job_config(&cfg, &list.jobs[3], &own, &single);
    ck_assert_uint_eq(own.n_sweep, 0);
    ck_assert_str_eq(own.model.name, "resnet20");
    ck_assert_double_eq(own.train.lr, 0.05);
    ck_assert_int_eq(own.storage[0].bits, 4);
    job_list_fini(&list);

    /* One value given on the command line stands for the whole axis; the names stay those of the whole
     * sweep, so that parts of it made one by one lie beside each other. */
    ck_assert_msg(config_set(&cfg, "train.lr=0.2", &err) == 0, "%s", err.msg);
    ck_assert_msg(job_list_make(&cfg, &list, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(list.n, 4);
    ck_assert_str_eq(list.jobs[3].dir, "runs/x/fixed-b4-resnet18-lr0.2-seed0");
    job_config(&cfg, &list.jobs[3], &own, &single);
    ck_assert_double_eq(own.train.lr, 0.2);
    job_list_fini(&list);
}
END_TEST

/* Exceptions go with their entry, into its label and into its store. */
START_TEST(exceptions_go_with_their_entry)
{
    static const char text[] =
        "name: x\n"
        "storage:\n"
        "  - {policy: division, except: [{match: conv1, policy: normal}]}\n"
        "  - {policy: fixed, bits: 4}\n"
        "  - policy: division\n"
        "    recompute: bn\n"
        "    relu_mask: derived\n"
        "    except:\n"
        "      - {match: \"layer1.*\", policy: fixed, bits: 4}\n"
        "      - {match: \"layer2.*\", policy: division, block: 4, recompute: none}\n"
        "  - {policy: division, label: mine, except: {match: conv1, policy: normal}}\n";
    static const char *const labels[] = {"division-except1", "fixed-b4",
                                         "division-bn-derived-except2", "mine"};
    struct config cfg, own;
    struct job_list list;
    struct job single;
    struct kernels k;
    struct store s;
    struct err err = {0};
    read_text(text, &cfg);
    ck_assert_msg(job_list_make(&cfg, &list, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(list.n, 4);
    ck_assert_int_eq(kernels_fill(&k, "ref", &err), 0);
    static const size_t n_rules[] = {1, 0, 2, 1};
    for (size_t i = 0; i < list.n; i++) {
        ck_assert_str_eq(list.jobs[i].label, labels[i]);
        job_config(&cfg, &list.jobs[i], &own, &single);
        ck_assert_uint_eq(own.n_except, n_rules[i]);
        ck_assert_msg(job_open_store(&own, 0, &k, 1, &s, &err) == 0, "%s", err.msg);
        ck_assert_uint_eq(s.n_rules, n_rules[i]);
        if (i == 2) {
            const struct store *a = store_for(&s, "layer1.0.conv1");
            const struct store *b = store_for(&s, "layer2.0.conv1");
            ck_assert(a == &s.rules[0].store && b == &s.rules[1].store);
            ck_assert(store_for(&s, "conv1") == &s && store_for(&s, "layer10") == &s);
            ck_assert_str_eq(a->policy->name, "fixed");
            ck_assert_uint_eq(a->params.bits, 4);
            ck_assert(a->params.rebuild_bn && a->params.derived_mask); /* the entry's */
            ck_assert_uint_eq(b->params.block, 4);
            ck_assert(!b->params.rebuild_bn && !b->params.derived_mask);
        }
        store_close(&s);
    }
    job_list_fini(&list);
}
END_TEST

/* Gradient accumulation is in the label, swept over or not. */
START_TEST(micro_batches_are_in_the_label)
{
    static const struct {
        const char *text, *labels[4];
    } cases[] = {
        {"train: {accumulate: 4}\n", {"normal-a4"}},
        {"train: {accumulate: 1}\n", {"normal"}},
        {"train: {accumulate: 4}\nstorage: {label: mine}\n", {"mine"}},
        {"sweep: {train.accumulate: [1, 4]}\nstorage: [{policy: normal}, {policy: fixed, bits: "
         "4}]\n",
         {"normal", "fixed-b4", "normal-a4", "fixed-b4-a4"}},
        {"sweep: {train.accumulate: [1, 4]}\nstorage: {label: mine}\n",
         {"mine-accumulate1", "mine-accumulate4"}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct config cfg;
        struct job_list list;
        struct err err = {0};
        read_text(cases[c].text, &cfg);
        ck_assert_msg(job_list_make(&cfg, &list, &err) == 0, "%s", err.msg);
        for (size_t i = 0; i < list.n; i++) {
            ck_assert(i < 4 && cases[c].labels[i]);
            ck_assert_str_eq(list.jobs[i].label, cases[c].labels[i]);
        }
        ck_assert(list.n == 4 || !cases[c].labels[list.n]);
        job_list_fini(&list);
    }
}
END_TEST

static const struct {
    const char *text, *part;
} bad_jobs[] = {
    {"storage: {policy: nomal}\n", "unknown policy \"nomal\""},
    {"storage: {policy: normal, bits: 2}\n", "storage.bits: the policy normal does not take it"},
    {"storage: {policy: fixed, block: 4}\n", "storage.block: the policy fixed does not take it"},
    {"storage: {policy: fixed, bits: 3}\n", "bits"},
    {"storage: {policy: fixed, group: many}\n", "storage.group"},
    {"storage: [{policy: normal}, {policy: normal}]\n", "two runs would write to"},
    {"storage: {except: {match: a, policy: nomal}}\n",
     "storage.except \"a\": storage.policy: unknown policy \"nomal\""},
    {"storage: {except: {match: a, policy: normal, bits: 2}}\n",
     "storage.except \"a\": storage.bits: the policy normal does not take it"},
    {"storage: {except: {match: a, policy: fixed, bits: 3}}\n",
     "storage.except \"a\": policy fixed"},
    {"storage: {except: {match: a, policy: fixed, relu_mask: derived}}\n",
     "storage.except \"a\": storage.relu_mask: derived"},
    {"storage: [{policy: fixed, except: {match: a, policy: normal}},\n"
     "          {policy: fixed, except: {match: b, policy: normal}}]\n",
     "two runs would write to runs/run/fixed-except1-seed0"},
    {"storage: [{policy: division}, {policy: fixed, label: division}]\n",
     "two runs would write to"},
    {"sweep: {train.batch_size: [64, 64]}\n", "two runs would write to"},
    {"sweep: {storage.bits: [2, 4]}\n", "storage.bits: the policy normal does not take it"},
    {"storage: {label: a-label-that-is-already-as-long-as-labels-may-ever-be-in-here}\n"
     "sweep: {data.name: [a-value-that-is-far-too-long-to-stand-in-the-name-of-a-folder]}\n",
     "gets too long"},
};

START_TEST(impossible_jobs_are_refused)
{
    struct config cfg;
    struct job_list list;
    struct err err = {0};
    read_text(bad_jobs[_i].text, &cfg);
    ck_assert_int_eq(job_list_make(&cfg, &list, &err), ERR_CONFIG);
    ck_assert_msg(strstr(err.msg, bad_jobs[_i].part) != NULL, "%s", err.msg);
}
END_TEST

/* --- folders ----------------------------------------------------------------------------------- */

static void touch(const char *dir, const char *name)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *fp = fopen(path, "w");
    ck_assert(fp != NULL);
    fclose(fp);
}

START_TEST(a_run_is_never_overwritten_unasked)
{
    struct err err = {0};
    char dir[600];
    snprintf(dir, sizeof dir, "%s/a/b", folder.dir);
    int hold;
    ck_assert(folder_take(dir, 0, &hold, &err) == 0);
    close(hold);
    ck_assert(folder_check(dir, 0, &err) == 0); /* empty: still free */
    touch(dir, "config.yaml");
    touch(dir, "old");
    ck_assert_int_eq(folder_check(dir, 0, &err), ERR_EXISTS);
    ck_assert_int_eq(folder_take(dir, 0, &hold, &err), ERR_EXISTS);
    ck_assert(strstr(err.msg, "--force") != NULL);
    err = (struct err){0};
    ck_assert(folder_check(dir, 1, &err) == 0);
    ck_assert(folder_take(dir, 1, &hold, &err) == 0);
    close(hold);
    char old[700];
    snprintf(old, sizeof old, "%s/old", dir);
    ck_assert(access(old, F_OK) != 0);
}
END_TEST

START_TEST(force_spares_what_is_no_run)
{
    struct err err = {0};
    char dir[600], file[700];
    snprintf(dir, sizeof dir, "%s/photos", folder.dir);
    ck_assert(file_make_dirs(dir, &err) == 0);
    touch(dir, "holiday.jpg");
    int hold;
    ck_assert_int_eq(folder_check(dir, 1, &err), ERR_EXISTS);
    ck_assert_int_eq(folder_take(dir, 1, &hold, &err), ERR_EXISTS);
    snprintf(file, sizeof file, "%s/holiday.jpg", dir);
    ck_assert(access(file, F_OK) == 0);
    ck_assert_int_eq(folder_take(file, 1, &hold, &err), ERR_EXISTS); /* a file in its place */
}
END_TEST

/* A second description of the folder in this process stands for another process. */
START_TEST(a_folder_is_one_run_s_at_a_time)
{
    struct err err = {0};
    char dir[600], old[700];
    int hold, other;
    snprintf(dir, sizeof dir, "%s/a", folder.dir);
    ck_assert(folder_take(dir, 0, &hold, &err) == 0);
    ck_assert_int_eq(folder_take(dir, 0, &other, &err), ERR_EXISTS); /* nothing is in it yet */
    touch(dir, "config.yaml");
    ck_assert_int_eq(folder_check(dir, 1, &err), ERR_EXISTS);
    ck_assert_msg(strstr(err.msg, dir) && strstr(err.msg, "has not ended"), "%s", err.msg);
    ck_assert_int_eq(folder_take(dir, 1, &other, &err), ERR_EXISTS);
    snprintf(old, sizeof old, "%s/config.yaml", dir);
    ck_assert(access(old, F_OK) == 0);
    close(hold);
    ck_assert(folder_check(dir, 1, &err) == 0);
    ck_assert(folder_take(dir, 1, &hold, &err) == 0);
    folder_remove(dir);
    ck_assert(access(dir, F_OK) != 0);
    close(hold);
}
END_TEST

START_TEST(a_folder_is_itself_however_it_is_written)
{
    static const struct {
        const char *a, *b;
        int same;
    } cases[] = {
        {"a/r", "a/r", 1},
        {"./a/r", "a/r", 1},
        {"a//r", "a/./r", 1},
        {"a/r", "b/r", 0},
        {"a/r", "a/s", 0},
        {"new/../a/r", "a/r", 1},
        {"there/../a/r", "a/r", 1},
        {"link/r", "there/r", 1},
        {"link/../r", "r", 1},
        {"link/x/r", "there/x/r", 1},
        {"link/r", "r", 0},
        {"/r", "../../../../../../../../../r", 1},
        {"/", "//", 1},
        {"%s/a/r", "a/r", 1},
        {"%s/link/r", "there/r", 1},
    };
    struct err err = {0};
    char cwd[600];
    ck_assert(getcwd(cwd, sizeof cwd) != NULL);
    ck_assert(chdir(folder.dir) == 0);
    ck_assert(file_make_dirs("there", &err) == 0);
    ck_assert(symlink("there", "link") == 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char a[1200];
        const int absolute = cases[i].a[0] == '%';
        snprintf(a, sizeof a, "%s%s", absolute ? folder.dir : "", cases[i].a + 2 * absolute);
        ck_assert_msg(folder_is_same(a, cases[i].b) == cases[i].same, "%s %s", a, cases[i].b);
        ck_assert_msg(folder_is_same(cases[i].b, a) == cases[i].same, "%s %s", cases[i].b, a);
    }
    ck_assert(chdir(cwd) == 0);
}
END_TEST

/* --- weights ------------------------------------------------------------------------------------ */

static void small_net(struct graph *g, const char *name, size_t classes, uint64_t seed)
{
    struct err err = {0};
    struct model_config mc = {
        .name = name, .channels = 3, .height = 8, .width = 8, .classes = classes};
    ck_assert_msg(model_build(&mc, g, &err) == 0, "%s", err.msg);
    ck_assert(graph_alloc_params(g, &err) == 0);
    graph_init_params(g, seed);
}

START_TEST(weights_come_back_bit_for_bit)
{
    struct graph a, b;
    struct err err = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/w.safetensors", folder.dir);
    small_net(&a, "resnet20", 10, 1);
    small_net(&b, "resnet20", 10, 2);
    const char *meta[] = {"model", "resnet20"};
    ck_assert_msg(weights_save(&a, path, 77, meta, 1, &err) == 0, "%s", err.msg);
    ck_assert_msg(weights_load(&b, path, &err) == 0, "%s", err.msg);
    for (size_t i = 0; i < a.n_params; i++) {
        ck_assert_mem_eq(a.params[i].w, b.params[i].w, a.params[i].n * sizeof(real));
    }
    /* PyTorch's view of the file: OIHW, and a counter beside every running variance. */
    struct safetensors_file f;
    ck_assert(safetensors_read(path, &f, &err) == 0);
    const struct safetensors_entry *e = safetensors_find(&f, "layer2.0.conv1.weight");
    const struct param *p = graph_find_param(&a, "layer2.0.conv1.weight");
    ck_assert(e && e->n_dims == 4 && e->dims[0] == 32 && e->dims[1] == 16 && e->dims[2] == 3);
    /* element (k 5, c 7, r 1, s 2) */
    ck_assert(((const float *)e->data)[((5 * 16 + 7) * 3 + 1) * 3 + 2] ==
              p->w[((1 * 3 + 2) * 16 + 7) * 32 + 5]);
    e = safetensors_find(&f, "bn1.num_batches_tracked");
    ck_assert(e && e->type == SAFETENSORS_I64 && e->n_dims == 0);
    ck_assert_int_eq(*(const int64_t *)e->data, 77);
    safetensors_fini(&f);
    graph_fini(&a);
    graph_fini(&b);
}
END_TEST

static void load_fails(struct graph *g, const char *path, const char *part)
{
    struct err err = {0};
    ck_assert_int_eq(weights_load(g, path, &err), ERR_FORMAT);
    ck_assert_msg(strstr(err.msg, part) != NULL, "%s", err.msg);
    ck_assert_msg(strstr(err.msg, path) != NULL, "%s", err.msg);
}

START_TEST(foreign_weights_are_refused)
{
    struct graph r20, r32, five;
    struct err err = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/w.safetensors", folder.dir);
    small_net(&r20, "resnet20", 10, 1);
    small_net(&r32, "resnet32", 10, 1);
    small_net(&five, "resnet20", 5, 1);
    ck_assert(weights_save(&r20, path, 1, NULL, 0, &err) == 0);
    load_fails(&r32, path, "it has no tensor layer1.3.conv1.weight");
    load_fails(&five, path, "fc.weight is 10 x 64, the network's is 5 x 64");
    ck_assert(weights_save(&r32, path, 1, NULL, 0, &err) == 0);
    load_fails(&r20, path, "which the network does not know");
    ck_assert(weights_check(&r20, &err) == 0);
    r20.params[3].w[0] = (real)(1e30 * 1e30);
    ck_assert_int_eq(weights_check(&r20, &err), ERR_DIVERGED);
    ck_assert_msg(strstr(err.msg, r20.params[3].name) && strstr(err.msg, "inf"), "%s", err.msg);
    err = (struct err){0};
    ck_assert(weights_save(&r20, path, 1, NULL, 0, &err) == 0);
    load_fails(&r20, path, "element 0 is inf");
    graph_fini(&r20);
    graph_fini(&r32);
    graph_fini(&five);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("run");
    TCase *t = tcase_create("run");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, one_job_per_policy_and_seed);
    tcase_add_test(t, a_sweep_runs_every_combination);
    tcase_add_test(t, exceptions_go_with_their_entry);
    tcase_add_test(t, micro_batches_are_in_the_label);
    tcase_add_loop_test(t, impossible_jobs_are_refused, 0, sizeof bad_jobs / sizeof *bad_jobs);
    tcase_add_test(t, a_run_is_never_overwritten_unasked);
    tcase_add_test(t, a_folder_is_one_run_s_at_a_time);
    tcase_add_test(t, a_folder_is_itself_however_it_is_written);
    tcase_add_test(t, force_spares_what_is_no_run);
    tcase_add_test(t, weights_come_back_bit_for_bit);
    tcase_add_test(t, foreign_weights_are_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
