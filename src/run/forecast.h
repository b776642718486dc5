/* What a run will need, worked out before anything of it is allocated: both plans, every item of
 * memory, and what is alive at the highest moment. --plan prints it, --budget and the check against
 * the machine's memory refuse by it, and what a run then takes is compared with it. */
#ifndef RUN_FORECAST_H
#define RUN_FORECAST_H

#include <stddef.h>

#include "base/err.h"
#include "nn/plan.h"
#include "nn/plan_profile.h"
#include "run/session.h"

struct forecast {
    struct plan train, eval;     /* all zero: no such pass */
    struct plan_moment *moments; /* of the plan with the higher peak, the training's if equal */
    const struct plan *highest;  /* that plan */
    struct session_memory memory;
};

/* Fills memory too. training = 0: evaluation only. ERR_NOMEM, ERR_CONFIG. */
int forecast_make(struct session *s, int training, struct forecast *out, struct err *err) MUST_USE;
void forecast_fini(struct forecast *f);

/* What is alive in the arena at its highest moment. */
const struct plan_moment *forecast_peak(const struct forecast *f);

/* "layer1.0.bn2 backward": what step i of the plan with the higher peak does. */
void forecast_step_text(const struct session *s, const struct forecast *f, size_t i, char *buf,
                        size_t cap);

#endif
