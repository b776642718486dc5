/* timeline.csv: what is alive at each step of one training iteration, by the table in timeline.def;
 * otherwise as epochs.csv. And the picture made of it. */
#ifndef REPORT_TIMELINE_H
#define REPORT_TIMELINE_H

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "report/columns.h"

struct timeline_row {
#define X(name, kind, deterministic, help) X_##kind(name)
#define X_TEXT(name) const char *name;
#define X_COUNT(name) double name;
#define X_REAL(name) double name;
#include "report/timeline.def"
#undef X
#undef X_TEXT
#undef X_COUNT
#undef X_REAL
};

/* Offsets are in struct timeline_row. */
const struct column *timeline_columns(size_t *n);

/* As epochs_write_header and epochs_write_row. */
int timeline_write_header(FILE *fp, struct err *err) MUST_USE;
int timeline_write_row(FILE *fp, const struct timeline_row *row, struct err *err) MUST_USE;

/* One curve of the picture. */
struct timeline_series {
    char name[128];
    double peak_bytes; /* highest live_bytes */
};

/* A gnuplot script that reads `csv` and draws `png` (both beside the script): the sums of all series
 * over each other, and below, for the first six, what they are made of. ERR_IO. */
int timeline_write_script(FILE *fp, const char *csv, const char *png, const char *title,
                          const struct timeline_series *series, size_t n, struct err *err) MUST_USE;

#endif
