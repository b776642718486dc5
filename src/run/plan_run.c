/* --plan: the resolved config, the network and the memory that a run will need, as text. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "data/loader.h"
#include "report/table.h"
#include "run/run.h"

enum { CELL = 48, N_COLUMNS = 7 };

static const struct table_column columns[N_COLUMNS] = {
    {"layer", "", 0},
    {"type", "", 0},
    {"output", "h x w x c", 0},
    {"parameters", "", 1},
    {"multiply-adds", "per image", 1},
    {"saved", "bytes", 1},
    {"kept as", "", 0},
};

static const char *kept_as(const struct plan_value *v)
{
    if (!v->kept) {
        return "";
    }
    switch (v->choice.action) {
    case STORE_REFERENCE: return "exact";
    case STORE_ENCODE: return "encoded";
    case STORE_RECOMPUTE: return "recomputed";
    }
    return "";
}

static size_t sum_pieces(const size_t pieces[STORE_N_PIECES])
{
    size_t sum = 0;
    for (int i = 0; i < STORE_N_PIECES; i++) {
        sum += pieces[i];
    }
    return sum;
}

/* A whole number; nothing for 0. */
static void count_text(char cell[CELL], double n)
{
    if (n > 0) {
        snprintf(cell, CELL, "%.0f", n);
    }
}

static void fill_layer(char (*cell)[CELL], const struct graph *g, const struct plan *plan,
                       const struct layer *l)
{
    const struct shape *s = &g->values[l->out].shape;
    char attributes[32] = "";
    if (l->type->describe) {
        l->type->describe(l, attributes, sizeof attributes);
    }
    size_t weights = 0, pieces[STORE_N_PIECES];
    for (size_t i = 0; i < l->n_trainable; i++) {
        weights += g->params[l->params[i]].n;
    }
    double macs = l->type->macs ? l->type->macs(l, &g->values[l->in[0]].shape) : 0;
    plan_layer_saved(plan, g, l, pieces);
    size_t saved = sum_pieces(pieces);
    snprintf(cell[0], CELL, "%s", l->name);
    snprintf(cell[1], CELL, "%s%s%s", l->type->name, attributes[0] ? " " : "", attributes);
    snprintf(cell[2], CELL, "%zu x %zu x %zu", s->h, s->w, s->c);
    count_text(cell[3], (double)weights);
    count_text(cell[4], macs);
    count_text(cell[5], (double)saved);
    snprintf(cell[6], CELL, "%s", kept_as(&plan->values[l->out]));
}

static int write_layers(const struct session *s, const struct plan *plan, FILE *fp, struct err *err)
{
    const struct graph *g = &s->graph;
    size_t n_rows = g->n_layers + 1;
    char(*text)[CELL] = mem_calloc(MEM_OTHER, n_rows * N_COLUMNS, sizeof *text);
    const char **cells = mem_calloc(MEM_OTHER, n_rows * N_COLUMNS, sizeof *cells);
    int rc = 0;
    if (!text || !cells) {
        rc = err_nomem(err, "the table of layers", n_rows * N_COLUMNS * sizeof *text);
        goto out;
    }
    for (size_t i = 0; i < n_rows * N_COLUMNS; i++) {
        cells[i] = text[i];
    }
    const struct shape *image = &g->values[0].shape;
    snprintf(text[0], CELL, "image");
    snprintf(text[2], CELL, "%zu x %zu x %zu", image->h, image->w, image->c);
    if (plan->values[0].kept) {
        snprintf(text[5], CELL, "%zu", plan->values[0].choice.bytes);
        snprintf(text[6], CELL, "exact");
    }
    for (size_t i = 0; i < g->n_layers; i++) {
        fill_layer(text + (i + 1) * N_COLUMNS, g, plan, g->layers[i]);
    }
    rc = table_write(fp, columns, N_COLUMNS, cells, n_rows, err);
out:
    mem_free(text);
    mem_free(cells);
    return rc;
}

static void write_bytes(FILE *fp, const char *what, size_t bytes)
{
    char text[32];
    fprintf(fp, "  %-28s %14zu  %12s\n", what, bytes, str_bytes(text, (double)bytes));
}

static void write_memory(const struct session *s, const struct plan *plan, FILE *fp)
{
    fprintf(fp, "\nSaved for backward, a full batch of %zu images", s->batch_size);
    if (s->accumulate > 1) {
        fprintf(fp, " in %zu micro-batches of %zu", s->accumulate, s->micro_batch_size);
    }
    fprintf(fp, ", policy %s:\n", s->job.label);
    for (int i = 0; i < STORE_N_PIECES; i++) {
        if (plan->saved_pieces[i]) {
            write_bytes(fp, store_piece_name((enum store_piece)i), plan->saved_pieces[i]);
        }
    }
    write_bytes(fp, "saved_bytes", plan->saved_bytes);
    fprintf(fp, "  %-28s %14.2f  (normal saves %zu bytes%s)\n", "saved_ratio",
            (double)s->normal_saved_bytes / (double)plan->saved_bytes, s->normal_saved_bytes,
            s->accumulate > 1 ? " of the whole batch" : "");
    size_t params = graph_param_bytes(&s->graph), momentum = graph_momentum_bytes(&s->graph);
    size_t gradients = session_gradient_bytes(s);
    size_t batches = loader_bytes(&s->info, s->micro_batch_size, s->info.n_train) +
                     loader_bytes(&s->info, s->eval_batch_size, s->info.n_test);
    fprintf(fp, "\nMemory of the run:\n");
    write_bytes(fp, "parameters, statistics", params);
    write_bytes(fp, "momentum", momentum);
    if (gradients) {
        write_bytes(fp, "gradients, summed", gradients);
    }
    write_bytes(fp, "batches of images", batches);
    write_bytes(fp, "live peak in the arena", plan->peak_bytes);
    write_bytes(fp, "planned_peak_bytes",
                params + momentum + gradients + batches + plan->peak_bytes);
    write_bytes(fp, "arena_bytes", plan->arena_bytes);
    write_bytes(fp, "process before the run", s->memory.base);
    write_bytes(fp, "expected process peak",
                s->memory.base + params + momentum + gradients + batches + plan->arena_bytes);
}

int run_plan_write(const struct config *cfg, const struct job *job, FILE *fp, struct err *err)
{
    struct session s;
    struct plan plan;
    struct config own;
    struct job single;
    job_config(cfg, job, &own, &single);
    if (session_init(&s, &own, &single, err)) {
        return (int)err->code;
    }
    if (session_plan(&s, &plan, err)) {
        session_fini(&s);
        return (int)err->code;
    }
    fprintf(fp, "# run folder: %s\n", job->dir);
    if (config_write(&own, fp, err) == 0) {
        fprintf(fp, "\n");
        if (write_layers(&s, &plan, fp, err) == 0) {
            fprintf(fp, "\n%zu layers, %zu parameters, %.0f multiply-adds per image (forward)\n",
                    s.graph.n_layers, graph_n_weights(&s.graph), graph_macs(&s.graph));
            write_memory(&s, &plan, fp);
        }
    }
    plan_fini(&plan);
    session_fini(&s);
    if (!err->code && (fflush(fp) != 0 || ferror(fp))) {
        return err_set(err, ERR_IO, "cannot write the plan");
    }
    return (int)err->code;
}
