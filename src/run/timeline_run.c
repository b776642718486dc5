/* --timeline: what is alive at each step of one training iteration, of several runs in one table
 * and one picture. From the plans alone. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "nn/layer.h"
#include "report/gnuplot.h"
#include "report/timeline.h"
#include "run/folder.h"
#include "run/forecast.h"
#include "run/run.h"

static const char csv_name[] = "timeline.csv", script_name[] = "timeline.gp",
                  png_name[] = "timeline.png";

static void fill_row(const struct session *s, const struct forecast *f, const struct plan_moment *m,
                     struct timeline_row *row)
{
    const struct session_memory *memory = &f->memory;
    const double bytes[] = {
        row->weights_bytes = (double)(memory->params + memory->momentum + memory->gradients),
        row->images_bytes = (double)memory->data,
        row->saved_bytes = (double)m->live[MEM_SAVED],
        row->values_bytes = (double)m->live[MEM_ACTIVATION],
        row->gradients_bytes = (double)m->live[MEM_GRAD],
        row->workspace_bytes = (double)m->live[MEM_WORKSPACE],
    };
    row->live_bytes = 0;
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        row->live_bytes += bytes[i];
    }
    row->position = m->position;
    row->layer = s->graph.layers[m->layer]->name;
}

static int write_steps(const struct session *s, const struct forecast *f, size_t number, FILE *fp,
                       double *peak, struct err *err)
{
    struct plan_moment *moments;
    struct timeline_row row = {.csv_version = CSV_VERSION,
                               .series = (double)number,
                               .run = s->cfg.name,
                               .policy = s->job.label,
                               .batch_size = (double)s->batch_size};
    if (plan_profile_make(&f->train, &s->graph, &moments, err)) {
        return (int)err->code;
    }
    for (size_t i = 0; i < f->train.n_steps && !err->code; i++) {
        row.step = (double)(i + 1);
        row.action = plan_step_word(&f->train.steps[i]);
        fill_row(s, f, &moments[i], &row);
        *peak = row.live_bytes > *peak ? row.live_bytes : *peak;
        (void)!timeline_write_row(fp, &row, err);
    }
    mem_free(moments);
    return (int)err->code;
}

/* The picture's title while all runs agree on it. */
static void join_title(char *title, size_t cap, const struct session *s)
{
    char own[256];
    (void)snprintf(own, sizeof own, "Live memory of one training iteration: %s, batch %zu",
                   s->cfg.model.name, s->batch_size);
    if (!title[0]) {
        (void)snprintf(title, cap, "%s", own);
    } else if (strcmp(title, own) != 0) {
        (void)snprintf(title, cap, "Live memory of one training iteration");
    }
}

static int add_run(const struct run_list *runs, size_t i, FILE *fp, struct timeline_series *series,
                   char *title, size_t title_cap, struct err *err)
{
    struct session s;
    struct forecast f;
    struct config own;
    struct job single;
    job_config(runs->configs[i], runs->jobs[i], &own, &single);
    if (session_init(&s, &own, &single, err)) {
        return (int)err->code;
    }
    if (forecast_make(&s, 1, &f, err) == 0) {
        int several = i > 0 || runs->n > 1;
        int other_name = several && strcmp(runs->configs[0]->name, own.name) != 0;
        (void)snprintf(series->name, sizeof series->name, "%.60s%s%.60s",
                       other_name ? own.name : "", other_name ? " " : "", single.label);
        join_title(title, title_cap, &s);
        (void)!write_steps(&s, &f, i + 1, fp, &series->peak_bytes, err);
        forecast_fini(&f);
    }
    session_fini(&s);
    return (int)err->code;
}

static int open_out(struct file_out *out, const char *dir, const char *name, struct err *err)
{
    char path[JOB_PATH + 32];
    return folder_path(path, sizeof path, dir, name, err) || file_out_open(out, path, err)
               ? (int)err->code
               : 0;
}

static int write_files(const struct run_list *runs, struct file_out *csv, struct file_out *script,
                       struct timeline_series *series, struct err *err)
{
    char title[256] = "";
    if (timeline_write_header(csv->fp, err)) {
        return (int)err->code;
    }
    for (size_t i = 0; i < runs->n; i++) {
        if (add_run(runs, i, csv->fp, &series[i], title, sizeof title, err)) {
            return (int)err->code;
        }
    }
    return timeline_write_script(script->fp, csv_name, png_name, title, series, runs->n, err);
}

/* An old picture beside new data would lie; it goes when these are there. */
static int remove_picture(const char *dir, struct err *err)
{
    char png[JOB_PATH + 32];
    if (folder_path(png, sizeof png, dir, png_name, err)) {
        return (int)err->code;
    }
    return unlink(png) == 0 || errno == ENOENT
               ? 0
               : err_sys(err, ERR_IO, errno, "cannot replace %s", png);
}

int run_timeline(const struct run_list *runs, const char *dir, int *has_picture, struct err *err)
{
    struct file_out csv = {0}, script = {0};
    struct timeline_series *series = mem_calloc(MEM_OTHER, runs->n, sizeof *series);
    if (!series) {
        return err_nomem(err, "the timeline", runs->n * sizeof *series);
    }
    if (file_make_dirs(dir, err)) {
        goto out;
    }
    if (open_out(&csv, dir, csv_name, err) || open_out(&script, dir, script_name, err) ||
        write_files(runs, &csv, &script, series, err)) {
        (void)!err_add(err, "%s", dir);
    } else if (remove_picture(dir, err) == 0 && file_out_commit(&csv, err) == 0 &&
               file_out_commit(&script, err) == 0) {
        (void)!gnuplot_run(dir, script_name, has_picture, err);
    }
out:
    file_out_discard(&csv);
    file_out_discard(&script);
    mem_free(series);
    return (int)err->code;
}
