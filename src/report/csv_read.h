/* Reads our own CSV files back, by column name: columns may stand in any order, and ones that this
 * version does not know are passed over (the tables are append-only). */
#ifndef REPORT_CSV_READ_H
#define REPORT_CSV_READ_H

#include <stddef.h>

#include "base/err.h"
#include "report/summary.h"

/* A CSV file in memory, cut into fields. */
struct csv {
    char *text;
    const char **field; /* [n_rows + 1][n_columns], unquoted; row 0 is the header */
    size_t n_columns, n_rows;
    size_t *line; /* [n_rows + 1] line of the file in which the row begins, from 1 */
};

/* A last line without its \n (the run was cut off while writing) is ignored. ERR_MISSING, ERR_IO,
 * ERR_NOMEM; ERR_FORMAT (with the line) if there is no header or a row has too few or too many
 * fields. */
int csv_read(const char *path, struct csv *csv, struct err *err) MUST_USE;
void csv_free(struct csv *csv);

/* Column of that name, or csv->n_columns if there is none. */
size_t csv_column(const struct csv *csv, const char *name);

/* Row 0 .. n_rows-1 behind the header as a number; an empty field is NaN. ERR_FORMAT with line and
 * column; the caller names the file. */
int csv_number(const struct csv *csv, size_t row, size_t column, double *out, struct err *err)
    MUST_USE;

/* Fills a row from a run's epochs.csv: all but `status`. A file with a header alone gives a run of
 * 0 epochs whose texts and seed are left as they are. ERR_MISSING, ERR_IO, ERR_NOMEM; ERR_FORMAT
 * for a header that is not that of epochs.csv or a field that is not what its column holds. */
int summary_from_csv(const char *path, struct summary_row *row, struct err *err) MUST_USE;

#endif
