#include "config.h"

#include "run/record_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/sys.h"
#include "kernels/gemm.h"
#include "report/record.h"
#include "run/folder.h"
#include "run/run.h"

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static void write_machine(struct record *r, const struct session *s)
{
    char cpu[256], blas[256];
    record_section(r, "build");
    record_text(r, "version", PACKAGE_VERSION);
    record_text(r, "compiler", COMPILER);
    record_section_end(r);
    record_section(r, "machine");
    record_text(r, "cpu", sys_cpu_name(cpu, sizeof cpu));
    record_count(r, "cpus", (uint64_t)sys_n_cpus());
    record_count(r, "memory_bytes", sys_memory_bytes());
    record_count(r, "threads", (uint64_t)s->n_threads);
    record_text(r, "isa", s->kernels.isa);
    record_text(r, "gemm",
                strcmp(s->kernels.isa, "ref") == 0 ? "triple loops"
                                                   : gemm_library_name(blas, sizeof blas));
    record_section_end(r);
}

static void write_data(struct record *r, const struct session *s)
{
    char crc[16];
    record_section(r, "data");
    record_text(r, "name", s->cfg.data.name);
    record_text(r, "path", s->cfg.data.path[0] ? s->cfg.data.path : s->dataset->type->default_path);
    record_count(r, "train_images", s->info.n_train);
    record_count(r, "test_images", s->info.n_test);
    snprintf(crc, sizeof crc, "%08lx", (unsigned long)s->dataset->crc[DATA_TRAIN]);
    record_text(r, "train_crc32", crc);
    snprintf(crc, sizeof crc, "%08lx", (unsigned long)s->dataset->crc[DATA_TEST]);
    record_text(r, "test_crc32", crc);
    record_section_end(r);
}

static void write_memory(struct record *r, const struct run_record *rr, const struct session *s)
{
    const struct session_memory *m = &s->memory;
    record_section(r, "memory");
    record_count(r, "params_bytes", m->params);
    record_count(r, "momentum_bytes", m->momentum);
    record_count(r, "gradients_bytes", m->gradients);
    record_count(r, "data_bytes", m->data);
    record_count(r, "planned_arena_peak_bytes", m->peak);
    record_count(r, "planned_peak_bytes", session_memory_planned(&s->memory));
    record_count(r, "arena_bytes", m->arena);
    record_count(r, "process_base_bytes", m->base);
    record_count(r, "expected_process_peak_bytes", session_memory_expected(&s->memory));
    record_count(r, "budget_bytes", s->job.budget_bytes);
    record_count(r, "normal_saved_bytes", s->normal_saved_bytes);
    record_section_end(r);
    if (rr->saved_bytes > 0) {
        record_section(r, "saved");
        for (int i = 0; i < STORE_N_PIECES; i++) {
            char key[64];
            snprintf(key, sizeof key, "%s_bytes", store_piece_name((enum store_piece)i));
            record_count(r, key, rr->saved_pieces[i]);
        }
        record_count(r, "total_bytes", (uint64_t)rr->saved_bytes);
        record_count(r, "spilled_bytes", (uint64_t)rr->spilled_bytes);
        record_section_end(r);
    }
}

/* outcome NULL: still running. */
static int write_record(const struct run_record *rr, const struct session *s,
                        const struct err *outcome, size_t n_steps, struct err *err)
{
    char now[32];
    struct file_out out = {0};
    if (file_out_open(&out, rr->path, err)) {
        return (int)err->code;
    }
    struct record r = {.fp = out.fp};
    record_text(&r, "run", s->cfg.name);
    record_text(&r, "policy", s->job.label);
    record_count(&r, "seed", s->job.seed);
    record_text(&r, "status", outcome ? run_status_name(outcome) : "running");
    if (outcome && outcome->code) {
        record_text(&r, "message", outcome->msg);
    }
    record_text(&r, "started", rr->started);
    if (outcome) {
        record_text(&r, "ended", sys_time_utc(now));
        record_real(&r, "wall_s", sys_now_s() - rr->start_s);
        record_count(&r, "steps", n_steps);
        record_count(&r, "epochs", (uint64_t)rr->n_epochs);
        record_real(&r, "last_top1", rr->last_top1);
        record_real(&r, "best_top1", rr->best_top1);
        record_count(&r, "process_peak_bytes", sys_peak_bytes());
    }
    write_machine(&r, s);
    write_data(&r, s);
    write_memory(&r, rr, s);
    if (record_finish(&r, err) || file_out_commit(&out, err)) {
        file_out_discard(&out);
        return err_add(err, "%s", rr->path);
    }
    return 0;
}

int run_record_begin(struct run_record *r, const struct session *s, struct err *err)
{
    *r = (struct run_record){
        .start_s = sys_now_s(), .last_top1 = (double)NAN, .best_top1 = (double)NAN};
    sys_time_utc(r->started);
    if (folder_path(r->path, sizeof r->path, s->job.dir, "run.yaml", err)) {
        return (int)err->code;
    }
    return write_record(r, s, NULL, 0, err);
}

void run_record_epoch(struct run_record *r, const struct epoch_row *row, const size_t *pieces)
{
    r->n_epochs = row->epoch;
    if (!isnan(row->test_top1)) {
        r->last_top1 = row->test_top1;
        r->best_top1 = row->best_top1;
    }
    if (!isnan(row->saved_bytes)) {
        r->saved_bytes = row->saved_bytes;
        r->spilled_bytes = row->spilled_bytes;
        memcpy(r->saved_pieces, pieces, sizeof r->saved_pieces);
    }
}

int run_record_end(struct run_record *r, const struct session *s, const struct err *outcome,
                   size_t n_steps, struct err *err)
{
    return write_record(r, s, outcome, n_steps, err);
}
