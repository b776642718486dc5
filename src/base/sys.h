/* What the machine and the process are: clock, processor, memory high-water mark. */
#ifndef BASE_SYS_H
#define BASE_SYS_H

#include <stddef.h>

#include "base/err.h"

/* Monotonic seconds. */
double sys_now_s(void);

/* VmHWM and VmRSS of /proc/self/status in bytes; 0 where the system does not say. */
size_t sys_peak_bytes(void);
size_t sys_resident_bytes(void);

/* Physical memory in bytes that this process may use: the smaller of MemTotal and the cgroup's
 * limit; 0 if unknown. */
size_t sys_memory_bytes(void);

/* Processors this process may run on (affinity mask), at least 1. */
int sys_n_cpus(void);

/* Tasks of the machine that run or wait for a processor at this moment, the caller among them; 0
 * where the system does not say. */
int sys_n_runnable(void);

/* "model name" of /proc/cpuinfo, "unknown" where there is none. Returns buf. */
const char *sys_cpu_name(char *buf, size_t cap);

/* Vector instruction sets, asked of the processor and the system; false off x86. */
struct sys_isa {
    int avx2;   /* avx2 and fma */
    int avx512; /* avx512 f, bw, dq, vl */
};
struct sys_isa sys_isa_get(void);

/* UTC time now, ISO 8601 "2026-11-24T15:25:51Z". Returns buf. */
const char *sys_time_utc(char buf[32]);

#endif
