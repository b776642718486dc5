/* The executor's steps: one by one on the whole batch, or a chain of them run by run. */
#include <assert.h>
#include <string.h>

#include "base/sys.h"
#include "base/tasks.h"
#include "base/threads.h"
#include "kernels/eltwise.h"
#include "kernels/sample_runs.h"
#include "nn/exec_priv.h"

static void fill_io(struct exec *e, const struct plan *p, const struct plan_step *s,
                    struct layer_io *io)
{
    const struct layer *l = exec_layer(e, s);
    *io = (struct layer_io){.ctx = &e->context,
                            .side = exec_address(e, p, s->side),
                            .signs = exec_address(e, p, s->signs),
                            .workspace = exec_address(e, p, s->workspace),
                            .recompute = s->kind == PLAN_RECOMPUTE,
                            .relu = s->relu != PLAN_NONE,
                            .batch = e->n};
    for (size_t i = 0; i < l->n_params; i++) {
        io->params[i] = e->cfg.graph->params[l->params[i]].w;
        io->dparams[i] = exec_address(e, p, s->dparam[i]);
    }
    for (size_t j = 0; j < l->n_in; j++) {
        if (s->x[j] != PLAN_NONE) {
            io->x[j] = exec_tensor(e, p, s->x[j], l->in[j]);
        }
        if (s->dx[j] != PLAN_NONE) {
            io->dx[j] = exec_tensor(e, p, s->dx[j], l->in[j]);
            io->want_dx[j] = 1;
            io->accumulate[j] = s->accumulate[j];
        }
    }
    if (s->y != PLAN_NONE) {
        io->y = exec_tensor(e, p, s->y, l->out);
    }
    if (s->dy != PLAN_NONE) {
        io->dy = exec_tensor(e, p, s->dy, l->out);
    }
}

/* Samples of a map. local > 0: the calling thread has them, and no others, in its part of the buffer
 * (plan_buffer.local). */
static struct tensor samples(const struct tensor *t, size_t local, size_t first, size_t n)
{
    struct tensor s = *t;
    if (s.data && local) {
        s.data += thread_index() * (local / sizeof(real));
        s.shape.n = n;
    } else if (s.data) {
        s = tensor_samples(t, first, n);
    }
    return s;
}

static size_t local_of(const struct plan *p, int buffer)
{
    return buffer >= 0 ? p->buffers[buffer].local : 0;
}

/* The same for n samples from `first` on. */
static struct layer_io io_of_samples(const struct plan *p, const struct plan_step *step,
                                     const struct layer_io *io, size_t first, size_t n)
{
    struct layer_io s = *io;
    for (size_t j = 0; j < GRAPH_MAX_INPUTS; j++) {
        s.x[j] = samples(&io->x[j], local_of(p, step->x[j]), first, n);
        s.dx[j] = samples(&io->dx[j], 0, first, n);
    }
    s.y = samples(&io->y, local_of(p, step->y), first, n);
    s.dy = samples(&io->dy, 0, first, n);
    if (io->signs) {
        const struct tensor *t = io->dy.data ? &io->dy : &io->y; /* signs are those of the output */
        struct shape before = t->shape;
        before.n = first;
        s.signs = io->signs + relu_sign_bytes(&before);
    }
    s.first = first;
    return s;
}

/* --- one step on the whole batch, or on some samples ---------------------------------------- */

static void backward(struct exec *e, const struct plan_step *s, struct layer_io *io)
{
    const struct layer *l = exec_layer(e, s);
    if (!l->type->passes_gradient) {
        l->type->backward(l, io);
        return;
    }
    for (size_t j = 0; j < l->n_in; j++) {
        if (!io->want_dx[j] || (s->dx[j] == s->dy && !s->accumulate[j])) {
            continue; /* shared: nothing to do */
        }
        if (s->accumulate[j]) {
            tensor_accumulate(e->cfg.kernels, &io->dy, &io->dx[j]);
        } else {
            tensor_copy(e->cfg.kernels, &io->dy, &io->dx[j]);
        }
    }
}

static void run_layer(struct exec *e, const struct plan_step *s, struct layer_io *io)
{
    const struct layer *l = exec_layer(e, s);
    if (s->kind == PLAN_GRADIENTS) {
        l->type->gradients(l, io);
    } else if (s->kind == PLAN_BACKWARD) {
        backward(e, s, io);
    } else {
        l->type->forward(l, io);
    }
}

static void run_sums(struct exec *e, const struct plan_step *s, struct layer_io *io, size_t run)
{
    const struct layer *l = exec_layer(e, s);
    if (s->dy != PLAN_NONE) {
        l->type->backward_sums(l, io, run);
    } else if (e->context.training) {
        l->type->forward_sums(l, io, run);
    }
}

static void end_sums(struct exec *e, const struct plan_step *s, struct layer_io *io)
{
    const struct layer *l = exec_layer(e, s);
    if (s->dy != PLAN_NONE) {
        l->type->backward_sums_end(l, io);
    } else {
        l->type->forward_sums_end(l, io);
    }
}

static struct sample_runs runs_now(const struct exec *e, const struct plan_step *s)
{
    uint32_t v = s->kind == PLAN_ENCODE || s->kind == PLAN_DECODE ? s->value
                                                                  : exec_layer(e, s)->out;
    struct shape shape = exec_shape(e, v);
    return sample_runs_cut(&shape, e->context.bn_group);
}

static void run_update(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    const struct layer *l = exec_layer(e, s);
    for (size_t i = 0; e->hooks.gradient && i < l->n_trainable; i++) {
        e->hooks.gradient(e->hooks.ctx, &e->cfg.graph->params[l->params[i]],
                          exec_address(e, p, s->dparam[i]));
    }
}

static struct rng code_rng(const struct exec *e, uint32_t value)
{
    return rng_make(e->cfg.seed, RNG_QUANTISE, e->context.step, value);
}

/* A normalised code: tells the policy how its batch-norm normalises. */
static void bind_norm(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    struct plan_value *pv = &e->values[s->value];
    if (pv->choice.normalised) {
        struct layer_io io;
        fill_io(e, p, s, &io);
        const struct layer *l = exec_layer(e, s);
        l->type->norm(l, &io, &pv->map.norm);
    }
}

static void run_encode(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    const struct plan_value *pv = &e->values[s->value];
    struct tensor x = exec_tensor(e, p, s->x[0], s->value);
    struct rng rng = code_rng(e, s->value);
    size_t cap;
    bind_norm(e, p, s);
    e->code_at[s->code] = e->pool_used;
    void *code = exec_code(e, p, s, &cap);
    exec_keep_code(e, s,
                   vault_encode(&e->vault, pv->store, &pv->map, &pv->choice, &x, &rng, code, cap,
                                exec_address(e, p, s->workspace)));
    if (pv->store->policy->settle) {
        e->unsettled[s->code] = s->x[0];
    }
}

static void run_decode(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    const struct plan_value *pv = &e->values[s->value];
    struct tensor y = exec_tensor(e, p, s->y, s->value);
    struct codec_block whole = {.n1 = y.shape.n, .h1 = y.shape.h, .c1 = y.shape.c}; /* all of it */
    size_t cap;
    bind_norm(e, p, s);
    vault_decode(&e->vault, pv->store, &pv->map, exec_code(e, p, s, &cap), &whole, &y,
                 exec_address(e, p, s->workspace));
}

static void run_loss(struct exec *e, const struct plan *p, const struct plan_step *s,
                     const struct loss_call *call)
{
    struct tensor logits = exec_tensor(e, p, s->x[0], e->cfg.graph->output);
    if (call->logits) {
        memcpy(call->logits, logits.data, shape_bytes(&logits.shape));
    }
    if (!p->training) {
        softmax_xent(&logits, call->labels, 0, 1, NULL, call->result);
        return;
    }
    e->saved_bytes = e->vault.bytes;
    memcpy(e->saved_pieces, e->vault.pieces, sizeof e->saved_pieces);
    e->spilled_bytes = e->vault.spilled_bytes;
    struct tensor dlogits = exec_tensor(e, p, s->dy, e->cfg.graph->output);
    softmax_xent(&logits, call->labels, e->cfg.label_smoothing, 1.0 / (double)call->n_batch,
                 &dlogits, call->result);
}

static void run_all_sums(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    struct layer_io io;
    struct tasks tasks;
    fill_io(e, p, s, &io);
    tasks_share(&tasks, runs_now(e, s).n_runs, e->cfg.n_threads);
#pragma omp parallel num_threads(e->cfg.n_threads)
    for (size_t run; tasks_next(&tasks, &run);) {
        run_sums(e, s, &io, run);
    }
    end_sums(e, s, &io);
}

static void run_step(struct exec *e, const struct plan *p, const struct plan_step *s,
                     const struct loss_call *call)
{
    struct layer_io io;
    switch (s->kind) {
    case PLAN_SUMS: run_all_sums(e, p, s); break;
    case PLAN_FORWARD:
    case PLAN_RECOMPUTE:
    case PLAN_GRADIENTS:
    case PLAN_BACKWARD:
        fill_io(e, p, s, &io);
        run_layer(e, s, &io);
        break;
    case PLAN_ENCODE: run_encode(e, p, s); break;
    case PLAN_DECODE: run_decode(e, p, s); break;
    case PLAN_LOSS: run_loss(e, p, s, call); break;
    case PLAN_UPDATE: run_update(e, p, s); break;
    }
}

/* --- chains --------------------------------------------------------------------------------- */

/* A step of a chain with what all its runs share. */
struct link {
    const struct plan_step *step;
    struct layer_io io;
    struct tensor map; /* ENCODE, DECODE */
    char *code, *workspace;
    size_t thread_workspace; /* bytes of each thread's part */
    struct rng rng;
    double seconds; /* of all threads */
};

static void make_link(struct exec *e, const struct plan *p, const struct plan_step *s,
                      struct link *l)
{
    size_t cap;
    *l = (struct link){.step = s};
    if (s->kind != PLAN_ENCODE && s->kind != PLAN_DECODE) {
        fill_io(e, p, s, &l->io);
        return;
    }
    bind_norm(e, p, s);
    l->map = exec_tensor(e, p, s->kind == PLAN_ENCODE ? s->x[0] : s->y, s->value);
    l->code = exec_code(e, p, s, &cap);
    l->workspace = exec_address(e, p, s->workspace);
    l->thread_workspace = e->values[s->value].choice.workspace_bytes / (size_t)e->cfg.n_threads;
    l->rng = code_rng(e, s->value);
}

/* Where a run stands among those of its task. */
struct place {
    size_t task;
    int is_first;
};

static void run_link(struct exec *e, const struct plan *p, const struct link *l, size_t run,
                     struct place place, size_t first, size_t n)
{
    const struct plan_step *s = l->step;
    if (s->kind == PLAN_SUMS) {
        struct layer_io io = l->io;
        const size_t local = local_of(p, s->x[0]);
        if (local) {
            io.x[0] = samples(&l->io.x[0], local, first, n);
            io.x_first = first;
        }
        run_sums(e, s, &io, run);
    } else if (s->kind == PLAN_ENCODE || s->kind == PLAN_DECODE) {
        const struct plan_value *pv = &e->values[s->value];
        void *workspace = l->workspace ? l->workspace + thread_index() * l->thread_workspace : NULL;
        const size_t local = s->kind == PLAN_DECODE ? local_of(p, s->y) : 0;
        struct tensor map = samples(&l->map, local, first, n);
        struct codec_block block = {
            .n0 = first, .n1 = first + n, .h1 = map.shape.h, .c1 = map.shape.c};
        if (s->kind == PLAN_ENCODE) {
            pv->store->policy->encode_samples(pv->store, &pv->map, &map, first, &l->rng, l->code,
                                              workspace);
        } else {
            pv->store->policy->decode(pv->store, &pv->map, l->code, &block, &map, workspace);
        }
    } else {
        struct layer_io io = io_of_samples(p, s, &l->io, first, n);
        io.thread = thread_index();
        if (s->kind == PLAN_GRADIENTS) {
            const struct layer *layer = exec_layer(e, s);
            layer->type->gradients_run(layer, &io, place.task, place.is_first);
        } else {
            run_layer(e, s, &io);
        }
    }
}

/* What threads share out: the parts of a layer's gradients, or else single runs. */
static size_t count_tasks(const struct exec *e, const struct link *links, size_t n_links,
                          const struct sample_runs *runs)
{
    for (size_t i = 0; i < n_links; i++) {
        if (links[i].step->kind == PLAN_GRADIENTS) {
            const struct layer *l = exec_layer(e, links[i].step);
            const struct shape x = exec_shape(e, l->in[0]);
            return l->type->gradient_parts(l, &e->context, &x);
        }
    }
    return runs->n_runs;
}

/* All links on one run. */
static void run_links_once(struct exec *e, const struct plan *p, const struct link *links,
                           size_t n_links, const struct sample_runs *runs, size_t run,
                           struct place place, double *seconds)
{
    size_t first, n;
    (void)sample_runs_get(runs, run, &first, &n);
    double start = sys_now_s();
    for (size_t i = 0; i < n_links; i++) {
        run_link(e, p, &links[i], run, place, first, n);
        double end = sys_now_s();
        seconds[i] += end - start;
        start = end;
    }
}

static void run_links(struct exec *e, const struct plan *p, struct link *links, size_t n_links,
                      const struct sample_runs *runs)
{
    const size_t n_tasks = count_tasks(e, links, n_links, runs);
    struct tasks tasks;
    tasks_share(&tasks, n_tasks, e->cfg.n_threads);
#pragma omp parallel num_threads(e->cfg.n_threads)
    {
        double seconds[PLAN_MAX_CHAIN] = {0};
        for (size_t task; tasks_next(&tasks, &task);) {
            const size_t from = sample_runs_part(runs, task, n_tasks);
            const size_t to = sample_runs_part(runs, task + 1, n_tasks);
            for (size_t run = from; run < to; run++) {
                run_links_once(e, p, links, n_links, runs, run, (struct place){task, run == from},
                               seconds);
            }
        }
        for (size_t i = 0; i < n_links; i++) {
#pragma omp atomic
            links[i].seconds += seconds[i];
        }
    }
    for (size_t i = 0; i < n_links; i++) {
        const struct plan_step *s = links[i].step;
        if (s->kind == PLAN_SUMS) {
            end_sums(e, s, &links[i].io);
        } else if (s->kind == PLAN_ENCODE) {
            size_t bytes = e->values[s->value].choice.bytes;
            vault_keep_map(&e->vault, &e->values[s->value].choice, bytes);
            exec_keep_code(e, s, bytes);
        } else if (s->kind == PLAN_GRADIENTS) {
            const struct layer *l = exec_layer(e, s);
            l->type->gradients_end(l, &links[i].io);
        }
    }
}

/* --- time and what follows a step ----------------------------------------------------------- */

static double *timer_of(struct exec *e, const struct plan_step *s)
{
    switch (s->kind) {
    case PLAN_SUMS: return s->dy == PLAN_NONE ? &e->times.forward_s : &e->times.backward_s;
    case PLAN_FORWARD:
    case PLAN_LOSS: return &e->times.forward_s;
    case PLAN_GRADIENTS:
    case PLAN_BACKWARD: return &e->times.backward_s;
    case PLAN_UPDATE: return &e->times.update_s;
    case PLAN_ENCODE: return &e->vault.encode_s;
    case PLAN_DECODE:
    case PLAN_RECOMPUTE: break;
    }
    return &e->vault.decode_s;
}

/* Tells an adaptive policy what the reader of a map has found out about gradients. */
static void observe(struct exec *e, const struct plan *p, const struct plan_step *s)
{
    const struct layer *l = exec_layer(e, s);
    const struct plan_value *pv = &e->values[l->in[0]];
    if (!l->type->gradient || !pv->kept || !pv->store->policy->observe) {
        return;
    }
    struct layer_io io;
    struct store_gradient g;
    fill_io(e, p, s, &io);
    l->type->gradient(l, &io, &g);
    pv->store->policy->observe(pv->store, &pv->map, &g);
}

static void finish_step(struct exec *e, const struct plan *p, const struct plan_step *s,
                        double seconds)
{
    if (!p->training) {
        return;
    }
    if (s->kind == PLAN_FORWARD || (s->kind == PLAN_SUMS && s->dy == PLAN_NONE)) {
        exec_keep(e, p, s);
    }
    if (s->kind == PLAN_BACKWARD || (s->kind == PLAN_SUMS && s->dy != PLAN_NONE)) {
        observe(e, p, s);
    }
    if (e->hooks.step_done) {
        e->hooks.step_done(e->hooks.ctx, s, seconds);
    }
}

/* One run for each thread at least, or each step had better split its own work. */
static int is_worth_it(const struct exec *e, const struct sample_runs *runs)
{
    return runs->n_runs >= (size_t)e->cfg.n_threads;
}

void exec_run_chain(struct exec *e, const struct plan *p, size_t i, const struct loss_call *call)
{
    const struct plan_step *first = &p->steps[i];
    size_t n = first->n_chain;
    assert(n <= PLAN_MAX_CHAIN);
    struct sample_runs runs = {0};
    if (n > 1) {
        runs = runs_now(e, first);
    }
    if (n == 1 || !(first->is_local || is_worth_it(e, &runs))) {
        for (size_t j = 0; j < n; j++) {
            const struct plan_step *s = first + j;
            double start = sys_now_s();
            run_step(e, p, s, call);
            double seconds = sys_now_s() - start;
            if (s->kind != PLAN_ENCODE && s->kind != PLAN_DECODE) { /* the vault counts those */
                *timer_of(e, s) += seconds;
            }
            finish_step(e, p, s, seconds);
        }
        return;
    }
    struct link links[PLAN_MAX_CHAIN];
    double start = sys_now_s(), of_threads = 0;
    for (size_t j = 0; j < n; j++) {
        make_link(e, p, first + j, &links[j]);
    }
    run_links(e, p, links, n, &runs);
    double seconds = sys_now_s() - start;
    for (size_t j = 0; j < n; j++) {
        of_threads += links[j].seconds;
    }
    for (size_t j = 0; j < n; j++) { /* each step's share of the time that passed */
        double share = of_threads > 0 ? links[j].seconds / of_threads * seconds : 0;
        *timer_of(e, first + j) += share;
        finish_step(e, p, first + j, share);
    }
}
