/* How the threads of a parallel loop share its tasks.
 *
 * Every thread begins with tasks in a row of its own, as in a static schedule: it meets the memory
 * and the scratch that it used in the loop before. A thread that has done its tasks takes the last
 * one of whoever has most left. So nobody waits longer than a task takes, even if the operating
 * system takes a processor away for a while, and no two threads take turns at neighbouring tasks.
 *
 *     struct tasks tasks;
 *     tasks_share(&tasks, n, n_threads);
 *     #pragma omp parallel num_threads(n_threads)
 *     for (size_t i; tasks_next(&tasks, &i);) {
 *         ...
 *     }
 *
 * Which thread does a task is not known beforehand: what a task computes must not depend on it. */
#ifndef BASE_TASKS_H
#define BASE_TASKS_H

#include <stdatomic.h>
#include <stddef.h>

#define TASKS_MAX_ROWS 64 /* beyond, threads have a row in common */

struct tasks_row {
    _Alignas(64) _Atomic size_t left; /* tasks that nobody has taken */
    _Atomic size_t first, end;        /* they are first .. end - 1 */
};

struct tasks {
    size_t n_rows;
    struct tasks_row rows[TASKS_MAX_ROWS];
};

/* n_threads >= 1: those that are expected; more or fewer may come. */
void tasks_share(struct tasks *t, size_t n_tasks, int n_threads);

/* One more task for the calling thread, or 0 when all are taken. */
int tasks_next(struct tasks *t, size_t *task);

#endif
