/* What rooms need of OpenMP besides its pragmas; without OpenMP there is one thread. */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include <stddef.h>

/* The calling thread's number within its parallel region, from 0 on. */
size_t thread_index(void);

/* Whether the caller is in a parallel region: the other threads are busy. */
int threads_are_busy(void);

/* How many threads a parallel region without num_threads has; regions within regions have one. */
void threads_set(int n);
int threads_max(void);

#endif
