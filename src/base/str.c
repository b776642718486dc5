/* String helpers: see str.h. */
#include "base/str.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void str_addf(struct str *b, const char *fmt, ...)
{
    if (b->failed) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = 1;
        return;
    }
    const size_t need = b->len + (size_t)n + 1;
    if (need > b->cap) {
        const size_t cap = need < 64 ? 64 : need + need / 2;
        char *grown = mem_realloc(MEM_OTHER, b->s, cap);
        if (grown == NULL) {
            b->failed = 1;
            return;
        }
        b->s = grown;
        b->cap = cap;
    }
    va_start(ap, fmt);
    (void)vsnprintf(b->s + b->len, b->cap - b->len, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void str_fini(struct str *b)
{
    mem_free(b->s);
    *b = (struct str){0};
}

/* Longest name that is compared; longer ones have no neighbours. */
#define NEAREST_MAX 96

static size_t min3(size_t a, size_t b, size_t c)
{
    const size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Insertions, deletions and substitutions that turn a into b; both at most NEAREST_MAX long. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NEAREST_MAX + 1];
    const size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            const size_t up = row[j];
            const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
            row[j] = min3(up + 1, row[j - 1] + 1, diagonal + change);
            diagonal = up;
        }
    }
    return row[n];
}

const char *str_nearest(const char *name, const char *const *names, size_t n)
{
    const size_t len = strlen(name);
    if (len > NEAREST_MAX) {
        return NULL;
    }
    size_t best = len / 3 > 2 ? len / 3 : 2;
    const char *nearest = NULL;
    for (size_t i = 0; i < n; i++) {
        if (strlen(names[i]) > NEAREST_MAX) {
            continue;
        }
        const size_t d = edit_distance(name, names[i]);
        if (d < best || (d == best && nearest == NULL)) {
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}

const char *str_bytes(char buf[32], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    const size_t n_units = sizeof units / sizeof units[0];
    size_t u = 0;
    /* 1023.995 would print as 1024.00 of the smaller unit. */
    while (u + 1 < n_units && bytes >= (u == 0 ? 1024.0 : 1023.995)) {
        bytes /= 1024.0;
        u++;
    }
    (void)snprintf(buf, 32, u == 0 ? "%.0f %s" : "%.2f %s", bytes, units[u]);
    return buf;
}

int str_parse_bytes(const char *text, size_t *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    if (text[0] < '0' || text[0] > '9' || text[strspn(text, "0123456789.")] == 'x') {
        return -1; /* strtod would take signs, blanks, names and hexadecimal numbers */
    }
    double value = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        value *= (double)((size_t)1 << (10 * (unit - units + 1)));
        end += end[1] == 'i' && end[2] == 'B' ? 3 : end[1] == 'B' ? 2 : 1;
    } else if (strcmp(end, "B") == 0) {
        end++;
    }
    if (*end || !(value >= 1 && value < (double)(SIZE_MAX / 2))) {
        return -1;
    }
    *bytes = (size_t)value;
    return 0;
}

int str_copy(char *dst, size_t cap, const char *src)
{
    const size_t len = strlen(src);
    if (len < cap) {
        memcpy(dst, src, len + 1);
        return 0;
    }
    if (cap > 0) {
        memcpy(dst, src, cap - 1);
        dst[cap - 1] = '\0';
    }
    return -1;
}

int str_glob(const char *pattern, const char *s)
{
    /* At a mismatch, the last star takes one character more; earlier stars need no revision. */
    const char *star = NULL, *retry = NULL;
    while (*s != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            retry = s;
        } else if (*pattern == '?' || *pattern == *s) {
            pattern++;
            s++;
        } else if (star != NULL) {
            pattern = star + 1;
            s = ++retry;
        } else {
            return 0;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}
