#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/sys.h"

/* Sums over the samples of an epoch so far. */
struct tally {
    double loss_sum;
    size_t n, n_top1, n_top5;
};

static void tally_add(struct tally *t, const struct loss_result *r, size_t n)
{
    t->loss_sum += r->loss_sum;
    t->n_top1 += r->n_top1;
    t->n_top5 += r->n_top5;
    t->n += n;
}

static double mean(const struct tally *t)
{
    return t->n ? t->loss_sum / (double)t->n : (double)NAN;
}

static double percent(size_t hits, size_t n)
{
    return n ? 100.0 * (double)hits / (double)n : (double)NAN;
}

/* A parameter's gradient is complete: update it at once, so that only one layer's gradients are
 * alive at a time. With micro-batches that is so after the last one; until then they are summed. */
static void on_gradient(void *ctx, struct param *p, const real *dw)
{
    struct trainer *t = ctx;
    struct sgd_params sgd = t->cfg.sgd;
    sgd.lr = t->lr;
    if (!t->is_first || !t->is_last) {
        sgd_accumulate(t->cfg.exec->cfg.kernels, p->n, dw, p->gradient, t->is_first);
        dw = p->gradient;
    }
    if (!t->is_last) {
        return;
    }
    sgd_update(t->cfg.exec->cfg.kernels, &sgd, p->n, p->w, dw, p->momentum);
}

int trainer_init(struct trainer *t, const struct train_config *cfg, struct err *err)
{
    *t = (struct trainer){.cfg = *cfg};
    t->cfg.accumulate = cfg->accumulate ? cfg->accumulate : 1;
    struct loader_config lc = {.dataset = cfg->train,
                               .split = DATA_TRAIN,
                               .batch_size = cfg->batch_size,
                               .accumulate = cfg->accumulate,
                               .shuffle = cfg->shuffle,
                               .drop_last = cfg->drop_last,
                               .augment = cfg->augment,
                               .seed = cfg->seed};
    if (loader_new(&lc, &t->train, err)) {
        return err_add(err, "training data");
    }
    size_t n_test = dataset_size(cfg->test, DATA_TEST);
    lc = (struct loader_config){.dataset = cfg->test,
                                .split = DATA_TEST,
                                .batch_size = cfg->eval_batch_size < n_test ? cfg->eval_batch_size
                                                                            : n_test};
    if (loader_new(&lc, &t->test, err)) {
        trainer_fini(t);
        return err_add(err, "test data");
    }
    cfg->exec->hooks = (struct exec_hooks){.ctx = t, .gradient = on_gradient};
    return 0;
}

void trainer_fini(struct trainer *t)
{
    if (!t) {
        return;
    }
    loader_free(t->train);
    loader_free(t->test);
    *t = (struct trainer){0};
}

static int is_stopped(const struct train_hooks *hooks)
{
    return hooks && hooks->should_stop && hooks->should_stop(hooks->ctx);
}

int trainer_evaluate(struct exec *exec, struct loader *loader, const struct train_hooks *hooks,
                     real *logits, struct eval_result *out, struct err *err)
{
    struct tally tally = {0};
    struct batch batch;
    size_t classes = exec->cfg.graph->values[exec->cfg.graph->output].shape.c;
    if (loader_start(loader, 0, err)) {
        return (int)err->code;
    }
    for (;;) {
        if (loader_next(loader, &batch, err)) {
            return (int)err->code;
        }
        if (batch.n == 0) {
            break;
        }
        if (is_stopped(hooks)) {
            return err_set(err, ERR_INTERRUPTED, "interrupted after %zu test images", tally.n);
        }
        struct loss_result r;
        real *rows = logits ? logits + tally.n * classes : NULL;
        if (exec_evaluate(exec, &batch.x, batch.labels, rows, &r, err)) {
            return (int)err->code;
        }
        tally_add(&tally, &r, batch.n);
    }
    *out = (struct eval_result){.loss = mean(&tally),
                                .top1 = percent(tally.n_top1, tally.n),
                                .top5 = percent(tally.n_top5, tally.n),
                                .n = tally.n};
    return 0;
}

/* --- one epoch ------------------------------------------------------------------------------ */

struct epoch_state {
    size_t epoch, n_steps;
    struct tally tally;
    double start_s, wait_s;
    size_t saved_bytes;
    size_t saved_pieces[STORE_N_PIECES];
    size_t spilled_bytes;
};

static size_t steps_in_all(const struct trainer *t, size_t n_steps)
{
    size_t all = t->cfg.epochs * n_steps;
    return t->cfg.max_steps && t->cfg.max_steps < all ? t->cfg.max_steps : all;
}

static int report_step(struct trainer *t, const struct train_hooks *hooks,
                       const struct epoch_state *es, size_t epoch_step, size_t n, double loss,
                       struct err *err)
{
    if (!hooks->on_step) {
        return 0;
    }
    double now = sys_now_s();
    size_t left = steps_in_all(t, es->n_steps) - t->step;
    struct train_step_info info = {
        .epoch = es->epoch,
        .step = t->step - 1,
        .epoch_step = epoch_step,
        .n_epoch_steps = es->n_steps,
        .n = n,
        .lr = t->lr,
        .loss = loss,
        .epoch_loss = mean(&es->tally),
        .epoch_top1 = percent(es->tally.n_top1, es->tally.n),
        .images_per_s = (double)es->tally.n / (now - es->start_s),
        .elapsed_s = now - t->start_s,
        .left_s = (now - t->start_s) / (double)t->step * (double)left,
    };
    return hooks->on_step(hooks->ctx, &info, err);
}

/* Forward and backward of a micro-batch, or of a whole batch; the update after the last. */
static int train_part(struct trainer *t, struct epoch_state *es, const struct batch *batch,
                      size_t number, double *loss_sum, struct err *err)
{
    struct exec *exec = t->cfg.exec;
    struct loss_result r;
    struct exec_part part = {.images = &batch->x,
                             .labels = batch->labels,
                             .n_batch = batch->n_batch,
                             .step = t->step,
                             .draw = (uint64_t)t->step * t->cfg.accumulate + number};
    t->is_first = batch->first == 0;
    t->is_last = batch->first + batch->n == batch->n_batch;
    if (exec_train_part(exec, &part, &r, err)) {
        return (int)err->code;
    }
    tally_add(&es->tally, &r, batch->n);
    *loss_sum += r.loss_sum;
    if (batch->n == exec->cfg.batch_size) {
        es->saved_bytes = exec->saved_bytes;
        es->spilled_bytes = exec->spilled_bytes;
        memcpy(es->saved_pieces, exec->saved_pieces, sizeof es->saved_pieces);
    }
    return 0;
}

/* One update of the weights. *n: images of its batch, 0 at the end of the epoch. */
static int train_step(struct trainer *t, const struct train_hooks *hooks, struct epoch_state *es,
                      size_t epoch_step, size_t *n, struct err *err)
{
    struct batch batch;
    double loss_sum = 0;
    for (size_t number = 0; number == 0 || batch.first + batch.n < batch.n_batch; number++) {
        if (loader_next(t->train, &batch, err)) {
            return (int)err->code;
        }
        if (batch.n == 0) {
            *n = 0;
            return 0;
        }
        t->lr = schedule_lr(&t->cfg.schedule, es->epoch, epoch_step, es->n_steps);
        es->wait_s += batch.wait_s;
        if (train_part(t, es, &batch, number, &loss_sum, err)) {
            return (int)err->code;
        }
    }
    *n = batch.n_batch;
    t->step++;
    double loss = loss_sum / (double)batch.n_batch;
    if (report_step(t, hooks, es, epoch_step, batch.n_batch, loss, err)) {
        return (int)err->code;
    }
    if (!isfinite(loss)) {
        return err_set(err, ERR_DIVERGED,
                       "the loss is %s at step %zu (epoch %zu, lr %g): training diverged; try a "
                       "smaller train.lr or train.warmup_epochs",
                       isnan(loss) ? "not a number" : "infinite", t->step, es->epoch + 1, t->lr);
    }
    if (is_stopped(hooks)) {
        return err_set(err, ERR_INTERRUPTED, "interrupted after step %zu (epoch %zu)", t->step,
                       es->epoch + 1);
    }
    return 0;
}

static int train_epoch(struct trainer *t, const struct train_hooks *hooks, struct epoch_state *es,
                       struct err *err)
{
    exec_times_clear(t->cfg.exec);
    es->start_s = sys_now_s();
    if (loader_start(t->train, es->epoch, err)) {
        return (int)err->code;
    }
    for (size_t i = 0; !t->cfg.max_steps || t->step < t->cfg.max_steps; i++) {
        size_t n = 0;
        if (train_step(t, hooks, es, i, &n, err)) {
            return (int)err->code;
        }
        if (n == 0) {
            break;
        }
    }
    return 0;
}

static int finish_epoch(struct trainer *t, const struct train_hooks *hooks,
                        const struct epoch_state *es, int last, struct err *err)
{
    const struct exec *exec = t->cfg.exec;
    double epoch_s = sys_now_s() - es->start_s;
    struct train_epoch_info info = {
        .epoch = es->epoch + 1,
        .lr = t->lr,
        .train_loss = mean(&es->tally),
        .train_top1 = percent(es->tally.n_top1, es->tally.n),
        .test_loss = (double)NAN,
        .test_top1 = (double)NAN,
        .test_top5 = (double)NAN,
        .epoch_s = epoch_s,
        .data_wait_s = es->wait_s,
        .forward_s = exec->times.forward_s,
        .backward_s = exec->times.backward_s,
        .encode_s = exec->vault.encode_s,
        .decode_s = exec->vault.decode_s,
        .update_s = exec->times.update_s,
        .images_per_s = (double)es->tally.n / epoch_s,
        .saved_bytes = es->saved_bytes,
        .spilled_bytes = es->spilled_bytes,
        .saved_pieces = es->saved_pieces,
    };
    if (last || (es->epoch + 1) % t->cfg.eval_every == 0) {
        struct eval_result r;
        if (trainer_evaluate(t->cfg.exec, t->test, hooks, NULL, &r, err)) {
            return err_add(err, "step %zu (end of epoch %zu)", t->step, es->epoch + 1);
        }
        info.test_loss = r.loss;
        info.test_top1 = r.top1;
        info.test_top5 = r.top5;
        if (isfinite(r.loss) && (!t->best_seen || r.top1 > t->best_top1)) {
            t->best_seen = info.is_best = 1;
            t->best_top1 = r.top1;
        }
    }
    info.best_top1 = t->best_seen ? t->best_top1 : (double)NAN;
    struct mem_count count;
    mem_count_get(&count);
    info.live_peak_bytes = count.live_peak_bytes;
    return hooks->on_epoch ? hooks->on_epoch(hooks->ctx, &info, err) : 0;
}

int trainer_run(struct trainer *t, const struct train_hooks *hooks, struct err *err)
{
    size_t n_steps = loader_n_batches(t->train);
    t->start_s = sys_now_s();
    mem_peak_reset();
    for (size_t epoch = 0; epoch < t->cfg.epochs; epoch++) {
        struct epoch_state es = {.epoch = epoch, .n_steps = n_steps};
        if (train_epoch(t, hooks, &es, err)) {
            return (int)err->code;
        }
        int out_of_steps = t->cfg.max_steps && t->step >= t->cfg.max_steps;
        int last = out_of_steps || epoch + 1 == t->cfg.epochs;
        if (finish_epoch(t, hooks, &es, last, err)) {
            return (int)err->code;
        }
        if (out_of_steps) {
            break;
        }
    }
    return 0;
}
