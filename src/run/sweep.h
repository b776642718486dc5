/* A sweep: several jobs, each in a process of its own, because a process's high-water mark never
 * falls. The parent runs the program again for each job: with its own options, with "--job N" and
 * what --fit chose in front of them, and with the job's config. It opens no data, starts no threads
 * unless it plans the jobs first, hands signals on and collects the results from the jobs' folders.
 * */
#ifndef RUN_SWEEP_H
#define RUN_SWEEP_H

#include <stddef.h>

#include "base/err.h"
#include "config/config.h"
#include "report/summary.h"
#include "run/job.h"

struct sweep_options {
    char *const *argv; /* this program's: its name and n_options - 1 options */
    size_t n_options;
    char *config;       /* the jobs' */
    const char *policy; /* that --fit policy chose; "": none */
    /* Asked while waiting: the number of a signal to hand on to the running job, or 0. */
    int (*pending_signal)(void);
};

/* Runs all jobs in order and stops at the first that fails. rows [jobs->n] are filled for the jobs
 * that were started, *n_rows of them; *status is the first failing job's exit status, or 0. ERR_IO if a
 * job's process was killed (its row is filled) or none could be started. */
int sweep_run(const struct config *cfg, const struct job_list *jobs,
              const struct sweep_options *opt, struct summary_row *rows, size_t *n_rows,
              int *status, struct err *err) MUST_USE;

#endif
