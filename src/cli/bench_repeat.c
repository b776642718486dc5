/* Repetitions: how long, how many, and what is said of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/sys.h"
#include "cli/bench.h"

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t n, double q)
{
    const double at = q * (double)(n - 1);
    const size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

struct bench_spread bench_spread_of(double *v, size_t n)
{
    qsort(v, n, sizeof *v, compare);
    return (struct bench_spread){
        .median = quantile(v, n, 0.5), .p10 = quantile(v, n, 0.1), .p90 = quantile(v, n, 0.9)};
}

void bench_warn_noise(const char *what, const struct bench_spread *s)
{
    const double spread = fabs(s->p90 - s->p10) / s->median;
    if (spread > 0.1) {
        (void)fflush(stdout);
        (void)fprintf(stderr,
                      "%s: warning: %s: the repetitions lie %.0f %% apart (10th to 90th "
                      "percentile); is something else running?\n",
                      bench_program, what, 100 * spread);
    }
}

static double now_s(enum bench_clock clock)
{
    struct timespec t;
    if (clock == BENCH_CLOCK_WALL || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0) {
        return sys_now_s();
    }
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_time(enum bench_clock clock, void (*call)(void *ctx), void *ctx, size_t n)
{
    const double start = now_s(clock);
    for (size_t i = 0; i < n; i++) {
        call(ctx);
    }
    return (now_s(clock) - start) / (double)n;
}

size_t bench_calls(void (*call)(void *ctx), void *ctx, size_t warmup)
{
    static const double shortest_s = 0.02;
    size_t n = 1;
    for (size_t i = 0; i < warmup; i++) {
        call(ctx);
    }
    while (bench_time(BENCH_CLOCK_WALL, call, ctx, n) * (double)n < shortest_s) {
        n *= 2;
    }
    return n;
}

/* Waits for x, for the compiler: it can neither fold additions nor move them. */
static inline size_t opaque(size_t x)
{
    __asm__ volatile("" : "+r"(x));
    return x;
}

/* Seconds of n dependent additions, n a multiple of 8: written out, so that the loop's own work
 * hides behind them. */
static double time_additions(size_t n)
{
    const size_t one = opaque(1);
    size_t sum = 0;
    const double start = now_s(BENCH_CLOCK_CPU);
    for (size_t i = 0; i < n; i += 8) {
        sum = opaque(sum + one);
        sum = opaque(sum + one);
        sum = opaque(sum + one);
        sum = opaque(sum + one);
        sum = opaque(sum + one);
        sum = opaque(sum + one);
        sum = opaque(sum + one);
        sum = opaque(sum + one);
    }
    return now_s(BENCH_CLOCK_CPU) - start;
}

double bench_core_hz(void)
{
    enum { ADDITIONS = 1 << 20, TRIES = 5 };
    double best = 0;
    for (int i = 0; i < TRIES; i++) { /* the fastest was interrupted least */
        const double hz = ADDITIONS / time_additions(ADDITIONS);
        best = hz > best ? hz : best;
    }
    return best;
}
