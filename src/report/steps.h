/* steps.csv: one row per training step, by the table in steps.def; otherwise as epochs.csv. */
#ifndef REPORT_STEPS_H
#define REPORT_STEPS_H

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "report/columns.h"

/* One training step. NaN: not measured. */
struct step_row {
#define X(name, kind, deterministic, help) X_##kind(name)
#define X_TEXT(name) const char *name;
#define X_COUNT(name) double name;
#define X_REAL(name) double name;
#include "report/steps.def"
#undef X
#undef X_TEXT
#undef X_COUNT
#undef X_REAL
};

/* Offsets are in struct step_row. */
const struct column *step_columns(size_t *n);

/* All fields empty: NaN and NULL. */
void step_row_clear(struct step_row *row);

/* As epochs_write_header and epochs_write_row. They allocate nothing. */
int steps_write_header(FILE *fp, struct err *err) MUST_USE;
int steps_write_row(FILE *fp, const struct step_row *row, struct err *err) MUST_USE;

#endif
