/* From graph, policy and batch size to steps and buffers. Three passes:
 *   decide    what is kept of each value (from the last value to the first, so that a recomputed
 *             map can still ask for its producer's inputs)
 *   forward   one step per layer, an ENCODE after each value that the policy encodes
 *   backward  in reverse, with the DECODE and RECOMPUTE steps that restore what a layer needs
 * Gradients: each value's gradient is first written by its last reader and then added to by the
 * others. An addition hands its output's gradient to both inputs, which then share one buffer. */
#include "nn/plan.h"

#include <assert.h>
#include <string.h>

#include "kernels/eltwise.h"

/* What the passes share. */
struct builder {
    struct plan *p;
    const struct graph *g;
    const struct store *store;
    const struct layer_context *ctx;
    struct layer_needs *needs; /* [layers] */
    int *last_reader;          /* [values] highest layer that reads it in forward, -1: none */
    int *value_buffer;         /* [values] forward buffer */
    int *slot, *grad;          /* [values] */
    int *side, *signs;         /* [layers] */
    uint8_t *grad_read;        /* [values] its producer has taken its gradient */
    struct err *err;
};

static const struct layer *layer_at(const struct builder *b, size_t i)
{
    return b->g->layers[i];
}

static struct shape batch_shape(const struct builder *b, uint32_t value)
{
    struct shape s = b->g->values[value].shape;
    s.n = b->p->n;
    return s;
}

/* --- growing lists ------------------------------------------------------------------------- */

static struct plan_step *add_step(struct builder *b, enum plan_step_kind kind)
{
    struct plan *p = b->p;
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
                            .y = PLAN_NONE,
                            .side = PLAN_NONE,
                            .signs = PLAN_NONE,
                            .workspace = PLAN_NONE,
                            .slot = PLAN_NONE,
                            .dy = PLAN_NONE};
    for (size_t i = 0; i < GRAPH_MAX_INPUTS; i++) {
        s->x[i] = s->dx[i] = PLAN_NONE;
    }
    for (size_t i = 0; i < LAYER_MAX_PARAMS; i++) {
        s->dparam[i] = PLAN_NONE;
    }
    return s;
}

/* A buffer that lives from the current (last added) step on. PLAN_NONE for 0 bytes or on failure
 * (then err is set). */
static int add_buffer(struct builder *b, enum plan_buffer_kind kind, enum mem_tag tag,
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

/* The current step touches this buffer. Returns it. */
static int use(struct builder *b, int buffer)
{
    if (buffer >= 0) {
        b->p->buffers[buffer].last = b->p->n_steps - 1;
    }
    return buffer;
}

static int add_workspace(struct builder *b, size_t bytes)
{
    return add_buffer(b, PLAN_WORKSPACE, MEM_WORKSPACE, (uint32_t)(b->p->n_steps - 1), bytes);
}

static size_t layer_workspace(const struct builder *b, const struct layer *l,
                              enum layer_phase phase, int want_dx)
{
    struct shape x = batch_shape(b, l->in[0]);
    return l->type->workspace_bytes ? l->type->workspace_bytes(l, b->ctx, &x, phase, want_dx) : 0;
}

/* --- pass 1: what is kept ------------------------------------------------------------------- */

static int output_kept_for_sign(const struct builder *b, const struct plan_value *v)
{
    return v->kept && v->choice.action == STORE_REFERENCE && b->store->policy->exact;
}

static void choose(struct builder *b, uint32_t v, unsigned uses, int exact)
{
    struct plan_value *pv = &b->p->values[v];
    const struct value *value = &b->g->values[v];
    const struct layer *producer = v ? layer_at(b, value->producer) : NULL;
    pv->map = (struct store_map){
        .id = v,
        .name = value->name,
        .producer = producer ? producer->type->name : NULL,
        .shape = batch_shape(b, v),
        .uses = uses,
        .can_recompute = producer && producer->type->recomputable,
    };
    pv->kept = 1;
    if (exact || !producer) {
        pv->choice.action = STORE_REFERENCE;
    } else {
        b->store->policy->plan(b->store, &pv->map, &pv->choice);
    }
    if (pv->choice.action == STORE_REFERENCE) {
        memset(pv->choice.pieces, 0, sizeof pv->choice.pieces);
        pv->choice.bytes = shape_bytes(&pv->map.shape);
        pv->choice.pieces[producer ? STORE_PIECE_MAPS : STORE_PIECE_IMAGE] = pv->choice.bytes;
    }
}

static int decide(struct builder *b)
{
    const struct graph *g = b->g;
    unsigned *uses = mem_calloc(MEM_OTHER, g->n_values, sizeof *uses);
    uint8_t *exact = mem_calloc(MEM_OTHER, g->n_values, 1);
    int rc = 0;
    if (!uses || !exact) {
        rc = err_nomem(b->err, "the memory plan", g->n_values * sizeof *uses);
        goto out;
    }
    for (size_t i = 0; i < g->n_layers; i++) {
        const struct layer *l = layer_at(b, i);
        uses[l->in[0]] |= b->needs[i].map_input ? b->needs[i].map_use : 0;
        exact[l->in[0]] |= (uint8_t)b->needs[i].exact_input;
    }
    for (uint32_t v = (uint32_t)g->n_values; v-- > 0;) {
        const struct layer *l = v ? layer_at(b, g->values[v].producer) : NULL;
        int sign = l && b->needs[l->index].output_sign;
        if (!uses[v] && !exact[v] && !sign) {
            continue;
        }
        choose(b, v, uses[v], exact[v]);
        struct plan_value *pv = &b->p->values[v];
        if (!uses[v] && !exact[v] && !output_kept_for_sign(b, pv)) {
            *pv = (struct plan_value){0}; /* only its sign is wanted: bits are cheaper */
            continue;
        }
        if (pv->choice.action == STORE_RECOMPUTE) {
            if (!pv->map.can_recompute) {
                rc = err_set(b->err, ERR_CONFIG, "policy %s: %s (%s) cannot be recomputed",
                             b->store->policy->name, pv->map.name, pv->map.producer);
                goto out;
            }
            for (size_t i = 0; i < l->n_in; i++) {
                uses[l->in[i]] |= STORE_USE_RECOMPUTE;
            }
        }
    }
out:
    mem_free(uses);
    mem_free(exact);
    return rc;
}

/* --- pass 2: forward ------------------------------------------------------------------------ */

static int by_reference(const struct builder *b, uint32_t v)
{
    const struct plan_value *pv = b->p->values ? &b->p->values[v] : NULL;
    return pv && pv->kept && pv->choice.action == STORE_REFERENCE;
}

/* Which input's buffer may hold the output: PLAN_NONE if none. */
static int in_place_buffer(const struct builder *b, const struct layer *l)
{
    if (!l->type->forward_in_place) {
        return PLAN_NONE;
    }
    for (size_t j = 0; j < l->n_in; j++) {
        uint32_t v = l->in[j];
        if (b->value_buffer[v] >= 0 && b->last_reader[v] == (int)l->index && !by_reference(b, v)) {
            return b->value_buffer[v];
        }
    }
    return PLAN_NONE;
}

static size_t pool_bytes(const struct builder *b)
{
    size_t sum = 0;
    for (size_t v = 0; v < b->g->n_values; v++) {
        const struct plan_value *pv = &b->p->values[v];
        if (pv->kept && pv->choice.action == STORE_ENCODE && pv->choice.pooled) {
            assert(pv->choice.bytes % 64 == 0);
            sum += pv->choice.bytes;
        }
    }
    return sum;
}

static void emit_encode(struct builder *b, uint32_t v)
{
    struct plan_value *pv = &b->p->values[v];
    struct plan_step *s = add_step(b, PLAN_ENCODE);
    if (!s) {
        return;
    }
    s->value = v;
    s->x[0] = use(b, b->value_buffer[v]);
    if (pv->choice.pooled) {
        if (b->p->pool == PLAN_NONE) {
            b->p->pool = add_buffer(b, PLAN_POOL, MEM_SAVED, 0, pool_bytes(b));
        }
        s->slot = b->slot[v] = use(b, b->p->pool);
    } else {
        s->slot = b->slot[v] = add_buffer(b, PLAN_SLOT, MEM_SAVED, v, pv->choice.bytes);
    }
    s->workspace = add_workspace(b, pv->choice.workspace_bytes);
}

static void emit_forward(struct builder *b, const struct layer *l)
{
    struct plan_step *s = add_step(b, PLAN_FORWARD);
    if (!s) {
        return;
    }
    s->layer = l->index;
    for (size_t j = 0; j < l->n_in; j++) {
        s->x[j] = use(b, b->value_buffer[l->in[j]]);
    }
    struct shape out = batch_shape(b, l->out);
    int y = in_place_buffer(b, l);
    if (y == PLAN_NONE) {
        y = add_buffer(b, PLAN_VALUE, MEM_ACTIVATION, l->out, shape_bytes(&out));
    }
    s->y = b->value_buffer[l->out] = y;
    if (by_reference(b, l->out) && y >= 0) {
        b->p->buffers[y].tag = MEM_SAVED;
        b->p->buffers[y].owner = l->out;
    }
    if (b->p->training) {
        const struct layer_needs *n = &b->needs[l->index];
        s->side = b->side[l->index] = add_buffer(b, PLAN_SIDE, MEM_SAVED, l->index, n->side_bytes);
        if (n->output_sign && !by_reference(b, l->out)) {
            s->signs = b->signs[l->index] = add_buffer(b, PLAN_SIGNS, MEM_SAVED, l->index,
                                                       relu_sign_bytes(&out));
        }
    }
    s->workspace = add_workspace(b, layer_workspace(b, l, LAYER_FORWARD, 0));
    if (b->p->training && b->p->values[l->out].kept &&
        b->p->values[l->out].choice.action == STORE_ENCODE) {
        emit_encode(b, l->out);
    }
}

static void emit_loss(struct builder *b)
{
    struct plan_step *s = add_step(b, PLAN_LOSS);
    if (!s) {
        return;
    }
    uint32_t logits = b->g->output;
    struct shape shape = batch_shape(b, logits);
    s->x[0] = use(b, b->value_buffer[logits]);
    b->p->loss_step = b->p->n_steps - 1;
    if (b->p->training) {
        s->dy = b->grad[logits] = add_buffer(b, PLAN_GRAD, MEM_GRAD, logits, shape_bytes(&shape));
    }
}

/* --- pass 3: backward ----------------------------------------------------------------------- */

/* Does another value's gradient, not yet read by its producer, live in this buffer? */
static int shared_pending(const struct builder *b, int buffer, uint32_t v)
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
static int next_writer(const struct builder *b, uint32_t v, uint32_t i)
{
    for (int j = (int)i - 1; j >= 0; j--) {
        const struct layer *l = layer_at(b, (size_t)j);
        if (l->in[0] == v || (l->n_in > 1 && l->in[1] == v)) {
            return j;
        }
    }
    return -1;
}

/* May the gradient of v live in `buffer` from layer i's backward on? Every other gradient in it
 * must have been read before v's is added to, and the other way round. */
static int can_share(const struct builder *b, int buffer, uint32_t v, uint32_t i)
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

static int restore(struct builder *b, uint32_t v);

/* Runs the producer of v again from its own restored inputs. Returns v's buffer. */
static int emit_recompute(struct builder *b, uint32_t v)
{
    const struct layer *l = layer_at(b, b->g->values[v].producer);
    int x[GRAPH_MAX_INPUTS] = {PLAN_NONE, PLAN_NONE};
    for (size_t j = 0; j < l->n_in; j++) {
        x[j] = restore(b, l->in[j]);
    }
    struct plan_step *s = add_step(b, PLAN_RECOMPUTE);
    if (!s) {
        return PLAN_NONE;
    }
    s->layer = l->index;
    for (size_t j = 0; j < l->n_in; j++) {
        s->x[j] = use(b, x[j]);
    }
    s->side = use(b, b->side[l->index]);
    struct shape shape = batch_shape(b, v);
    s->y = add_buffer(b, PLAN_RESTORED, MEM_ACTIVATION, v, shape_bytes(&shape));
    s->workspace = add_workspace(b, layer_workspace(b, l, LAYER_FORWARD, 0));
    return s->y;
}

/* Emits what brings back value v; returns the buffer that then holds it. */
static int restore(struct builder *b, uint32_t v)
{
    if (v == 0) {
        return PLAN_IMAGE;
    }
    struct plan_value *pv = &b->p->values[v];
    assert(pv->kept);
    if (pv->choice.action == STORE_REFERENCE) {
        return b->value_buffer[v];
    }
    if (pv->choice.action == STORE_RECOMPUTE) {
        return emit_recompute(b, v);
    }
    struct plan_step *s = add_step(b, PLAN_DECODE);
    if (!s) {
        return PLAN_NONE;
    }
    s->value = v;
    s->slot = use(b, b->slot[v]);
    struct shape shape = batch_shape(b, v);
    s->y = add_buffer(b, PLAN_RESTORED, MEM_ACTIVATION, v, shape_bytes(&shape));
    s->workspace = add_workspace(b, pv->choice.workspace_bytes);
    if (s->y >= 0 && pv->choice.lead) { /* the map may arrive before it is asked for */
        struct plan_buffer *buf = &b->p->buffers[s->y];
        size_t earliest = b->p->loss_step + 1;
        buf->first = buf->first - earliest > pv->choice.lead ? buf->first - pv->choice.lead
                                                             : earliest;
    }
    return s->y;
}

/* Where the gradient of l's input j goes: an existing gradient (added to), l's own dy (in place or
 * handed on), or a new buffer. */
static void place_dx(struct builder *b, struct plan_step *s, const struct layer *l, size_t j)
{
    uint32_t v = l->in[j];
    if (v == 0) {
        return;
    }
    if (b->grad[v] != PLAN_NONE) {
        assert(!shared_pending(b, b->grad[v], v));
        s->dx[j] = use(b, b->grad[v]);
        s->accumulate[j] = 1;
        return;
    }
    int dy = s->dy;
    int reuse = l->type->passes_gradient
                    ? can_share(b, dy, v, l->index)
                    : j == 0 && l->type->backward_in_place && !shared_pending(b, dy, l->out);
    if (reuse) {
        b->p->buffers[dy].owner = v;
        s->dx[j] = dy;
    } else {
        struct shape shape = batch_shape(b, v);
        s->dx[j] = add_buffer(b, PLAN_GRAD, MEM_GRAD, v, shape_bytes(&shape));
    }
    b->grad[v] = s->dx[j];
}

static void emit_update(struct builder *b, const struct layer *l, const int *dparam)
{
    struct plan_step *s = add_step(b, PLAN_UPDATE);
    if (!s) {
        return;
    }
    s->layer = l->index;
    for (size_t j = 0; j < l->n_trainable; j++) {
        s->dparam[j] = use(b, dparam[j]);
    }
}

static void emit_backward(struct builder *b, const struct layer *l)
{
    if (b->grad[l->out] == PLAN_NONE) {
        return; /* nothing depends on it */
    }
    const struct layer_needs *n = &b->needs[l->index];
    int x = n->map_input || n->exact_input ? restore(b, l->in[0]) : PLAN_NONE;
    struct plan_step *s = add_step(b, PLAN_BACKWARD);
    if (!s) {
        return;
    }
    s->layer = l->index;
    s->x[0] = use(b, x);
    s->dy = use(b, b->grad[l->out]);
    b->grad_read[l->out] = 1;
    s->side = use(b, b->side[l->index]);
    s->signs = use(b, b->signs[l->index]);
    if (n->output_sign && s->signs == PLAN_NONE) {
        s->y = use(b, b->value_buffer[l->out]);
    }
    int want_dx = 0;
    for (size_t j = 0; j < l->n_in; j++) {
        place_dx(b, s, l, j);
        want_dx |= s->dx[j] != PLAN_NONE;
    }
    for (size_t j = 0; j < l->n_trainable; j++) {
        s->dparam[j] = add_buffer(b, PLAN_DPARAM, MEM_GRAD, l->params[j],
                                  b->g->params[l->params[j]].n * sizeof(real));
    }
    s->workspace = add_workspace(b, layer_workspace(b, l, LAYER_BACKWARD, want_dx));
    if (l->n_trainable) {
        int dparam[LAYER_MAX_PARAMS];
        memcpy(dparam, s->dparam, sizeof dparam);
        emit_update(b, l, dparam);
    }
}

/* --- the whole ------------------------------------------------------------------------------ */

static int builder_alloc(struct builder *b)
{
    size_t n_values = b->g->n_values, n_layers = b->g->n_layers;
    b->needs = mem_calloc(MEM_OTHER, n_layers, sizeof *b->needs);
    b->last_reader = mem_calloc(MEM_OTHER, 4 * n_values + 2 * n_layers, sizeof(int));
    b->grad_read = mem_calloc(MEM_OTHER, n_values, 1);
    if (b->p->training) {
        b->p->values = mem_calloc(MEM_OTHER, n_values, sizeof *b->p->values);
    }
    if (!b->needs || !b->last_reader || !b->grad_read || (b->p->training && !b->p->values)) {
        return err_nomem(b->err, "the memory plan", n_values * sizeof *b->p->values);
    }
    for (size_t i = 0; i < 4 * n_values + 2 * n_layers; i++) {
        b->last_reader[i] = PLAN_NONE;
    }
    b->value_buffer = b->last_reader + n_values;
    b->slot = b->value_buffer + n_values;
    b->grad = b->slot + n_values;
    b->side = b->grad + n_values;
    b->signs = b->side + n_layers;
    for (size_t i = 0; i < n_layers; i++) {
        const struct layer *l = layer_at(b, i);
        for (size_t j = 0; j < l->n_in; j++) {
            b->last_reader[l->in[j]] = (int)i;
        }
        struct shape x = batch_shape(b, l->in[0]);
        if (l->type->needs) {
            l->type->needs(l, &x, b->ctx->bn_group, &b->needs[i]);
        }
    }
    b->value_buffer[0] = PLAN_IMAGE;
    return 0;
}

static void sum_saved(struct builder *b)
{
    struct plan *p = b->p;
    for (size_t v = 0; v < b->g->n_values; v++) {
        const struct plan_value *pv = &p->values[v];
        for (int i = 0; pv->kept && i < STORE_N_PIECES; i++) {
            p->saved_pieces[i] += pv->choice.pieces[i];
        }
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
    struct builder b = {
        .p = out, .g = cfg->graph, .store = cfg->store, .ctx = cfg->context, .err = err};
    *err = (struct err){0};
    if (builder_alloc(&b) || (out->training && decide(&b))) {
        goto done;
    }
    for (size_t i = 0; i < b.g->n_layers && !err->code; i++) {
        emit_forward(&b, layer_at(&b, i));
    }
    emit_loss(&b);
    for (size_t i = b.g->n_layers; out->training && i-- > 0 && !err->code;) {
        emit_backward(&b, layer_at(&b, i));
    }
    if (!err->code && out->training) {
        sum_saved(&b);
    }
    if (!err->code && plan_pack(out, err)) {
        goto done;
    }
done:
    mem_free(b.needs);
    mem_free(b.last_reader);
    mem_free(b.grad_read);
    if (err->code) {
        plan_fini(out);
    }
    return (int)err->code;
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
    *p = (struct plan){0};
}

void plan_layer_saved(const struct plan *p, const struct graph *g, const struct layer *l,
                      size_t pieces[STORE_N_PIECES])
{
    memset(pieces, 0, STORE_N_PIECES * sizeof *pieces);
    const struct plan_value *pv = &p->values[l->out];
    for (int i = 0; pv->kept && i < STORE_N_PIECES; i++) {
        pieces[i] += pv->choice.pieces[i];
    }
    for (size_t i = 0; i < p->n_buffers; i++) {
        const struct plan_buffer *buf = &p->buffers[i];
        if (buf->owner == l->index && buf->kind == PLAN_SIGNS) {
            pieces[STORE_PIECE_SIGNS] += buf->bytes;
        } else if (buf->owner == l->index && buf->kind == PLAN_SIDE) {
            struct layer_needs n = {0};
            struct shape x = g->values[l->in[0]].shape;
            l->type->needs(l, &x, 1, &n);
            pieces[n.side_piece] += buf->bytes;
        }
    }
}
