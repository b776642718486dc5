/* The command line of division-run. */
#ifndef CLI_RUN_ARGS_H
#define CLI_RUN_ARGS_H

#include <stddef.h>

#include "base/err.h"
#include "config/config.h"
#include "run/run.h"

extern const char run_program[];
extern const char run_usage[]; /* what --help prints */

enum { RUN_MAX_SETS = 64 };

/* Texts are NULL where nothing was given; all point into argv. */
struct run_args {
    const char *policies[CONFIG_LIST], *sets[RUN_MAX_SETS];
    size_t n_policies, n_sets;
    const char *list, *logits, *timeline, *fitted;
    unsigned long job; /* from 1; 0: all */
    int plan, evaluate, force, help, version;
    enum run_plan_form plan_form;
    size_t budget_bytes; /* 0: any */
    int fit_batch, fit_policy;
    size_t fitted_batch; /* 0: none */
    char *const *configs;
    size_t n_configs;
};

/* Fills in *a, which is zero; each option is valid by itself. ERR_CONFIG; getopt itself has said on
 * stderr what is unknown or lacks its value. */
int run_args_parse(int argc, char **argv, struct run_args *a, struct err *err) MUST_USE;

/* The options as a whole, for a command line that is to run something. ERR_CONFIG. */
int run_args_check(struct run_args *a, struct err *err) MUST_USE;

#endif
