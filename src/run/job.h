/* Jobs: a config with lists (a sweep, several policies, several seeds) is run as one job per
 * combination, each with a folder of its own: OUTPUT_DIR/LABEL-seedN. */
#ifndef RUN_JOB_H
#define RUN_JOB_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "kernels/kernels.h"
#include "store/store.h"

#define JOB_PATH 1024

struct job {
    size_t storage; /* index in config.storage */
    uint64_t seed;
    size_t sweep[CONFIG_AXES]; /* index of the value on each of the config's axes */
    char label[96];            /* storage.label, or the policy's own; behind it the swept values */
    char dir[JOB_PATH];
    size_t budget_bytes; /* the process may take so much memory; 0: any */
    int fit_batch;       /* run the largest batch that fits into it */
    size_t batch;        /* that batch, if it has been chosen already; 0: not yet */
};

struct job_list {
    struct job *jobs; /* swept values outside, then policies, seeds inside */
    size_t n;
};

/* Translates one storage entry. ERR_CONFIG: unknown policy (lists the valid ones), a key that the
 * policy does not take, a value without meaning. */
int job_store_params(const struct config_storage *s, const struct store_policy **policy,
                     struct store_params *params, struct err *err) MUST_USE;

/* Opens the policy of one storage entry with its exceptions (storage.except). Of the settings that
 * are the plan's (recompute, relu_mask, shared_saves) an exception has its entry's where it does not
 * give its own. Errors name the exception. */
int job_open_store(const struct config *cfg, size_t storage, const struct kernels *kernels,
                   int n_threads, struct store *out, struct err *err) MUST_USE;

/* All jobs of a config. ERR_CONFIG for bad storage entries and for two jobs with one folder. */
int job_list_make(const struct config *cfg, struct job_list *out, struct err *err) MUST_USE;
void job_list_fini(struct job_list *l);

/* The config of one job alone: one policy, one seed, no sweep. *single is *job with its storage index in
 * that config. */
void job_config(const struct config *cfg, const struct job *job, struct config *own,
                struct job *single);

#endif
