/* One training job from config to finished folder. */
#include "config.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "report/csv_read.h"
#include "report/steps.h"
#include "run/budget.h"
#include "run/folder.h"
#include "run/record_run.h"
#include "run/run.h"
#include "run/weights.h"

/* What the trainer's hooks need. */
struct writer {
    struct session *session;
    const struct run_events *events;
    struct run_record record;
    int hold; /* on the folder */
    FILE *epochs, *steps;
    char weights_path[JOB_PATH + 32], best_path[JOB_PATH + 32];
    size_t n_steps;
    size_t arena_bytes;
};

const char *run_status_name(const struct err *err)
{
    switch (err->code) {
    case ERR_OK: return "done";
    case ERR_DIVERGED: return "diverged";
    case ERR_INTERRUPTED: return "interrupted";
    default: return "failed";
    }
}

const char *run_exit_name(int status)
{
    switch (status) {
    case 0: return "done";
    case 5: return "diverged";
    case 128 + SIGHUP:
    case 128 + SIGINT:
    case 128 + SIGTERM: return "interrupted";
    default: return "failed";
    }
}

static int open_csv(const char *dir, const char *name, FILE **fp, struct err *err)
{
    char path[JOB_PATH + 32];
    if (folder_path(path, sizeof path, dir, name, err)) {
        return (int)err->code;
    }
    *fp = fopen(path, "wxe");
    if (!*fp) {
        return err_sys(err, ERR_IO, errno, "cannot create %s", path);
    }
    return 0;
}

static int write_config(const struct session *s, struct err *err)
{
    char path[JOB_PATH + 32];
    struct file_out out = {0};
    if (folder_path(path, sizeof path, s->job.dir, "config.yaml", err) ||
        file_out_open(&out, path, err)) {
        return (int)err->code;
    }
    if (config_write(&s->cfg, out.fp, err) || file_out_commit(&out, err)) {
        file_out_discard(&out);
        return err_add(err, "%s", path);
    }
    return 0;
}

/* --- hooks ---------------------------------------------------------------------------------- */

static int write_step(const struct writer *w, const struct train_step_info *info, struct err *err)
{
    struct step_row row;
    step_row_clear(&row);
    row.csv_version = CSV_VERSION;
    row.run = w->session->cfg.name;
    row.policy = w->session->job.label;
    row.seed = (double)w->session->job.seed;
    row.step = (double)w->n_steps;
    row.epoch = (double)(info->epoch + 1);
    row.lr = info->lr;
    row.loss = info->loss;
    return steps_write_row(w->steps, &row, err) ? err_add(err, "%s/steps.csv", w->session->job.dir)
                                                : 0;
}

static int on_step(void *ctx, const struct train_step_info *info, struct err *err)
{
    struct writer *w = ctx;
    w->n_steps = info->step + 1;
    if (w->events->step) {
        w->events->step(w->events->ctx, info);
    }
    if (w->steps && write_step(w, info, err)) {
        return (int)err->code;
    }
    return budget_watch(w->session, w->n_steps, err);
}

static void fill_row(const struct writer *w, const struct train_epoch_info *info,
                     struct epoch_row *row)
{
    const struct session *s = w->session;
    epoch_row_clear(row);
    row->csv_version = CSV_VERSION;
    row->run = s->cfg.name;
    row->policy = s->job.label;
    row->seed = (double)s->job.seed;
    row->epoch = (double)info->epoch;
    row->lr = info->lr;
    row->train_loss = info->train_loss;
    row->train_top1 = info->train_top1;
    row->test_loss = info->test_loss;
    row->test_top1 = info->test_top1;
    row->test_top5 = info->test_top5;
    row->best_top1 = info->best_top1;
    row->epoch_s = info->epoch_s;
    if (s->cfg.log.phases) {
        row->data_wait_s = info->data_wait_s;
        row->forward_s = info->forward_s;
        row->backward_s = info->backward_s;
        row->encode_s = info->encode_s;
        row->decode_s = info->decode_s;
        row->update_s = info->update_s;
    }
    row->images_per_s = info->images_per_s;
    if (info->saved_bytes) { /* 0: the epoch had no full batch */
        row->saved_bytes = (double)info->saved_bytes;
        row->spilled_bytes = (double)info->spilled_bytes;
        row->saved_ratio = (double)s->normal_saved_bytes / (double)info->saved_bytes;
    }
    row->planned_peak_bytes = (double)session_memory_planned(&s->memory);
    row->live_peak_bytes = (double)info->live_peak_bytes;
    row->arena_bytes = (double)w->arena_bytes;
    size_t peak = sys_peak_bytes();
    row->process_peak_bytes = peak ? (double)peak : (double)NAN;
}

static int save_weights(struct writer *w, const char *path, size_t epoch, struct err *err)
{
    const struct session *s = w->session;
    char seed[32], epochs[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->job.seed);
    snprintf(epochs, sizeof epochs, "%zu", epoch);
    const char *meta[] = {
        "format",     "pt",   "model", s->cfg.model.name, "run",  s->cfg.name, "policy",
        s->job.label, "seed", seed,    "epoch",           epochs, "writer",    PACKAGE_STRING};
    return weights_save(&s->graph, path, w->n_steps, meta, sizeof meta / sizeof *meta / 2, err);
}

/* The update behind the last finite training loss may have been the one too many. */
static int check_update(const struct writer *w, const struct train_epoch_info *info,
                        struct err *err)
{
    const int is_tested = !isnan(info->test_top1);
    if (is_tested && !isfinite(info->test_loss)) {
        return err_set(err, ERR_DIVERGED,
                       "the test loss is not finite after step %zu (epoch %zu, lr %g): training "
                       "diverged; try a smaller train.lr or train.warmup_epochs",
                       w->n_steps, info->epoch, info->lr);
    }
    return weights_check(&w->session->graph, err)
               ? err_add(err, "after step %zu (epoch %zu, lr %g)", w->n_steps, info->epoch,
                         info->lr)
               : 0;
}

static int on_epoch(void *ctx, const struct train_epoch_info *info, struct err *err)
{
    struct writer *w = ctx;
    struct epoch_row row;
    struct err diverged = {0}; /* the epoch has its row, but its weights replace no good ones */
    if (check_update(w, info, &diverged) == 0 &&
        ((info->is_best && save_weights(w, w->best_path, info->epoch, err)) ||
         save_weights(w, w->weights_path, info->epoch, err))) {
        return (int)err->code;
    }
    fill_row(w, info, &row);
    if (epochs_write_row(w->epochs, &row, err)) {
        return err_add(err, "%s/epochs.csv", w->session->job.dir);
    }
    run_record_epoch(&w->record, &row, info->saved_pieces);
    if (w->events->epoch) {
        w->events->epoch(w->events->ctx, &row);
    }
    if (budget_watch(w->session, w->n_steps, err)) { /* saving and evaluating take memory too */
        return (int)err->code;
    }
    return diverged.code ? err_set(err, diverged.code, "%s", diverged.msg) : 0;
}

static int should_stop(void *ctx)
{
    struct writer *w = ctx;
    return w->events->should_stop && w->events->should_stop(w->events->ctx);
}

/* --- the run -------------------------------------------------------------------------------- */

static int open_files(struct writer *w, struct err *err)
{
    const struct session *s = w->session;
    const char *dir = s->job.dir;
    if (write_config(s, err) ||
        folder_path(w->weights_path, sizeof w->weights_path, dir, "model.safetensors", err) ||
        folder_path(w->best_path, sizeof w->best_path, dir, "best.safetensors", err) ||
        run_record_begin(&w->record, s, err) || open_csv(dir, "epochs.csv", &w->epochs, err)) {
        return (int)err->code;
    }
    if (epochs_write_header(w->epochs, err)) {
        return err_add(err, "%s/epochs.csv", dir);
    }
    if (s->cfg.log.steps) {
        if (open_csv(dir, "steps.csv", &w->steps, err)) {
            return (int)err->code;
        }
        if (steps_write_header(w->steps, err)) {
            return err_add(err, "%s/steps.csv", dir);
        }
    }
    return 0;
}

static void discard_csv(struct writer *w)
{
    FILE *const files[] = {w->epochs, w->steps};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (files[i]) {
            fclose(files[i]);
        }
    }
    w->epochs = w->steps = NULL;
}

/* A run that cannot begin leaves nothing that would look like one. */
static int open_folder(struct writer *w, int force, struct err *err)
{
    const char *dir = w->session->job.dir;
    if (folder_take(dir, force, &w->hold, err)) {
        return (int)err->code;
    }
    if (open_files(w, err)) {
        discard_csv(w);
        folder_remove(dir);
    }
    return (int)err->code;
}

static int close_csv(FILE *fp, const char *dir, const char *name, struct err *err)
{
    if (fp && fclose(fp) != 0 && !err->code) {
        return err_sys(err, ERR_IO, errno, "cannot write %s/%s", dir, name);
    }
    return 0;
}

static int train(struct writer *w, int force, struct err *err)
{
    struct session *s = w->session;
    struct exec exec = {0};
    struct trainer trainer = {0};
    struct train_config tc;
    if (session_open_data(s, err) || session_exec(s, 1, &exec, err)) {
        return (int)err->code;
    }
    w->arena_bytes = exec.arena_bytes;
    /* Nothing is written before everything that can be refused has been. */
    if (session_train_config(s, &exec, &tc, err) || trainer_init(&trainer, &tc, err) ||
        open_folder(w, force, err)) {
        goto out;
    }
    if (w->events->begin) {
        w->events->begin(w->events->ctx, s);
    }
    struct train_hooks hooks = {
        .ctx = w, .on_step = on_step, .on_epoch = on_epoch, .should_stop = should_stop};
    if (trainer_run(&trainer, &hooks, err) == 0 && strcmp(s->cfg.expect, "diverge") == 0) {
        (void)!err_set(err, ERR_UNEXPECTED,
                       "the config expects the run to diverge (expect: diverge), but it did not");
    }
    (void)!close_csv(w->epochs, s->job.dir, "epochs.csv", err);
    (void)!close_csv(w->steps, s->job.dir, "steps.csv", err);
    w->epochs = w->steps = NULL;
    struct err record_err = {0};
    if (run_record_end(&w->record, s, err, w->n_steps, &record_err) && !err->code) {
        *err = record_err;
    }
out:
    trainer_fini(&trainer);
    exec_fini(&exec);
    return (int)err->code;
}

int run_train(const struct config *cfg, const struct job *job, int force,
              const struct run_events *events, struct err *err)
{
    struct config own;
    struct job single;
    job_config(cfg, job, &own, &single);
    if (folder_check(job->dir, force, err)) {
        return (int)err->code;
    }
    struct session session;
    if (session_init(&session, &own, &single, err)) {
        return (int)err->code;
    }
    struct writer w = {.session = &session, .events = events, .hold = -1};
    (void)!train(&w, force, err);
    if (w.hold >= 0) {
        close(w.hold);
    }
    session_fini(&session);
    return (int)err->code;
}

void run_summary(const struct config *cfg, const struct job *job, int began,
                 struct summary_row *row)
{
    char path[JOB_PATH + 32];
    struct err err = {0};
    summary_row_clear(row);
    snprintf(row->run, sizeof row->run, "%s", cfg->name);
    snprintf(row->policy, sizeof row->policy, "%s", job->label);
    row->seed = (int64_t)job->seed;
    if (began && folder_path(path, sizeof path, job->dir, "epochs.csv", &err) == 0) {
        (void)!summary_from_csv(path, row, &err); /* no file: the row stays empty */
    }
}
