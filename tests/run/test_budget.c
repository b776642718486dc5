/* A run that takes more memory than was planned for it ends by itself, and keeps what it has. */
#include "config.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "run/run.h"
#include "scratch.h"

enum { EXTRA = 64 << 20 };

static struct scratch folder;

static void setup(void)
{
    scratch_make(&folder);
}

static void teardown(void)
{
    scratch_remove(&folder);
}

static void make_job_of(struct config *cfg, struct job_list *jobs)
{
    static const char text[] = "name: over\n"
                               "model: {name: resnet20}\n"
                               "data: {name: synthetic, limit: 32, test_limit: 8, size: 8}\n"
                               "train: {epochs: 3, batch_size: 8}\n"
                               "run: {threads: 1}\n";
    struct err err = {0};
    ck_assert_msg(config_parse("over.yaml", text, strlen(text), cfg, &err) == 0, "%s", err.msg);
    ck_assert(str_copy(cfg->output.dir, sizeof cfg->output.dir, folder.dir) == 0);
    ck_assert_msg(job_list_make(cfg, jobs, &err) == 0, "%s", err.msg);
}

/* Something that no plan knows of: in step 6, the second of the second epoch. */
struct glutton {
    size_t n_steps;
    enum mem_tag tag;
    char *block;
};

static void step(void *ctx, const struct train_step_info *info)
{
    struct glutton *g = ctx;
    g->n_steps = info->step + 1;
    if (g->n_steps == 6) {
        g->block = mem_alloc_untouched(g->tag, EXTRA);
        ck_assert_ptr_nonnull(g->block);
        if (g->tag == MEM_OTHER) { /* seen by the system alone; the other by the ledger alone */
            memset(g->block, 1, EXTRA);
        }
    }
}

static const enum mem_tag tags[] = {MEM_OTHER, MEM_WORKSPACE};

#ifdef DIVISION_SANITIZED
enum { N_TAGS = 0 }; /* a sanitizer's memory is in no account */
#else
enum { N_TAGS = sizeof tags / sizeof *tags };
#endif

START_TEST(a_run_beyond_its_budget_ends)
{
    struct config cfg;
    struct job_list jobs;
    struct err err = {0};
    struct glutton glutton = {.tag = tags[_i]};
    struct run_events events = {.ctx = &glutton, .step = step};
    char path[JOB_PATH + 32], *text;
    size_t size;
    make_job_of(&cfg, &jobs);
    jobs.jobs[0].budget_bytes = sys_resident_bytes() + EXTRA / 2;
    if (tags[_i] == MEM_WORKSPACE) {
        jobs.jobs[0].budget_bytes = EXTRA;
    }
    ck_assert_int_eq(run_train(&cfg, &jobs.jobs[0], 0, &events, &err), ERR_NOMEM);
    ck_assert_msg(strstr(err.msg, "after step 6 ") && strstr(err.msg, "over the budget"), "%s",
                  err.msg);
    ck_assert_uint_eq(glutton.n_steps, 6);
    mem_free(glutton.block);

    /* The first epoch's row and weights are there, and the record says how it ended. */
    snprintf(path, sizeof path, "%s/run.yaml", jobs.jobs[0].dir);
    ck_assert(file_read_all(path, 1 << 20, &text, &size, &err) == 0);
    ck_assert(strstr(text, "status: failed") && strstr(text, "epochs: 1\n"));
    mem_free(text);
    snprintf(path, sizeof path, "%s/model.safetensors", jobs.jobs[0].dir);
    ck_assert(file_exists(path));
    job_list_fini(&jobs);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("budget");
    TCase *t = tcase_create("budget");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_run_beyond_its_budget_ends, 0, N_TAGS);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
