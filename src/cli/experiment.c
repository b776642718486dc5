#include "cli/experiment.h"

#include <stdio.h>
#include <string.h>

#include "run/budget.h"
#include "run/folder.h"
#include "run/session.h"

static int fit_policy(const struct run_args *a, struct experiment *x, struct err *err)
{
    struct budget_choice choice;
    if (a->fitted) {
        return config_set_policy(&x->cfg, a->fitted, 0, err);
    }
    if (budget_fit_policy(&x->cfg, a->budget_bytes, &choice, err)) {
        return (int)err->code;
    }
    memcpy(x->policy, choice.policy, sizeof x->policy);
    fprintf(stderr, "%s: %s\n", run_program, choice.why);
    return 0;
}

int experiment_load(const struct run_args *a, const char *path, struct experiment *x,
                    struct err *err)
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
    if (a->fit_batch && config_sweeps(&x->cfg, "train.batch_size")) {
        return err_set(err, ERR_CONFIG, "%s: --fit batch: the config sweeps over train.batch_size",
                       path);
    }
    if (a->fit_policy && fit_policy(a, x, err)) {
        return err_add(err, "%s", path);
    }
    if (job_list_make(&x->cfg, &x->jobs, err)) {
        return err_add(err, "%s", path);
    }
    for (size_t i = 0; i < x->jobs.n; i++) {
        x->jobs.jobs[i].budget_bytes = a->budget_bytes;
        x->jobs.jobs[i].fit_batch = a->fit_batch;
        x->jobs.jobs[i].batch = a->fitted_batch;
    }
    return 0;
}

int experiment_check_folders(const struct run_args *a, const struct experiment *xs, struct err *err)
{
    for (size_t c = 0; c < a->n_configs; c++) {
        for (size_t i = 0; i < xs[c].jobs.n; i++) {
            const char *dir = xs[c].jobs.jobs[i].dir;
            if (folder_check(dir, a->force, err)) {
                return (int)err->code;
            }
            for (size_t d = 0; d < c; d++) {
                for (size_t j = 0; j < xs[d].jobs.n; j++) {
                    if (folder_is_same(dir, xs[d].jobs.jobs[j].dir)) {
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

/* Does `check` for --job's run, or for all runs but those that differ from one before in the seed
 * alone. Errors name the config. */
static int check_each(const struct run_args *a, const struct experiment *xs,
                      int (*check)(const struct run_args *a, const struct config *cfg,
                                   struct job *job, struct err *err),
                      struct err *err)
{
    size_t number = 0;
    for (size_t c = 0; c < a->n_configs; c++) {
        for (size_t i = 0; i < xs[c].jobs.n; i++) {
            number++;
            if ((a->job ? a->job == number : i % xs[c].cfg.seed.n == 0) &&
                check(a, &xs[c].cfg, &xs[c].jobs.jobs[i], err)) {
                return err_add(err, "%s", a->configs[c]);
            }
        }
    }
    return 0;
}

static int check_config(const struct run_args *a, const struct config *cfg, struct job *job,
                        struct err *err)
{
    return session_check(cfg, job, !a->evaluate, err);
}

int experiment_check_configs(const struct run_args *a, const struct experiment *xs, struct err *err)
{
    return check_each(a, xs, check_config, err);
}

static int check_budget(const struct run_args *a, const struct config *cfg, struct job *job,
                        struct err *err)
{
    size_t batch;
    if (budget_check_job(cfg, job, &batch, err)) {
        return (int)err->code;
    }
    for (size_t i = 0; a->fit_batch && !a->job && i < cfg->seed.n; i++) {
        job[i].batch = batch; /* seeds stand in a row */
    }
    return 0;
}

int experiment_check_budget(const struct run_args *a, const struct experiment *xs, struct err *err)
{
    return a->budget_bytes ? check_each(a, xs, check_budget, err) : 0;
}
