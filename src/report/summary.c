#include "report/summary.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "report/table.h"

/* How a figure is printed. */
enum form { FORM_RUN, FORM_POLICY, FORM_SEED, FORM_STATUS, FORM_COUNT, FORM_2, FORM_1, FORM_MIB };

static const struct {
    struct table_column column;
    enum form form;
    size_t offset; /* of the double in struct summary_row, for the forms behind FORM_STATUS */
} figures[] = {
    {{"run", "", 0}, FORM_RUN, 0},
    {{"policy", "", 0}, FORM_POLICY, 0},
    {{"seed", "", 1}, FORM_SEED, 0},
    {{"status", "", 0}, FORM_STATUS, 0},
    {{"epochs", "", 1}, FORM_COUNT, offsetof(struct summary_row, epochs)},
    {{"last", "top-1 %", 1}, FORM_2, offsetof(struct summary_row, last_top1)},
    {{"best", "top-1 %", 1}, FORM_2, offsetof(struct summary_row, best_top1)},
    {{"in", "epoch", 1}, FORM_COUNT, offsetof(struct summary_row, best_epoch)},
    {{"saved", "MiB", 1}, FORM_MIB, offsetof(struct summary_row, saved_bytes)},
    {{"ratio", "", 1}, FORM_2, offsetof(struct summary_row, saved_ratio)},
    {{"planned", "MiB", 1}, FORM_MIB, offsetof(struct summary_row, planned_peak_bytes)},
    {{"live", "MiB", 1}, FORM_MIB, offsetof(struct summary_row, live_peak_bytes)},
    {{"process", "MiB", 1}, FORM_MIB, offsetof(struct summary_row, process_peak_bytes)},
    {{"epoch", "s", 1}, FORM_1, offsetof(struct summary_row, epoch_s)},
    {{"images", "per s", 1}, FORM_1, offsetof(struct summary_row, images_per_s)},
};

enum {
    N_FIGURES = sizeof figures / sizeof *figures,
    CELL = 256 /* bytes of a cell's text; the longest member of summary_row */
};

void summary_row_clear(struct summary_row *row)
{
    memset(row, 0, sizeof *row);
    for (size_t f = 0; f < N_FIGURES; f++) {
        if (figures[f].form > FORM_STATUS) {
            void *field = (char *)row + figures[f].offset;
            *(double *)field = (double)NAN;
        }
    }
    row->epochs = 0;
}

static void cell_text(char cell[CELL], const struct summary_row *row, size_t f)
{
    if (figures[f].form == FORM_RUN) {
        snprintf(cell, CELL, "%s", row->run);
    } else if (figures[f].form == FORM_POLICY) {
        snprintf(cell, CELL, "%s", row->policy);
    } else if (figures[f].form == FORM_STATUS) {
        snprintf(cell, CELL, "%s", row->status);
    } else if (figures[f].form == FORM_SEED) {
        snprintf(cell, CELL, "%lld", (long long)row->seed);
    } else {
        const void *field = (const char *)row + figures[f].offset;
        const double v = *(const double *)field;
        const int is_mib = figures[f].form == FORM_MIB;
        const int digits = figures[f].form == FORM_COUNT ? 0 : figures[f].form == FORM_2 ? 2 : 1;
        if (!isnan(v)) {
            snprintf(cell, CELL, "%.*f", digits, is_mib ? v / (1024.0 * 1024.0) : v);
        }
    }
}

static int is_one_run(const struct summary_row *rows, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (strcmp(rows[i].run, rows[0].run) != 0) {
            return 0;
        }
    }
    return 1;
}

int summary_write(FILE *fp, const struct summary_row *rows, size_t n, struct err *err)
{
    const size_t first = is_one_run(rows, n) ? 1 : 0, n_columns = N_FIGURES - first;
    struct table_column columns[N_FIGURES];
    int rc = 0;
    char(*texts)[CELL] = mem_calloc(MEM_OTHER, n * n_columns, sizeof *texts);
    const char **cells = mem_calloc(MEM_OTHER, n * n_columns, sizeof *cells);
    if (!texts || !cells) {
        rc = err_nomem(err, "the summary", n * n_columns * sizeof *texts);
        goto out;
    }
    for (size_t c = 0; c < n_columns; c++) {
        columns[c] = figures[first + c].column;
        for (size_t r = 0; r < n; r++) {
            cell_text(texts[r * n_columns + c], &rows[r], first + c);
            cells[r * n_columns + c] = texts[r * n_columns + c];
        }
    }
    rc = table_write(fp, columns, n_columns, cells, n, err);
out:
    mem_free(cells);
    mem_free(texts);
    return rc;
}
