#include "run/plan_table.h"

#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "nn/layer.h"

static const size_t piece_offset[STORE_N_PIECES] = {
    [STORE_PIECE_MEANS] = offsetof(struct plan_row, means_bytes),
    [STORE_PIECE_CODES] = offsetof(struct plan_row, codes_bytes),
    [STORE_PIECE_RANGES] = offsetof(struct plan_row, ranges_bytes),
    [STORE_PIECE_MAPS] = offsetof(struct plan_row, maps_bytes),
    [STORE_PIECE_IMAGE] = offsetof(struct plan_row, image_bytes),
    [STORE_PIECE_SIGNS] = offsetof(struct plan_row, signs_bytes),
    [STORE_PIECE_INDICES] = offsetof(struct plan_row, indices_bytes),
    [STORE_PIECE_STATS] = offsetof(struct plan_row, stats_bytes),
};
_Static_assert(STORE_N_PIECES == 8,
               "a new piece needs a column in report/plan.def, and its row here");

double plan_table_piece(const struct plan_row *row, enum store_piece piece)
{
    return *(const double *)(const void *)((const char *)row + piece_offset[piece]);
}

static void set_pieces(struct plan_row *row, const size_t pieces[STORE_N_PIECES])
{
    size_t sum = 0;
    for (int i = 0; i < STORE_N_PIECES; i++) {
        *(double *)(void *)((char *)row + piece_offset[i]) = (double)pieces[i];
        sum += pieces[i];
    }
    row->saved_bytes = (double)sum;
}

static const char *kept_as(const struct plan_value *v)
{
    if (!v->kept) {
        return NULL;
    }
    switch (v->choice.action) {
    case STORE_REFERENCE: return "exact";
    case STORE_ENCODE: return v->choice.spilled_bytes ? "spilled" : "encoded";
    case STORE_RECOMPUTE: return "recomputed";
    }
    return NULL;
}

/* The policy that has decided so; none where a map is exact or rebuilt whatever the policy. */
static const char *kept_by(const struct plan_value *v, struct plan_text *text)
{
    if (!v->kept || !v->chosen) {
        return NULL;
    }
    v->store->policy->label(&v->store->params, text->kept_by, sizeof text->kept_by);
    return text->kept_by;
}

static void set_output(struct plan_row *row, const struct shape *s)
{
    row->height = (double)s->h;
    row->width = (double)s->w;
    row->channels = (double)s->c;
}

/* What is alive at step i of the plan with the higher peak. */
static void set_peak(struct plan_row *row, struct plan_text *text, const struct session *s,
                     const struct forecast *f, size_t i)
{
    const struct plan_moment *m = &f->moments[i];
    forecast_step_text(s, f, i, text->peak_at, sizeof text->peak_at);
    row->live_peak_bytes = (double)m->live_bytes;
    row->peak_step = (double)(i + 1);
    row->peak_at = text->peak_at;
    row->gradients_bytes = (double)m->live[MEM_GRAD];
    row->saved_live_bytes = (double)m->live[MEM_SAVED];
    row->values_bytes = (double)m->live[MEM_ACTIVATION];
    row->workspace_bytes = (double)m->live[MEM_WORKSPACE];
}

static void start_row(struct plan_row *row, const struct session *s, const char *scope)
{
    plan_row_clear(row);
    row->csv_version = CSV_VERSION;
    row->run = s->cfg.name;
    row->policy = s->job.label;
    row->seed = (double)s->job.seed;
    row->batch_size = (double)s->batch_size;
    row->accumulate = (double)s->accumulate;
    row->scope = scope;
}

/* The two definitions of the paper's memory tables, as read off its published code: what is
 * allocated between forward and backward beyond the model, and that with weights, gradients and
 * momentum and a second copy of the images. The loss keeps its log-probabilities, a number per class
 * and image. */
static void set_paper_bytes(struct plan_row *row, const struct session *s)
{
    const struct graph *g = &s->graph;
    const struct shape *image = &g->values[0].shape, *logits = &g->values[g->output].shape;
    const double n = (double)s->micro_batch_size;
    const double trainable = (double)graph_n_weights(g) * sizeof(real);
    row->paper_activation_bytes = row->saved_bytes +
                                  n * (double)(logits->h * logits->w * logits->c) * sizeof(real);
    row->paper_total_bytes = row->paper_activation_bytes + row->weights_bytes + 2 * trainable +
                             n * (double)(image->h * image->w * image->c) * sizeof(real);
}

static void fill_total(struct plan_row *row, struct plan_text *text, const struct session *s,
                       const struct forecast *f)
{
    const struct session_memory *m = &f->memory;
    start_row(row, s, "total");
    row->parameters = (double)graph_n_weights(&s->graph);
    row->macs = graph_macs(&s->graph);
    set_pieces(row, f->train.saved_pieces);
    row->spilled_bytes = (double)f->train.spilled_bytes;
    row->saved_ratio = (double)s->normal_saved_bytes / (double)f->train.saved_bytes;
    row->weights_bytes = (double)m->params;
    row->momentum_bytes = (double)m->momentum;
    set_paper_bytes(row, s);
    row->gradient_sums_bytes = (double)m->gradients;
    set_peak(row, text, s, f, f->highest->peak_step);
    row->data_bytes = (double)m->data;
    row->planned_peak_bytes = (double)session_memory_planned(m);
    row->arena_bytes = (double)m->arena;
    row->process_base_bytes = (double)m->base;
    row->expected_process_peak_bytes = (double)session_memory_expected(m);
}

static void fill_image(struct plan_row *row, struct plan_text *text, const struct session *s,
                       const struct forecast *f)
{
    const struct plan_value *image = &f->train.values[0];
    start_row(row, s, "image");
    row->layer = s->graph.values[0].name;
    set_output(row, &s->graph.values[0].shape);
    row->saved_bytes = row->spilled_bytes = 0;
    if (image->kept) {
        size_t pieces[STORE_N_PIECES];
        plan_image_saved(&f->train, &s->graph, pieces);
        row->kept_as = "exact";
        row->kept_by = kept_by(image, text);
        set_pieces(row, pieces);
    }
}

static void fill_layer(struct plan_row *row, struct plan_text *text, const struct session *s,
                       const struct forecast *f, const struct layer *l)
{
    const struct graph *g = &s->graph;
    size_t weights = 0, bytes = 0, pieces[STORE_N_PIECES];
    char shape[32] = "";
    start_row(row, s, "layer");
    if (l->type->describe) {
        l->type->describe(l, shape, sizeof shape);
    }
    (void)snprintf(text->type, sizeof text->type, "%s%s%s", l->type->name, shape[0] ? " " : "",
                   shape);
    for (size_t i = 0; i < l->n_params; i++) {
        const struct param *p = &g->params[l->params[i]];
        weights += p->trainable ? p->n : 0;
        bytes += p->n * sizeof(real);
    }
    row->layer = l->name;
    row->type = text->type;
    set_output(row, &g->values[l->out].shape);
    row->parameters = (double)weights;
    row->macs = l->type->macs ? l->type->macs(l, &g->values[l->in[0]].shape) : 0;
    const struct plan_value *out = &f->train.values[l->out];
    row->kept_as = kept_as(out);
    row->kept_by = kept_by(out, text);
    row->spilled_bytes = out->kept ? (double)(out->n_copies * out->choice.spilled_bytes) : 0;
    plan_layer_saved(&f->train, g, l, pieces);
    set_pieces(row, pieces);
    row->weights_bytes = (double)bytes;
    row->momentum_bytes = (double)(weights * sizeof(real));
}

/* Each layer's highest step. */
static void fill_peaks(const struct plan_table *t, const struct session *s,
                       const struct forecast *f, size_t *highest)
{
    for (size_t i = 0; i < f->highest->n_steps; i++) {
        size_t *best = &highest[f->moments[i].layer];
        if (*best == SIZE_MAX || f->moments[i].live_bytes > f->moments[*best].live_bytes) {
            *best = i;
        }
    }
    for (size_t l = 0; l < s->graph.n_layers; l++) {
        if (highest[l] != SIZE_MAX) {
            set_peak(&t->rows[l + 2], &t->texts[l + 2], s, f, highest[l]);
        }
    }
}

int plan_table_make(const struct session *s, const struct forecast *f, struct plan_table *out,
                    struct err *err)
{
    const size_t n_layers = s->graph.n_layers, n = n_layers + 2;
    struct plan_table t = {
        .n = n,
        .rows = mem_calloc(MEM_OTHER, n, sizeof *t.rows),
        .texts = mem_calloc(MEM_OTHER, n, sizeof *t.texts),
    };
    size_t *highest = mem_calloc(MEM_OTHER, n_layers, sizeof *highest);
    if (!t.rows || !t.texts || !highest) {
        (void)!err_nomem(err, "the table of layers", n * (sizeof *t.rows + sizeof *t.texts));
        mem_free(highest);
        plan_table_fini(&t);
        return (int)err->code;
    }
    fill_total(&t.rows[0], &t.texts[0], s, f);
    fill_image(&t.rows[1], &t.texts[1], s, f);
    for (size_t i = 0; i < n_layers; i++) {
        highest[i] = SIZE_MAX;
        fill_layer(&t.rows[i + 2], &t.texts[i + 2], s, f, s->graph.layers[i]);
    }
    fill_peaks(&t, s, f, highest);
    mem_free(highest);
    *out = t;
    return 0;
}

void plan_table_fini(struct plan_table *t)
{
    mem_free(t->rows);
    mem_free(t->texts);
    *t = (struct plan_table){0};
}
