#include "report/csv_write.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

static const double COUNT_MAX = 9007199254740992.0; /* 2^53: whole numbers are exact up to here */

void csv_clear(const struct column *columns, size_t n, void *row)
{
    for (size_t i = 0; i < n; i++) {
        void *field = (char *)row + columns[i].offset;
        if (columns[i].kind == COLUMN_TEXT) {
            *(const char **)field = NULL;
        } else {
            *(double *)field = (double)NAN;
        }
    }
}

static void write_text(FILE *fp, const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        fputs(s, fp);
        return;
    }
    putc('"', fp);
    for (; *s; s++) {
        if (*s == '"') {
            putc('"', fp);
        }
        putc(*s, fp);
    }
    putc('"', fp);
}

static void write_number(FILE *fp, enum column_kind kind, double v)
{
    if (isnan(v)) {
        return;
    }
    switch (kind) {
    case COLUMN_COUNT:
        assert(v == floor(v) && fabs(v) <= COUNT_MAX);
        fprintf(fp, "%.0f", v + 0.0);
        break;
    case COLUMN_PCT:
    case COLUMN_TIME: fprintf(fp, "%.4f", v); break;
    case COLUMN_REAL: fprintf(fp, "%.9g", v); break;
    case COLUMN_TEXT: break;
    }
}

static int finish_line(FILE *fp, const char *what, struct err *err)
{
    putc('\n', fp);
    if (fflush(fp) != 0 || ferror(fp)) {
        return err_sys(err, ERR_IO, errno ? errno : EIO, "writing %s", what);
    }
    return 0;
}

int csv_write_header(FILE *fp, const struct column *columns, size_t n, const char *what,
                     struct err *err)
{
    errno = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0) {
            putc(',', fp);
        }
        write_text(fp, columns[i].name);
    }
    return finish_line(fp, what, err);
}

int csv_write_row(FILE *fp, const struct column *columns, size_t n, const void *row,
                  const char *what, struct err *err)
{
    errno = 0;
    for (size_t i = 0; i < n; i++) {
        const void *field = (const char *)row + columns[i].offset;
        if (i > 0) {
            putc(',', fp);
        }
        if (columns[i].kind == COLUMN_TEXT) {
            const char *text = *(const char *const *)field;
            write_text(fp, text ? text : "");
        } else {
            write_number(fp, columns[i].kind, *(const double *)field);
        }
    }
    return finish_line(fp, what, err);
}
