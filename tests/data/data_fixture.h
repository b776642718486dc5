/* Files for the data tests, in a folder of their own. A failure to make them fails the test. */
#ifndef TESTS_DATA_FIXTURE_H
#define TESTS_DATA_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Makes an empty folder and remembers it; fixture_end removes it with its content. For
 * tcase_add_checked_fixture. Both also check that the ledger is the same before and after. */
void fixture_begin(void);
void fixture_end(void);

/* The folder. */
const char *fixture_dir(void);

/* Replaces the file `name` in the folder. */
void fixture_write(const char *name, const void *bytes, size_t n);
void fixture_write_gzip(const char *name, const void *bytes, size_t n);
/* n zero bytes that take no space. */
void fixture_write_hole(const char *name, size_t n);
/* The first n bytes of what is there. */
void fixture_truncate(const char *name, size_t n);
void fixture_remove(const char *name);
/* The whole file; the caller frees with mem_free. */
uint8_t *fixture_read(const char *name, size_t *n);

/* A byte that depends on i alone, with no short period. */
uint8_t fixture_byte(size_t i);

/* Asserts code and that the message holds each of the texts up to NULL. */
void fixture_assert_failed(int rc, const struct err *err, enum err_code code, ...)
    __attribute__((sentinel));

#endif
