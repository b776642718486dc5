/* What is kept of each value, from the last value to the first, so that a value that is recomputed
 * can still ask for its producer's inputs. */
#include <string.h>

#include "nn/plan_priv.h"

static int is_type(const struct layer *l, const char *name)
{
    return l && strcmp(l->type->name, name) == 0;
}

static const struct layer *producer_of(const struct plan_builder *b, uint32_t v)
{
    return v ? plan_layer(b, b->g->values[v].producer) : NULL;
}

/* `recompute: bn`: an output of batch-norm, or of the ReLU behind one, is made again from the
 * batch-norm's input, which is kept anyway. */
static int is_rebuilt(const struct plan_builder *b, uint32_t v, const struct store *store)
{
    const struct layer *l = producer_of(b, v);
    if (!store->params.rebuild_bn) {
        return 0;
    }
    return is_type(l, "batch_norm") ||
           (is_type(l, "relu") && is_type(producer_of(b, l->in[0]), "batch_norm"));
}

/* The image is given. It has a code beside it where each reader keeps one of its own, as the
 * published code does. */
static int is_encoded_image(const struct store *store)
{
    return store->params.unshared && store->params.official;
}

/* Layers that read v's map in backward. */
static size_t n_map_readers(const struct plan_builder *b, uint32_t v)
{
    size_t n = 0;
    for (size_t i = 0; i < b->g->n_layers; i++) {
        n += plan_layer(b, i)->in[0] == v && b->needs[i].map_input;
    }
    return n;
}

/* STORE_MARK_POOLED */
static int is_pooled(const struct plan_builder *b, uint32_t v)
{
    for (size_t i = 0; i < b->g->n_layers; i++) {
        const struct layer *l = plan_layer(b, i);
        if (l->in[0] != v) {
            continue;
        }
        if (is_type(l, "max_pool") || is_type(l, "avg_pool") || is_type(l, "global_avg_pool") ||
            ((is_type(l, "batch_norm") || is_type(l, "relu")) && is_pooled(b, l->out))) {
            return 1;
        }
    }
    return 0;
}

/* Are the ReLU's sign bits kept? */
int plan_has_signs(const struct plan_builder *b, const struct layer *l)
{
    return b->needs[l->index].output_sign && !plan_is_reference(b, l->out) &&
           !plan_is_derived_mask(b, l);
}

/* The ReLU whose sign bits tell where the output of the batch-norm is positive that reads v; NULL if
 * there is none. */
const struct layer *plan_sign_keeper(const struct plan_builder *b, uint32_t v)
{
    for (size_t i = 0; i < b->g->n_layers; i++) {
        const struct layer *l = plan_layer(b, i), *bn = producer_of(b, l->in[0]);
        if (is_type(l, "relu") && is_type(bn, "batch_norm") && bn->in[0] == v &&
            plan_has_signs(b, l)) {
            return l;
        }
    }
    return NULL;
}

/* STORE_MARK_SIGNED */
static int is_signed(const struct plan_builder *b, uint32_t v, const struct store *store,
                     unsigned uses)
{
    return store->params.rebuild_bn && (uses & STORE_USE_BN) && n_map_readers(b, v) == 1 &&
           plan_sign_keeper(b, v);
}

static void choose(struct plan_builder *b, uint32_t v, unsigned uses, int exact)
{
    struct plan_value *pv = &b->p->values[v];
    const struct value *value = &b->g->values[v];
    const struct layer *producer = producer_of(b, v);
    pv->store = store_for(b->store, value->name);
    pv->map = (struct store_map){
        .id = v,
        .name = value->name,
        .producer = producer ? producer->type->name : NULL,
        .shape = plan_shape(b, v),
        .uses = uses,
        .marks = value->marks | (is_pooled(b, v) ? STORE_MARK_POOLED : 0) |
                 (is_signed(b, v, pv->store, uses) ? STORE_MARK_SIGNED : 0),
        .n_readers = n_map_readers(b, v),
        .can_recompute = producer && producer->type->recomputable,
    };
    pv->kept = 1;
    pv->n_copies = 1;
    pv->chosen = !exact && (producer || is_encoded_image(pv->store)) &&
                 !(producer && is_rebuilt(b, v, b->store) && is_rebuilt(b, v, pv->store));
    if (!exact && producer && is_rebuilt(b, v, pv->store)) {
        pv->choice = (struct store_choice){.action = STORE_RECOMPUTE};
    } else if (exact || (!producer && !is_encoded_image(pv->store))) {
        pv->choice = (struct store_choice){.action = STORE_REFERENCE};
    } else {
        pv->store->policy->plan(pv->store, &pv->map, &pv->choice);
    }
    if (pv->choice.action == STORE_REFERENCE) {
        memset(pv->choice.pieces, 0, sizeof pv->choice.pieces);
        pv->choice.bytes = shape_bytes(&pv->map.shape);
        pv->choice.pieces[producer ? STORE_PIECE_MAPS : STORE_PIECE_IMAGE] = pv->choice.bytes;
    } else if (pv->choice.action == STORE_ENCODE) {
        pv->n_copies = store_n_codes(pv->store, &pv->map);
    }
}

/* A ReLU's output whose sign alone is wanted: an exact policy that keeps by reference keeps the
 * output, as PyTorch does, and one that makes everything again makes it too; for the others bits
 * are enough. */
static int keep_for_sign(const struct plan_value *pv)
{
    return pv->store->policy->exact &&
           (pv->choice.action == STORE_REFERENCE || pv->choice.keep_restored);
}

int plan_is_derived_mask(const struct plan_builder *b, const struct layer *l)
{
    const struct plan_value *pv = &b->p->values[l->out];
    return b->needs[l->index].output_sign && pv->kept && pv->choice.action == STORE_RECOMPUTE &&
           (pv->store->params.derived_mask || pv->choice.keep_restored);
}

static int check_recompute(struct plan_builder *b, const struct plan_value *pv)
{
    return pv->map.can_recompute
               ? 0
               : err_set(b->err, ERR_CONFIG, "policy %s: %s (%s) cannot be recomputed",
                         pv->store->policy->name, pv->map.name,
                         pv->map.producer ? pv->map.producer : "the image");
}

void plan_decide(struct plan_builder *b)
{
    const struct graph *g = b->g;
    unsigned *uses = mem_calloc(MEM_OTHER, g->n_values, sizeof *uses);
    uint8_t *exact = mem_calloc(MEM_OTHER, g->n_values, 1);
    if (!uses || !exact) {
        (void)!err_nomem(b->err, "the memory plan", g->n_values * sizeof *uses);
        goto out;
    }
    for (size_t i = 0; i < g->n_layers; i++) {
        const struct layer *l = plan_layer(b, i);
        uses[l->in[0]] |= b->needs[i].map_input ? b->needs[i].map_use : 0;
        exact[l->in[0]] |= (uint8_t)b->needs[i].exact_input;
    }
    for (uint32_t v = (uint32_t)g->n_values; v-- > 0;) {
        const struct layer *l = producer_of(b, v);
        if (!uses[v] && !exact[v] && !(l && b->needs[l->index].output_sign)) {
            continue;
        }
        choose(b, v, uses[v], exact[v]);
        struct plan_value *pv = &b->p->values[v];
        if (!uses[v] && !exact[v] && !keep_for_sign(pv)) {
            *pv = (struct plan_value){0};
            continue;
        }
        if (pv->choice.action == STORE_RECOMPUTE) {
            if (check_recompute(b, pv)) {
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
}
