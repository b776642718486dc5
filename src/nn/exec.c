#include "nn/exec.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/sys.h"
#include "nn/exec_priv.h"

/* --- policies with I/O in flight ------------------------------------------------------------ */

/* The policy may still be reading the buffer of an encoded map: let it finish before the buffer is
 * overwritten or released. */
static int settle(struct exec *e, const struct plan *p, int buffer, struct err *err)
{
    if (!p->training || buffer < 0) {
        return 0;
    }
    for (size_t c = 0; c < p->n_codes; c++) {
        const struct plan_value *pv = &e->values[p->codes[c].value];
        if (e->unsettled[c] != buffer || !pv->store->policy->settle) {
            continue;
        }
        e->unsettled[c] = PLAN_NONE;
        double start = sys_now_s();
        int rc = pv->store->policy->settle(pv->store, &pv->map, err);
        e->vault.encode_s += sys_now_s() - start;
        if (rc) {
            return err_add(err, "%s: finishing to store its map", pv->map.name);
        }
    }
    return 0;
}

/* A restored map's buffer is there: the policy may begin to fill it. */
static int prefetch(struct exec *e, const struct plan *p, const struct plan_buffer *b,
                    struct err *err)
{
    if (!p->training || b->kind != PLAN_RESTORED) {
        return 0;
    }
    const struct plan_value *pv = &e->values[b->owner];
    if (pv->choice.action != STORE_ENCODE || !pv->store->policy->prefetch) {
        return 0;
    }
    struct tensor out = exec_tensor(e, p, (int)(b - p->buffers), b->owner);
    return pv->store->policy->prefetch(pv->store, &pv->map, &out, err)
               ? err_add(err, "%s: beginning to bring back its map", pv->map.name)
               : 0;
}

/* Has what was to be decoded come? */
static int check_decoded(struct exec *e, const struct plan_step *s, struct err *err)
{
    if (s->kind != PLAN_DECODE) {
        return 0;
    }
    const struct plan_value *pv = &e->values[s->value];
    return pv->store->policy->failed && pv->store->policy->failed(pv->store, err)
               ? err_add(err, "%s: bringing back its map", pv->map.name)
               : 0;
}

/* Tells the store's policy which maps it will get. */
static int prepare(struct exec *e, struct store *store, struct err *err)
{
    size_t n = 0, n_values = e->cfg.graph->n_values;
    if (!store->policy->prepare) {
        return 0;
    }
    const struct store_map **maps = mem_calloc(MEM_OTHER, n_values, sizeof *maps);
    if (!maps) {
        return err_nomem(err, "the executor", n_values * sizeof *maps);
    }
    for (size_t v = 0; v < n_values; v++) {
        const struct plan_value *pv = &e->train.values[v];
        if (pv->kept && pv->store == store && pv->choice.action == STORE_ENCODE) {
            maps[n++] = &pv->map;
        }
    }
    int rc = n ? store->policy->prepare(store, maps, n, err) : 0;
    mem_free(maps);
    return rc ? err_add(err, "policy %s", store->policy->name) : 0;
}

static int prepare_all(struct exec *e, struct err *err)
{
    struct store *store = e->cfg.store;
    for (size_t i = 0; store && i < store->n_rules; i++) {
        if (prepare(e, &store->rules[i].store, err)) {
            return (int)err->code;
        }
    }
    return store ? prepare(e, store, err) : 0;
}

/* --- a pass --------------------------------------------------------------------------------- */

static int run_plan(struct exec *e, const struct plan *p, const struct loss_call *call,
                    struct err *err)
{
    for (size_t i = 0; i < p->n_steps; i += p->steps[i].n_chain) {
        const struct plan_step *s = &p->steps[i], *last = s + s->n_chain - 1;
        for (size_t a = 0; a < s->n_acquire; a++) {
            const struct plan_buffer *b = &p->buffers[p->order[s->acquire + a]];
            exec_acquire(e, p, b);
            if (prefetch(e, p, b, err)) {
                return (int)err->code;
            }
        }
        for (size_t j = 0; j < s->n_chain; j++) {
            if (s[j].kind != PLAN_ENCODE && settle(e, p, s[j].y, err)) {
                return (int)err->code;
            }
        }
        exec_run_chain(e, p, i, call);
        for (size_t j = 0; j < s->n_chain; j++) {
            if (check_decoded(e, &s[j], err)) {
                return (int)err->code;
            }
        }
        for (size_t r = 0; r < last->n_release; r++) {
            uint32_t b = p->order[last->release + r];
            if (settle(e, p, (int)b, err)) {
                return (int)err->code;
            }
            exec_release(e, p, &p->buffers[b]);
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
            pv->store->policy->plan(pv->store, &pv->map, &pv->choice);
            assert(pv->choice.action == STORE_ENCODE);
        }
    }
}

static int alloc_tables(struct exec *e, struct err *err)
{
    size_t n = e->cfg.graph->n_values, n_codes = e->train.n_codes;
    e->values = mem_calloc(MEM_OTHER, n, sizeof *e->values);
    e->code_bytes = mem_calloc(MEM_OTHER, 2 * n_codes, sizeof *e->code_bytes);
    e->unsettled = mem_calloc(MEM_OTHER, n_codes, sizeof *e->unsettled);
    if (!e->values || !e->code_bytes || !e->unsettled) {
        return err_nomem(err, "the executor", n * sizeof *e->values);
    }
    e->code_at = e->code_bytes + n_codes;
    for (size_t c = 0; c < n_codes; c++) {
        e->unsettled[c] = PLAN_NONE;
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
    struct plan_config pc = {
        .graph = cfg->graph, .context = &e->context, .unchained = cfg->unchained};
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
    if (alloc_tables(e, err) || prepare_all(e, err)) {
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
    mem_free(e->code_bytes);
    mem_free(e->unsettled);
    *e = (struct exec){0};
}

int exec_train_part(struct exec *e, const struct exec_part *part, struct loss_result *result,
                    struct err *err)
{
    const struct tensor *images = part->images;
    assert(e->cfg.store && images->shape.n <= e->train.n);
    if (e->n != images->shape.n) {
        bind_batch(e, images->shape.n);
    }
    e->images = images;
    e->context.training = 1;
    e->context.step = part->draw;
    e->pool_used = 0;
    e->vault.spilled_bytes = 0;
    store_begin(e->cfg.store, part->step);
    int image_kept = e->values[0].kept;
    if (image_kept) {
        vault_keep(&e->vault, STORE_PIECE_IMAGE, shape_bytes(&images->shape));
    }
    struct loss_call call = {.labels = part->labels, .result = result, .n_batch = part->n_batch};
    if (run_plan(e, &e->train, &call, err)) {
        store_cancel(e->cfg.store);
        return (int)err->code;
    }
    if (image_kept) {
        vault_drop(&e->vault, STORE_PIECE_IMAGE, shape_bytes(&images->shape));
    }
    assert(e->vault.bytes == 0);
    return 0;
}

int exec_train(struct exec *e, const struct tensor *images, const uint32_t *labels, uint64_t step,
               struct loss_result *result, struct err *err)
{
    struct exec_part whole = {
        .images = images, .labels = labels, .n_batch = images->shape.n, .step = step, .draw = step};
    return exec_train_part(e, &whole, result, err);
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
