/* A batch in runs of consecutive samples: the unit in which a chain of passes goes over a map, all
 * passes on one run before the first on the next, so that the run stays in the second-level cache.
 *
 * A run never crosses a batch-norm group's border. The cut depends on sizes alone, never on the
 * number of threads. */
#ifndef KERNELS_SAMPLE_RUNS_H
#define KERNELS_SAMPLE_RUNS_H

#include <stddef.h>

#include "base/real.h"
#include "tensor/tensor.h"

/* A run of one map; a chain touches three or four maps at a time. */
#define SAMPLE_RUN_BYTES 131072u

struct sample_runs {
    size_t n, group; /* samples; per batch-norm group */
    size_t samples;  /* of a whole run, at least 1 */
    size_t per_group, n_runs;
};

/* group >= n: one group. */
static inline struct sample_runs sample_runs_cut(const struct shape *s, size_t group)
{
    struct sample_runs r = {.n = s->n, .group = group < s->n ? group : s->n};
    const size_t sample_bytes = s->h * s->w * s->c * sizeof(real);
    r.samples = sample_bytes > 0 ? SAMPLE_RUN_BYTES / sample_bytes : r.group;
    r.samples = r.samples < 1 ? 1 : r.samples;
    if (r.n == 0 || r.group == 0) {
        return r; /* no runs */
    }
    const size_t rest = r.n % r.group;
    r.per_group = (r.group - 1) / r.samples + 1;
    r.n_runs = r.n / r.group * r.per_group + (rest > 0 ? (rest - 1) / r.samples + 1 : 0);
    return r;
}

/* Bytes of the largest run of maps of this shape, in whole lines of 64. */
static inline size_t sample_runs_bytes(const struct sample_runs *r, const struct shape *s)
{
    const size_t samples = r->samples < r->group ? r->samples : r->group;
    return (samples * s->h * s->w * s->c * sizeof(real) + 63) / 64 * 64;
}

/* Run i has samples *first .. *first + *n - 1. Returns their batch-norm group. */
static inline size_t sample_runs_get(const struct sample_runs *r, size_t i, size_t *first,
                                     size_t *n)
{
    const size_t g = i / r->per_group;
    size_t end = (g + 1) * r->group;
    end = end < r->n ? end : r->n;
    *first = g * r->group + i % r->per_group * r->samples;
    *n = end - *first < r->samples ? end - *first : r->samples;
    return g;
}

/* The first run of part `part` of n_parts, which are runs in a row. */
static inline size_t sample_runs_part(const struct sample_runs *r, size_t part, size_t n_parts)
{
    return r->n_runs * part / n_parts;
}

#endif
