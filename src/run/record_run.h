/* run.yaml: the record of one run, written when it begins (status: running) and again at its end.
 * A run that was killed keeps the first version. */
#ifndef RUN_RECORD_RUN_H
#define RUN_RECORD_RUN_H

#include <stddef.h>

#include "base/err.h"
#include "report/columns.h"
#include "run/session.h"

struct run_record {
    char path[JOB_PATH + 32];
    char started[32]; /* UTC */
    double start_s;
    double n_epochs, last_top1, best_top1;
    double saved_bytes, spilled_bytes;
    size_t saved_pieces[STORE_N_PIECES];
};

int run_record_begin(struct run_record *r, const struct session *s, struct err *err) MUST_USE;
void run_record_epoch(struct run_record *r, const struct epoch_row *row, const size_t *pieces);

/* outcome: how the run ended (its code and message are recorded). */
int run_record_end(struct run_record *r, const struct session *s, const struct err *outcome,
                   size_t n_steps, struct err *err) MUST_USE;

#endif
