/* --plan=table: one line per run, for comparing policies, networks and batch sizes at a glance. */
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "report/table.h"
#include "run/plan_table.h"
#include "run/run.h"

int run_plan_total(const struct config *cfg, const struct job *job, struct plan_row *row,
                   struct err *err)
{
    struct session s;
    struct forecast f = {0};
    struct plan_table table = {0};
    struct config own;
    struct job single;
    job_config(cfg, job, &own, &single);
    if (session_init(&s, &own, &single, err)) {
        return (int)err->code;
    }
    if (forecast_make(&s, 1, &f, err) == 0 && plan_table_make(&s, &f, &table, err) == 0) {
        *row = table.rows[0];
        row->run = cfg->name;
        row->policy = job->label;
        row->peak_at = NULL; /* the table's */
    }
    plan_table_fini(&table);
    forecast_fini(&f);
    session_fini(&s);
    return (int)err->code;
}

enum { CELL = 128 };

static const struct table_column columns[] = {
    {"policy", "", 0},       {"seed", "", 1},
    {"batch", "", 1},        {"saved", "GiB", 1},
    {"ratio", "", 1},        {"paper's activation", "GiB", 1},
    {"and total", "GiB", 1}, {"planned peak", "GiB", 1},
    {"arena", "GiB", 1},     {"process peak", "GiB", 1},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

static void fill_line(char (*cell)[CELL], const struct plan_row *row)
{
    const double gib[] = {row->paper_activation_bytes, row->paper_total_bytes,
                          row->planned_peak_bytes, row->arena_bytes,
                          row->expected_process_peak_bytes};
    size_t c = 0;
    snprintf(cell[c++], CELL, "%s", row->policy);
    snprintf(cell[c++], CELL, "%.0f", row->seed);
    snprintf(cell[c++], CELL, "%.0f", row->batch_size);
    snprintf(cell[c++], CELL, "%.3f", ldexp(row->saved_bytes, -30));
    snprintf(cell[c++], CELL, "%.2f", row->saved_ratio);
    for (size_t i = 0; i < sizeof gib / sizeof *gib; i++) {
        snprintf(cell[c++], CELL, "%.3f", ldexp(gib[i], -30));
    }
}

int run_plan_totals_write(const struct plan_row *rows, size_t n, FILE *fp, struct err *err)
{
    char(*text)[CELL] = mem_calloc(MEM_OTHER, n * N_COLUMNS, sizeof *text);
    const char **cells = mem_calloc(MEM_OTHER, n * N_COLUMNS, sizeof *cells);
    if (!text || !cells) {
        (void)!err_nomem(err, "the table of runs", n * N_COLUMNS * sizeof *text);
    } else {
        for (size_t i = 0; i < n * N_COLUMNS; i++) {
            cells[i] = text[i];
        }
        for (size_t i = 0; i < n; i++) {
            fill_line(text + i * N_COLUMNS, &rows[i]);
        }
        (void)!table_write(fp, columns, N_COLUMNS, cells, n, err);
    }
    mem_free(text);
    mem_free(cells);
    return (int)err->code;
}
