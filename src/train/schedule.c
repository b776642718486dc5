#include "train/schedule.h"

#include <math.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

int schedule_kind_parse(const char *name, enum schedule_kind *kind, struct err *err)
{
    static const char *const names[] = {"constant", "multistep", "cosine"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *kind = (enum schedule_kind)i;
            return 0;
        }
    }
    return err_set(err, ERR_CONFIG,
                   "train.schedule: \"%s\" is none of: constant, multistep, cosine", name);
}

double schedule_lr(const struct schedule *s, size_t epoch, size_t step, size_t n_steps)
{
    double done = (double)epoch + (double)step / (double)n_steps;
    if (done < s->warmup_epochs) {
        double warmup_steps = s->warmup_epochs * (double)n_steps;
        double n = (double)(epoch * n_steps + step + 1);
        return s->lr * (n < warmup_steps ? n / warmup_steps : 1);
    }
    switch (s->kind) {
    case SCHEDULE_CONSTANT: return s->lr;
    case SCHEDULE_MULTISTEP: {
        double lr = s->lr;
        for (size_t i = 0; i < s->n_milestones && s->milestones[i] <= epoch; i++) {
            lr *= s->gamma;
        }
        return lr;
    }
    case SCHEDULE_COSINE: {
        double warm = ceil(s->warmup_epochs);
        double total = (double)s->epochs - warm, e = (double)epoch - warm;
        return total > 0 && e > 0 ? s->lr * 0.5 * (1 + cos(pi * e / total)) : s->lr;
    }
    }
    return s->lr;
}
