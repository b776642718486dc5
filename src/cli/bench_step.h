/* The whole training step, measured in a process per policy, so that its memory is its own.
 *
 * The parent starts a child for each policy and leads them: a child takes so many steps as it is
 * told and says how long they took. While one computes the others wait, so that policies can take
 * turns and a machine that slows down slows all of them. */
#ifndef CLI_BENCH_STEP_H
#define CLI_BENCH_STEP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "config/config.h"
#include "run/job.h"

/* What a child says, in this order, through its pipe: once ready, after each command, at its end
 * (a command of 0 steps). Nothing more comes after an error, which it has printed: its exit status
 * tells. */
struct bench_step_ready {
    size_t expected_bytes; /* of the process, at its peak */
    int n_threads;
    char isa[16];
};

struct bench_step_times {
    double n_steps, n_images;
    double seconds; /* of all these steps, as the sum of: */
    double forward_s, backward_s, encode_s, decode_s, update_s;
    double other_s; /* between the executor's steps: loader, loop */
};

struct bench_step_memory {
    double saved_bytes, saved_ratio, planned_peak_bytes, live_peak_bytes, arena_bytes,
        process_peak_bytes;
};

struct bench_child {
    struct config cfg; /* of this policy alone */
    struct job job;
    pid_t pid; /* 0: not running */
    int to, from;
    struct bench_step_ready ready;
};

/* Starts the child and waits until it is ready. Returns 0 or an exit status; err tells why, unless
 * the child has. */
int bench_child_start(struct bench_child *c, struct err *err) MUST_USE;
/* n > 0 steps. As above. */
int bench_child_steps(struct bench_child *c, uint32_t n, struct bench_step_times *out,
                      struct err *err) MUST_USE;
/* Ends it properly. */
int bench_child_finish(struct bench_child *c, struct bench_step_memory *out, struct err *err)
    MUST_USE;
/* Ends it anyhow; nothing if it is not running. */
void bench_child_kill(struct bench_child *c);

/* The child's side: reads commands from `in`, writes to `out`. Returns its exit status. */
int bench_step_serve(const struct config *cfg, const struct job *job, int in, int out);

#endif
