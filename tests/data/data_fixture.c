#include "data_fixture.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/mem.h"

static char folder[4096];
static struct mem_count before;

void fixture_begin(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/division-data-XXXXXX", tmp != NULL ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    mem_count_get(&before);
}

void fixture_end(void)
{
    struct mem_count after;
    mem_count_get(&after);
    ck_assert(memcmp(before.now_bytes, after.now_bytes, sizeof before.now_bytes) == 0);
    struct err err = {0};
    ck_assert_msg(file_empty_folder(folder, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(rmdir(folder), 0);
}

const char *fixture_dir(void)
{
    return folder;
}

static const char *path_of(const char *name)
{
    static char path[4352];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

void fixture_write(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(path_of(name), "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

void fixture_write_gzip(const char *name, const void *bytes, size_t n)
{
    gzFile f = gzopen(path_of(name), "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(gzwrite(f, bytes, (unsigned)n), (int)n);
    ck_assert_int_eq(gzclose(f), Z_OK);
}

void fixture_write_hole(const char *name, size_t n)
{
    fixture_write(name, "", 0);
    fixture_truncate(name, n);
}

void fixture_truncate(const char *name, size_t n)
{
    ck_assert_int_eq(truncate(path_of(name), (off_t)n), 0);
}

void fixture_remove(const char *name)
{
    ck_assert_int_eq(remove(path_of(name)), 0);
}

uint8_t *fixture_read(const char *name, size_t *n)
{
    char *bytes = NULL;
    struct err err = {0};
    ck_assert_msg(file_read_all(path_of(name), (size_t)1 << 30, &bytes, n, &err) == 0, "%s",
                  err.msg);
    return (uint8_t *)bytes;
}

uint8_t fixture_byte(size_t i)
{
    return (uint8_t)((uint32_t)i * 2654435761U >> 24);
}

void fixture_assert_failed(int rc, const struct err *err, enum err_code code, ...)
{
    ck_assert_msg(rc == (int)code && err->code == code, "expected '%s', got %d '%s': %s",
                  err_name(code), rc, err_name(err->code), err->msg);
    va_list ap;
    va_start(ap, code);
    for (const char *text = va_arg(ap, const char *); text != NULL;
         text = va_arg(ap, const char *)) {
        ck_assert_msg(strstr(err->msg, text) != NULL, "'%s' is not in: %s", text, err->msg);
    }
    va_end(ap);
}
