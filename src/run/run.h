/* What division-run does, without its command line: train one job, evaluate, plan, sweep.
 *
 * A job writes into its folder:
 *   config.yaml         the resolved config of this job alone
 *   run.yaml            the record: what ran, on what, how it ended
 *   epochs.csv          a row per finished epoch; steps.csv on request
 *   model.safetensors   the weights after the last finished epoch that did not diverge
 *   best.safetensors    the weights of the best epoch (highest test_top1) */
#ifndef RUN_RUN_H
#define RUN_RUN_H

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "config/config.h"
#include "report/columns.h"
#include "report/plan_row.h"
#include "report/summary.h"
#include "run/job.h"
#include "run/session.h"
#include "train/trainer.h"

/* How a run tells what it does; each function may be NULL. */
struct run_events {
    void *ctx;
    /* The job begins: what it is. */
    void (*begin)(void *ctx, const struct session *s);
    void (*step)(void *ctx, const struct train_step_info *info);
    void (*epoch)(void *ctx, const struct epoch_row *row);
    int (*should_stop)(void *ctx); /* asked often; non-zero ends the run with ERR_INTERRUPTED */
};

/* Trains one job into its folder (made new; with force over an old one). ERR_DIVERGED and
 * ERR_INTERRUPTED leave all files complete up to the last finished epoch. ERR_UNEXPECTED: the run was
 * to diverge and did not. */
int run_train(const struct config *cfg, const struct job *job, int force,
              const struct run_events *events, struct err *err) MUST_USE;

/* Test loss, top-1 and top-5 of model.init (required: ERR_CONFIG). logits_path: NULL, or where to
 * write the logits (n_test, classes) as .npy. ERR_DIVERGED if the loss is not finite. */
int run_evaluate(const struct config *cfg, const struct job *job, const char *logits_path,
                 struct eval_result *out, struct err *err) MUST_USE;

enum run_plan_form { RUN_PLAN_TEXT, RUN_PLAN_CSV, RUN_PLAN_TABLE };

/* Resolved config, network and memory of one job, as text; or the rows of plan.def, behind a header
 * if it is the first. Touches no data and allocates nothing that grows with the batch. */
int run_plan_write(const struct config *cfg, const struct job *job, enum run_plan_form form,
                   int is_first, FILE *fp, struct err *err) MUST_USE;

/* The row of the whole job alone; its texts are cfg's and job's. */
int run_plan_total(const struct config *cfg, const struct job *job, struct plan_row *row,
                   struct err *err) MUST_USE;

/* The rows of several jobs as a table for reading. */
int run_plan_totals_write(const struct plan_row *rows, size_t n, FILE *fp, struct err *err)
    MUST_USE;

/* Runs of one or several configs. */
struct run_list {
    const struct config *const *configs; /* [n] of each run */
    const struct job *const *jobs;       /* [n] */
    size_t n;
};

/* What is alive at each step of one training iteration, from the plans: timeline.csv with all runs,
 * timeline.gp and, *has_picture saying whether there is gnuplot, timeline.png with all of them, in
 * folder dir, which is made. ERR_IO, and what planning a run may give. */
int run_timeline(const struct run_list *runs, const char *dir, int *has_picture, struct err *err)
    MUST_USE;

/* Fills a summary row from what a finished or broken job left in its folder. began = 0: the job was
 * refused and left nothing; what the folder holds, if anything, is an earlier run's. */
void run_summary(const struct config *cfg, const struct job *job, int began,
                 struct summary_row *row);

/* "done", "diverged", "interrupted", "failed": how a run ended, by its error or by the exit status of
 * its process (division-run(1)). */
const char *run_status_name(const struct err *err);
const char *run_exit_name(int status);

#endif
