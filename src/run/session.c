#include "run/session.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/threads.h"
#include "data/loader.h"
#include "data/micro_batch.h"
#include "kernels/gemm.h"
#include "models/models.h"
#include "run/budget.h"
#include "run/forecast.h"
#include "run/weights.h"

static int parse_augment(struct session *s, struct err *err)
{
    const struct config_texts *names = &s->cfg.data.augment;
    for (size_t i = 0; i < names->n; i++) {
        int ok;
        const unsigned flag = augment_find(names->item[i], &ok);
        s->augment |= flag;
        if (ok && flag == AUGMENT_NONE && names->n > 1) {
            return err_set(err, ERR_CONFIG,
                           "data.augment: none stands alone, found it in a list of %zu", names->n);
        }
        if (!ok) {
            size_t n;
            const char *const *valid = augment_names(&n);
            struct str list = {0};
            for (size_t j = 0; j < n; j++) {
                str_addf(&list, "%s%s", j ? ", " : "", valid[j]);
            }
            err_set(err, ERR_CONFIG, "data.augment: unknown augmentation \"%s\"; valid ones: %s",
                    names->item[i], list.s ? list.s : "");
            str_fini(&list);
            return (int)err->code;
        }
    }
    if ((s->augment & AUGMENT_CROP4) && (s->augment & AUGMENT_CROP4_REFLECT)) {
        return err_set(err, ERR_CONFIG,
                       "data.augment: crop4 and crop4_reflect exclude each other: keep one");
    }
    return 0;
}

static int init_data(struct session *s, struct err *err)
{
    const struct config *c = &s->cfg;
    s->data_config = (struct dataset_config){
        .name = s->cfg.data.name,
        .path = s->cfg.data.path,
        .limit = (size_t)c->data.limit,
        .test_limit = (size_t)c->data.test_limit,
        .allow_partial = c->data.allow_partial,
        .seed = s->job.seed,
        .size = (size_t)c->data.size,
        .channels = (size_t)c->data.channels,
        .classes = (size_t)c->model.classes,
    };
    if (parse_augment(s, err)) {
        return (int)err->code;
    }
    if (dataset_describe(&s->data_config, &s->info, err)) {
        return dataset_find(c->data.name) ? (int)err->code : err_add(err, "data.name");
    }
    return 0;
}

/* All parts of a batch of n must do for batch-norm: it may be the larger ones' last group that is
 * too small. */
static int check_micro_batches(const struct session *s, size_t n, struct err *err)
{
    const size_t count = micro_batch_count(n, s->batch_size, s->accumulate);
    const size_t group = (size_t)s->cfg.train.bn_group;
    return graph_check_batch(&s->graph, n / count, group, err)
               ? (int)err->code
               : graph_check_batch(&s->graph, micro_batch_largest(n, count), group, err);
}

int session_check_batch(const struct session *s, struct err *err)
{
    size_t last = s->info.n_train % s->batch_size;
    if (check_micro_batches(s, s->batch_size, err)) {
        return (int)err->code;
    }
    return last && !s->cfg.train.drop_last && s->info.n_train > s->batch_size
               ? check_micro_batches(s, last, err)
               : 0;
}

static int init_graph(struct session *s, struct err *err)
{
    const struct config *c = &s->cfg;
    size_t classes = c->model.classes ? (size_t)c->model.classes : s->info.classes;
    if (classes == 0) { /* the data set cannot say before its files are read */
        return err_set(err, ERR_CONFIG,
                       "model.classes: set it, the data set %s does not say how many it has",
                       c->data.name);
    }
    if (classes < s->info.classes) {
        return err_set(err, ERR_CONFIG, "model.classes: %zu, but the data set %s has %zu classes",
                       classes, c->data.name, s->info.classes);
    }
    struct model_config mc = {.name = c->model.name,
                              .channels = s->info.channels,
                              .height = s->info.height,
                              .width = s->info.width,
                              .classes = classes,
                              .dropout = c->model.dropout};
    if (model_form_parse(c->model.form, &mc.form, err) || model_build(&mc, &s->graph, err)) {
        if (err->code == ERR_SHAPE) {
            err->code = ERR_CONFIG; /* a network for other images than the data set's */
        }
        return (int)err->code;
    }
    return session_check_batch(s, err);
}

struct layer_context session_context(const struct session *s)
{
    size_t group = (size_t)s->cfg.train.bn_group;
    return (struct layer_context){.kernels = &s->kernels,
                                  .n_threads = s->n_threads,
                                  .training = 1,
                                  .bn_group = group ? group : s->batch_size};
}

/* What `normal` would save: the numerator of saved_ratio. */
static int plan_normal(struct session *s, struct err *err)
{
    struct store normal;
    struct store_params params = store_params_default();
    struct layer_context context = session_context(s);
    if (store_open(&normal, "normal", &params, &s->kernels, s->n_threads, err)) {
        return (int)err->code;
    }
    struct plan_config pc = {
        .graph = &s->graph, .store = &normal, .context = &context, .n = s->batch_size};
    struct plan plan;
    if (plan_make(&pc, &plan, err) == 0) {
        s->normal_saved_bytes = plan.saved_bytes;
        plan_fini(&plan);
    }
    store_close(&normal);
    return (int)err->code;
}

/* The threads' stacks and the matrix library's buffers belong to what the process has before the run,
 * which is measured: every thread does a product, as it will in the run. */
static int wake_threads(const struct session *s, struct err *err)
{
    enum { SIDE = 64 };
    const size_t n = 3 * SIDE * SIDE, bytes = (size_t)s->n_threads * n * sizeof(real);
    real *scratch = mem_alloc_untouched(MEM_OTHER, bytes);
    if (!scratch) {
        return err_nomem(err, "starting the threads", bytes);
    }
#pragma omp parallel for num_threads(s->n_threads) schedule(static, 1)
    for (int t = 0; t < s->n_threads; t++) {
        real *a = scratch + (size_t)t * n, *b = a + SIDE * SIDE, *c = b + SIDE * SIDE;
        struct gemm_args g = {.m = SIDE,
                              .n = SIDE,
                              .k = SIDE,
                              .a = a,
                              .lda = SIDE,
                              .b = b,
                              .ldb = SIDE,
                              .c = c,
                              .ldc = SIDE};
        gemm_nn(&s->kernels.conv, &g);
    }
    mem_free(scratch);
    return 0;
}

void session_set_batch(struct session *s, size_t batch)
{
    s->batch_size = batch;
    s->micro_batch_size = micro_batch_largest(batch, s->accumulate);
    s->eval_batch_size = s->cfg.train.eval_batch_size ? (size_t)s->cfg.train.eval_batch_size
                                                      : s->micro_batch_size;
}

/* What a config means, checked; nothing is planned or measured yet. */
static int open_parts(struct session *s, const struct config *cfg, const struct job *job,
                      struct err *err)
{
    *s = (struct session){.cfg = *cfg, .job = *job};
    s->n_threads = cfg->run.threads ? (int)cfg->run.threads : sys_n_cpus();
    threads_set(s->n_threads);
    s->accumulate = (size_t)cfg->train.accumulate;
    session_set_batch(s, (size_t)cfg->train.batch_size);
    if (s->accumulate > s->batch_size) {
        return err_set(
            err, ERR_CONFIG,
            "train.accumulate: %zu parts of a batch of %zu images: expected 1 to %zu, or "
            "a larger train.batch_size",
            s->accumulate, s->batch_size, s->batch_size);
    }
    return kernels_fill(&s->kernels, cfg->kernels.isa, err) ||
                   kernels_set_algorithm(&s->kernels, cfg->kernels.algorithm, err) ||
                   init_data(s, err) || init_graph(s, err) ||
                   job_open_store(cfg, job->storage, &s->kernels, s->n_threads, &s->store, err)
               ? (int)err->code
               : 0;
}

int session_init(struct session *s, const struct config *cfg, const struct job *job,
                 struct err *err)
{
    if (open_parts(s, cfg, job, err) || wake_threads(s, err) ||
        (job->fit_batch && budget_fit_batch(s, err)) || plan_normal(s, err)) {
        session_fini(s);
        return (int)err->code;
    }
    return 0;
}

int session_check(const struct config *cfg, const struct job *job, int training, struct err *err)
{
    struct config own;
    struct job single;
    struct session s;
    struct train_config tc;
    struct forecast f;
    job_config(cfg, job, &own, &single);
    /* Which maps there are for exceptions is the plan's to say. */
    if (open_parts(&s, &own, &single, err) == 0 && training &&
        session_train_config(&s, NULL, &tc, err) == 0 && s.store.n_rules &&
        forecast_make(&s, 1, &f, err) == 0) {
        forecast_fini(&f);
    }
    session_fini(&s);
    return (int)err->code;
}

void session_fini(struct session *s)
{
    if (!s) {
        return;
    }
    if (s->store.policy) {
        store_close(&s->store);
    }
    graph_fini(&s->graph);
    dataset_close(s->dataset);
    *s = (struct session){0};
}

size_t session_eval_batch(const struct session *s)
{
    size_t n = s->info.n_test;
    return n && n < s->eval_batch_size ? n : s->eval_batch_size;
}

int session_open_data(struct session *s, struct err *err)
{
    /* dataset_open reads strings of this session's own config, which outlives it. */
    const size_t n_planned = s->info.n_train;
    if (dataset_open(&s->data_config, &s->dataset, err)) {
        return (int)err->code;
    }
    s->info = s->dataset->info;
    if (s->info.classes > s->graph.values[s->graph.output].shape.c) {
        return err_set(err, ERR_CONFIG, "model.classes: %zu, but the data set %s has %zu classes",
                       s->graph.values[s->graph.output].shape.c, s->cfg.data.name, s->info.classes);
    }
    /* A batch that was made to fit before the number of images was known. */
    if (s->job.fit_batch && !n_planned) {
        s->job.batch = 0;
        return budget_fit_batch(s, err) || plan_normal(s, err) ? (int)err->code : 0;
    }
    return 0;
}

/* --- memory --------------------------------------------------------------------------------- */

size_t session_memory_planned(const struct session_memory *m)
{
    return m->params + m->momentum + m->gradients + m->data + m->peak;
}

size_t session_memory_expected(const struct session_memory *m)
{
    return m->base + m->params + m->momentum + m->gradients + m->data + m->arena;
}

/* What it will take, before any of it is taken. */
static int foresee(struct session *s, int training, struct err *err)
{
    struct forecast f;
    if (forecast_make(s, training, &f, err)) {
        return (int)err->code;
    }
    s->memory = f.memory;
    (void)!budget_check(s, &f, err);
    forecast_fini(&f);
    return (int)err->code;
}

int session_exec(struct session *s, int training, struct exec *exec, struct err *err)
{
    struct exec_config ec = {.graph = &s->graph,
                             .store = training ? &s->store : NULL,
                             .kernels = &s->kernels,
                             .n_threads = s->n_threads,
                             .batch_size = s->micro_batch_size,
                             .eval_batch_size = session_eval_batch(s),
                             .bn_group = (size_t)s->cfg.train.bn_group,
                             .seed = s->job.seed,
                             .label_smoothing = s->cfg.train.label_smoothing};
    /* Once more: some data sets tell only now how many images an epoch's last batch has. */
    if ((training && session_check_batch(s, err)) || foresee(s, training, err) ||
        graph_alloc_params(&s->graph, err) ||
        (s->memory.gradients && graph_alloc_gradients(&s->graph, err))) {
        return (int)err->code;
    }
    graph_init_params(&s->graph, s->job.seed);
    if (s->cfg.model.init[0] && weights_load(&s->graph, s->cfg.model.init, err)) {
        return err_add(err, "model.init");
    }
    if (exec_init(exec, &ec, err)) {
        return (int)err->code;
    }
    assert(exec->arena_bytes == s->memory.arena);
    assert(exec_planned_peak_bytes(exec) == s->memory.peak);
    return 0;
}

int session_train_config(const struct session *s, struct exec *exec, struct train_config *out,
                         struct err *err)
{
    const struct config *c = &s->cfg;
    *out = (struct train_config){
        .exec = exec,
        .train = s->dataset,
        .test = s->dataset,
        .batch_size = s->batch_size,
        .accumulate = s->accumulate,
        .eval_batch_size = s->eval_batch_size,
        .epochs = (size_t)c->train.epochs,
        .max_steps = (size_t)c->train.max_steps,
        .eval_every = (size_t)c->train.eval_every,
        .shuffle = c->data.shuffle,
        .drop_last = c->train.drop_last,
        .augment = s->augment,
        .seed = s->job.seed,
        .sgd = {.momentum = c->train.momentum,
                .weight_decay = c->train.weight_decay,
                .nesterov = c->train.nesterov},
        .schedule = {.lr = c->train.lr,
                     .gamma = c->train.gamma,
                     .epochs = (size_t)c->train.epochs,
                     .warmup_epochs = c->train.warmup_epochs,
                     .n_milestones = c->train.milestones.n},
    };
    for (size_t i = 0; i < c->train.milestones.n; i++) {
        out->schedule.milestones[i] = (size_t)c->train.milestones.item[i];
        if (i && out->schedule.milestones[i] <= out->schedule.milestones[i - 1]) {
            return err_set(err, ERR_CONFIG, "train.milestones: they must rise: %zu after %zu",
                           out->schedule.milestones[i], out->schedule.milestones[i - 1]);
        }
    }
    if (c->train.nesterov && c->train.momentum <= 0) {
        return err_set(err, ERR_CONFIG, "train.nesterov: needs a train.momentum above 0");
    }
    return schedule_kind_parse(c->train.schedule, &out->schedule.kind, err);
}
