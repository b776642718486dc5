#include "cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/str.h"
#include "base/sys.h"

static const double terminal_pause_s = 0.2, plain_pause_s = 30;

/* "1:02:03", "2:03". */
static const char *duration(char buf[32], double s)
{
    unsigned long t = s > 0 && s < 1e9 ? (unsigned long)(s + 0.5) : 0;
    if (t >= 3600) {
        snprintf(buf, 32, "%lu:%02lu:%02lu", t / 3600, t / 60 % 60, t % 60);
    } else {
        snprintf(buf, 32, "%lu:%02lu", t / 60, t % 60);
    }
    return buf;
}

void progress_begin(struct progress *p, const struct session *s)
{
    char saved[32], parts[64] = "";
    if (s->accumulate > 1) {
        snprintf(parts, sizeof parts, " in %zu micro-batches", s->accumulate);
    }
    p->is_terminal = isatty(STDERR_FILENO);
    p->last_s = sys_now_s();
    p->n_epochs = (size_t)s->cfg.train.epochs;
    fprintf(
        stderr,
        "%s: %s on %s, policy %s, seed %llu: %zu training images, batch %zu%s, %d thread%s, %s; "
        "planned peak %s\n",
        s->cfg.name, s->cfg.model.name, s->cfg.data.name, s->job.label,
        (unsigned long long)s->job.seed, s->info.n_train, s->batch_size, parts, s->n_threads,
        s->n_threads == 1 ? "" : "s", s->kernels.isa,
        str_bytes(saved, (double)session_memory_planned(&s->memory)));
    if (s->job.fit_batch) {
        fprintf(stderr, "%s: batch %zu is the largest that fits into %s\n", s->cfg.name,
                s->batch_size, str_bytes(saved, (double)s->job.budget_bytes));
    }
}

void progress_step(struct progress *p, const struct train_step_info *info)
{
    double now = sys_now_s();
    if (now - p->last_s < (p->is_terminal ? terminal_pause_s : plain_pause_s)) {
        return;
    }
    p->last_s = now;
    char left[32];
    fprintf(stderr,
            "%sepoch %zu/%zu  step %zu/%zu  loss %.4g  top-1 %.2f %%  %.0f images/s  %s left%s",
            p->is_terminal ? "\r\033[K" : "  ", info->epoch + 1, p->n_epochs, info->epoch_step + 1,
            info->n_epoch_steps, info->epoch_loss, info->epoch_top1, info->images_per_s,
            duration(left, info->left_s), p->is_terminal ? "" : "\n");
    p->line_open = p->is_terminal;
    fflush(stderr);
}

void progress_epoch(struct progress *p, const struct epoch_row *row)
{
    fprintf(stderr, "%sepoch %.0f/%zu  lr %.4g  train loss %.4g  top-1 %.2f %%",
            p->line_open ? "\r\033[K" : "", row->epoch, p->n_epochs, row->lr, row->train_loss,
            row->train_top1);
    if (!isnan(row->test_top1)) {
        fprintf(stderr, "  test loss %.4g  top-1 %.2f %%", row->test_loss, row->test_top1);
    }
    if (!isnan(row->test_top1) && !isnan(row->best_top1)) {
        fprintf(stderr, "  best %.2f %%", row->best_top1);
    }
    fprintf(stderr, "  %.1f s  %.0f images/s\n", row->epoch_s, row->images_per_s);
    p->line_open = 0;
    p->last_s = sys_now_s();
}

void progress_end(struct progress *p)
{
    if (p->line_open) {
        fprintf(stderr, "\n");
        p->line_open = 0;
    }
}
