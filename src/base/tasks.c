#include "base/tasks.h"

#include <assert.h>

#include "base/threads.h"

void tasks_share(struct tasks *t, size_t n_tasks, int n_threads)
{
    assert(n_threads >= 1);
    t->n_rows = n_threads < TASKS_MAX_ROWS ? (size_t)n_threads : TASKS_MAX_ROWS;
    for (size_t r = 0; r < t->n_rows; r++) {
        const size_t first = n_tasks * r / t->n_rows, end = n_tasks * (r + 1) / t->n_rows;
        atomic_init(&t->rows[r].first, first);
        atomic_init(&t->rows[r].end, end);
        atomic_init(&t->rows[r].left, end - first);
    }
}

static size_t left_in(struct tasks_row *row)
{
    return atomic_load_explicit(&row->left, memory_order_relaxed);
}

/* The right to one task of a row, at either end of it: no more are given than there are tasks, so
 * that `first` and `end` never pass each other. */
static int reserve(struct tasks_row *row)
{
    size_t left = left_in(row);
    while (left > 0) {
        if (atomic_compare_exchange_weak_explicit(&row->left, &left, left - 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return 1;
        }
    }
    return 0;
}

/* NULL: no row has any. */
static struct tasks_row *fullest_row(struct tasks *t)
{
    struct tasks_row *fullest = NULL;
    size_t most = 0;
    for (size_t r = 0; r < t->n_rows; r++) {
        const size_t left = left_in(&t->rows[r]);
        if (left > most) {
            most = left;
            fullest = &t->rows[r];
        }
    }
    return fullest;
}

int tasks_next(struct tasks *t, size_t *task)
{
    struct tasks_row *row = &t->rows[thread_index() % t->n_rows];
    if (reserve(row)) {
        *task = atomic_fetch_add_explicit(&row->first, 1, memory_order_relaxed);
        return 1;
    }
    while ((row = fullest_row(t)) != NULL) {
        if (reserve(row)) {
            *task = atomic_fetch_sub_explicit(&row->end, 1, memory_order_relaxed) - 1;
            return 1;
        }
    }
    return 0;
}
