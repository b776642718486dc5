/* A config of division-run's command line and the runs that it means, and what is done with all of
 * them without touching data. `xs` has an element for each of the command line's configs. */
#ifndef CLI_EXPERIMENT_H
#define CLI_EXPERIMENT_H

#include <stddef.h>

#include "base/err.h"
#include "cli/run_args.h"
#include "config/config.h"
#include "run/job.h"

struct experiment {
    struct config cfg;
    struct job_list jobs;
    char policy[64]; /* what --fit policy chose, as after --policy; "": nothing */
};

/* Reads the config at path, puts the command line's values over it and lists its runs; --fit policy
 * is done here and said on stderr, or is what --fitted says. *x is zero; job_list_fini frees its
 * jobs. ERR_CONFIG, ERR_NOMEM. */
int experiment_load(const struct run_args *a, const char *path, struct experiment *x,
                    struct err *err) MUST_USE;

/* What is wrong with any run's config, before anything starts: session_check. ERR_CONFIG and
 * others. */
int experiment_check_configs(const struct run_args *a, const struct experiment *xs, struct err *err)
    MUST_USE;

/* No two runs of all configs share a folder and, but for --force, none exists. ERR_CONFIG. */
int experiment_check_folders(const struct run_args *a, const struct experiment *xs, struct err *err)
    MUST_USE;

/* No run is over budget; with --fit batch each has got its batch, seeds the same. ERR_NOMEM. */
int experiment_check_budget(const struct run_args *a, const struct experiment *xs, struct err *err)
    MUST_USE;

/* --plan: prints the plan of all n_jobs runs, or of --job's alone. ERR_CONFIG, ERR_IO, ERR_NOMEM. */
int experiment_plan(const struct run_args *a, const struct experiment *xs, size_t n_jobs,
                    struct err *err) MUST_USE;

/* --timeline: writes the runs' timelines and says where. ERR_CONFIG, ERR_IO, ERR_NOMEM. */
int experiment_timeline(const struct run_args *a, const struct experiment *xs, size_t n_jobs,
                        struct err *err) MUST_USE;

#endif
