#include "run/forecast.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/sys.h"
#include "data/loader.h"

static int make_plans(struct session *s, int training, struct forecast *f, struct err *err)
{
    struct layer_context context = session_context(s);
    struct plan_config pc = {.graph = &s->graph, .context = &context};
    if (training) {
        pc.store = &s->store;
        pc.n = s->micro_batch_size;
        if (plan_make(&pc, &f->train, err)) {
            return (int)err->code;
        }
    }
    context.training = 0;
    pc.store = NULL;
    pc.n = session_eval_batch(s);
    return plan_make(&pc, &f->eval, err);
}

/* Resident now, without a data set that is open already. */
static size_t base_bytes(const struct session *s)
{
    size_t resident = sys_resident_bytes(), data = s->dataset ? s->dataset->memory_bytes : 0;
    return resident > data ? resident - data : 0;
}

static void fill_memory(struct session *s, int training, struct forecast *f)
{
    struct session_memory *m = &f->memory;
    size_t n_test = s->info.n_test;
    *m = (struct session_memory){
        .params = graph_param_bytes(&s->graph),
        .momentum = graph_momentum_bytes(&s->graph),
        .data = s->dataset ? s->dataset->memory_bytes : s->info.memory_bytes,
        .peak = f->highest->peak_bytes,
        .base = base_bytes(s),
    };
    m->arena = f->train.arena_bytes > f->eval.arena_bytes ? f->train.arena_bytes
                                                          : f->eval.arena_bytes;
    m->data += loader_bytes(&s->info, session_eval_batch(s), n_test);
    if (training) {
        m->gradients = s->accumulate > 1 ? graph_gradient_bytes(&s->graph) : 0;
        m->data += loader_bytes(&s->info, s->micro_batch_size, s->info.n_train);
    }
}

int forecast_make(struct session *s, int training, struct forecast *out, struct err *err)
{
    *out = (struct forecast){0};
    if (make_plans(s, training, out, err)) {
        forecast_fini(out);
        return (int)err->code;
    }
    out->highest = out->eval.peak_bytes > out->train.peak_bytes ? &out->eval : &out->train;
    if (plan_profile_make(out->highest, &s->graph, &out->moments, err)) {
        forecast_fini(out);
        return (int)err->code;
    }
    fill_memory(s, training, out);
    return 0;
}

void forecast_fini(struct forecast *f)
{
    plan_fini(&f->train);
    plan_fini(&f->eval);
    mem_free(f->moments);
    *f = (struct forecast){0};
}

const struct plan_moment *forecast_peak(const struct forecast *f)
{
    return &f->moments[f->highest->peak_step];
}

void forecast_step_text(const struct session *s, const struct forecast *f, size_t i, char *buf,
                        size_t cap)
{
    const struct plan_step *step = &f->highest->steps[i];
    (void)snprintf(buf, cap, "%s%s %s", f->highest == &f->eval ? "evaluation: " : "",
                   plan_step_subject(step, &s->graph), plan_step_word(step));
}
