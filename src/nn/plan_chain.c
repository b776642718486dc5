/* Chains: neighbouring steps that each treat a sample by itself go over the batch together, all of
 * them on one run of samples (kernels/sample_runs.h) before the next run. What one step writes the
 * next then reads from cache: normalise, add, ReLU, its sign bits and the encoder are one pass over
 * memory, and so are the decoder and the batch-norm's sums in backward. A chain changes no bit.
 *
 * A map that is brought back in a chain and read in it alone is never there as a whole: each thread has
 * room for the run it is at, which stays in its cache.
 *
 * A chain ends before a step that needs all of the batch (most convolutions; what follows sums) and
 * where maps change their shape. All of its buffers live from its first step to its last: so that
 * these are few, a convolution whose forward may go by samples begins a chain, with the sums and the
 * encoder of its output, and is not drawn into one. For the same reason its gradients are part of a
 * chain only where that brings its input back, and its backward only behind them. */
#include "kernels/sample_runs.h"
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
    case PLAN_GRADIENTS:
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

/* A convolution's gradients of an input that comes back in the chain that begins with `first`; its
 * backward behind them. */
static int follows_input(const struct plan_builder *b, size_t first, size_t s)
{
    const struct plan_step *step = &b->p->steps[s];
    if (step->kind != PLAN_GRADIENTS && step->kind != PLAN_BACKWARD) {
        return 0;
    }
    const struct layer *l = plan_layer(b, step->layer);
    const struct shape x = plan_shape(b, l->in[0]);
    if (step->kind == PLAN_GRADIENTS) {
        const int input = step->x[0];
        return input >= 0 && b->p->buffers[input].kind == PLAN_RESTORED &&
               b->p->buffers[input].first >= first && l->type->gradient_parts &&
               l->type->gradient_parts(l, b->ctx, &x) > 0;
    }
    return s > first && step[-1].kind == PLAN_GRADIENTS && l->type->backward_by_sample &&
           l->type->backward_by_sample(l, b->ctx, &x);
}

/* The shape by which the step's runs are cut. */
static struct shape step_shape(const struct plan_builder *b, const struct plan_step *s)
{
    uint32_t v = s->value;
    if (s->kind != PLAN_ENCODE && s->kind != PLAN_DECODE) {
        const struct layer *l = plan_layer(b, s->layer);
        const int is_gradient = s->kind == PLAN_GRADIENTS || s->kind == PLAN_BACKWARD;
        v = is_gradient && !l->type->by_sample ? l->in[0] : l->out;
    }
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

/* Brings a map back for the step that comes next. */
static int is_errand(const struct plan_step *s)
{
    return s->kind == PLAN_DECODE || s->kind == PLAN_RECOMPUTE;
}

/* A map is brought back in the chain of its reader: not in an earlier one, whose buffers would all
 * live beside it. */
static int reader_stays_out(const struct plan_builder *b, size_t first, size_t s)
{
    const struct plan *p = b->p;
    size_t reader = s, begin = first;
    while (reader < p->n_steps && is_errand(&p->steps[reader])) {
        reader++;
    }
    while (begin < s && is_errand(&p->steps[begin])) {
        begin++;
    }
    return begin < s && (reader == p->n_steps || reader - first >= PLAN_MAX_CHAIN ||
                         !is_by_sample(b, &p->steps[reader]) || needs_sums(p, first, reader));
}

static int continues(const struct plan_builder *b, size_t first, size_t s)
{
    const struct plan *p = b->p;
    if (s - first >= PLAN_MAX_CHAIN || s == p->n_steps ||
        !(is_by_sample(b, &p->steps[s]) || follows_input(b, first, s)) || needs_sums(p, first, s) ||
        (is_errand(&p->steps[s]) && reader_stays_out(b, first, s))) {
        return 0;
    }
    struct shape a = step_shape(b, &p->steps[first]), c = step_shape(b, &p->steps[s]);
    return a.h == c.h && a.w == c.w && a.c == c.c;
}

/* --- maps of one chain ------------------------------------------------------------------------- */

static struct sample_runs runs_of(const struct plan_builder *b, uint32_t value)
{
    const struct shape shape = plan_shape(b, value);
    return sample_runs_cut(&shape, b->ctx->bn_group);
}

int plan_decodes_by_run(const struct plan_builder *b, uint32_t value)
{
    const struct plan_value *pv = &b->p->values[value];
    return !b->unchained && pv->kept && pv->choice.action == STORE_ENCODE && !pv->choice.pooled &&
           pv->store->policy->encode_samples && b->restored[value] == PLAN_NONE &&
           runs_of(b, value).n_runs >= (size_t)b->ctx->n_threads;
}

/* A restored map whose life is one chain. */
static void make_local(struct plan_builder *b, struct plan_buffer *buf)
{
    struct plan_step *first = &b->p->steps[buf->first];
    if (buf->kind != PLAN_RESTORED || first->n_chain < 2 ||
        buf->last != buf->first + first->n_chain - 1) {
        return;
    }
    const struct sample_runs runs = runs_of(b, buf->owner);
    const struct shape shape = plan_shape(b, buf->owner);
    const size_t n_threads = (size_t)b->ctx->n_threads;
    const size_t local = sample_runs_bytes(&runs, &shape);
    if (runs.n_runs >= n_threads && local * n_threads < buf->bytes) {
        buf->local = local;
        buf->bytes = local * n_threads;
        first->is_local = 1;
    }
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
        make_local(b, &p->buffers[i]);
    }
    mem_free(start);
}
