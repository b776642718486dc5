/* Learning-rate schedules, as functions of the finished steps. */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include <stddef.h>

#include "base/err.h"

enum schedule_kind {
    SCHEDULE_CONSTANT,
    SCHEDULE_MULTISTEP, /* lr * gamma^(milestones passed) */
    SCHEDULE_COSINE,    /* lr * (1 + cos(pi * e / epochs)) / 2, e = whole epochs done: reaches 0
                           after the last epoch (torch's CosineAnnealingLR, stepped per epoch) */
};

#define SCHEDULE_MAX_MILESTONES 32

struct schedule {
    enum schedule_kind kind;
    double lr;     /* base rate */
    double gamma;  /* multistep */
    size_t epochs; /* of the whole training */
    /* Over the first warmup_epochs epochs the rate rises linearly, step by step, from
     * lr / warm-up steps to lr; the schedule proper then covers the epochs that are left. */
    double warmup_epochs;
    size_t milestones[SCHEDULE_MAX_MILESTONES]; /* epochs, rising */
    size_t n_milestones;
};

/* "constant", "multistep", "cosine". ERR_CONFIG else. */
int schedule_kind_parse(const char *name, enum schedule_kind *kind, struct err *err) MUST_USE;

/* Rate of step `step` (from 0) of epoch `epoch` (from 0) with `n_steps` steps per epoch. */
double schedule_lr(const struct schedule *s, size_t epoch, size_t step, size_t n_steps);

#endif
