#include "report/record.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "config/quote.h"

static void write_key(struct record *r, const char *key)
{
    errno = 0;
    fprintf(r->fp, "%s%s: ", r->nested ? "  " : "", key);
}

static void end_line(struct record *r)
{
    putc('\n', r->fp);
    if (ferror(r->fp) && r->saved_errno == 0) {
        r->saved_errno = errno ? errno : EIO;
    }
}

void record_text(struct record *r, const char *key, const char *value)
{
    write_key(r, key);
    if (value) {
        quote_text(r->fp, value);
    } else {
        fputs("null", r->fp);
    }
    end_line(r);
}

void record_real(struct record *r, const char *key, double value)
{
    char number[32];
    write_key(r, key);
    fputs(quote_real(number, value), r->fp);
    end_line(r);
}

void record_count(struct record *r, const char *key, uint64_t value)
{
    write_key(r, key);
    fprintf(r->fp, "%" PRIu64, value);
    end_line(r);
}

void record_bool(struct record *r, const char *key, int value)
{
    write_key(r, key);
    fputs(value ? "true" : "false", r->fp);
    end_line(r);
}

void record_section(struct record *r, const char *key)
{
    assert(!r->nested);
    errno = 0;
    fprintf(r->fp, "%s:", key);
    end_line(r);
    r->nested = 1;
}

void record_section_end(struct record *r)
{
    assert(r->nested);
    r->nested = 0;
}

int record_finish(struct record *r, struct err *err)
{
    errno = 0;
    const int rc = fflush(r->fp);
    if (r->saved_errno != 0 || rc != 0 || ferror(r->fp)) {
        const int reason = r->saved_errno ? r->saved_errno : errno ? errno : EIO;
        return err_sys(err, ERR_IO, reason, "writing the run's record");
    }
    return 0;
}
