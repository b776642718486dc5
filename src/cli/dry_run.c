/* What can be told of runs without their data: --plan and --timeline. */
#include <stdio.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/experiment.h"
#include "run/run.h"

static int is_chosen(const struct run_args *a, size_t number)
{
    return !a->job || a->job == number;
}

/* --plan=table: one line per run. */
static int plan_table(const struct run_args *a, const struct experiment *xs, size_t n_jobs,
                      struct err *err)
{
    size_t number = 0, n = 0;
    struct plan_row *rows = mem_calloc(MEM_OTHER, n_jobs, sizeof *rows);
    if (!rows) {
        return err_nomem(err, "the table of runs", n_jobs * sizeof *rows);
    }
    for (size_t c = 0; c < a->n_configs && !err->code; c++) {
        for (size_t i = 0; i < xs[c].jobs.n && !err->code; i++) {
            if (is_chosen(a, ++number)) {
                (void)!run_plan_total(&xs[c].cfg, &xs[c].jobs.jobs[i], &rows[n++], err);
            }
        }
    }
    if (!err->code) {
        (void)!run_plan_totals_write(rows, n, stdout, err);
    }
    mem_free(rows);
    return (int)err->code;
}

int experiment_plan(const struct run_args *a, const struct experiment *xs, size_t n_jobs,
                    struct err *err)
{
    size_t number = 0, printed = 0;
    if (a->plan_form == RUN_PLAN_TABLE) {
        return plan_table(a, xs, n_jobs, err);
    }
    for (size_t c = 0; c < a->n_configs; c++) {
        for (size_t i = 0; i < xs[c].jobs.n; i++) {
            if (is_chosen(a, ++number) &&
                run_plan_write(&xs[c].cfg, &xs[c].jobs.jobs[i], a->plan_form, printed++ == 0,
                               stdout, err)) {
                return (int)err->code;
            }
        }
    }
    return 0;
}

/* Seeds have the same plan: the first stands for all. */
int experiment_timeline(const struct run_args *a, const struct experiment *xs, size_t n_jobs,
                        struct err *err)
{
    const struct config **configs = mem_calloc(MEM_OTHER, n_jobs, sizeof *configs);
    const struct job **jobs = mem_calloc(MEM_OTHER, n_jobs, sizeof *jobs);
    size_t n = 0, number = 0;
    int has_picture = 0;
    if (!configs || !jobs) {
        (void)!err_nomem(err, "the list of runs", n_jobs * sizeof *jobs);
        goto out;
    }
    for (size_t c = 0; c < a->n_configs; c++) {
        for (size_t i = 0; i < xs[c].jobs.n; i++) {
            number++;
            if (a->job ? a->job == number : i % xs[c].cfg.seed.n == 0) {
                configs[n] = &xs[c].cfg;
                jobs[n++] = &xs[c].jobs.jobs[i];
            }
        }
    }
    const struct run_list runs = {.configs = configs, .jobs = jobs, .n = n};
    if (run_timeline(&runs, a->timeline, &has_picture, err) == 0) {
        printf("%s/timeline.csv: %zu %s; %s/timeline.%s\n", a->timeline, n, n == 1 ? "run" : "runs",
               a->timeline, has_picture ? "png" : "gp");
        if (!has_picture) {
            fprintf(stderr,
                    "%s: no gnuplot, no picture: with it, \"gnuplot timeline.gp\" draws "
                    "one\n",
                    run_program);
        }
        (void)!cli_flush(err);
    }
out:
    mem_free(configs);
    mem_free(jobs);
    return (int)err->code;
}
