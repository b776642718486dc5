/* The executor's account: what every buffer holds, what is alive, what is kept for backward. Sizes
 * come from shapes, layers and what encoders return, not from the plan's tables. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/eltwise.h"
#include "kernels/sample_runs.h"
#include "nn/exec_priv.h"

struct shape exec_shape(const struct exec *e, uint32_t value)
{
    struct shape s = e->cfg.graph->values[value].shape;
    s.n = e->n;
    return s;
}

static size_t workspace_now(const struct exec *e, const struct plan_step *s)
{
    if (s->kind == PLAN_ENCODE || s->kind == PLAN_DECODE) {
        return e->values[s->value].choice.workspace_bytes;
    }
    const struct layer *l = exec_layer(e, s);
    struct shape x = exec_shape(e, l->in[0]);
    enum layer_phase phase = s->kind == PLAN_GRADIENTS ? LAYER_GRADIENTS
                             : s->dy != PLAN_NONE      ? LAYER_BACKWARD
                                                       : LAYER_FORWARD;
    int want_dx = s->dx[0] != PLAN_NONE || s->dx[1] != PLAN_NONE;
    return l->type->workspace_bytes(l, &e->context, &x, phase, want_dx);
}

static struct layer_needs needs_now(const struct exec *e, uint32_t layer)
{
    const struct layer *l = e->cfg.graph->layers[layer];
    struct shape x = exec_shape(e, l->in[0]);
    return layer_needs(l, &x, e->context.bn_group, e->cfg.store);
}

static int is_pooled(const struct exec *e, const struct plan *p, size_t code)
{
    return e->values[p->codes[code].value].choice.pooled;
}

/* What the encoders have put into the pool. */
static size_t pool_bytes_now(const struct exec *e, const struct plan *p)
{
    size_t sum = 0;
    for (size_t c = 0; c < p->n_codes; c++) {
        sum += is_pooled(e, p, c) ? e->code_bytes[c] : 0;
    }
    return sum;
}

/* A run of the map for each thread. */
static size_t local_bytes_now(const struct exec *e, const struct shape *s)
{
    const struct sample_runs runs = sample_runs_cut(s, e->context.bn_group);
    return (size_t)e->cfg.n_threads * sample_runs_bytes(&runs, s);
}

/* Bytes of a buffer for the batch at hand. */
static size_t bytes_now(const struct exec *e, const struct plan *p, const struct plan_buffer *b)
{
    struct shape s;
    switch (b->kind) {
    case PLAN_VALUE:
    case PLAN_RESTORED:
    case PLAN_GRAD:
        s = exec_shape(e, b->owner);
        return b->local ? local_bytes_now(e, &s) : shape_bytes(&s);
    case PLAN_SLOT: return e->code_bytes[b->owner];
    case PLAN_POOL: return pool_bytes_now(e, p);
    case PLAN_SIDE: return needs_now(e, b->owner).side_bytes;
    case PLAN_SIGNS:
        s = exec_shape(e, e->cfg.graph->layers[b->owner]->out);
        return relu_sign_bytes(&s);
    case PLAN_DPARAM: return e->cfg.graph->params[b->owner].n * sizeof(real);
    case PLAN_WORKSPACE: return workspace_now(e, &p->steps[b->owner]);
    }
    return 0;
}

void *exec_address(const struct exec *e, const struct plan *p, int buffer)
{
    return buffer >= 0 ? e->arena + p->buffers[buffer].offset : NULL;
}

struct tensor exec_tensor(const struct exec *e, const struct plan *p, int buffer, uint32_t value)
{
    if (buffer == PLAN_IMAGE) {
        return *e->images;
    }
    struct shape s = exec_shape(e, value);
    return tensor_view(exec_address(e, p, buffer), s);
}

/* --- what is alive -------------------------------------------------------------------------- */

/* Codes count with what their encoders return, when they do. */
static int is_code(const struct plan_buffer *b)
{
    return b->kind == PLAN_SLOT || b->kind == PLAN_POOL;
}

void exec_acquire(struct exec *e, const struct plan *p, const struct plan_buffer *b)
{
    size_t bytes = is_code(b) ? b->bytes : bytes_now(e, p, b);
    assert(bytes <= b->bytes);
#ifdef EXEC_ASAN
    ASAN_UNPOISON_MEMORY_REGION(e->arena + b->offset, bytes);
#endif
    if (!is_code(b)) {
        mem_acquire(b->tag, bytes);
    }
}

/* A kept buffer's last use is over. */
static void drop(struct exec *e, const struct plan *p, const struct plan_buffer *b)
{
    struct layer_needs needs;
    const struct plan_value *pv;
    switch (b->kind) {
    case PLAN_VALUE:
        pv = p->training ? &e->values[b->owner] : NULL;
        if (pv && pv->kept && pv->choice.action == STORE_REFERENCE) {
            vault_drop(&e->vault, STORE_PIECE_MAPS, bytes_now(e, p, b));
        }
        break;
    case PLAN_SLOT:
        pv = &e->values[p->codes[b->owner].value];
        vault_drop_map(&e->vault, &pv->choice, e->code_bytes[b->owner]);
        break;
    case PLAN_POOL:
        for (size_t c = 0; c < p->n_codes; c++) {
            if (is_pooled(e, p, c)) {
                vault_drop_map(&e->vault, &e->values[p->codes[c].value].choice, e->code_bytes[c]);
            }
        }
        break;
    case PLAN_SIDE:
        needs = needs_now(e, b->owner);
        vault_drop(&e->vault, needs.side_piece, needs.side_bytes);
        break;
    case PLAN_SIGNS: vault_drop(&e->vault, STORE_PIECE_SIGNS, bytes_now(e, p, b)); break;
    default: break;
    }
}

void exec_release(struct exec *e, const struct plan *p, const struct plan_buffer *b)
{
    size_t bytes = bytes_now(e, p, b);
    drop(e, p, b);
    if (e->cfg.poison) {
        memset(e->arena + b->offset, 0xff, is_code(b) ? b->bytes : bytes);
    }
#ifdef EXEC_ASAN
    ASAN_POISON_MEMORY_REGION(e->arena + b->offset, b->bytes);
#endif
    mem_release(b->tag, bytes);
}

/* --- what is kept --------------------------------------------------------------------------- */

void exec_keep(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    const struct layer *l = exec_layer(e, s);
    int is_sums = s->kind == PLAN_SUMS;
    if (s->side >= 0 && is_sums == (l->type->forward_sums != NULL)) {
        struct layer_needs needs = needs_now(e, s->layer);
        vault_keep(&e->vault, needs.side_piece, needs.side_bytes);
    }
    if (is_sums) {
        return;
    }
    const struct plan_value *pv = &e->values[plan_step_output(s, e->cfg.graph)];
    if (pv->kept && pv->choice.action == STORE_REFERENCE) {
        vault_keep(&e->vault, STORE_PIECE_MAPS, shape_bytes(&pv->map.shape));
    }
    if (s->signs >= 0) {
        vault_keep(&e->vault, STORE_PIECE_SIGNS, bytes_now(e, p, &p->buffers[s->signs]));
    }
}

void exec_keep_code(struct exec *e, const struct plan_step *s, size_t bytes)
{
    e->code_bytes[s->code] = bytes;
    mem_acquire(MEM_SAVED, bytes);
    if (e->values[s->value].choice.pooled) {
        e->pool_used += (bytes + 63) / 64 * 64;
    }
}

void *exec_code(const struct exec *e, const struct plan *p, const struct plan_step *s, size_t *cap)
{
    char *at = exec_address(e, p, s->slot);
    if (!e->values[s->value].choice.pooled) {
        *cap = e->values[s->value].choice.bytes;
        return at;
    }
    *cap = p->buffers[s->slot].bytes - e->code_at[s->code];
    return at + e->code_at[s->code];
}
