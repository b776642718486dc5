#include "nn/exec.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/sys.h"
#include "kernels/eltwise.h"

#if defined(__SANITIZE_ADDRESS__)
#define EXEC_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXEC_ASAN 1
#endif
#endif
#ifdef EXEC_ASAN
#include <sanitizer/asan_interface.h>
#endif

/* --- buffers: places from the plan, sizes and account from here ----------------------------- */

static struct shape shape_now(const struct exec *e, uint32_t value)
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
    const struct layer *l = e->cfg.graph->layers[s->layer];
    struct shape x = shape_now(e, l->in[0]);
    int want_dx = s->dx[0] != PLAN_NONE || s->dx[1] != PLAN_NONE;
    return l->type->workspace_bytes(
        l, &e->context, &x, s->kind == PLAN_BACKWARD ? LAYER_BACKWARD : LAYER_FORWARD, want_dx);
}

static int is_pooled(const struct exec *e, size_t value)
{
    const struct plan_value *pv = &e->values[value];
    return pv->kept && pv->choice.action == STORE_ENCODE && pv->choice.pooled;
}

/* What the encoders have put into the pool. */
static size_t pool_bytes_now(const struct exec *e)
{
    size_t sum = 0;
    for (size_t v = 0; v < e->cfg.graph->n_values; v++) {
        sum += is_pooled(e, v) ? e->slot_bytes[v] : 0;
    }
    return sum;
}

/* Encoders say what they use: counted then. */
static int is_code(const struct plan_buffer *b)
{
    return b->kind == PLAN_SLOT || b->kind == PLAN_POOL;
}

/* Bytes of a buffer for the batch at hand. */
static size_t bytes_now(const struct exec *e, const struct plan *p, const struct plan_buffer *b)
{
    const struct graph *g = e->cfg.graph;
    struct shape s;
    struct layer_needs needs = {0};
    switch (b->kind) {
    case PLAN_VALUE:
    case PLAN_RESTORED:
    case PLAN_GRAD: s = shape_now(e, b->owner); return shape_bytes(&s);
    case PLAN_SLOT: return e->slot_bytes[b->owner];
    case PLAN_POOL: return pool_bytes_now(e);
    case PLAN_SIDE:
        s = shape_now(e, g->layers[b->owner]->in[0]);
        g->layers[b->owner]->type->needs(g->layers[b->owner], &s, e->context.bn_group, &needs);
        return needs.side_bytes;
    case PLAN_SIGNS: s = shape_now(e, g->layers[b->owner]->out); return relu_sign_bytes(&s);
    case PLAN_DPARAM: return g->params[b->owner].n * sizeof(real);
    case PLAN_WORKSPACE: return workspace_now(e, &p->steps[b->owner]);
    }
    return 0;
}

static void *address(const struct exec *e, const struct plan *p, int buffer)
{
    return buffer >= 0 ? e->arena + p->buffers[buffer].offset : NULL;
}

static void acquire(struct exec *e, const struct plan *p, const struct plan_buffer *b)
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

static void release(struct exec *e, const struct plan *p, const struct plan_buffer *b)
{
    size_t bytes = bytes_now(e, p, b);
    if (e->cfg.poison) {
        memset(e->arena + b->offset, 0xff, is_code(b) ? b->bytes : bytes);
    }
#ifdef EXEC_ASAN
    ASAN_POISON_MEMORY_REGION(e->arena + b->offset, b->bytes);
#endif
    mem_release(b->tag, bytes);
}

static struct tensor tensor_at(const struct exec *e, const struct plan *p, int buffer,
                               uint32_t value)
{
    if (buffer == PLAN_IMAGE) {
        return *e->images;
    }
    struct shape s = shape_now(e, value);
    return tensor_view(address(e, p, buffer), s);
}

/* --- the vault: what is kept between forward and backward ----------------------------------- */

/* A forward step is done: count what it leaves for backward. */
static void keep(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    const struct layer *l = e->cfg.graph->layers[s->layer];
    const struct plan_value *pv = &e->values[l->out];
    if (pv->kept && pv->choice.action == STORE_REFERENCE) {
        vault_keep(&e->vault, STORE_PIECE_MAPS, shape_bytes(&pv->map.shape));
    }
    if (s->side >= 0) {
        struct layer_needs needs = {0};
        struct shape x = shape_now(e, l->in[0]);
        l->type->needs(l, &x, e->context.bn_group, &needs);
        vault_keep(&e->vault, needs.side_piece, needs.side_bytes);
    }
    if (s->signs >= 0) {
        vault_keep(&e->vault, STORE_PIECE_SIGNS, bytes_now(e, p, &p->buffers[s->signs]));
    }
}

/* A kept buffer's last use is over. */
static void drop(struct exec *e, const struct plan *p, const struct plan_buffer *b)
{
    struct layer_needs needs = {0};
    struct shape x;
    switch (b->kind) {
    case PLAN_VALUE:
        if (p->training && e->values[b->owner].kept &&
            e->values[b->owner].choice.action == STORE_REFERENCE) {
            vault_drop(&e->vault, STORE_PIECE_MAPS, bytes_now(e, p, b));
        }
        break;
    case PLAN_SLOT:
        vault_drop_map(&e->vault, &e->values[b->owner].choice, e->slot_bytes[b->owner]);
        break;
    case PLAN_POOL:
        for (size_t v = 0; v < e->cfg.graph->n_values; v++) {
            if (is_pooled(e, v)) {
                vault_drop_map(&e->vault, &e->values[v].choice, e->slot_bytes[v]);
            }
        }
        break;
    case PLAN_SIDE:
        x = shape_now(e, e->cfg.graph->layers[b->owner]->in[0]);
        e->cfg.graph->layers[b->owner]->type->needs(e->cfg.graph->layers[b->owner], &x,
                                                    e->context.bn_group, &needs);
        vault_drop(&e->vault, needs.side_piece, needs.side_bytes);
        break;
    case PLAN_SIGNS: vault_drop(&e->vault, STORE_PIECE_SIGNS, bytes_now(e, p, b)); break;
    default: break;
    }
}

/* The policy may still be reading the buffer of an encoded map: let it finish before the buffer is
 * overwritten or released. */
static int settle(struct exec *e, int buffer, struct err *err)
{
    struct store *store = e->cfg.store;
    if (!store || !store->policy->settle || buffer < 0) {
        return 0;
    }
    for (size_t v = 1; v < e->cfg.graph->n_values; v++) {
        if (e->unsettled[v] == buffer) {
            e->unsettled[v] = PLAN_NONE;
            if (store->policy->settle(store, &e->values[v].map, err)) {
                return err_add(err, "%s: finishing to store its map", e->values[v].map.name);
            }
        }
    }
    return 0;
}

/* A restored map's buffer is there: the policy may begin to fill it. */
static int prefetch(struct exec *e, const struct plan *p, const struct plan_buffer *b,
                    struct err *err)
{
    struct store *store = e->cfg.store;
    if (b->kind != PLAN_RESTORED || !store->policy->prefetch ||
        e->values[b->owner].choice.action != STORE_ENCODE) {
        return 0;
    }
    struct tensor out = tensor_at(e, p, (int)(b - p->buffers), b->owner);
    return store->policy->prefetch(store, &e->values[b->owner].map, &out, err);
}

/* --- steps ---------------------------------------------------------------------------------- */

static void layer_io_fill(struct exec *e, const struct plan *p, const struct plan_step *s,
                          struct layer_io *io)
{
    const struct layer *l = e->cfg.graph->layers[s->layer];
    *io = (struct layer_io){.ctx = &e->context,
                            .side = address(e, p, s->side),
                            .signs = address(e, p, s->signs),
                            .workspace = address(e, p, s->workspace)};
    for (size_t i = 0; i < l->n_params; i++) {
        io->params[i] = e->cfg.graph->params[l->params[i]].w;
        io->dparams[i] = address(e, p, s->dparam[i]);
    }
    for (size_t j = 0; j < l->n_in; j++) {
        if (s->x[j] != PLAN_NONE) {
            io->x[j] = tensor_at(e, p, s->x[j], l->in[j]);
        }
        if (s->dx[j] != PLAN_NONE) {
            io->dx[j] = tensor_at(e, p, s->dx[j], l->in[j]);
            io->want_dx[j] = 1;
            io->accumulate[j] = s->accumulate[j];
        }
    }
    if (s->y != PLAN_NONE) {
        io->y = tensor_at(e, p, s->y, l->out);
    }
    if (s->dy != PLAN_NONE) {
        io->dy = tensor_at(e, p, s->dy, l->out);
    }
}

static void run_forward(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    struct layer_io io;
    layer_io_fill(e, p, s, &io);
    io.recompute = s->kind == PLAN_RECOMPUTE;
    e->cfg.graph->layers[s->layer]->type->forward(e->cfg.graph->layers[s->layer], &io);
}

static void run_backward(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    const struct layer *l = e->cfg.graph->layers[s->layer];
    struct layer_io io;
    layer_io_fill(e, p, s, &io);
    if (!l->type->passes_gradient) {
        l->type->backward(l, &io);
        return;
    }
    for (size_t j = 0; j < l->n_in; j++) {
        if (!io.want_dx[j] || (s->dx[j] == s->dy && !s->accumulate[j])) {
            continue; /* shared: nothing to do */
        }
        if (s->accumulate[j]) {
            tensor_accumulate(e->cfg.kernels, &io.dy, &io.dx[j]);
        } else {
            tensor_copy(e->cfg.kernels, &io.dy, &io.dx[j]);
        }
    }
}

/* Tells an adaptive policy what the reader of a map has found out about gradients. */
static void observe(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    struct store *store = e->cfg.store;
    const struct layer *l = e->cfg.graph->layers[s->layer];
    if (!store->policy->observe || !l->type->gradient || s->x[0] == PLAN_NONE) {
        return;
    }
    struct layer_io io;
    struct store_gradient g;
    layer_io_fill(e, p, s, &io);
    l->type->gradient(l, &io, &g);
    store->policy->observe(store, &e->values[l->in[0]].map, &g);
}

/* Where value v's code lies, and how many bytes may be there. */
static void *code_at(const struct exec *e, const struct plan *p, const struct plan_step *s,
                     size_t *cap)
{
    char *at = address(e, p, s->slot);
    if (!e->values[s->value].choice.pooled) {
        *cap = e->values[s->value].choice.bytes;
        return at;
    }
    *cap = p->buffers[s->slot].bytes - e->pool_at[s->value];
    return at + e->pool_at[s->value];
}

static void run_update(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    const struct layer *l = e->cfg.graph->layers[s->layer];
    for (size_t i = 0; e->hooks.gradient && i < l->n_trainable; i++) {
        e->hooks.gradient(e->hooks.ctx, &e->cfg.graph->params[l->params[i]],
                          address(e, p, s->dparam[i]));
    }
}

static void run_encode(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    uint32_t v = s->value;
    struct tensor x = tensor_at(e, p, s->x[0], v);
    struct rng rng = rng_make(e->cfg.seed, RNG_QUANTISE, e->context.step, v);
    size_t cap;
    e->pool_at[v] = e->pool_used;
    void *code = code_at(e, p, s, &cap);
    e->slot_bytes[v] = vault_encode(&e->vault, e->cfg.store, &e->values[v].map,
                                    &e->values[v].choice, &x, &rng, code, cap,
                                    address(e, p, s->workspace));
    mem_acquire(MEM_SAVED, e->slot_bytes[v]);
    if (e->values[v].choice.pooled) {
        e->pool_used += (e->slot_bytes[v] + 63) / 64 * 64;
    }
    if (e->cfg.store->policy->settle) {
        e->unsettled[v] = s->x[0];
    }
}

static void run_decode(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    uint32_t v = s->value;
    struct tensor y = tensor_at(e, p, s->y, v);
    struct codec_block whole = {.n1 = y.shape.n, .h1 = y.shape.h, .c1 = y.shape.c}; /* all of it */
    size_t cap;
    vault_decode(&e->vault, e->cfg.store, &e->values[v].map, code_at(e, p, s, &cap), &whole, &y,
                 address(e, p, s->workspace));
}

struct loss_call {
    const uint32_t *labels;
    real *logits;
    struct loss_result *result;
};

static void run_loss(struct exec *e, const struct plan *p, const struct plan_step *s,
                     const struct loss_call *call)
{
    struct tensor logits = tensor_at(e, p, s->x[0], e->cfg.graph->output);
    if (call->logits) {
        memcpy(call->logits, logits.data, shape_bytes(&logits.shape));
    }
    if (!p->training) {
        softmax_xent(&logits, call->labels, 0, 1, NULL, call->result);
        return;
    }
    e->saved_bytes = e->vault.bytes;
    memcpy(e->saved_pieces, e->vault.pieces, sizeof e->saved_pieces);
    struct tensor dlogits = tensor_at(e, p, s->dy, e->cfg.graph->output);
    softmax_xent(&logits, call->labels, e->cfg.label_smoothing, 1.0 / (double)e->n, &dlogits,
                 call->result);
}

static void run_step(struct exec *e, const struct plan *p, const struct plan_step *s,
                     const struct loss_call *call)
{
    double start = sys_now_s();
    double *timer = NULL; /* encode and decode are timed by the vault */
    switch (s->kind) {
    case PLAN_FORWARD:
        run_forward(e, p, s);
        if (p->training) {
            keep(e, p, s);
        }
        timer = &e->times.forward_s;
        break;
    case PLAN_ENCODE: run_encode(e, p, s); break;
    case PLAN_LOSS:
        run_loss(e, p, s, call);
        timer = &e->times.forward_s;
        break;
    case PLAN_DECODE: run_decode(e, p, s); break;
    case PLAN_RECOMPUTE:
        run_forward(e, p, s);
        timer = &e->vault.decode_s;
        break;
    case PLAN_BACKWARD:
        run_backward(e, p, s);
        observe(e, p, s);
        timer = &e->times.backward_s;
        break;
    case PLAN_UPDATE:
        run_update(e, p, s);
        timer = &e->times.update_s;
        break;
    }
    double seconds = sys_now_s() - start;
    if (timer) {
        *timer += seconds;
    }
    if (p->training && e->hooks.step_done) {
        e->hooks.step_done(e->hooks.ctx, s, seconds);
    }
}

static int run_plan(struct exec *e, const struct plan *p, const struct loss_call *call,
                    struct err *err)
{
    for (size_t i = 0; i < p->n_steps; i++) {
        const struct plan_step *s = &p->steps[i];
        for (size_t a = 0; a < s->n_acquire; a++) {
            const struct plan_buffer *b = &p->buffers[p->order[s->acquire + a]];
            acquire(e, p, b);
            if (p->training && prefetch(e, p, b, err)) {
                return (int)err->code;
            }
        }
        if (s->kind != PLAN_ENCODE && settle(e, s->y, err)) {
            return (int)err->code;
        }
        run_step(e, p, s, call);
        for (size_t r = 0; r < s->n_release; r++) {
            uint32_t b = p->order[s->release + r];
            if (settle(e, (int)b, err)) {
                return (int)err->code;
            }
            drop(e, p, &p->buffers[b]);
            release(e, p, &p->buffers[b]);
        }
    }
    return 0;
}

/* --- public --------------------------------------------------------------------------------- */

/* Asks the policy again for this batch size: smaller batches make smaller codes. */
static void bind_batch(struct exec *e, size_t n)
{
    e->n = n;
    if (!e->cfg.store) {
        return;
    }
    for (size_t v = 0; v < e->cfg.graph->n_values; v++) {
        e->values[v] = e->train.values[v];
        struct plan_value *pv = &e->values[v];
        if (!pv->kept || n == e->train.n) {
            continue;
        }
        pv->map.shape.n = n;
        if (pv->choice.action == STORE_ENCODE) {
            e->cfg.store->policy->plan(e->cfg.store, &pv->map, &pv->choice);
            assert(pv->choice.action == STORE_ENCODE);
        }
    }
}

static int alloc_tables(struct exec *e, struct err *err)
{
    size_t n = e->cfg.graph->n_values;
    e->values = mem_calloc(MEM_OTHER, n, sizeof *e->values);
    e->slot_bytes = mem_calloc(MEM_OTHER, n, sizeof *e->slot_bytes);
    e->pool_at = mem_calloc(MEM_OTHER, n, sizeof *e->pool_at);
    e->unsettled = mem_calloc(MEM_OTHER, n, sizeof *e->unsettled);
    if (!e->values || !e->slot_bytes || !e->pool_at || !e->unsettled) {
        return err_nomem(err, "the executor", n * sizeof *e->values);
    }
    for (size_t v = 0; v < n; v++) {
        e->unsettled[v] = PLAN_NONE;
    }
    return 0;
}

int exec_init(struct exec *e, const struct exec_config *cfg, struct err *err)
{
    *e = (struct exec){.cfg = *cfg};
#ifdef EXEC_ASAN
    e->cfg.poison = 1;
#endif
    size_t largest = cfg->batch_size > cfg->eval_batch_size ? cfg->batch_size
                                                            : cfg->eval_batch_size;
    e->context = (struct layer_context){.kernels = cfg->kernels,
                                        .n_threads = cfg->n_threads,
                                        .training = 1,
                                        .bn_group = cfg->bn_group ? cfg->bn_group : largest,
                                        .seed = cfg->seed};
    struct plan_config pc = {.graph = cfg->graph, .context = &e->context};
    if (cfg->store) {
        pc.store = cfg->store;
        pc.n = cfg->batch_size;
        if (plan_make(&pc, &e->train, err)) {
            goto fail;
        }
    }
    if (cfg->eval_batch_size) {
        e->context.training = 0;
        pc.store = NULL;
        pc.n = cfg->eval_batch_size;
        if (plan_make(&pc, &e->eval, err)) {
            goto fail;
        }
    }
    e->arena_bytes = e->train.arena_bytes > e->eval.arena_bytes ? e->train.arena_bytes
                                                                : e->eval.arena_bytes;
    e->arena = mem_alloc_untouched(MEM_ARENA, e->arena_bytes);
    if (!e->arena) {
        err_nomem(err, "the arena of all planned buffers", e->arena_bytes);
        goto fail;
    }
    if (alloc_tables(e, err)) {
        goto fail;
    }
#ifdef EXEC_ASAN
    ASAN_POISON_MEMORY_REGION(e->arena, e->arena_bytes);
#endif
    return 0;
fail:
    exec_fini(e);
    return (int)err->code;
}

void exec_fini(struct exec *e)
{
    if (!e) {
        return;
    }
#ifdef EXEC_ASAN
    if (e->arena) {
        ASAN_UNPOISON_MEMORY_REGION(e->arena, e->arena_bytes);
    }
#endif
    plan_fini(&e->train);
    plan_fini(&e->eval);
    mem_free(e->arena);
    mem_free(e->values);
    mem_free(e->slot_bytes);
    mem_free(e->pool_at);
    mem_free(e->unsettled);
    *e = (struct exec){0};
}

int exec_train(struct exec *e, const struct tensor *images, const uint32_t *labels, uint64_t step,
               struct loss_result *result, struct err *err)
{
    assert(e->cfg.store && images->shape.n <= e->train.n);
    if (e->n != images->shape.n) {
        bind_batch(e, images->shape.n);
    }
    e->images = images;
    e->context.training = 1;
    e->context.step = step;
    e->pool_used = 0;
    if (e->cfg.store->policy->begin) {
        e->cfg.store->policy->begin(e->cfg.store, step);
    }
    int image_kept = e->values[0].kept;
    if (image_kept) {
        vault_keep(&e->vault, STORE_PIECE_IMAGE, shape_bytes(&images->shape));
    }
    struct loss_call call = {.labels = labels, .result = result};
    if (run_plan(e, &e->train, &call, err)) {
        return (int)err->code;
    }
    if (image_kept) {
        vault_drop(&e->vault, STORE_PIECE_IMAGE, shape_bytes(&images->shape));
    }
    assert(e->vault.bytes == 0);
    return 0;
}

int exec_evaluate(struct exec *e, const struct tensor *images, const uint32_t *labels, real *logits,
                  struct loss_result *result, struct err *err)
{
    assert(images->shape.n <= e->eval.n);
    size_t bound = e->n;
    e->n = images->shape.n;
    e->images = images;
    e->context.training = 0;
    struct loss_call call = {.labels = labels, .logits = logits, .result = result};
    int rc = run_plan(e, &e->eval, &call, err);
    e->n = bound;
    return rc;
}

void exec_times_clear(struct exec *e)
{
    e->times = (struct exec_times){0};
    e->vault.encode_s = e->vault.decode_s = 0;
}

size_t exec_planned_peak_bytes(const struct exec *e)
{
    return e->train.peak_bytes > e->eval.peak_bytes ? e->train.peak_bytes : e->eval.peak_bytes;
}
