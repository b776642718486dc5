/* run.yaml, the record of a run: keys and values, nested one level, written in order.
 *
 *     struct record r = {.fp = fp};
 *     record_text(&r, "version", "0.1");
 *     record_section(&r, "cpu");
 *     record_text(&r, "model", name);        ->  cpu:\n  model: …
 *     record_section_end(&r);
 *     rc = record_finish(&r, err);
 *
 * Keys are identifiers, the program's own. Errors are kept in the stream until record_finish. */
#ifndef REPORT_RECORD_H
#define REPORT_RECORD_H

#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct record {
    FILE *fp;
    int nested;      /* within a section */
    int saved_errno; /* reason of the first failed write */
};

/* Quoted where needed: any text reads back as it was, but bytes that are not UTF-8 become U+FFFD.
 * NULL is written as null. */
void record_text(struct record *r, const char *key, const char *value);

/* The shortest decimal that reads back as the same double; NaN is written as null. */
void record_real(struct record *r, const char *key, double value);

void record_count(struct record *r, const char *key, uint64_t value);
void record_bool(struct record *r, const char *key, int value);

/* What follows stands below `key` until record_section_end; sections do not nest. */
void record_section(struct record *r, const char *key);
void record_section_end(struct record *r);

/* Flushes. ERR_IO if anything was not written; the caller names the file. */
int record_finish(struct record *r, struct err *err) MUST_USE;

#endif
