/* --plan=csv: what a run will need, one row for the whole and one for each layer, by the table in
 * plan.def; otherwise as epochs.csv. */
#ifndef REPORT_PLAN_ROW_H
#define REPORT_PLAN_ROW_H

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "report/columns.h"

/* NaN and NULL: does not apply to the row. */
struct plan_row {
#define X(name, kind, deterministic, help) X_##kind(name)
#define X_TEXT(name) const char *name;
#define X_COUNT(name) double name;
#define X_REAL(name) double name;
#include "report/plan.def"
#undef X
#undef X_TEXT
#undef X_COUNT
#undef X_REAL
};

/* Offsets are in struct plan_row. */
const struct column *plan_columns(size_t *n);

/* All fields empty: NaN and NULL. */
void plan_row_clear(struct plan_row *row);

/* As epochs_write_header and epochs_write_row. */
int plan_write_header(FILE *fp, struct err *err) MUST_USE;
int plan_write_row(FILE *fp, const struct plan_row *row, struct err *err) MUST_USE;

#endif
