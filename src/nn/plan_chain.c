/* Chains: neighbouring steps that each treat a sample by itself go over the batch together, all of
 * them on one run of samples (kernels/sample_runs.h) before the next run. What one step writes the
 * next then reads from cache: normalise, add, ReLU, its sign bits and the encoder are one pass over
 * memory, and so are the decoder and the batch-norm's sums in backward. A chain changes no bit.
 *
 * A chain ends before a step that needs all of the batch (most convolutions; what follows sums) and
 * where maps change their shape. All of its buffers live from its first step to its last: so that
 * these are few, a convolution whose forward may go by samples begins a chain, with the sums and the
 * encoder of its output, and is not drawn into one. */
#include "nn/plan_priv.h"

static const struct store *store_of(const struct plan_builder *b, const struct plan_step *s)
{
    return b->p->values[s->value].store;
}

static int is_by_sample(const struct plan_builder *b, const struct plan_step *s)
{
    switch (s->kind) {
    case PLAN_FORWARD:
    case PLAN_RECOMPUTE:
    case PLAN_BACKWARD: return plan_layer(b, s->layer)->type->by_sample;
    case PLAN_SUMS: return 1;
    case PLAN_ENCODE:
    case PLAN_DECODE:
        return store_of(b, s)->policy->encode_samples && !b->p->values[s->value].choice.pooled;
    case PLAN_LOSS:
    case PLAN_UPDATE: break;
    }
    return 0;
}

/* A convolution, say, that can do its forward by samples. */
static int begins_by_sample(const struct plan_builder *b, const struct plan_step *s)
{
    if (s->kind != PLAN_FORWARD || !plan_layer(b, s->layer)->type->forward_by_sample) {
        return 0;
    }
    const struct layer *l = plan_layer(b, s->layer);
    const struct shape x = plan_shape(b, l->in[0]);
    return l->type->forward_by_sample(l, b->ctx, &x);
}

static struct shape step_shape(const struct plan_builder *b, const struct plan_step *s)
{
    uint32_t v = s->kind == PLAN_ENCODE || s->kind == PLAN_DECODE ? s->value
                                                                  : plan_layer(b, s->layer)->out;
    return b->g->values[v].shape;
}

/* Does step s need what the sums of the chain that began at `first` come to? */
static int needs_sums(const struct plan *p, size_t first, size_t s)
{
    const struct plan_step *step = &p->steps[s];
    int is_code = step->kind == PLAN_ENCODE || step->kind == PLAN_DECODE;
    if (is_code && !p->values[step->value].choice.normalised) {
        return 0;
    }
    for (size_t i = first; i < s; i++) {
        if (p->steps[i].kind == PLAN_SUMS && step->layer == p->steps[i].layer) {
            return 1;
        }
    }
    return 0;
}

static int continues(const struct plan_builder *b, size_t first, size_t s)
{
    const struct plan *p = b->p;
    if (s - first >= PLAN_MAX_CHAIN || s == p->n_steps || !is_by_sample(b, &p->steps[s]) ||
        needs_sums(p, first, s)) {
        return 0;
    }
    struct shape a = step_shape(b, &p->steps[first]), c = step_shape(b, &p->steps[s]);
    return a.h == c.h && a.w == c.w && a.c == c.c;
}

void plan_chain(struct plan_builder *b)
{
    struct plan *p = b->p;
    size_t *start = mem_calloc(MEM_OTHER, 2 * p->n_steps, sizeof *start);
    if (!start) {
        (void)!err_nomem(b->err, "the memory plan", 2 * p->n_steps * sizeof *start);
        return;
    }
    size_t *end = start + p->n_steps;
    for (size_t first = 0; first < p->n_steps;) {
        const struct plan_step *step = &p->steps[first];
        const int may_begin = is_by_sample(b, step) || begins_by_sample(b, step);
        size_t s = first + 1;
        while (may_begin && continues(b, first, s)) {
            s++;
        }
        for (size_t i = first; i < s; i++) {
            p->steps[i].n_chain = 0;
            start[i] = first;
            end[i] = s - 1;
        }
        p->steps[first].n_chain = s - first;
        first = s;
    }
    for (size_t i = 0; i < p->n_buffers; i++) {
        p->buffers[i].first = start[p->buffers[i].first];
        p->buffers[i].last = end[p->buffers[i].last];
    }
    mem_free(start);
}
