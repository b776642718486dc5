/* Repetitions: how long, how many, and what is said of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

static double time_calls(void (*call)(void *ctx), void *ctx, size_t n)
{
    const double start = sys_now_s();
    for (size_t i = 0; i < n; i++) {
        call(ctx);
    }
    return sys_now_s() - start;
}

void bench_repeat(void (*call)(void *ctx), void *ctx, size_t warmup, size_t repetitions,
                  double *seconds)
{
    static const double shortest_s = 0.02;
    size_t n = 1;
    (void)time_calls(call, ctx, warmup);
    while (time_calls(call, ctx, n) < shortest_s) {
        n *= 2;
    }
    for (size_t i = 0; i < repetitions; i++) {
        seconds[i] = time_calls(call, ctx, n) / (double)n;
    }
}
