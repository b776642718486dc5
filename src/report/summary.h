/* The table that ends a sweep: one line per run, from each run's epochs.csv. */
#ifndef REPORT_SUMMARY_H
#define REPORT_SUMMARY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

/* One run. Numbers that are not known are NaN (their cell stays empty). */
struct summary_row {
    char run[256];
    char policy[128]; /* label of the storage policy */
    int64_t seed;
    char status[32];   /* "done", "diverged", …: for the caller to say */
    double epochs;     /* finished */
    double last_top1;  /* test top-1 in percent, of the last evaluated epoch */
    double best_top1;  /* the highest */
    double best_epoch; /* the first epoch that reached it */
    double saved_bytes, saved_ratio;
    double planned_peak_bytes, live_peak_bytes, process_peak_bytes;
    double epoch_s;      /* median over epochs */
    double images_per_s; /* median over epochs */
};

/* Empty texts, seed 0, epochs 0, all else NaN. */
void summary_row_clear(struct summary_row *row);

/* Header and rows, bytes in MiB. The column of names is left out where they are all the same.
 * ERR_IO, ERR_NOMEM. */
int summary_write(FILE *fp, const struct summary_row *rows, size_t n, struct err *err) MUST_USE;

#endif
