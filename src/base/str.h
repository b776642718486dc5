/* Small string helpers: growing buffer, nearest name for "did you mean", human-readable sizes. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stddef.h>

#include "base/err.h"

/* A growing, always terminated string. All zero is the empty string. After a failed append
 * `failed` stays true and the text is as before. */
struct str {
    char *s;
    size_t len, cap;
    int failed;
};
void str_addf(struct str *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void str_fini(struct str *b);

/* The entry of names[0..n) with the smallest edit distance to `name`, or NULL if none is near
 * (distance above max(2, length/3)). */
const char *str_nearest(const char *name, const char *const *names, size_t n);

/* "4.48 MiB", "512 B". Returns buf. */
const char *str_bytes(char buf[32], double bytes);

/* "500M", "2G", "1.5GiB", "4096": bytes, with K, M, G or T for powers of 1024 and "iB" or "B" behind
 * them if wished. Returns 0, or -1 if the text is no such size above 0. */
int str_parse_bytes(const char *text, size_t *bytes);

/* Copies with truncation; returns 0, or -1 if it was cut. */
int str_copy(char *dst, size_t cap, const char *src);

/* Glob match with * and ? only. */
int str_glob(const char *pattern, const char *s);

#endif
