/* The tables of division-bench: rows of structs, as text or CSV. */
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/sys.h"
#include "cli/cli.h"
#include "cli/bench.h"
#include "report/csv_write.h"
#include "report/table.h"

enum { CELL = 64, MAX_COLUMNS = 32 };

static int write_csv(const struct bench_column *columns, size_t n_columns, const char *rows,
                     size_t row_bytes, size_t n_rows, struct err *err)
{
    struct column csv[MAX_COLUMNS];
    for (size_t c = 0; c < n_columns; c++) {
        csv[c] = columns[c].csv;
    }
    if (csv_write_header(stdout, csv, n_columns, "the table", err)) {
        return (int)err->code;
    }
    for (size_t r = 0; r < n_rows; r++) {
        if (csv_write_row(stdout, csv, n_columns, rows + r * row_bytes, "the table", err)) {
            return (int)err->code;
        }
    }
    return 0;
}

static void fill_cell(const struct bench_column *column, const char *row, char cell[CELL])
{
    const void *field = row + column->csv.offset;
    if (column->csv.kind == COLUMN_TEXT) {
        const char *text = *(const char *const *)field;
        (void)snprintf(cell, CELL, "%s", text ? text : "");
    } else if (!isnan(*(const double *)field)) {
        (void)snprintf(cell, CELL, "%.*f", column->decimals,
                       *(const double *)field * column->scale);
    }
}

static int write_text(const struct bench_column *columns, size_t n_columns, const char *rows,
                      size_t row_bytes, size_t n_rows, struct err *err)
{
    struct table_column shown[MAX_COLUMNS];
    char(*text)[CELL] = mem_calloc(MEM_OTHER, n_rows * n_columns, sizeof *text);
    const char **cells = mem_calloc(MEM_OTHER, n_rows * n_columns, sizeof *cells);
    size_t n_shown = 0, n = 0;
    int rc = 0;
    if (!text || !cells) {
        rc = err_nomem(err, "the table", n_rows * n_columns * sizeof *text);
        goto out;
    }
    for (size_t c = 0; c < n_columns; c++) {
        if (columns[c].head) {
            shown[n_shown++] = (struct table_column){.head = columns[c].head,
                                                     .unit = columns[c].unit,
                                                     .is_number = columns[c].csv.kind !=
                                                                  COLUMN_TEXT};
        }
    }
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t c = 0; c < n_columns; c++) {
            if (columns[c].head) {
                fill_cell(&columns[c], rows + r * row_bytes, text[n]);
                cells[n] = text[n];
                n++;
            }
        }
    }
    rc = table_write(stdout, shown, n_shown, cells, n_rows, err);
out:
    mem_free(text);
    mem_free(cells);
    return rc;
}

int bench_table_write(const struct bench_column *columns, size_t n_columns, const void *rows,
                      size_t row_bytes, size_t n_rows, int csv, struct err *err)
{
    return csv ? write_csv(columns, n_columns, rows, row_bytes, n_rows, err)
               : write_text(columns, n_columns, rows, row_bytes, n_rows, err);
}

void bench_describe(const char *what, int n_threads, const char *isa)
{
    char cpu[128];
    (void)printf("%s; %d thread%s%s, %s, %s\n\n", what, n_threads, n_threads == 1 ? "" : "s",
                 n_threads > 1 && cli_threads_sleep() ? " that sleep while they wait" : "", isa,
                 sys_cpu_name(cpu, sizeof cpu));
}
