/* division-run: trains networks under storage policies. division-run(1) is its manual. */
#include "config.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"
#include "cli/progress.h"
#include "config/config.h"
#include "report/summary.h"
#include "run/budget.h"
#include "run/folder.h"
#include "run/run.h"
#include "run/sweep.h"

static const char program[] = "division-run";

static const char usage[] =
    "usage: division-run [options] CONFIG...\n"
    "Trains the network of each CONFIG (YAML) under its storage policies and writes a folder per\n"
    "run with the CSV of every epoch; ends with a table of all runs.\n"
    "\n"
    "  --policy NAME[:key=value,...]  storage policy, instead of the config's; repeatable: run in "
    "turn\n"
    "  --set key=value                override a key of the config; repeatable\n"
    "  --plan[=csv|table]             print config, network and memory of each run; csv: as "
    "figures;"
    "\n"
    "                                 table: one line per run; touch no data\n"
    "  --timeline DIR                 write what is alive at each step as table and picture; touch "
    "no data\n"
    "  --budget SIZE                  end with status 4 rather than take more memory (500M, 2G)\n"
    "  --fit WHAT                     with --budget: run the largest batch, or the least lossy "
    "policy,\n"
    "                                 that fits (WHAT: batch or policy)\n"
    "  --evaluate                     test the weights of model.init instead of training\n"
    "  --logits FILE.npy              with --evaluate: write the test images' logits\n"
    "  --force                        overwrite the folders of earlier runs\n"
    "  --job N                        run only the N-th run of the list, without the final table\n"
    "  --list WHAT                    list policies, models, datasets or keys\n"
    "  --help, --version\n"
    "\n"
    "Keys: division-config(5); files and columns: division-results(5).\n"
    "Exit status: 0 done, 1 failed, 2 usage or config, 3 data or weights, 4 memory, 5 diverged,\n"
    "130/143 interrupted.\n";

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
    signal(SIGXFSZ, SIG_IGN); /* so is a limit on the size of files */
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

/* --- arguments ------------------------------------------------------------------------------ */

enum { MAX_OVERRIDES = 64 };

struct arguments {
    const char *policies[CONFIG_LIST], *sets[MAX_OVERRIDES];
    size_t n_policies, n_sets;
    const char *list, *logits, *timeline;
    unsigned long job; /* 0: all */
    int plan, evaluate, force, help, version;
    enum run_plan_form plan_form;
    size_t budget_bytes; /* 0: any */
    int fit_batch, fit_policy;
    char *const *configs;
    size_t n_configs;
};

static int add(const char **list, size_t *n, size_t max, const char *option, const char *value,
               struct err *err)
{
    if (*n == max) {
        return err_set(err, ERR_CONFIG, "%s is given more than %zu times", option, max);
    }
    list[(*n)++] = value;
    return 0;
}

static int parse_arguments(int argc, char **argv, struct arguments *a, struct err *err)
{
    enum {
        OPT_POLICY = 256,
        OPT_SET,
        OPT_PLAN,
        OPT_TIMELINE,
        OPT_BUDGET,
        OPT_FIT,
        OPT_EVALUATE,
        OPT_LOGITS,
        OPT_FORCE,
        OPT_JOB,
        OPT_LIST,
        OPT_HELP,
        OPT_VERSION
    };
    static const struct option options[] = {
        {"policy", required_argument, NULL, OPT_POLICY},
        {"set", required_argument, NULL, OPT_SET},
        {"plan", optional_argument, NULL, OPT_PLAN},
        {"timeline", required_argument, NULL, OPT_TIMELINE},
        {"budget", required_argument, NULL, OPT_BUDGET},
        {"fit", required_argument, NULL, OPT_FIT},
        {"evaluate", no_argument, NULL, OPT_EVALUATE},
        {"logits", required_argument, NULL, OPT_LOGITS},
        {"force", no_argument, NULL, OPT_FORCE},
        {"job", required_argument, NULL, OPT_JOB},
        {"list", required_argument, NULL, OPT_LIST},
        {"help", no_argument, NULL, OPT_HELP},
        {"version", no_argument, NULL, OPT_VERSION},
        {NULL, 0, NULL, 0},
    };
    char *end;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case OPT_POLICY:
            if (add(a->policies, &a->n_policies, CONFIG_LIST, "--policy", optarg, err)) {
                return (int)err->code;
            }
            break;
        case OPT_SET:
            if (add(a->sets, &a->n_sets, MAX_OVERRIDES, "--set", optarg, err)) {
                return (int)err->code;
            }
            break;
        case OPT_JOB:
            a->job = strtoul(optarg, &end, 10);
            if (optarg[0] < '0' || optarg[0] > '9' || *end || a->job == 0) {
                return err_set(err, ERR_CONFIG, "--job: \"%s\" is not a number from 1", optarg);
            }
            break;
        case OPT_PLAN:
            a->plan = 1;
            if (!optarg) {
                a->plan_form = RUN_PLAN_TEXT;
            } else if (strcmp(optarg, "csv") == 0) {
                a->plan_form = RUN_PLAN_CSV;
            } else if (strcmp(optarg, "table") == 0) {
                a->plan_form = RUN_PLAN_TABLE;
            } else {
                return err_set(err, ERR_CONFIG,
                               "--plan: unknown form \"%s\"; it is nothing (text), csv or table",
                               optarg);
            }
            break;
        case OPT_TIMELINE: a->timeline = optarg; break;
        case OPT_BUDGET:
            if (str_parse_bytes(optarg, &a->budget_bytes)) {
                return err_set(err, ERR_CONFIG,
                               "--budget: \"%s\" is no size; it is a number of bytes, or like 500M "
                               "or 2G",
                               optarg);
            }
            break;
        case OPT_FIT:
            a->fit_batch = strcmp(optarg, "batch") == 0;
            a->fit_policy = strcmp(optarg, "policy") == 0;
            if (!a->fit_batch && !a->fit_policy) {
                return err_set(err, ERR_CONFIG, "--fit: \"%s\"; it is batch or policy", optarg);
            }
            break;
        case OPT_EVALUATE: a->evaluate = 1; break;
        case OPT_LOGITS: a->logits = optarg; break;
        case OPT_FORCE: a->force = 1; break;
        case OPT_LIST: a->list = optarg; break;
        case OPT_HELP: a->help = 1; break;
        case OPT_VERSION: a->version = 1; break;
        default: /* getopt has said what is wrong */
            return err_set(err, ERR_CONFIG, "see %s --help", program);
        }
    }
    a->configs = argv + optind;
    a->n_configs = (size_t)(argc - optind);
    return 0;
}

static int check_arguments(const struct arguments *a, struct err *err)
{
    if (a->n_configs == 0) {
        return err_set(err, ERR_CONFIG,
                       "no config given; try configs/quickstart.yaml, or see %s --help", program);
    }
    if (a->logits && !a->evaluate) {
        return err_set(err, ERR_CONFIG, "--logits goes with --evaluate");
    }
    if ((a->fit_batch || a->fit_policy) && (!a->budget_bytes || a->evaluate)) {
        return err_set(err, ERR_CONFIG, "--fit goes with --budget, and with training or --plan");
    }
    if (a->timeline && (a->plan || a->evaluate)) {
        return err_set(err, ERR_CONFIG, "--timeline excludes --plan and --evaluate");
    }
    if (a->plan && a->evaluate) {
        return err_set(err, ERR_CONFIG, "--plan and --evaluate exclude each other");
    }
    return 0;
}

/* --- the configs and their jobs ------------------------------------------------------------- */

struct experiment {
    struct config cfg;
    struct job_list jobs;
};

/* A job's own process has been told already why: by its parent. */
static int fit_policy(const struct arguments *a, struct config *cfg, struct err *err)
{
    char why[1024];
    if (budget_fit_policy(cfg, a->budget_bytes, why, sizeof why, err)) {
        return (int)err->code;
    }
    if (!a->job) {
        fprintf(stderr, "%s: %s\n", program, why);
    }
    return 0;
}

static int load(const struct arguments *a, const char *path, struct experiment *x, struct err *err)
{
    if (config_read(path, &x->cfg, err)) {
        if (err->code == ERR_MISSING || err->code == ERR_IO) {
            err->code = ERR_CONFIG; /* a wrong argument, as a file with wrong contents */
        }
        return (int)err->code;
    }
    for (size_t i = 0; i < a->n_policies; i++) {
        if (config_set_policy(&x->cfg, a->policies[i], i > 0, err)) {
            return (int)err->code;
        }
    }
    for (size_t i = 0; i < a->n_sets; i++) {
        if (config_set(&x->cfg, a->sets[i], err)) {
            return (int)err->code;
        }
    }
    if (a->fit_policy && fit_policy(a, &x->cfg, err)) {
        return err_add(err, "%s", path);
    }
    if (job_list_make(&x->cfg, &x->jobs, err)) {
        return err_add(err, "%s", path);
    }
    for (size_t i = 0; i < x->jobs.n; i++) {
        x->jobs.jobs[i].budget_bytes = a->budget_bytes;
        x->jobs.jobs[i].fit_batch = a->fit_batch;
    }
    return 0;
}

/* No two jobs of all configs may share a folder, and none may exist. */
static int check_folders(const struct arguments *a, const struct experiment *xs, struct err *err)
{
    for (size_t c = 0; c < a->n_configs; c++) {
        for (size_t i = 0; i < xs[c].jobs.n; i++) {
            const char *dir = xs[c].jobs.jobs[i].dir;
            if (!a->force && folder_check(dir, err)) {
                return (int)err->code;
            }
            for (size_t d = 0; d < c; d++) {
                for (size_t j = 0; j < xs[d].jobs.n; j++) {
                    if (strcmp(dir, xs[d].jobs.jobs[j].dir) == 0) {
                        return err_set(err, ERR_CONFIG,
                                       "%s and %s would both write to %s: set output.dir or name",
                                       a->configs[d], a->configs[c], dir);
                    }
                }
            }
        }
    }
    return 0;
}

/* No run may be over budget, before any begins. */
static int check_budget(const struct arguments *a, const struct experiment *xs, struct err *err)
{
    for (size_t c = 0; a->budget_bytes && c < a->n_configs; c++) {
        for (size_t i = 0; i < xs[c].jobs.n; i++) {
            if (budget_check_job(&xs[c].cfg, &xs[c].jobs.jobs[i], err)) {
                return err_add(err, "%s", a->configs[c]);
            }
        }
    }
    return 0;
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
    if (strcmp(cfg->expect, "diverge") == 0) {
        if (err->code == ERR_DIVERGED) {
            return 0;
        }
        if (err->code == ERR_OK) {
            fprintf(stderr, "%s: the config expects the run to diverge, but it did not\n", program);
            return 1;
        }
    }
    if (err->code == ERR_INTERRUPTED && caught) {
        return 128 + caught;
    }
    return cli_status(err);
}

/* *began: the job was not refused but has written into its folder. */
static int run_job(const struct arguments *a, const struct experiment *x, size_t i, int *began)
{
    struct err err = {0};
    struct progress progress = {0};
    struct run_events events = {
        .ctx = &progress, .begin = begin, .step = step, .epoch = epoch, .should_stop = should_stop};
    (void)!run_train(&x->cfg, &x->jobs.jobs[i], a->force, &events, &err);
    progress_end(&progress);
    *began = progress.n_epochs > 0;
    if (err.code) {
        cli_error(program, &err);
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
        cli_error(program, &err);
        return status ? status : cli_status(&err);
    }
    return status;
}

static int run_single(const struct arguments *a, const struct experiment *x)
{
    struct summary_row row;
    int began, status = run_job(a, x, 0, &began);
    run_summary(&x->cfg, &x->jobs.jobs[0], began, &row);
    snprintf(row.status, sizeof row.status, "%s",
             status == 0    ? "done"
             : status == 5  ? "diverged"
             : status > 128 ? "interrupted"
                            : "failed");
    return finish_table(&row, row.epochs >= 1, status);
}

static int run_all(const struct arguments *a, const struct experiment *xs, size_t n_jobs,
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
        struct sweep_options opt = {
            .argv = argv, .first_number = done + 1, .pending_signal = pending_signal};
        size_t n = 0;
        if (sweep_run(&xs[c].cfg, &xs[c].jobs, &opt, rows + done, &n, &status, &err)) {
            cli_error(program, &err);
            status = cli_status(&err);
        }
        done += n;
    }
    status = finish_table(rows, done, status);
    mem_free(rows);
    return status;
}

static int evaluate(const struct arguments *a, const struct experiment *x, struct err *err)
{
    struct eval_result r;
    if (run_evaluate(&x->cfg, &x->jobs.jobs[0], a->logits, &r, err)) {
        return (int)err->code;
    }
    printf("%s on %zu test images of %s: loss %.6f, top-1 %.2f %%, top-5 %.2f %%\n",
           x->cfg.model.init, r.n, x->cfg.data.name, r.loss, r.top1, r.top5);
    return cli_flush(err);
}

/* One line per run. */
static int plan_table(const struct arguments *a, const struct experiment *xs, size_t n_jobs,
                      struct err *err)
{
    size_t number = 0, n = 0;
    struct plan_row *rows = mem_calloc(MEM_OTHER, n_jobs, sizeof *rows);
    if (!rows) {
        return err_nomem(err, "the table of runs", n_jobs * sizeof *rows);
    }
    for (size_t c = 0; c < a->n_configs && !err->code; c++) {
        for (size_t i = 0; i < xs[c].jobs.n && !err->code; i++) {
            if (!a->job || a->job == ++number) {
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

static int plan(const struct arguments *a, const struct experiment *xs, struct err *err)
{
    size_t number = 0, printed = 0;
    for (size_t c = 0; c < a->n_configs; c++) {
        for (size_t i = 0; i < xs[c].jobs.n; i++) {
            number++;
            if (a->job && a->job != number) {
                continue;
            }
            if (run_plan_write(&xs[c].cfg, &xs[c].jobs.jobs[i], a->plan_form, printed++ == 0,
                               stdout, err)) {
                return (int)err->code;
            }
        }
    }
    return 0;
}

/* Seeds have the same plan: the first stands for all. */
static int timeline(const struct arguments *a, const struct experiment *xs, size_t n_jobs,
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
    if (n == 0) {
        (void)!err_set(err, ERR_CONFIG, "--job: there are only %zu runs", n_jobs);
    } else if (run_timeline(&runs, a->timeline, &has_picture, err) == 0) {
        printf("%s/timeline.csv: %zu %s; %s/timeline.%s\n", a->timeline, n, n == 1 ? "run" : "runs",
               a->timeline, has_picture ? "png" : "gp");
        if (!has_picture) {
            fprintf(stderr,
                    "%s: no gnuplot, no picture: with it, \"gnuplot timeline.gp\" draws "
                    "one\n",
                    program);
        }
        if (fflush(stdout) != 0) {
            (void)!err_set(err, ERR_IO, "cannot write to standard output");
        }
    }
out:
    mem_free(configs);
    mem_free(jobs);
    return (int)err->code;
}

static int train(const struct arguments *a, const struct experiment *xs, size_t n_jobs, char **argv)
{
    struct err err = {0};
    if (a->job > n_jobs) {
        (void)!err_set(&err, ERR_CONFIG, "--job: there are only %zu runs", n_jobs);
        cli_error(program, &err);
        return cli_status(&err);
    }
    catch_signals();
    if (a->job) {
        size_t i = a->job - 1, c = 0;
        while (i >= xs[c].jobs.n) {
            i -= xs[c++].jobs.n;
        }
        int began;
        return run_job(a, &xs[c], i, &began);
    }
    if (check_folders(a, xs, &err)) {
        cli_error(program, &err);
        return cli_status(&err);
    }
    if (n_jobs > 1 && check_budget(a, xs, &err)) {
        cli_error(program, &err);
        return cli_status(&err);
    }
    return n_jobs == 1 ? run_single(a, &xs[0]) : run_all(a, xs, n_jobs, argv);
}

static int run_experiments(const struct arguments *a, char **argv)
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
        if (load(a, a->configs[c], &xs[c], &err)) {
            goto out;
        }
        n_jobs += xs[c].jobs.n;
    }
    if (a->timeline) {
        (void)!timeline(a, xs, n_jobs, &err);
    } else if (a->plan) {
        if (a->plan_form == RUN_PLAN_TABLE) {
            (void)!plan_table(a, xs, n_jobs, &err);
        } else {
            (void)!plan(a, xs, &err);
        }
    } else if (a->evaluate && n_jobs != 1) {
        (void)!err_set(&err, ERR_CONFIG,
                       "--evaluate takes one config with one policy and one seed, found %zu runs",
                       n_jobs);
    } else if (a->evaluate) {
        (void)!evaluate(a, &xs[0], &err);
    } else {
        status = train(a, xs, n_jobs, argv);
    }
out:
    if (err.code) {
        cli_error(program, &err);
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
    struct arguments a = {0};
    struct err err = {0};
    fill_closed_streams();
    if (parse_arguments(argc, argv, &a, &err)) {
        cli_error(program, &err);
        return cli_status(&err);
    }
    if (a.help) {
        fputs(usage, stdout);
    } else if (a.version) {
        printf("%s (division) %s\n", program, PACKAGE_VERSION);
    } else if (a.list) {
        (void)!list_write(a.list, stdout, &err);
    } else if (check_arguments(&a, &err) == 0) {
        return run_experiments(&a, argv);
    }
    if (!err.code) {
        (void)!cli_flush(&err);
    }
    if (err.code) {
        cli_error(program, &err);
    }
    return cli_status(&err);
}
