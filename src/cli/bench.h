/* What division-bench's commands share: their options, repeated measurements and what is said of
 * them, tables as text or CSV. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <stddef.h>

#include "base/err.h"
#include "config/config.h"
#include "kernels/kernels.h"
#include "report/columns.h"
#include "run/job.h"
#include "tensor/tensor.h"

extern const char bench_program[];

/* --- options -------------------------------------------------------------------------------- */

enum { BENCH_MAX_SETTINGS = 64 };

/* The command line. Texts are NULL where nothing was given. */
struct bench_options {
    const char *operand;                                          /* data: config or data set */
    const char *model, *batch, *size, *algorithm, *threads, *isa; /* values of config keys */
    const char *policies[CONFIG_LIST];
    size_t n_policies;
    const char *settings[BENCH_MAX_SETTINGS]; /* KEY=VALUE of --set */
    size_t n_settings;
    struct shape shape;
    size_t repetitions, warmup;
    int csv;
};

/* The config that the options mean: made-up images, the network in the form for their size, that
 * policy alone (NULL: normal). ERR_CONFIG. */
int bench_config(const struct bench_options *o, const char *policy, struct config *cfg,
                 struct err *err) MUST_USE;

/* The options that are config keys, over any config: first the flags, then --set. */
int bench_override(const struct bench_options *o, struct config *cfg, struct err *err) MUST_USE;

/* bench_config, and its one job. Each policy is a list of its own: the same one may be measured
 * twice. */
int bench_job(const struct bench_options *o, const char *policy, struct config *cfg,
              struct job *job, struct err *err) MUST_USE;

/* Tells OpenMP how many threads the config wants; returns that. */
int bench_set_threads(const struct config *cfg);

/* --- the commands: 0 or the exit status; err says why, unless a child has ---------------------- */

int bench_step(const struct bench_options *o, struct err *err) MUST_USE;
int bench_kernels(const struct bench_options *o, struct err *err) MUST_USE;
int bench_codec(const struct bench_options *o, struct err *err) MUST_USE;
int bench_data(const struct bench_options *o, struct err *err) MUST_USE;

/* --- repetitions ---------------------------------------------------------------------------- */

/* What stands in the middle of the repetitions and where most of them lie. */
struct bench_spread {
    double median, p10, p90;
};

/* Sorts v [n], n > 0. Between two values it interpolates. */
struct bench_spread bench_spread_of(double *v, size_t n);

/* A line on stderr if p90 and p10 are further apart than a tenth of the median: then something else
 * was running, or the repetitions are too short. */
void bench_warn_noise(const char *what, const struct bench_spread *s);

/* Time that passes, or time that this process's threads compute, which other programs do not lengthen. */
enum bench_clock { BENCH_CLOCK_WALL, BENCH_CLOCK_CPU };

/* Calls call(ctx) `warmup` times, then finds by doubling how many calls take 20 ms: shorter
 * repetitions say more of the clock than of the call. */
size_t bench_calls(void (*call)(void *ctx), void *ctx, size_t warmup);

/* Seconds that one call takes, on average over n of them. */
double bench_time(enum bench_clock clock, void (*call)(void *ctx), void *ctx, size_t n);

/* Cycles per second of this core now: one addition of a chain of them takes one cycle on any
 * processor of today. (The time-stamp counter runs at a rate of its own.) */
double bench_core_hz(void);

/* --- the machine ---------------------------------------------------------------------------- */

/* What all n_threads together can do at best: no kernel is faster than its arithmetic at the one
 * rate and its traffic at the other. (Roofline model: Williams, Waterman, Patterson, CACM 2009) */
struct bench_roof {
    double
        flop_per_s; /* the fastest of some products of matrices in the caches; 2 per multiply-add */
    double bytes_per_s; /* memcpy of blocks far larger than a cache, read and written bytes */
};

/* Measures both, `tries` > 0 times: the best counts. ERR_NOMEM. */
int bench_roof_measure(const struct kernels *kernels, int n_threads, size_t tries,
                       struct bench_roof *roof, struct err *err) MUST_USE;

/* --- tables --------------------------------------------------------------------------------- */

/* One column of a table whose rows are structs. The same rows are written as text for people
 * (head, unit, number * scale with so many decimals; head NULL: not shown) or as CSV. */
struct bench_column {
    struct column csv;
    const char *head, *unit;
    double scale;
    int decimals;
};

/* A column of `struct row`'s field, in both forms or in CSV alone. */
#define BENCH_SHOWN(row, field, kind_, head, unit, scale, decimals)                           \
    {                                                                                         \
        {.name = #field, .kind = COLUMN_##kind_, .offset = offsetof(row, field)}, head, unit, \
            scale, decimals                                                                   \
    }
#define BENCH_HIDDEN(row, field, kind_) BENCH_SHOWN(row, field, kind_, NULL, NULL, 0, 0)
#define BENCH_MIB (1.0 / 1048576) /* scale of bytes */

/* rows: n_rows structs of row_bytes bytes each; `what` names them in messages. ERR_IO, ERR_NOMEM. */
int bench_table_write(const struct bench_column *columns, size_t n_columns, const void *rows,
                      size_t row_bytes, size_t n_rows, int csv, struct err *err) MUST_USE;

/* What was measured where, in front of a text table: `what`, threads, instructions, processor. */
void bench_describe(const char *what, int n_threads, const char *isa);

#endif
