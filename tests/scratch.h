/* A folder of its own for a test, and files in it. */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"

struct scratch {
    char dir[512];
    char path[1024]; /* of the last scratch_path */
};

static inline void scratch_make(struct scratch *s)
{
    const char *base = getenv("TMPDIR");
    snprintf(s->dir, sizeof s->dir, "%s/division-test-XXXXXX",
             base != NULL && base[0] != '\0' ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(s->dir));
}

static inline void scratch_remove(struct scratch *s)
{
    struct err err = {0};
    ck_assert_msg(file_empty_folder(s->dir, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(rmdir(s->dir), 0);
}

/* "DIR/NAME"; valid until the next call. */
static inline const char *scratch_path(struct scratch *s, const char *name)
{
    snprintf(s->path, sizeof s->path, "%s/%s", s->dir, name);
    return s->path;
}

/* Writes a file of n bytes. Returns its path; valid until the next call. */
static inline const char *scratch_write(struct scratch *s, const char *name, const void *data,
                                        size_t n)
{
    FILE *fp = fopen(scratch_path(s, name), "wb");
    ck_assert_ptr_nonnull(fp);
    ck_assert_uint_eq(n == 0 ? 0 : fwrite(data, 1, n, fp), n);
    ck_assert_int_eq(fclose(fp), 0);
    return s->path;
}

#endif
