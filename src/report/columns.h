/* epochs.csv and steps.csv: one row of columns.def per column, in the file's order.
 *
 * Columns are append-only. Each is marked deterministic (the same run gives the same text) or
 * measured. What was not measured is an empty field, never 0: numbers are double, NaN means empty. */
#ifndef REPORT_COLUMNS_H
#define REPORT_COLUMNS_H

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

#define CSV_VERSION 1

enum column_kind {
    COLUMN_TEXT,
    COLUMN_COUNT, /* whole number */
    COLUMN_REAL,  /* printed with %.9g (losses, lr) */
    COLUMN_PCT,   /* printed with %.4f */
    COLUMN_TIME,  /* seconds, printed with %.4f */
};

/* One finished epoch. NaN: not measured. */
struct epoch_row {
#define X(name, kind, deterministic, help) X_##kind(name)
#define X_TEXT(name) const char *name;
#define X_COUNT(name) double name;
#define X_REAL(name) double name;
#define X_PCT(name) double name;
#define X_TIME(name) double name;
#include "report/epochs.def"
#undef X
#undef X_TEXT
#undef X_COUNT
#undef X_REAL
#undef X_PCT
#undef X_TIME
};

struct column {
    const char *name;
    enum column_kind kind;
    int deterministic;
    const char *help; /* one line, the same text as in division-results(5) */
    size_t offset;    /* in struct epoch_row */
};

const struct column *epoch_columns(size_t *n);

/* All fields empty: NaN and NULL. */
void epoch_row_clear(struct epoch_row *row);

/* Header line, and one row; both end with \n and are flushed. Text that needs it is quoted (RFC
 * 4180). ERR_IO (full disk included). */
int epochs_write_header(FILE *fp, struct err *err) MUST_USE;
int epochs_write_row(FILE *fp, const struct epoch_row *row, struct err *err) MUST_USE;

#endif
