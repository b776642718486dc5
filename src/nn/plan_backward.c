/* The steps of the backward pass.
 *
 * Each value's gradient is first written by its last reader and then added to by the others. An
 * addition hands its output's gradient to both inputs, which then share one buffer. */
#include <assert.h>
#include <string.h>

#include "nn/plan_priv.h"

/* --- gradients that share a buffer ---------------------------------------------------------- */

/* Does another value's gradient, not yet read by its producer, live in this buffer? */
static int shared_pending(const struct plan_builder *b, int buffer, uint32_t v)
{
    for (uint32_t u = 1; u < b->g->n_values; u++) {
        if (u != v && b->grad[u] == buffer && !b->grad_read[u]) {
            return 1;
        }
    }
    return 0;
}

/* The highest layer below i that reads v in forward, i.e. the next one that will add to its
 * gradient; -1 if there is none. */
static int next_writer(const struct plan_builder *b, uint32_t v, uint32_t i)
{
    for (int j = (int)i - 1; j >= 0; j--) {
        const struct layer *l = plan_layer(b, (size_t)j);
        if (l->in[0] == v || (l->n_in > 1 && l->in[1] == v)) {
            return j;
        }
    }
    return -1;
}

/* May the gradient of v live in `buffer` from layer i's backward on? Every other gradient in it
 * must have been read before v's is added to, and the other way round. */
static int can_share(const struct plan_builder *b, int buffer, uint32_t v, uint32_t i)
{
    int writer = next_writer(b, v, i);
    int reader = (int)b->g->values[v].producer;
    for (uint32_t u = 1; u < b->g->n_values; u++) {
        if (u == v || b->grad[u] != buffer || b->grad_read[u]) {
            continue;
        }
        if (writer >= (int)b->g->values[u].producer || next_writer(b, u, i) >= reader) {
            return 0;
        }
    }
    return 1;
}

/* Where the gradient of l's input j goes: an existing gradient (added to), l's own dy (in place or
 * handed on), or a new buffer. */
static void place_dx(struct plan_builder *b, struct plan_step *s, const struct layer *l, size_t j)
{
    uint32_t v = l->in[j];
    if (v == 0) {
        return;
    }
    if (b->grad[v] != PLAN_NONE) {
        assert(!shared_pending(b, b->grad[v], v));
        s->dx[j] = plan_use(b, b->grad[v]);
        s->accumulate[j] = 1;
        return;
    }
    int dy = s->dy;
    int reuse = l->type->passes_gradient ? can_share(b, dy, v, l->index)
                                         : j == 0 && l->type->backward_in_place &&
                                               !shared_pending(b, dy, plan_output(b, l));
    if (reuse) {
        b->p->buffers[dy].owner = v;
        s->dx[j] = dy;
    } else {
        struct shape shape = plan_shape(b, v);
        s->dx[j] = plan_add_buffer(b, PLAN_GRAD, MEM_GRAD, v, shape_bytes(&shape));
    }
    b->grad[v] = s->dx[j];
}

/* --- maps that are brought back ------------------------------------------------------------- */

static int restore(struct plan_builder *b, uint32_t v, const struct layer *reader);

/* A restored map that nobody reads again may be overwritten by what is made of it. */
static int is_spent(const struct plan_builder *b, uint32_t v, int buffer)
{
    return buffer >= 0 && b->p->buffers[buffer].kind == PLAN_RESTORED && b->restored[v] != buffer;
}

/* Runs the producer of v again from its own restored inputs. Returns v's buffer. */
static int emit_recompute(struct plan_builder *b, uint32_t v)
{
    const struct layer *last = plan_layer(b, b->g->values[v].producer), *l = last;
    const int is_fused = b->norm[last->index] != PLAN_NONE;
    if (is_fused) {
        l = plan_layer(b, (size_t)b->norm[last->index]);
    }
    int x[GRAPH_MAX_INPUTS] = {PLAN_NONE, PLAN_NONE};
    for (size_t j = 0; j < l->n_in; j++) {
        x[j] = restore(b, l->in[j], l);
    }
    struct plan_step *s = plan_add_step(b, PLAN_RECOMPUTE);
    if (!s) {
        return PLAN_NONE;
    }
    s->layer = l->index;
    for (size_t j = 0; j < l->n_in; j++) {
        s->x[j] = plan_use(b, x[j]);
    }
    s->relu = b->relu[l->index];
    s->side = plan_use(b, b->side[l->index]);
    s->signs = plan_use(b, b->signs[last->index]);
    struct shape shape = plan_shape(b, v);
    int keep = b->p->values[v].choice.keep_restored || (!is_fused && plan_is_derived_mask(b, last));
    if (l->type->forward_in_place && is_spent(b, l->in[0], x[0])) {
        s->y = x[0];
        b->p->buffers[s->y].owner = v;
    } else {
        s->y = plan_add_buffer(b, PLAN_RESTORED, MEM_ACTIVATION, v, shape_bytes(&shape));
    }
    if (keep) {
        b->restored[v] = s->y;
    }
    if (!l->type->forward_sums) { /* sums are in `side` */
        s->workspace = plan_add_workspace(b, plan_layer_workspace(b, l, LAYER_FORWARD, 0));
    }
    return s->y;
}

static int emit_decode(struct plan_builder *b, uint32_t v, const struct layer *reader)
{
    const struct plan_value *pv = &b->p->values[v];
    struct plan_step *s = plan_add_step(b, PLAN_DECODE);
    if (!s) {
        return PLAN_NONE;
    }
    s->value = v;
    int own = b->own_code[reader->index];
    s->code = (uint32_t)(own != PLAN_NONE && reader->in[0] == v ? own : b->code[v]);
    s->slot = plan_use(b, b->p->codes[s->code].slot);
    if (pv->choice.normalised) {
        s->layer = b->p->codes[s->code].layer;
        s->side = plan_use(b, b->side[s->layer]);
        if (pv->map.marks & STORE_MARK_SIGNED) {
            s->signs = plan_use(b, b->signs[plan_sign_keeper(b, v)->index]);
        }
    }
    struct shape shape = plan_shape(b, v);
    s->y = plan_add_buffer(b, PLAN_RESTORED, MEM_ACTIVATION, v, shape_bytes(&shape));
    s->workspace = plan_add_workspace(b, pv->choice.workspace_bytes);
    if (s->y >= 0 && pv->choice.lead) { /* the map may arrive before it is asked for */
        struct plan_buffer *buf = &b->p->buffers[s->y];
        size_t earliest = b->p->loss_step + 1;
        buf->first = buf->first - earliest > pv->choice.lead ? buf->first - pv->choice.lead
                                                             : earliest;
    }
    return s->y;
}

/* Emits what brings back value v for a reader; returns the buffer that then holds it. */
static int restore(struct plan_builder *b, uint32_t v, const struct layer *reader)
{
    const struct plan_value *pv = &b->p->values[v];
    assert(pv->kept || v == 0);
    if (b->restored[v] != PLAN_NONE) {
        return b->restored[v];
    }
    switch (pv->choice.action) {
    case STORE_REFERENCE: return v == 0 ? PLAN_IMAGE : b->value_buffer[v];
    case STORE_RECOMPUTE: return emit_recompute(b, v);
    case STORE_ENCODE: break;
    }
    return emit_decode(b, v, reader);
}

/* --- layers --------------------------------------------------------------------------------- */

static void emit_update(struct plan_builder *b, const struct layer *l, const int *dparam)
{
    struct plan_step *s = plan_add_step(b, PLAN_UPDATE);
    if (!s) {
        return;
    }
    s->layer = l->index;
    for (size_t j = 0; j < l->n_trainable; j++) {
        s->dparam[j] = plan_use(b, dparam[j]);
    }
}

/* What sums and backward of a layer have in common. */
static void use_common(struct plan_builder *b, struct plan_step *s, const struct layer *l, int x)
{
    s->layer = l->index;
    s->relu = b->relu[l->index];
    s->x[0] = plan_use(b, x);
    s->dy = plan_use(b, b->grad[plan_output(b, l)]);
    s->side = plan_use(b, b->side[l->index]);
    s->signs = plan_use(b, b->signs[plan_last(b, l)]);
}

static void add_dparams(struct plan_builder *b, const struct layer *l, int *dparam)
{
    for (size_t j = 0; j < l->n_trainable; j++) {
        dparam[j] = plan_add_buffer(b, PLAN_DPARAM, MEM_GRAD, l->params[j],
                                    b->g->params[l->params[j]].n * sizeof(real));
    }
}

/* The buffer that tells where a ReLU's output is positive, if not its sign bits. */
static int mask_buffer(struct plan_builder *b, const struct layer *l)
{
    if (!b->needs[l->index].output_sign || b->signs[l->index] != PLAN_NONE) {
        return PLAN_NONE;
    }
    return plan_is_derived_mask(b, l) ? restore(b, l->out, l) : b->value_buffer[l->out];
}

/* A ReLU's output that is kept by reference is kept until its backward, be it that this is part of a
 * batch-norm's and has no need of it: what `normal` keeps is what PyTorch does. */
static void hold_output(struct plan_builder *b, const struct layer *l)
{
    if (b->relu[l->index] != PLAN_NONE && plan_is_reference(b, plan_output(b, l))) {
        (void)plan_use(b, b->value_buffer[plan_output(b, l)]);
    }
}

static void emit_backward(struct plan_builder *b, const struct layer *l)
{
    const uint32_t out = plan_output(b, l);
    if (b->grad[out] == PLAN_NONE || b->norm[l->index] != PLAN_NONE) {
        return; /* nothing depends on it, or it is done by the batch-norm */
    }
    const struct layer_needs *n = &b->needs[l->index];
    int x = n->map_input || n->exact_input ? restore(b, l->in[0], l) : PLAN_NONE;
    int y = mask_buffer(b, l);
    int dparam[LAYER_MAX_PARAMS], workspace = PLAN_NONE;
    struct plan_step *s;
    for (size_t j = 0; j < LAYER_MAX_PARAMS; j++) {
        dparam[j] = PLAN_NONE;
    }
    if (l->type->backward_sums) {
        s = plan_add_step(b, PLAN_SUMS);
        if (!s) {
            return;
        }
        use_common(b, s, l, x);
        add_dparams(b, l, dparam);
        memcpy(s->dparam, dparam, sizeof dparam);
        s->workspace = workspace = plan_add_workspace(
            b, plan_layer_workspace(b, l, LAYER_BACKWARD, 1));
    }
    if (l->type->gradients) {
        s = plan_add_step(b, PLAN_GRADIENTS);
        if (!s) {
            return;
        }
        use_common(b, s, l, x);
        add_dparams(b, l, dparam);
        memcpy(s->dparam, dparam, sizeof dparam);
        s->workspace = plan_add_workspace(b, plan_layer_workspace(b, l, LAYER_GRADIENTS, 0));
        x = PLAN_NONE;
    }
    if (l->type->backward_sums && plan_decodes_by_run(b, l->in[0])) {
        x = restore(b, l->in[0], l);
    }
    s = plan_add_step(b, PLAN_BACKWARD);
    if (!s) {
        return;
    }
    use_common(b, s, l, x);
    b->grad_read[out] = 1;
    hold_output(b, l);
    s->y = plan_use(b, y);
    int want_dx = 0;
    for (size_t j = 0; j < l->n_in; j++) {
        place_dx(b, s, l, j);
        want_dx |= s->dx[j] != PLAN_NONE;
    }
    if (l->type->backward_sums) {
        s->workspace = plan_use(b, workspace);
        for (size_t j = 0; j < l->n_trainable; j++) {
            plan_use(b, dparam[j]);
        }
    } else {
        if (!l->type->gradients) {
            add_dparams(b, l, dparam);
        }
        s->workspace = plan_add_workspace(b, plan_layer_workspace(b, l, LAYER_BACKWARD, want_dx));
    }
    memcpy(s->dparam, dparam, sizeof dparam);
    if (l->n_trainable) {
        emit_update(b, l, dparam);
    }
}

void plan_backward(struct plan_builder *b)
{
    for (size_t i = b->g->n_layers; i-- > 0;) {
        emit_backward(b, plan_layer(b, i));
    }
}
