/* Tables as text, for people: aligned columns, numbers at the right. */
#ifndef REPORT_TABLE_H
#define REPORT_TABLE_H

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

struct table_column {
    const char *head; /* first line of the header */
    const char *unit; /* second line, "" for none; left out if every column has none */
    int is_number;    /* at the right */
};

/* cells[row * n_columns + column]; NULL is an empty cell. Width is counted in characters (UTF-8),
 * lines have no blanks at their end. ERR_IO. */
int table_write(FILE *fp, const struct table_column *columns, size_t n_columns,
                const char *const *cells, size_t n_rows, struct err *err) MUST_USE;

#endif
