/* --budget and --fit: a run that needs more memory than it may have does not start, or is made to
 * fit; and one that takes more than was foreseen ends by itself. */
#ifndef RUN_BUDGET_H
#define RUN_BUDGET_H

#include <stddef.h>

#include "base/err.h"
#include "config/config.h"
#include "run/forecast.h"
#include "run/session.h"

/* Does the expected process peak keep to the budget and to the machine's memory? ERR_NOMEM with the
 * largest items and the largest batch that would fit. */
int budget_check(struct session *s, const struct forecast *f, struct err *err) MUST_USE;

/* The same for a job that has not begun: nothing of it is allocated. */
int budget_check_job(const struct config *cfg, const struct job *job, struct err *err) MUST_USE;

/* Has the process, or the ledger, gone beyond the budget? Asked after every step. ERR_NOMEM. */
int budget_watch(const struct session *s, size_t n_steps, struct err *err) MUST_USE;

/* Gives the session the largest batch, up to the number of training images, whose expected process
 * peak fits into the budget, with a reserve of 4 MiB and 1 %. ERR_NOMEM if none does. */
int budget_fit_batch(struct session *s, struct err *err) MUST_USE;

/* Gives the config the least lossy policy under which all of its runs fit into the budget, with the
 * same reserve. The order: exact policies as they stand in the table, then the others by the bits per
 * value that they keep, each at 8, 4, 2 and 1 bits where it has that setting. `why` gets one line:
 * what was chosen, and what was left out. ERR_NOMEM if nothing fits. */
int budget_fit_policy(struct config *cfg, size_t budget_bytes, char *why, size_t why_cap,
                      struct err *err) MUST_USE;

#endif
