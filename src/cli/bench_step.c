/* division-bench step: whole training steps under several policies, side by side. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/sys.h"
#include "cli/bench.h"
#include "cli/bench_step.h"
#include "cli/cli.h"

/* A repetition is as many steps as take this long: a policy whose turn comes finds the caches full
 * of another's data. */
static const double repetition_s = 0.25;
enum { MAX_STEPS = 1000 };

/* One policy's line. */
struct row {
    const char *model, *policy, *isa, *cpu;
    double size, batch, threads, repetitions, steps;
    double images_per_s, images_per_s_p10, images_per_s_p90;
    double vs_first, vs_first_p10, vs_first_p90;
    double step_ms, forward_ms, backward_ms, encode_ms, decode_ms, update_ms, other_ms;
    double saved_bytes, saved_ratio, planned_peak_bytes, live_peak_bytes, arena_bytes,
        process_peak_bytes;
};

/* clang-format off */
#define SHOWN(field, kind, head, unit, scale, decimals) \
    BENCH_SHOWN(struct row, field, kind, head, unit, scale, decimals)
#define HIDDEN(field, kind) BENCH_HIDDEN(struct row, field, kind)
static const struct bench_column columns[] = {
    HIDDEN(model, TEXT),
    HIDDEN(size, COUNT),
    HIDDEN(batch, COUNT),
    SHOWN(policy, TEXT, "policy", "", 0, 0),
    HIDDEN(threads, COUNT),
    HIDDEN(isa, TEXT),
    HIDDEN(cpu, TEXT),
    HIDDEN(repetitions, COUNT),
    HIDDEN(steps, COUNT),
    SHOWN(images_per_s, REAL, "images", "per s", 1, 1),
    SHOWN(images_per_s_p10, REAL, "p10", "", 1, 1),
    SHOWN(images_per_s_p90, REAL, "p90", "", 1, 1),
    SHOWN(vs_first, REAL, "vs first", "", 1, 3),
    HIDDEN(vs_first_p10, REAL),
    HIDDEN(vs_first_p90, REAL),
    SHOWN(step_ms, REAL, "step", "ms", 1, 1),
    SHOWN(forward_ms, REAL, "forward", "ms", 1, 1),
    SHOWN(backward_ms, REAL, "backward", "ms", 1, 1),
    SHOWN(encode_ms, REAL, "encode", "ms", 1, 1),
    SHOWN(decode_ms, REAL, "decode", "ms", 1, 1),
    SHOWN(update_ms, REAL, "update", "ms", 1, 1),
    SHOWN(other_ms, REAL, "other", "ms", 1, 1),
    SHOWN(saved_bytes, COUNT, "saved", "MiB", BENCH_MIB, 1),
    HIDDEN(saved_ratio, REAL),
    HIDDEN(planned_peak_bytes, COUNT),
    SHOWN(live_peak_bytes, COUNT, "live", "MiB", BENCH_MIB, 1),
    SHOWN(arena_bytes, COUNT, "arena", "MiB", BENCH_MIB, 1),
    SHOWN(process_peak_bytes, COUNT, "process", "MiB", BENCH_MIB, 1),
};
/* clang-format on */
enum { N_COLUMNS = sizeof columns / sizeof *columns };

/* One policy, measured. */
struct measured {
    struct bench_child child;
    uint32_t n_steps;               /* of a repetition */
    struct bench_step_times *times; /* [repetitions] */
    struct bench_step_memory memory;
};

/* --- setting up ----------------------------------------------------------------------------- */

/* As long as it is measured: epochs of a few steps, no evaluation. */
static int make_policy(const struct bench_options *o, const char *policy, struct measured *m,
                       struct err *err)
{
    enum { STEPS_PER_EPOCH = 64 };
    struct config *cfg = &m->child.cfg;
    if (bench_job(o, policy, cfg, &m->child.job, err)) {
        return (int)err->code;
    }
    cfg->data.limit = cfg->train.batch_size * STEPS_PER_EPOCH;
    cfg->data.test_limit = 1;
    cfg->train.epochs = cfg->train.eval_every = 1000000;
    cfg->train.max_steps = 0;
    return 0;
}

static int make_policies(const struct bench_options *o, struct measured *ms, size_t n,
                         struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (make_policy(o, o->policies[i], &ms[i], err)) {
            return (int)err->code;
        }
        ms[i].times = mem_calloc(MEM_OTHER, o->repetitions, sizeof *ms[i].times);
        if (!ms[i].times) {
            return err_nomem(err, "the measurements", o->repetitions * sizeof *ms[i].times);
        }
    }
    return 0;
}

/* Each child is ready before the next one starts: what is wrong with all of them is said once. */
static int start_all(struct measured *ms, size_t n, struct err *err)
{
    int status = 0;
    for (size_t i = 0; i < n && status == 0; i++) {
        status = bench_child_start(&ms[i].child, err);
    }
    return status;
}

/* Can all processes be in memory at once? */
static int fit_together(const struct measured *ms, size_t n)
{
    const double have = (double)sys_memory_bytes();
    double need = 0;
    for (size_t i = 0; i < n; i++) {
        need += (double)ms[i].child.ready.expected_bytes;
    }
    return have <= 0 || need <= 0.9 * have;
}

/* --- measuring ------------------------------------------------------------------------------ */

static int warm_up(const struct bench_options *o, struct measured *m, struct err *err)
{
    struct bench_step_times t = {0};
    int status = 0;
    for (size_t i = 0; i < o->warmup && status == 0; i++) {
        status = bench_child_steps(&m->child, 1, &t, err);
    }
    if (status) {
        return status;
    }
    const double n = t.seconds > 0 ? ceil(repetition_s / t.seconds) : 1;
    m->n_steps = n < MAX_STEPS ? (uint32_t)n : MAX_STEPS;
    return 0;
}

/* Policies take turns, up and down the list, so that none is always first or always behind the
 * same other one. */
static int measure_in_turn(const struct bench_options *o, struct measured *ms, size_t n,
                           struct err *err)
{
    int status = 0;
    for (size_t i = 0; i < n && status == 0; i++) {
        status = warm_up(o, &ms[i], err);
    }
    for (size_t r = 0; r < o->repetitions && status == 0; r++) {
        for (size_t i = 0; i < n && status == 0; i++) {
            struct measured *m = &ms[r % 2 ? n - 1 - i : i];
            status = bench_child_steps(&m->child, m->n_steps, &m->times[r], err);
        }
    }
    for (size_t i = 0; i < n && status == 0; i++) {
        status = bench_child_finish(&ms[i].child, &ms[i].memory, err);
    }
    return status;
}

static int measure(const struct bench_options *o, struct measured *ms, size_t n, struct err *err)
{
    int status = start_all(ms, n, err);
    if (status || fit_together(ms, n)) {
        return status ? status : measure_in_turn(o, ms, n, err);
    }
    (void)fprintf(stderr,
                  "%s: warning: the policies do not fit into memory together and are measured one "
                  "after the other: compare them with care\n",
                  bench_program);
    for (size_t i = 0; i < n && status == 0; i++) {
        status = measure_in_turn(o, &ms[i], 1, err);
    }
    return status;
}

/* --- the table ------------------------------------------------------------------------------ */

static double rate(const struct bench_step_times *t)
{
    return t->n_images / t->seconds;
}

/* Median over the repetitions of one part's milliseconds per step. offset: of the part. */
static double part_ms(const struct measured *m, size_t n, size_t offset, double *scratch)
{
    for (size_t r = 0; r < n; r++) {
        const struct bench_step_times *t = &m->times[r];
        const void *part = (const char *)t + offset;
        scratch[r] = 1e3 * *(const double *)part / t->n_steps;
    }
    return bench_spread_of(scratch, n).median;
}

static void fill_rates(const struct measured *m, const struct measured *first, size_t n,
                       double *scratch, struct row *row)
{
    for (size_t r = 0; r < n; r++) {
        scratch[r] = rate(&m->times[r]);
    }
    struct bench_spread s = bench_spread_of(scratch, n);
    row->images_per_s = s.median;
    row->images_per_s_p10 = s.p10;
    row->images_per_s_p90 = s.p90;
    bench_warn_noise(m->child.job.label, &s);
    for (size_t r = 0; r < n; r++) { /* within a round: what slows the machine slows both */
        scratch[r] = rate(&m->times[r]) / rate(&first->times[r]);
    }
    s = bench_spread_of(scratch, n);
    row->vs_first = s.median;
    row->vs_first_p10 = s.p10;
    row->vs_first_p90 = s.p90;
}

#define PART_MS(part) part_ms(m, n, offsetof(struct bench_step_times, part), scratch)

static void fill_row(const struct bench_options *o, const struct measured *m,
                     const struct measured *first, double *scratch, struct row *row)
{
    const size_t n = o->repetitions;
    const struct config *cfg = &m->child.cfg;
    row->model = cfg->model.name;
    row->policy = m->child.job.label;
    row->isa = m->child.ready.isa;
    row->size = (double)cfg->data.size;
    row->batch = (double)cfg->train.batch_size;
    row->threads = m->child.ready.n_threads;
    row->repetitions = (double)n;
    row->steps = m->n_steps;
    fill_rates(m, first, n, scratch, row);
    row->step_ms = PART_MS(seconds);
    row->forward_ms = PART_MS(forward_s);
    row->backward_ms = PART_MS(backward_s);
    row->encode_ms = PART_MS(encode_s);
    row->decode_ms = PART_MS(decode_s);
    row->update_ms = PART_MS(update_s);
    row->other_ms = PART_MS(other_s);
    row->saved_bytes = m->memory.saved_bytes;
    row->saved_ratio = m->memory.saved_ratio;
    row->planned_peak_bytes = m->memory.planned_peak_bytes;
    row->live_peak_bytes = m->memory.live_peak_bytes;
    row->arena_bytes = m->memory.arena_bytes;
    row->process_peak_bytes = m->memory.process_peak_bytes;
}

static int write_rows(const struct bench_options *o, const struct measured *ms, size_t n,
                      struct err *err)
{
    char cpu[128], what[192];
    double *scratch = mem_calloc(MEM_OTHER, o->repetitions, sizeof *scratch);
    struct row *rows = mem_calloc(MEM_OTHER, n, sizeof *rows);
    if (!scratch || !rows) {
        (void)!err_nomem(err, "the table", n * sizeof *rows);
        goto out;
    }
    (void)sys_cpu_name(cpu, sizeof cpu);
    for (size_t i = 0; i < n; i++) {
        fill_row(o, &ms[i], &ms[0], scratch, &rows[i]);
        rows[i].cpu = cpu;
    }
    if (!o->csv) {
        (void)snprintf(what, sizeof what, "%s, %.0f px, batch %.0f: medians of %zu repetitions",
                       rows[0].model, rows[0].size, rows[0].batch, o->repetitions);
        bench_describe(what, ms[0].child.ready.n_threads, rows[0].isa);
    }
    (void)!bench_table_write(columns, N_COLUMNS, rows, sizeof *rows, n, o->csv, err);
out:
    mem_free(scratch);
    mem_free(rows);
    return (int)err->code;
}

int bench_step(const struct bench_options *o, struct err *err)
{
    const size_t n = o->n_policies ? o->n_policies : 1;
    struct measured *ms = mem_calloc(MEM_OTHER, n, sizeof *ms);
    int status = 0;
    if (!ms) {
        (void)!err_nomem(err, "the policies", n * sizeof *ms);
        return cli_status(err);
    }
    if (make_policies(o, ms, n, err) == 0) {
        status = measure(o, ms, n, err);
        if (status == 0) {
            (void)!write_rows(o, ms, n, err);
        }
    }
    for (size_t i = 0; i < n; i++) {
        bench_child_kill(&ms[i].child);
        mem_free(ms[i].times);
    }
    mem_free(ms);
    return status ? status : cli_status(err);
}
