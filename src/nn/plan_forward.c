/* The steps of the forward pass, and the loss. */
#include <assert.h>

#include "kernels/eltwise.h"
#include "nn/plan_priv.h"

/* Is the policy still busy with the value's buffer when its readers have read it? */
static int lags(const struct plan_builder *b, uint32_t v)
{
    const struct plan_value *pv = b->p->values ? &b->p->values[v] : NULL;
    return pv && pv->kept && pv->choice.action == STORE_ENCODE && pv->choice.lag;
}

/* Which input's buffer may hold the output: PLAN_NONE if none. */
static int in_place_buffer(const struct plan_builder *b, const struct layer *l)
{
    if (!l->type->forward_in_place) {
        return PLAN_NONE;
    }
    for (size_t j = 0; j < l->n_in; j++) {
        uint32_t v = l->in[j];
        if (b->value_buffer[v] >= 0 && b->last_reader[v] == (int)l->index &&
            !plan_is_reference(b, v) && !lags(b, v)) {
            return b->value_buffer[v];
        }
    }
    return PLAN_NONE;
}

static size_t pool_bytes(const struct plan_builder *b)
{
    size_t sum = 0;
    for (size_t v = 0; v < b->g->n_values; v++) {
        const struct plan_value *pv = &b->p->values[v];
        if (pv->kept && pv->choice.action == STORE_ENCODE && pv->choice.pooled) {
            assert(pv->choice.bytes % 64 == 0);
            sum += pv->n_copies * pv->choice.bytes;
        }
    }
    return sum;
}

/* One code of value v; of a normalised one, by batch-norm l. Returns its number. */
static int emit_encode(struct plan_builder *b, uint32_t v, const struct layer *l)
{
    struct plan_value *pv = &b->p->values[v];
    struct plan_step *s = plan_add_step(b, PLAN_ENCODE);
    if (!s) {
        return PLAN_NONE;
    }
    uint32_t code = (uint32_t)b->p->n_codes++;
    s->value = v;
    s->code = code;
    s->x[0] = plan_use(b, b->value_buffer[v]);
    if (l) {
        s->layer = l->index;
        s->side = plan_use(b, b->side[l->index]);
    }
    if (!pv->choice.pooled) {
        s->slot = plan_add_buffer(b, PLAN_SLOT, MEM_SAVED, code, pv->choice.bytes);
    } else if (b->p->pool == PLAN_NONE) {
        s->slot = b->p->pool = plan_add_buffer(b, PLAN_POOL, MEM_SAVED, 0, pool_bytes(b));
    } else {
        s->slot = plan_use(b, b->p->pool);
    }
    s->workspace = plan_add_workspace(b, pv->choice.workspace_bytes);
    b->p->codes[code] = (struct plan_code){.value = v, .layer = s->layer, .slot = s->slot};
    return (int)code;
}

/* A code for all readers, or one for each. l: the batch-norm that reads v and has its statistics;
 * NULL: v has just been made. */
static void emit_encodes(struct plan_builder *b, uint32_t v, const struct layer *l)
{
    const struct plan_value *pv = b->p->values ? &b->p->values[v] : NULL;
    if (!pv || !pv->kept || pv->choice.action != STORE_ENCODE ||
        pv->choice.normalised != (l != NULL) || b->code[v] != PLAN_NONE) {
        return;
    }
    if (pv->n_copies == 1) {
        b->code[v] = emit_encode(b, v, l);
        return;
    }
    for (size_t i = 0; i < b->g->n_layers; i++) {
        if (plan_layer(b, i)->in[0] == v && b->needs[i].map_input) {
            b->code[v] = b->own_code[i] = emit_encode(b, v, l);
        }
    }
}

static int add_side(struct plan_builder *b, const struct layer *l)
{
    if (b->p->training) {
        b->side[l->index] = plan_add_buffer(b, PLAN_SIDE, MEM_SAVED, l->index,
                                            b->needs[l->index].side_bytes);
    }
    return b->side[l->index];
}

/* Returns the workspace, which the layer's own step reads again. */
static int emit_sums(struct plan_builder *b, const struct layer *l)
{
    struct plan_step *s = plan_add_step(b, PLAN_SUMS);
    if (!s) {
        return PLAN_NONE;
    }
    s->layer = l->index;
    s->x[0] = plan_use(b, b->value_buffer[l->in[0]]);
    s->side = add_side(b, l);
    s->workspace = plan_add_workspace(b, plan_layer_workspace(b, l, LAYER_FORWARD, 0));
    return s->workspace;
}

/* With the ReLU behind, where that is part of it. */
static void emit_forward(struct plan_builder *b, const struct layer *l)
{
    const uint32_t out = plan_output(b, l), last = plan_last(b, l);
    int workspace = l->type->forward_sums ? emit_sums(b, l) : PLAN_NONE;
    if (l->type->norm) {
        emit_encodes(b, l->in[0], l);
    }
    struct plan_step *s = plan_add_step(b, PLAN_FORWARD);
    if (!s) {
        return;
    }
    s->layer = l->index;
    s->relu = b->relu[l->index];
    for (size_t j = 0; j < l->n_in; j++) {
        s->x[j] = plan_use(b, b->value_buffer[l->in[j]]);
    }
    struct shape shape = plan_shape(b, out);
    int y = in_place_buffer(b, l);
    if (y == PLAN_NONE) {
        y = plan_add_buffer(b, PLAN_VALUE, MEM_ACTIVATION, out, shape_bytes(&shape));
    }
    s->y = b->value_buffer[out] = y;
    if (plan_is_reference(b, out) && y >= 0) {
        b->p->buffers[y].tag = MEM_SAVED;
        b->p->buffers[y].owner = out;
    }
    if (l->type->forward_sums) {
        s->side = plan_use(b, b->side[l->index]);
        s->workspace = plan_use(b, workspace);
    } else {
        s->side = add_side(b, l);
        s->workspace = plan_add_workspace(b, plan_layer_workspace(b, l, LAYER_FORWARD, 0));
    }
    if (b->p->training && plan_has_signs(b, plan_layer(b, last))) {
        s->signs = b->signs[last] = plan_add_buffer(b, PLAN_SIGNS, MEM_SAVED, last,
                                                    relu_sign_bytes(&shape));
    }
    emit_encodes(b, out, NULL);
}

static void emit_loss(struct plan_builder *b)
{
    struct plan_step *s = plan_add_step(b, PLAN_LOSS);
    if (!s) {
        return;
    }
    uint32_t logits = b->g->output;
    struct shape shape = plan_shape(b, logits);
    s->x[0] = plan_use(b, b->value_buffer[logits]);
    b->p->loss_step = b->p->n_steps - 1;
    if (b->p->training) {
        s->dy = b->grad[logits] = plan_add_buffer(b, PLAN_GRAD, MEM_GRAD, logits,
                                                  shape_bytes(&shape));
    }
}

/* Buffers of encoded maps live for choice.lag steps more, but not beyond the forward pass. */
static void add_lags(struct plan_builder *b)
{
    struct plan *p = b->p;
    for (size_t i = 0; i < p->n_steps; i++) {
        const struct plan_step *s = &p->steps[i];
        if (s->kind != PLAN_ENCODE || s->x[0] < 0) {
            continue;
        }
        struct plan_buffer *buf = &p->buffers[s->x[0]];
        size_t until = i + p->values[s->value].choice.lag;
        until = until < p->loss_step ? until : p->loss_step;
        buf->last = buf->last > until ? buf->last : until;
    }
}

void plan_forward(struct plan_builder *b)
{
    emit_encodes(b, 0, NULL);
    for (size_t i = 0; i < b->g->n_layers; i++) {
        if (b->norm[i] == PLAN_NONE) {
            emit_forward(b, plan_layer(b, i));
        }
    }
    emit_loss(b);
    if (!b->err->code) {
        add_lags(b);
    }
}
