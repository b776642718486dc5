#include "base/threads.h"

#ifdef _OPENMP

#include <omp.h>

size_t thread_index(void)
{
    return (size_t)omp_get_thread_num();
}

int threads_are_busy(void)
{
    return omp_in_parallel();
}

void threads_set(int n)
{
    omp_set_dynamic(0);
    omp_set_max_active_levels(1);
    omp_set_num_threads(n);
}

int threads_max(void)
{
    return omp_get_max_threads();
}

#else

size_t thread_index(void)
{
    return 0;
}

int threads_are_busy(void)
{
    return 0;
}

void threads_set(int n)
{
    (void)n;
}

int threads_max(void)
{
    return 1;
}

#endif
