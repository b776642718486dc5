/* How threads share tasks: each is done once, whoever comes, and nobody waits for a slow one. */
#include "base/tasks.h"
#include "base/threads.h"
#include "test_base.h"

enum { MAX_TASKS = 1000 };

static const struct {
    size_t n_tasks;
    int expected, come;
} teams[] = {
    {0, 1, 1}, {0, 4, 4}, {1, 1, 1},    {1, 4, 4},     {3, 4, 4},      {1000, 1, 1},
    {7, 2, 2}, {8, 3, 3}, {1000, 4, 4}, {1000, 4, 1},  {1000, 2, 5},   {1000, 3, 2},
    {5, 9, 1}, {9, 2, 8}, {64, 64, 3},  {1000, 70, 3}, {1000, 200, 8},
};

START_TEST(each_task_once)
{
    static _Atomic unsigned char n_done[MAX_TASKS];
    const size_t n_tasks = teams[_i].n_tasks;
    struct tasks tasks;
    tasks_share(&tasks, n_tasks, teams[_i].expected);
#pragma omp parallel num_threads(teams[_i].come)
    for (size_t i; tasks_next(&tasks, &i);) {
        ck_assert_uint_lt(i, n_tasks);
        n_done[i]++;
    }
    for (size_t i = 0; i < n_tasks; i++) {
        ck_assert_uint_eq(n_done[i], 1);
    }
    size_t i;
    ck_assert_int_eq(tasks_next(&tasks, &i), 0);
}
END_TEST

/* The caller is thread 0: first its own row in order, then the longest row from its end. */
START_TEST(own_tasks_first_then_the_last_of_others)
{
    static const size_t order[] = {0, 1, 4, 9, 3, 6, 8, 2, 5, 7};
    struct tasks tasks;
    tasks_share(&tasks, 10, 4); /* [0, 2) [2, 5) [5, 7) [7, 10) */
    for (size_t k = 0; k < 10; k++) {
        size_t i;
        ck_assert_int_eq(tasks_next(&tasks, &i), 1);
        ck_assert_uint_eq(i, order[k]);
    }
}
END_TEST

/* A thread that a task holds up: the others do all the rest, also of its row. */
START_TEST(nobody_waits_for_a_slow_thread)
{
    enum { N = 100 };
    struct tasks tasks;
    static _Atomic size_t n_done;
    static _Atomic int is_held, n_threads;
    tasks_share(&tasks, N, 3);
#pragma omp parallel num_threads(3)
    {
        n_threads++;
#pragma omp barrier
        for (size_t i; tasks_next(&tasks, &i);) {
            if (i == 0) {
                is_held = 1;
                while (n_threads > 1 && n_done < N - 1) {
                    /* ends when the others have done the rest, or with this test's time limit */
                }
            } else {
                n_done++;
            }
        }
    }
    ck_assert_int_eq(is_held, 1);
    ck_assert_uint_eq(n_done, N - 1);
}
END_TEST

START_TEST(regions_within_regions_have_one_thread)
{
    static _Atomic int n_inner, n_busy;
    ck_assert_int_eq(threads_are_busy(), 0);
    threads_set(2);
    ck_assert_int_ge(threads_max(), 1);
    const int n = threads_max();
#pragma omp parallel
    {
        n_busy += threads_are_busy();
#pragma omp parallel num_threads(2)
        {
            ck_assert_uint_eq(thread_index(), 0);
            n_inner++;
        }
    }
    ck_assert_int_eq(n_inner, n);
    ck_assert_int_eq(n_busy, n > 1 ? n : 0);
}
END_TEST

Suite *tasks_suite(void)
{
    Suite *s = suite_create("tasks");
    TCase *tc = tcase_create("tasks");
    tcase_add_loop_test(tc, each_task_once, 0, (int)(sizeof teams / sizeof *teams));
    tcase_add_test(tc, own_tasks_first_then_the_last_of_others);
    tcase_add_test(tc, nobody_waits_for_a_slow_thread);
    tcase_add_test(tc, regions_within_regions_have_one_thread);
    suite_add_tcase(s, tc);
    return s;
}
