/* The memory plan: its lists, and the order of the passes that make it (see plan_priv.h). */
#include "nn/plan.h"

#include <string.h>

#include "nn/plan_priv.h"

/* --- growing lists ------------------------------------------------------------------------- */

struct plan_step *plan_add_step(struct plan_builder *b, enum plan_step_kind kind)
{
    struct plan *p = b->p;
    if (b->err->code) {
        return NULL;
    }
    if (p->n_steps == p->cap_steps) {
        size_t cap = p->cap_steps ? p->cap_steps * 2 : 256;
        void *grown = mem_realloc(MEM_OTHER, p->steps, cap * sizeof *p->steps);
        if (!grown) {
            err_nomem(b->err, "the memory plan", cap * sizeof *p->steps);
            return NULL;
        }
        p->steps = grown;
        p->cap_steps = cap;
    }
    struct plan_step *s = &p->steps[p->n_steps++];
    *s = (struct plan_step){.kind = kind,
                            .relu = PLAN_NONE,
                            .y = PLAN_NONE,
                            .side = PLAN_NONE,
                            .signs = PLAN_NONE,
                            .workspace = PLAN_NONE,
                            .slot = PLAN_NONE,
                            .dy = PLAN_NONE,
                            .n_chain = 1};
    for (size_t i = 0; i < GRAPH_MAX_INPUTS; i++) {
        s->x[i] = s->dx[i] = PLAN_NONE;
    }
    for (size_t i = 0; i < LAYER_MAX_PARAMS; i++) {
        s->dparam[i] = PLAN_NONE;
    }
    return s;
}

int plan_add_buffer(struct plan_builder *b, enum plan_buffer_kind kind, enum mem_tag tag,
                    uint32_t owner, size_t bytes)
{
    struct plan *p = b->p;
    if (bytes == 0 || b->err->code) {
        return PLAN_NONE;
    }
    if (p->n_buffers == p->cap_buffers) {
        size_t cap = p->cap_buffers ? p->cap_buffers * 2 : 256;
        void *grown = mem_realloc(MEM_OTHER, p->buffers, cap * sizeof *p->buffers);
        if (!grown) {
            err_nomem(b->err, "the memory plan", cap * sizeof *p->buffers);
            return PLAN_NONE;
        }
        p->buffers = grown;
        p->cap_buffers = cap;
    }
    size_t now = p->n_steps - 1;
    p->buffers[p->n_buffers] = (struct plan_buffer){
        .kind = kind, .tag = tag, .owner = owner, .bytes = bytes, .first = now, .last = now};
    return (int)p->n_buffers++;
}

int plan_use(struct plan_builder *b, int buffer)
{
    if (buffer >= 0) {
        b->p->buffers[buffer].last = b->p->n_steps - 1;
    }
    return buffer;
}

int plan_add_workspace(struct plan_builder *b, size_t bytes)
{
    return plan_add_buffer(b, PLAN_WORKSPACE, MEM_WORKSPACE, (uint32_t)(b->p->n_steps - 1), bytes);
}

size_t plan_layer_workspace(const struct plan_builder *b, const struct layer *l,
                            enum layer_phase phase, int want_dx)
{
    struct shape x = plan_shape(b, l->in[0]);
    return l->type->workspace_bytes ? l->type->workspace_bytes(l, b->ctx, &x, phase, want_dx) : 0;
}

int plan_is_reference(const struct plan_builder *b, uint32_t value)
{
    const struct plan_value *pv = b->p->values ? &b->p->values[value] : NULL;
    return pv && pv->kept && pv->choice.action == STORE_REFERENCE;
}

/* --- the whole ------------------------------------------------------------------------------ */

static int builder_alloc(struct plan_builder *b)
{
    size_t n_values = b->g->n_values, n_layers = b->g->n_layers;
    size_t n_ints = 5 * n_values + 5 * n_layers;
    b->needs = mem_calloc(MEM_OTHER, n_layers, sizeof *b->needs);
    b->last_reader = mem_calloc(MEM_OTHER, n_ints, sizeof(int));
    b->grad_read = mem_calloc(MEM_OTHER, n_values, 1);
    if (b->p->training) {
        b->p->values = mem_calloc(MEM_OTHER, n_values, sizeof *b->p->values);
        b->p->codes = mem_calloc(MEM_OTHER, n_values + n_layers, sizeof *b->p->codes);
    }
    if (!b->needs || !b->last_reader || !b->grad_read ||
        (b->p->training && (!b->p->values || !b->p->codes))) {
        return err_nomem(b->err, "the memory plan", n_values * sizeof *b->p->values);
    }
    for (size_t i = 0; i < n_ints; i++) {
        b->last_reader[i] = PLAN_NONE;
    }
    b->value_buffer = b->last_reader + n_values;
    b->grad = b->value_buffer + n_values;
    b->code = b->grad + n_values;
    b->restored = b->code + n_values;
    b->own_code = b->restored + n_values;
    b->side = b->own_code + n_layers;
    b->signs = b->side + n_layers;
    b->relu = b->signs + n_layers;
    b->norm = b->relu + n_layers;
    for (size_t i = 0; i < n_layers; i++) {
        const struct layer *l = plan_layer(b, i);
        for (size_t j = 0; j < l->n_in; j++) {
            b->last_reader[l->in[j]] = (int)i;
        }
        struct shape x = plan_shape(b, l->in[0]);
        b->needs[i] = layer_needs(l, &x, b->ctx->bn_group, b->store);
    }
    b->value_buffer[0] = PLAN_IMAGE;
    return 0;
}

static void sum_saved(struct plan_builder *b)
{
    struct plan *p = b->p;
    plan_image_saved(p, b->g, p->saved_pieces);
    for (size_t v = 1; v < b->g->n_values; v++) {
        const struct plan_value *pv = &p->values[v];
        for (int i = 0; pv->kept && i < STORE_N_PIECES; i++) {
            p->saved_pieces[i] += pv->n_copies * pv->choice.pieces[i];
        }
        p->spilled_bytes += pv->kept ? pv->n_copies * pv->choice.spilled_bytes : 0;
    }
    for (size_t i = 0; i < b->g->n_layers; i++) {
        if (b->side[i] >= 0) {
            p->saved_pieces[b->needs[i].side_piece] += p->buffers[b->side[i]].bytes;
        }
        if (b->signs[i] >= 0) {
            p->saved_pieces[STORE_PIECE_SIGNS] += p->buffers[b->signs[i]].bytes;
        }
    }
    for (int i = 0; i < STORE_N_PIECES; i++) {
        p->saved_bytes += p->saved_pieces[i];
    }
}

int plan_make(const struct plan_config *cfg, struct plan *out, struct err *err)
{
    *out = (struct plan){.n = cfg->n, .training = cfg->store != NULL, .pool = PLAN_NONE};
    struct plan_builder b = {.p = out,
                             .g = cfg->graph,
                             .store = cfg->store,
                             .ctx = cfg->context,
                             .unchained = cfg->unchained,
                             .err = err};
    *err = (struct err){0};
    if (builder_alloc(&b) == 0) {
        if (out->training) {
            plan_decide(&b);
            plan_rules(&b);
        }
        if (!err->code && !cfg->unchained) {
            plan_fuse(&b);
        }
        plan_forward(&b);
        if (out->training) {
            plan_backward(&b);
        }
    }
    if (!err->code && out->training) {
        sum_saved(&b);
    }
    if (!err->code && !cfg->unchained) {
        plan_chain(&b);
    }
    if (!err->code) {
        (void)!plan_pack(out, err);
    }
    mem_free(b.needs);
    mem_free(b.last_reader);
    mem_free(b.grad_read);
    if (err->code) {
        plan_fini(out);
    }
    return (int)err->code;
}

uint32_t plan_step_output(const struct plan_step *s, const struct graph *g)
{
    return g->layers[s->relu == PLAN_NONE ? s->layer : (uint32_t)s->relu]->out;
}

void plan_fini(struct plan *p)
{
    if (!p) {
        return;
    }
    mem_free(p->steps);
    mem_free(p->buffers);
    mem_free(p->order);
    mem_free(p->values);
    mem_free(p->codes);
    *p = (struct plan){0};
}

void plan_image_saved(const struct plan *p, const struct graph *g, size_t pieces[STORE_N_PIECES])
{
    const struct plan_value *pv = &p->values[0];
    memset(pieces, 0, STORE_N_PIECES * sizeof *pieces);
    for (int i = 0; pv->kept && i < STORE_N_PIECES; i++) {
        pieces[i] += pv->n_copies * pv->choice.pieces[i];
    }
    if (pv->kept && pv->choice.action == STORE_ENCODE) { /* kept beside its code */
        struct shape image = g->values[0].shape;
        image.n = p->n;
        pieces[STORE_PIECE_IMAGE] += shape_bytes(&image);
    }
}

void plan_layer_saved(const struct plan *p, const struct graph *g, const struct layer *l,
                      size_t pieces[STORE_N_PIECES])
{
    memset(pieces, 0, STORE_N_PIECES * sizeof *pieces);
    const struct plan_value *pv = &p->values[l->out];
    for (int i = 0; pv->kept && i < STORE_N_PIECES; i++) {
        pieces[i] += pv->n_copies * pv->choice.pieces[i];
    }
    for (size_t i = 0; i < p->n_buffers; i++) {
        const struct plan_buffer *buf = &p->buffers[i];
        if (buf->owner == l->index && buf->kind == PLAN_SIGNS) {
            pieces[STORE_PIECE_SIGNS] += buf->bytes;
        } else if (buf->owner == l->index && buf->kind == PLAN_SIDE) {
            struct shape x = g->values[l->in[0]].shape;
            pieces[layer_needs(l, &x, 1, NULL).side_piece] += buf->bytes;
        }
    }
}
