#include "cli/experiment.h"

#include <stdio.h>
#include <string.h>

#include "run/budget.h"
#include "run/folder.h"

/* A job's own process has been told already why: by its parent. */
static int fit_policy(const struct run_args *a, struct config *cfg, struct err *err)
{
    char why[1024];
    if (budget_fit_policy(cfg, a->budget_bytes, why, sizeof why, err)) {
        return (int)err->code;
    }
    if (!a->job) {
        fprintf(stderr, "%s: %s\n", run_program, why);
    }
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

int experiment_check_budget(const struct run_args *a, const struct experiment *xs, struct err *err)
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
