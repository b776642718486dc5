/* The process that measures one policy: the trainer and its loader, led step by step. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sys.h"
#include "cli/bench.h"
#include "cli/bench_step.h"
#include "cli/cli.h"
#include "run/session.h"
#include "train/trainer.h"

/* --- images: a few made-up ones, made once -------------------------------------------------------
 *
 * Making images up takes a processor's time, reading them from memory next to none: the loader
 * stays what it is, and the step alone is measured. */

enum { N_HELD = 16 };

struct held {
    uint8_t *pixels; /* [N_HELD][image_bytes] */
    uint32_t labels[N_HELD];
    size_t image_bytes;
};

static int held_read(const struct dataset *ds, enum data_split split, size_t index, uint8_t *pixels,
                     uint32_t *label, struct err *err)
{
    (void)split, (void)err;
    const struct held *h = ds->priv;
    memcpy(pixels, h->pixels + index % N_HELD * h->image_bytes, h->image_bytes);
    *label = h->labels[index % N_HELD];
    return 0;
}

static void held_close(struct dataset *ds)
{
    struct held *h = ds->priv;
    mem_free(h->pixels);
    mem_free(h);
}

static const struct dataset_type held_type = {.name = "held",
                                              .summary = "made-up images held in memory",
                                              .default_path = "",
                                              .how_to_get = "",
                                              .read = held_read,
                                              .close = held_close};

/* The session's data set becomes its first N_HELD images, again and again. */
static int hold_images(struct session *s, struct err *err)
{
    const size_t bytes = s->info.height * s->info.width * s->info.channels;
    struct held *h = mem_alloc(MEM_OTHER, sizeof *h);
    uint8_t *pixels = mem_alloc(MEM_DATA, N_HELD * bytes);
    if (!h || !pixels) {
        mem_free(h);
        mem_free(pixels);
        return err_nomem(err, "the images", N_HELD * bytes);
    }
    *h = (struct held){.pixels = pixels, .image_bytes = bytes};
    for (size_t i = 0; i < N_HELD; i++) {
        if (dataset_read(s->dataset, DATA_TRAIN, i, pixels + i * bytes, &h->labels[i], err)) {
            mem_free(pixels);
            mem_free(h);
            return (int)err->code;
        }
    }
    s->dataset->type->close(s->dataset);
    s->dataset->type = &held_type;
    s->dataset->priv = h;
    s->dataset->memory_bytes = N_HELD * bytes;
    return 0;
}

/* --- being led ------------------------------------------------------------------------------ */

struct serving {
    int in, out;
    struct exec *exec;
    uint32_t steps_left; /* of the command */
    int stop;
    double start_s;
    struct bench_step_times times; /* of the command so far */
    struct bench_step_times last;  /* the executor's clocks after the last step */
};

static int say(const struct serving *v, const void *what, size_t bytes, struct err *err)
{
    return write(v->out, what, bytes) == (ssize_t)bytes
               ? 0
               : err_sys(err, ERR_IO, errno, "cannot report a measurement");
}

/* Waits for a command. A parent that has gone means the end. */
static void next_command(struct serving *v)
{
    ssize_t n;
    while ((n = read(v->in, &v->steps_left, sizeof v->steps_left)) < 0 && errno == EINTR) {
    }
    v->stop = n != (ssize_t)sizeof v->steps_left || v->steps_left == 0;
    v->times = (struct bench_step_times){0};
    v->start_s = sys_now_s();
}

static void count_step(struct serving *v, const struct train_step_info *info)
{
    const struct exec *e = v->exec;
    const struct bench_step_times now = {.forward_s = e->times.forward_s,
                                         .backward_s = e->times.backward_s,
                                         .encode_s = e->vault.encode_s,
                                         .decode_s = e->vault.decode_s,
                                         .update_s = e->times.update_s};
    if (info->epoch_step == 0) {
        v->last = (struct bench_step_times){0}; /* the clocks begin anew with an epoch */
    }
    struct bench_step_times *t = &v->times;
    t->n_steps += 1;
    t->n_images += (double)info->n;
    t->forward_s += now.forward_s - v->last.forward_s;
    t->backward_s += now.backward_s - v->last.backward_s;
    t->encode_s += now.encode_s - v->last.encode_s;
    t->decode_s += now.decode_s - v->last.decode_s;
    t->update_s += now.update_s - v->last.update_s;
    v->last = now;
}

static int on_step(void *ctx, const struct train_step_info *info, struct err *err)
{
    struct serving *v = ctx;
    struct bench_step_times *t = &v->times;
    const double now = sys_now_s();
    count_step(v, info);
    if (--v->steps_left > 0) {
        return 0;
    }
    t->seconds = now - v->start_s;
    t->other_s = t->seconds -
                 (t->forward_s + t->backward_s + t->encode_s + t->decode_s + t->update_s);
    const struct bench_step_times done = *t;
    if (say(v, &done, sizeof done, err)) {
        return (int)err->code;
    }
    next_command(v);
    return 0;
}

static int should_stop(void *ctx)
{
    return ((struct serving *)ctx)->stop;
}

static int say_ready(const struct serving *v, const struct session *s, struct err *err)
{
    struct bench_step_ready ready = {.expected_bytes = session_memory_expected(&s->memory),
                                     .n_threads = s->n_threads};
    (void)snprintf(ready.isa, sizeof ready.isa, "%s", s->kernels.isa);
    return say(v, &ready, sizeof ready, err);
}

static int say_memory(const struct serving *v, const struct session *s, struct err *err)
{
    struct mem_count count;
    mem_count_get(&count);
    const struct bench_step_memory m = {
        .saved_bytes = (double)v->exec->saved_bytes,
        .saved_ratio = (double)s->normal_saved_bytes / (double)v->exec->saved_bytes,
        .planned_peak_bytes = (double)session_memory_planned(&s->memory),
        .live_peak_bytes = (double)count.live_peak_bytes,
        .arena_bytes = (double)v->exec->arena_bytes,
        .process_peak_bytes = (double)sys_peak_bytes()};
    return say(v, &m, sizeof m, err);
}

static int serve(struct serving *v, struct session *s, struct err *err)
{
    struct exec exec = {0};
    struct trainer trainer = {0};
    struct train_config tc;
    if (session_open_data(s, err) || hold_images(s, err) || session_exec(s, 1, &exec, err)) {
        return (int)err->code;
    }
    v->exec = &exec;
    if (session_train_config(s, &exec, &tc, err) || trainer_init(&trainer, &tc, err) ||
        say_ready(v, s, err)) {
        goto out;
    }
    const struct train_hooks hooks = {.ctx = v, .on_step = on_step, .should_stop = should_stop};
    next_command(v);
    if (!v->stop && trainer_run(&trainer, &hooks, err) == ERR_INTERRUPTED) {
        *err = (struct err){0}; /* as told */
        (void)!say_memory(v, s, err);
    }
out:
    trainer_fini(&trainer);
    exec_fini(&exec);
    return (int)err->code;
}

int bench_step_serve(const struct config *cfg, const struct job *job, int in, int out)
{
    struct err err = {0};
    struct session s;
    struct serving v = {.in = in, .out = out};
    if (session_init(&s, cfg, job, &err) == 0) {
        (void)!serve(&v, &s, &err);
        session_fini(&s);
    }
    if (err.code) {
        (void)err_add(&err, "%s", job->label);
        cli_error(bench_program, &err);
    }
    return cli_status(&err);
}
