/* --budget and --fit: a run that needs more memory than it may have does not start, or is made to
 * fit; and one that takes more than was foreseen ends by itself. */
#ifndef RUN_BUDGET_H
#define RUN_BUDGET_H

#include <stddef.h>

#include "base/err.h"
#include "config/config.h"
#include "run/forecast.h"
#include "run/session.h"

/* Does the expected process peak, with a reserve of 2 MiB, keep to the budget, and without it to
 * the machine's memory? ERR_NOMEM with the largest items and the largest batch that would fit; for
 * a forecast of evaluation alone, of its images. */
int budget_check(struct session *s, const struct forecast *f, struct err *err) MUST_USE;

/* The same for a job that has not begun: nothing of it is allocated. *batch is the batch that it
 * will have, which is what fits if the job wants that. */
int budget_check_job(const struct config *cfg, const struct job *job, size_t *batch,
                     struct err *err) MUST_USE;

/* Has the process, or the ledger, gone beyond the budget? Asked after every step. ERR_NOMEM. */
int budget_watch(const struct session *s, size_t n_steps, struct err *err) MUST_USE;

/* Gives the session the job's batch or, if there is none, the largest one whose expected process
 * peak fits, with a reserve of 2 to 6 MiB and 1 %, into the budget and into 7/8 of the machine's
 * memory. Its images are no more than there are for training, as far as that is known, and than
 * train.batch_size allows. ERR_NOMEM if none fits, ERR_CONFIG if there are fewer images than
 * train.accumulate. */
int budget_fit_batch(struct session *s, struct err *err) MUST_USE;

/* What --fit policy chose. */
struct budget_choice {
    char policy[64]; /* as after --policy */
    char why[1024];  /* one line: what was chosen, and what was too large */
};

/* Gives the config the least lossy policy under which all of its runs fit into the same, with the
 * same reserve. Left out are policies that do not take what the config sweeps over. The order:
 * exact policies as they stand in the table, then the others by the bits per value that they keep,
 * each at 8, 4, 2 and 1 bits where it has that setting. ERR_NOMEM if nothing fits, ERR_CONFIG if no
 * policy can be. */
int budget_fit_policy(struct config *cfg, size_t budget_bytes, struct budget_choice *choice,
                      struct err *err) MUST_USE;

#endif
