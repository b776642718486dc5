#include "base/tasks.h"

#include <assert.h>

#include "base/threads.h"

static size_t first_of(uint64_t range)
{
    return (size_t)(range & UINT32_MAX);
}

static size_t end_of(uint64_t range)
{
    return (size_t)(range >> 32);
}

static uint64_t range_of(size_t first, size_t end)
{
    return (uint64_t)end << 32 | first;
}

void tasks_share(struct tasks *t, size_t n_tasks, int n_threads)
{
    assert(n_tasks < UINT32_MAX && n_threads >= 1);
    t->n_rows = n_threads < TASKS_MAX_ROWS ? (size_t)n_threads : TASKS_MAX_ROWS;
    for (size_t r = 0; r < t->n_rows; r++) {
        const uint64_t range = range_of(n_tasks * r / t->n_rows, n_tasks * (r + 1) / t->n_rows);
        atomic_init(&t->rows[r].range, range);
    }
}

/* The first task of a row. */
static int take_own(struct tasks *t, size_t row, size_t *task)
{
    uint64_t range = atomic_load_explicit(&t->rows[row].range, memory_order_relaxed);
    while (first_of(range) < end_of(range)) {
        const uint64_t left = range_of(first_of(range) + 1, end_of(range));
        if (atomic_compare_exchange_weak_explicit(&t->rows[row].range, &range, left,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            *task = first_of(range);
            return 1;
        }
    }
    return 0;
}

/* The last task of the row that has most left. */
static int take_from_others(struct tasks *t, size_t *task)
{
    for (;;) {
        size_t row = 0, most = 0;
        uint64_t range = 0;
        for (size_t r = 0; r < t->n_rows; r++) {
            const uint64_t of_row = atomic_load_explicit(&t->rows[r].range, memory_order_relaxed);
            if (end_of(of_row) - first_of(of_row) > most) {
                most = end_of(of_row) - first_of(of_row);
                range = of_row;
                row = r;
            }
        }
        if (most == 0) {
            return 0;
        }
        const uint64_t left = range_of(first_of(range), end_of(range) - 1);
        if (atomic_compare_exchange_strong_explicit(&t->rows[row].range, &range, left,
                                                    memory_order_relaxed, memory_order_relaxed)) {
            *task = end_of(left);
            return 1;
        }
    }
}

int tasks_next(struct tasks *t, size_t *task)
{
    return take_own(t, thread_index() % t->n_rows, task) || take_from_others(t, task);
}
