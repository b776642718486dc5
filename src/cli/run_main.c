/* division-run: trains networks under storage policies. division-run(1) is its manual. */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/experiment.h"
#include "cli/list.h"
#include "cli/progress.h"
#include "cli/run_args.h"
#include "report/summary.h"
#include "run/run.h"
#include "run/sweep.h"

/* --- signals: a request to stop, honoured between two steps ---------------------------------- */

static volatile sig_atomic_t caught;

static void on_signal(int sig)
{
    caught = sig;
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    struct sigaction hup;
    if (sigaction(SIGHUP, NULL, &hup) == 0 && hup.sa_handler != SIG_IGN) { /* nohup: ignored */
        sigaction(SIGHUP, &sa, NULL);
    }
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a write error, not a death */
}

static int pending_signal(void)
{
    return caught;
}

static int should_stop(void *ctx)
{
    (void)ctx;
    return caught != 0;
}

/* A standard stream that was closed must not give its number to a file: what is printed would end
 * up in it. For output the stand-in is open for reading alone, so that a result that nobody can see
 * is still a write error. */
static void fill_closed_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0) {
            return;
        }
    }
}

/* --- actions -------------------------------------------------------------------------------- */

static void begin(void *ctx, const struct session *s)
{
    progress_begin(ctx, s);
}

static void step(void *ctx, const struct train_step_info *info)
{
    progress_step(ctx, info);
}

static void epoch(void *ctx, const struct epoch_row *row)
{
    progress_epoch(ctx, row);
}

/* Exit status of a finished job; an expected divergence is a success. */
static int job_status(const struct config *cfg, const struct err *err)
{
    if (err->code == ERR_DIVERGED && strcmp(cfg->expect, "diverge") == 0) {
        return 0;
    }
    if (err->code == ERR_INTERRUPTED && caught) {
        return 128 + caught;
    }
    return cli_status(err);
}

/* *began: the job was not refused but has written into its folder. */
static int run_job(const struct run_args *a, const struct experiment *x, size_t i, int *began)
{
    struct err err = {0};
    struct progress progress = {0};
    struct run_events events = {
        .ctx = &progress, .begin = begin, .step = step, .epoch = epoch, .should_stop = should_stop};
    (void)!run_train(&x->cfg, &x->jobs.jobs[i], a->force, &events, &err);
    progress_end(&progress);
    *began = progress.n_epochs > 0;
    if (err.code) {
        cli_error(run_program, &err);
    }
    return job_status(&x->cfg, &err);
}

static int finish_table(const struct summary_row *rows, size_t n, int status)
{
    struct err err = {0};
    if (n == 0 || (n == 1 && rows[0].epochs < 1)) {
        return status;
    }
    printf("\n");
    if (summary_write(stdout, rows, n, &err) || cli_flush(&err)) {
        cli_error(run_program, &err);
        return status ? status : cli_status(&err);
    }
    return status;
}

static int run_single(const struct run_args *a, const struct experiment *x)
{
    struct summary_row row;
    int began, status = run_job(a, x, 0, &began);
    run_summary(&x->cfg, &x->jobs.jobs[0], began, &row);
    snprintf(row.status, sizeof row.status, "%s", run_exit_name(status));
    return finish_table(&row, row.epochs >= 1, status);
}

static int run_all(const struct run_args *a, const struct experiment *xs, size_t n_jobs,
                   char **argv)
{
    struct err err = {0};
    struct summary_row *rows = mem_calloc(MEM_OTHER, n_jobs, sizeof *rows);
    size_t done = 0;
    int status = 0;
    if (!rows) {
        return err_nomem(&err, "the table of runs", n_jobs * sizeof *rows);
    }
    for (size_t c = 0; c < a->n_configs && status == 0; c++) {
        struct sweep_options opt = {.argv = argv,
                                    .n_options = (size_t)(a->configs - argv),
                                    .config = a->configs[c],
                                    .policy = xs[c].policy,
                                    .pending_signal = pending_signal};
        size_t n = 0;
        if (sweep_run(&xs[c].cfg, &xs[c].jobs, &opt, rows + done, &n, &status, &err)) {
            cli_error(run_program, &err);
            status = cli_status(&err);
        }
        done += n;
    }
    status = finish_table(rows, done, status);
    mem_free(rows);
    return status;
}

static int evaluate(const struct run_args *a, const struct experiment *x, struct err *err)
{
    struct eval_result r;
    if (run_evaluate(&x->cfg, &x->jobs.jobs[0], a->logits, &r, err)) {
        return (int)err->code;
    }
    printf("%s on %zu test images of %s: loss %.6f, top-1 %.2f %%, top-5 %.2f %%\n",
           x->cfg.model.init, r.n, x->cfg.data.name, r.loss, r.top1, r.top5);
    return cli_flush(err);
}

static int train(const struct run_args *a, const struct experiment *xs, size_t n_jobs, char **argv)
{
    struct err err = {0};
    catch_signals();
    if (a->job) {
        size_t i = a->job - 1, c = 0;
        while (i >= xs[c].jobs.n) {
            i -= xs[c++].jobs.n;
        }
        int began;
        return run_job(a, &xs[c], i, &began);
    }
    if (experiment_check_folders(a, xs, &err)) {
        cli_error(run_program, &err);
        return cli_status(&err);
    }
    if (n_jobs > 1 && experiment_check_budget(a, xs, &err)) {
        cli_error(run_program, &err);
        return cli_status(&err);
    }
    return n_jobs == 1 ? run_single(a, &xs[0]) : run_all(a, xs, n_jobs, argv);
}

/* --plan and --timeline; a budget that does not do is told behind them. */
static int show(const struct run_args *a, const struct experiment *xs, size_t n_jobs,
                struct err *err)
{
    if (a->timeline ? experiment_timeline(a, xs, n_jobs, err)
                    : experiment_plan(a, xs, n_jobs, err)) {
        return (int)err->code;
    }
    return a->fit_batch || a->fit_policy ? 0 : experiment_check_budget(a, xs, err);
}

static int run_experiments(const struct run_args *a, char **argv)
{
    struct err err = {0};
    int status = 0;
    size_t n_jobs = 0;
    struct experiment *xs = mem_calloc(MEM_OTHER, a->n_configs, sizeof *xs);
    if (!xs) {
        (void)!err_nomem(&err, "the configs", a->n_configs * sizeof *xs);
        goto out;
    }
    for (size_t c = 0; c < a->n_configs; c++) {
        if (experiment_load(a, a->configs[c], &xs[c], &err)) {
            goto out;
        }
        n_jobs += xs[c].jobs.n;
    }
    if (a->job > n_jobs) {
        (void)!err_set(&err, ERR_CONFIG, "--job: there is no run %lu; the last one is %zu", a->job,
                       n_jobs);
    } else if (a->evaluate && n_jobs != 1) {
        (void)!err_set(&err, ERR_CONFIG,
                       "--evaluate takes one config with one policy and one seed, found %zu runs",
                       n_jobs);
    } else if (experiment_check_configs(a, xs, &err)) {
        goto out;
    } else if (a->timeline || a->plan) {
        (void)!show(a, xs, n_jobs, &err);
    } else if (a->evaluate) {
        (void)!evaluate(a, &xs[0], &err);
    } else {
        status = train(a, xs, n_jobs, argv);
    }
out:
    if (err.code) {
        cli_error(run_program, &err);
        status = cli_status(&err);
    }
    for (size_t c = 0; xs && c < a->n_configs; c++) {
        job_list_fini(&xs[c].jobs);
    }
    mem_free(xs);
    return status;
}

int main(int argc, char **argv)
{
    cli_settle_threads(argv);
    cli_outlive_file_limit();
    struct run_args a = {0};
    struct err err = {0};
    fill_closed_streams();
    if (run_args_parse(argc, argv, &a, &err)) {
        cli_error(run_program, &err);
        return cli_status(&err);
    }
    if (a.help) {
        fputs(run_usage, stdout);
    } else if (a.version) {
        printf("%s (division) %s\n", run_program, PACKAGE_VERSION);
    } else if (a.list) {
        (void)!list_write(a.list, stdout, &err);
    } else if (run_args_check(&a, &err) == 0) {
        return run_experiments(&a, argv);
    }
    if (!err.code) {
        (void)!cli_flush(&err);
    }
    if (err.code) {
        cli_error(run_program, &err);
    }
    return cli_status(&err);
}
