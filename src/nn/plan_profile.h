/* What is alive at each step of a plan, and where in the network the step stands: for reports. */
#ifndef NN_PLAN_PROFILE_H
#define NN_PLAN_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "nn/graph.h"
#include "nn/plan.h"

struct plan_moment {
    size_t live[MEM_N_TAGS]; /* bytes in the arena, by tag */
    size_t live_bytes;       /* their sum */
    uint32_t layer;          /* at work; what restores a map works for the layer that reads it */
    int is_backward;         /* behind the loss */
    /* 0 to 1 in forward, 1 to 2 in backward: every layer has the same share, and its steps share
     * that. The same place of the network is the same position under every policy. */
    double position;
};

/* moments [plan.n_steps], MEM_OTHER, the caller's. The highest live_bytes is plan.peak_bytes, for
 * the first time at plan.peak_step. ERR_NOMEM. */
int plan_profile_make(const struct plan *p, const struct graph *g, struct plan_moment **moments,
                      struct err *err) MUST_USE;

/* "forward", "encode", "loss", … */
const char *plan_step_word(const struct plan_step *s);

/* The layer, or the map, that the step is about: "layer1.0.conv1". */
const char *plan_step_subject(const struct plan_step *s, const struct graph *g);

#endif
