/* Which ReLUs are part of the batch-norm before them: forward, the sums of backward and backward then
 * go over the maps once for both, and the batch-norm's own output exists nowhere. No bit differs from
 * the two one by one. */
#include <string.h>

#include "nn/plan_priv.h"

static int is_only_reader(const struct plan_builder *b, uint32_t v, const struct layer *reader)
{
    for (size_t i = 0; i < b->g->n_layers; i++) {
        const struct layer *l = plan_layer(b, i);
        for (size_t j = 0; l != reader && j < l->n_in; j++) {
            if (l->in[j] == v) {
                return 0;
            }
        }
    }
    return v != b->g->output;
}

/* Will backward have what tells where the ReLU's output is positive: its bits, or a map from which the
 * batch-norm makes just that output again? */
static int has_mask(const struct plan_builder *b, const struct layer *bn, const struct layer *relu)
{
    const struct plan_value *in = &b->p->values[bn->in[0]], *out = &b->p->values[relu->out];
    return plan_has_signs(b, relu) || (out->kept && out->choice.action == STORE_RECOMPUTE) ||
           plan_is_reference(b, bn->in[0]) || (in->kept && in->store->policy->exact);
}

static int may_fuse(const struct plan_builder *b, const struct layer *bn, const struct layer *relu)
{
    if (!bn->type->takes_relu || strcmp(relu->type->name, "relu") != 0 || relu->in[0] != bn->out ||
        !is_only_reader(b, bn->out, relu)) {
        return 0;
    }
    if (!b->p->training) {
        return 1;
    }
    const struct plan_value *between = &b->p->values[bn->out], *in = &b->p->values[bn->in[0]];
    const int is_lost = !between->kept || between->choice.action == STORE_RECOMPUTE;
    /* Adaptive policies want to see the gradient between the two. */
    const int is_observed = in->kept && in->store->policy->observe;
    return is_lost && !is_observed && has_mask(b, bn, relu);
}

void plan_fuse(struct plan_builder *b)
{
    for (size_t i = 0; i + 1 < b->g->n_layers; i++) {
        if (may_fuse(b, plan_layer(b, i), plan_layer(b, i + 1))) {
            b->relu[i] = (int)i + 1;
            b->norm[i + 1] = (int)i;
        }
    }
}
