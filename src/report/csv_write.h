/* CSV lines (RFC 4180) from a table of columns and a struct that they describe. */
#ifndef REPORT_CSV_WRITE_H
#define REPORT_CSV_WRITE_H

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "report/columns.h"

/* All fields of the struct empty: NaN and NULL. */
void csv_clear(const struct column *columns, size_t n, void *row);

/* One line each, ended by \n and flushed, so that a reader sees whole rows only (a crash may cut
 * the last one). `what` names the file in the message. ERR_IO. */
int csv_write_header(FILE *fp, const struct column *columns, size_t n, const char *what,
                     struct err *err) MUST_USE;
int csv_write_row(FILE *fp, const struct column *columns, size_t n, const void *row,
                  const char *what, struct err *err) MUST_USE;

#endif
