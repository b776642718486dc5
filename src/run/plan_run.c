/* --plan: the resolved config, the network and the memory that a run will need, as text or CSV. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "report/table.h"
#include "run/plan_table.h"
#include "run/run.h"

enum { CELL = 48, MAX_COLUMNS = 16 };

/* --- tables of layers ------------------------------------------------------------------------ */

/* Fills the cells of one row. */
typedef void fill_cells(char (*cell)[CELL], const struct plan_row *row,
                        const struct plan_row *total);

/* All rows but the total's as a table. */
static int write_table(FILE *fp, const struct plan_table *t, const struct table_column *columns,
                       size_t n_columns, fill_cells *fill, struct err *err)
{
    size_t n_rows = t->n - 1;
    char(*text)[CELL] = mem_calloc(MEM_OTHER, n_rows * n_columns, sizeof *text);
    const char **cells = mem_calloc(MEM_OTHER, n_rows * n_columns, sizeof *cells);
    int rc = 0;
    if (!text || !cells) {
        rc = err_nomem(err, "the table of layers", n_rows * n_columns * sizeof *text);
        goto out;
    }
    for (size_t i = 0; i < n_rows * n_columns; i++) {
        cells[i] = text[i];
    }
    for (size_t i = 0; i < n_rows; i++) {
        fill(text + i * n_columns, &t->rows[i + 1], &t->rows[0]);
    }
    rc = table_write(fp, columns, n_columns, cells, n_rows, err);
out:
    mem_free(text);
    mem_free(cells);
    return rc;
}

/* A whole number; nothing for 0. */
static void count_text(char cell[CELL], double n)
{
    if (n > 0) {
        snprintf(cell, CELL, "%.0f", n);
    }
}

static void fill_layer(char (*cell)[CELL], const struct plan_row *row, const struct plan_row *total)
{
    (void)total;
    snprintf(cell[0], CELL, "%s", row->layer);
    snprintf(cell[1], CELL, "%s", row->type ? row->type : "");
    snprintf(cell[2], CELL, "%.0f x %.0f x %.0f", row->height, row->width, row->channels);
    count_text(cell[3], row->parameters);
    count_text(cell[4], row->macs);
    count_text(cell[5], row->saved_bytes);
    snprintf(cell[6], CELL, "%s", row->kept_as ? row->kept_as : "");
    snprintf(cell[7], CELL, "%s", row->kept_by ? row->kept_by : "");
}

static int write_layers(FILE *fp, const struct plan_table *t, struct err *err)
{
    static const struct table_column columns[] = {
        {"layer", "", 0},
        {"type", "", 0},
        {"output", "h x w x c", 0},
        {"parameters", "", 1},
        {"multiply-adds", "per image", 1},
        {"saved", "bytes", 1},
        {"kept as", "", 0},
        {"by policy", "", 0},
    };
    return write_table(fp, t, columns, sizeof columns / sizeof *columns, fill_layer, err);
}

static void fill_bytes(char (*cell)[CELL], const struct plan_row *row, const struct plan_row *total)
{
    size_t c = 0;
    snprintf(cell[c++], CELL, "%s", row->layer);
    count_text(cell[c++], row->weights_bytes);
    for (int i = 0; i < STORE_N_PIECES; i++) {
        if (plan_table_piece(total, (enum store_piece)i) > 0) {
            count_text(cell[c++], plan_table_piece(row, (enum store_piece)i));
        }
    }
    count_text(cell[c++], row->live_peak_bytes);
    count_text(cell[c++], row->gradients_bytes);
    count_text(cell[c++], row->workspace_bytes);
    count_text(cell[c++], row->peak_step);
}

/* Pieces that this policy does not save have no column. */
static int write_bytes_of_layers(FILE *fp, const struct plan_table *t, struct err *err)
{
    struct table_column columns[MAX_COLUMNS] = {{"layer", "", 0}, {"weights", "bytes", 1}};
    size_t n = 2;
    for (int i = 0; i < STORE_N_PIECES; i++) {
        if (plan_table_piece(&t->rows[0], (enum store_piece)i) > 0) {
            columns[n++] = (struct table_column){store_piece_name((enum store_piece)i), "saved", 1};
        }
    }
    columns[n++] = (struct table_column){"live peak", "bytes", 1};
    columns[n++] = (struct table_column){"gradients", "of it", 1};
    columns[n++] = (struct table_column){"workspace", "of it", 1};
    columns[n++] = (struct table_column){"in", "step", 1};
    return write_table(fp, t, columns, n, fill_bytes, err);
}

/* --- the whole ------------------------------------------------------------------------------- */

static void write_bytes(FILE *fp, const char *what, double bytes)
{
    char text[32];
    fprintf(fp, "  %-28s %14.0f  %12s\n", what, bytes, str_bytes(text, bytes));
}

static void write_memory(const struct session *s, const struct forecast *f,
                         const struct plan_row *total, FILE *fp)
{
    fprintf(fp, "\nSaved for backward, a full batch of %zu images", s->batch_size);
    if (s->accumulate > 1) {
        fprintf(fp, " in %zu micro-batches of %zu", s->accumulate, s->micro_batch_size);
    }
    fprintf(fp, ", policy %s:\n", s->job.label);
    for (int i = 0; i < STORE_N_PIECES; i++) {
        if (plan_table_piece(total, (enum store_piece)i) > 0) {
            write_bytes(fp, store_piece_name((enum store_piece)i),
                        plan_table_piece(total, (enum store_piece)i));
        }
    }
    write_bytes(fp, "saved_bytes", total->saved_bytes);
    if (total->spilled_bytes > 0) {
        write_bytes(fp, "spilled to disk, beside it", total->spilled_bytes);
    }
    fprintf(fp, "  %-28s %14.2f  (normal saves %zu bytes%s)\n", "saved_ratio", total->saved_ratio,
            s->normal_saved_bytes, s->accumulate > 1 ? " of the whole batch" : "");
    fprintf(fp, "\nAlive in the arena at its highest, step %.0f of %zu (%s):\n", total->peak_step,
            f->highest->n_steps, total->peak_at);
    write_bytes(fp, "saved activations", total->saved_live_bytes);
    write_bytes(fp, "live values", total->values_bytes);
    write_bytes(fp, "gradients", total->gradients_bytes);
    write_bytes(fp, "workspace", total->workspace_bytes);
    write_bytes(fp, "live peak in the arena", total->live_peak_bytes);
    fprintf(fp, "\nMemory of the run:\n");
    write_bytes(fp, "parameters, statistics", total->weights_bytes);
    write_bytes(fp, "momentum", total->momentum_bytes);
    if (total->gradient_sums_bytes > 0) {
        write_bytes(fp, "gradients, summed", total->gradient_sums_bytes);
    }
    write_bytes(fp, "batches of images", total->data_bytes);
    write_bytes(fp, "planned_peak_bytes", total->planned_peak_bytes);
    write_bytes(fp, "arena_bytes", total->arena_bytes);
    write_bytes(fp, "process base", total->process_base_bytes);
    write_bytes(fp, "expected process peak", total->expected_process_peak_bytes);
}

static int write_text(const struct session *s, const struct forecast *f, const struct plan_table *t,
                      FILE *fp, struct err *err)
{
    fprintf(fp, "# run folder: %s\n", s->job.dir);
    if (config_write(&s->cfg, fp, err)) {
        return (int)err->code;
    }
    fprintf(fp, "\n");
    if (write_layers(fp, t, err)) {
        return (int)err->code;
    }
    fprintf(fp, "\n%zu layers, %.0f parameters, %.0f multiply-adds per image (forward)\n\n",
            s->graph.n_layers, t->rows[0].parameters, t->rows[0].macs);
    if (write_bytes_of_layers(fp, t, err)) {
        return (int)err->code;
    }
    write_memory(s, f, &t->rows[0], fp);
    return 0;
}

static int write_csv(const struct plan_table *t, int is_first, FILE *fp, struct err *err)
{
    if (is_first && plan_write_header(fp, err)) {
        return (int)err->code;
    }
    for (size_t i = 0; i < t->n; i++) {
        if (plan_write_row(fp, &t->rows[i], err)) {
            return (int)err->code;
        }
    }
    return 0;
}

int run_plan_write(const struct config *cfg, const struct job *job, enum run_plan_form form,
                   int is_first, FILE *fp, struct err *err)
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
    if (forecast_make(&s, 1, &f, err) || plan_table_make(&s, &f, &table, err)) {
        goto out;
    }
    if (form == RUN_PLAN_CSV) {
        (void)!write_csv(&table, is_first, fp, err);
    } else {
        if (!is_first) {
            fprintf(fp, "\n");
        }
        (void)!write_text(&s, &f, &table, fp, err);
    }
    if (!err->code && (fflush(fp) != 0 || ferror(fp))) {
        (void)!err_set(err, ERR_IO, "cannot write the plan");
    }
out:
    plan_table_fini(&table);
    forecast_fini(&f);
    session_fini(&s);
    return (int)err->code;
}
