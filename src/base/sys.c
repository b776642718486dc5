/* The machine and the process, from /proc, /sys and the C library: see sys.h. Uses no heap, since
 * it is asked while training and when memory has run out. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "base/sys.h"

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"

double sys_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reads the beginning of a small file, as a string. Returns 0, or -1 if it cannot be read. */
static int read_text(const char *path, char *buf, size_t cap)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    size_t len = 0;
    while (len + 1 < cap) {
        const ssize_t n = read(fd, buf + len, cap - 1 - len);
        if (n <= 0) {
            break;
        }
        len += (size_t)n;
    }
    buf[len] = '\0';
    close(fd);
    return 0;
}

/* What stands behind `field` at the beginning of a line of `text`, or NULL. */
static const char *find_line(const char *text, const char *field)
{
    const size_t len = strlen(field);
    const char *line = text;
    while (line != NULL && *line != '\0') {
        if (strncmp(line, field, len) == 0) {
            return line + len;
        }
        const char *end = strchr(line, '\n');
        line = end == NULL ? NULL : end + 1;
    }
    return NULL;
}

/* "VmHWM:     1234 kB" of a file, in bytes; 0 if it is not there. */
static size_t read_kb_line(const char *path, const char *field)
{
    char text[4096];
    if (read_text(path, text, sizeof text) != 0) {
        return 0;
    }
    const char *value = find_line(text, field);
    return value == NULL ? 0 : (size_t)strtoull(value, NULL, 10) * 1024;
}

int sys_n_runnable(void)
{
    char text[128];
    int n = 0;
    /* "0.20 0.18 0.12 1/80 11206": three averages, tasks that run / all, the last process. */
    if (read_text("/proc/loadavg", text, sizeof text) != 0 ||
        sscanf(text, "%*s %*s %*s %d/", &n) != 1) {
        return 0;
    }
    return n;
}

size_t sys_peak_bytes(void)
{
    return read_kb_line("/proc/self/status", "VmHWM:");
}

size_t sys_resident_bytes(void)
{
    return read_kb_line("/proc/self/status", "VmRSS:");
}

/* A cgroup's limit file as bytes; SIZE_MAX for "max" or if there is none. */
static size_t read_limit(const char *path)
{
    char text[64];
    if (read_text(path, text, sizeof text) != 0 || text[0] < '0' || text[0] > '9') {
        return SIZE_MAX;
    }
    const unsigned long long value = strtoull(text, NULL, 10);
    return value > SIZE_MAX ? SIZE_MAX : (size_t)value;
}

/* The smallest limit of the group `group` ("/a/b") and its parents below `mount`. */
static size_t cgroup_limit(const char *mount, const char *group, const char *file)
{
    char path[1024];
    if (str_copy(path, sizeof path, group) != 0) {
        return SIZE_MAX;
    }
    size_t least = SIZE_MAX;
    for (;;) {
        char name[2048];
        (void)snprintf(name, sizeof name, "%s%s/%s", mount, path, file);
        const size_t limit = read_limit(name);
        least = limit < least ? limit : least;
        char *slash = strrchr(path, '/');
        if (slash == NULL) {
            return least;
        }
        *slash = '\0';
    }
}

/* The limit that this process's control group sets, of either version; SIZE_MAX if none. */
static size_t cgroup_memory_bytes(void)
{
    char text[4096];
    if (read_text("/proc/self/cgroup", text, sizeof text) != 0) {
        return SIZE_MAX;
    }
    size_t least = SIZE_MAX;
    for (char *line = text; *line != '\0';) {
        char *end = strchr(line, '\n');
        char *next = end == NULL ? line + strlen(line) : end + 1;
        if (end != NULL) {
            *end = '\0';
        }
        /* "ID:CONTROLLERS:/GROUP"; version 2 has no controllers. */
        const char *controllers = strchr(line, ':');
        const char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group != NULL) {
            const char *memory = strstr(controllers, "memory");
            size_t limit = SIZE_MAX;
            if (group == controllers + 1) {
                limit = cgroup_limit("/sys/fs/cgroup", group + 1, "memory.max");
            } else if (memory != NULL && memory < group) {
                limit = cgroup_limit("/sys/fs/cgroup/memory", group + 1, "memory.limit_in_bytes");
            }
            least = limit < least ? limit : least;
        }
        line = next;
    }
    return least;
}

size_t sys_memory_bytes(void)
{
    const size_t total = read_kb_line("/proc/meminfo", "MemTotal:");
    const size_t limit = cgroup_memory_bytes();
    return total == 0 && limit == SIZE_MAX ? 0 : (total == 0 || limit < total) ? limit : total;
}

int sys_n_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        const int n = CPU_COUNT(&set);
        return n > 0 ? n : 1;
    }
    const long n = sysconf(_SC_NPROCESSORS_ONLN); /* more than 1024 processors */
    return n > 0 ? (int)n : 1;
}

const char *sys_cpu_name(char *buf, size_t cap)
{
    char text[4096];
    const char *value = NULL;
    if (read_text("/proc/cpuinfo", text, sizeof text) == 0) {
        value = find_line(text, "model name");
    }
    if (value == NULL) {
        (void)str_copy(buf, cap, "unknown");
        return buf;
    }
    value += strspn(value, "\t :");
    (void)snprintf(buf, cap, "%.*s", (int)strcspn(value, "\n"), value);
    return buf;
}

struct sys_isa sys_isa_get(void)
{
    struct sys_isa isa = {0, 0};
#if defined(__x86_64__) || defined(__i386__)
    /* Asks the system too: registers that it does not save do not count as supported. */
    __builtin_cpu_init();
    isa.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    isa.avx512 = isa.avx2 && __builtin_cpu_supports("avx512f") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl");
#endif
    return isa;
}

const char *sys_time_utc(char buf[32])
{
    const time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm) == NULL || strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        (void)str_copy(buf, 32, "unknown");
    }
    return buf;
}
