#include "nn/plan_profile.h"

#include <string.h>

#include "nn/layer.h"

const char *plan_step_word(const struct plan_step *s)
{
    switch (s->kind) {
    case PLAN_SUMS: return s->dy == PLAN_NONE ? "sums" : "backward sums";
    case PLAN_FORWARD: return "forward";
    case PLAN_ENCODE: return "encode";
    case PLAN_LOSS: return "loss";
    case PLAN_DECODE: return "decode";
    case PLAN_RECOMPUTE: return "recompute";
    case PLAN_GRADIENTS: return "weight gradient";
    case PLAN_BACKWARD: return "backward";
    case PLAN_UPDATE: return "update";
    }
    return "";
}

const char *plan_step_subject(const struct plan_step *s, const struct graph *g)
{
    switch (s->kind) {
    case PLAN_ENCODE:
    case PLAN_DECODE: return g->values[s->value].name;
    case PLAN_LOSS: return g->values[g->output].name;
    default: return g->layers[s->layer]->name;
    }
}

static void fill_live(const struct plan *p, struct plan_moment *moments)
{
    size_t live[MEM_N_TAGS] = {0}, sum = 0;
    for (size_t s = 0; s < p->n_steps; s++) {
        const struct plan_step *step = &p->steps[s];
        for (size_t i = 0; i < step->n_acquire; i++) {
            const struct plan_buffer *b = &p->buffers[p->order[step->acquire + i]];
            live[b->tag] += b->bytes;
            sum += b->bytes;
        }
        memcpy(moments[s].live, live, sizeof live);
        moments[s].live_bytes = sum;
        for (size_t i = 0; i < step->n_release; i++) {
            const struct plan_buffer *b = &p->buffers[p->order[step->release + i]];
            live[b->tag] -= b->bytes;
            sum -= b->bytes;
        }
    }
}

/* Steps that belong to the layer that comes next, in backward. */
static int is_errand(const struct plan_step *s)
{
    return s->kind == PLAN_DECODE || s->kind == PLAN_RECOMPUTE;
}

static void fill_layers(const struct plan *p, const struct graph *g, struct plan_moment *moments)
{
    uint32_t layer = 0;
    for (size_t s = 0; s < p->n_steps; s++) {
        const struct plan_step *step = &p->steps[s];
        if (step->kind == PLAN_LOSS) {
            layer = (uint32_t)g->n_layers - 1;
        } else if (step->kind != PLAN_ENCODE && !is_errand(step)) {
            layer = step->layer;
        }
        moments[s].layer = layer;
        moments[s].is_backward = p->training && s > p->loss_step;
    }
    for (size_t s = p->n_steps; s-- > 0;) {
        if (is_errand(&p->steps[s]) && s + 1 < p->n_steps) {
            moments[s].layer = moments[s + 1].layer;
        }
    }
}

static void fill_positions(const struct plan *p, const struct graph *g, struct plan_moment *moments)
{
    const double n_layers = (double)g->n_layers;
    for (size_t first = 0, end; first < p->n_steps; first = end) {
        const struct plan_moment *m = &moments[first];
        for (end = first + 1; end < p->n_steps && moments[end].layer == m->layer &&
                              moments[end].is_backward == m->is_backward;
             end++) {
        }
        const double turn = m->is_backward ? 2 * n_layers - 1 - (double)m->layer : (double)m->layer;
        for (size_t s = first; s < end; s++) {
            const double within = (double)(s - first) / (double)(end - first);
            moments[s].position = (turn + within) / n_layers;
        }
    }
}

int plan_profile_make(const struct plan *p, const struct graph *g, struct plan_moment **moments,
                      struct err *err)
{
    struct plan_moment *list = mem_calloc(MEM_OTHER, p->n_steps, sizeof *list);
    if (!list) {
        return err_nomem(err, "what is alive at each step", p->n_steps * sizeof *list);
    }
    fill_live(p, list);
    fill_layers(p, g, list);
    fill_positions(p, g, list);
    *moments = list;
    return 0;
}
