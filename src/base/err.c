/* Error records: see err.h. Works without the heap, since it reports that the heap is empty. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void err_text(char *dst, size_t cap, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);

/* Formats into dst; a message cut at the end says so with dots. */
static void err_text(char *dst, size_t cap, const char *fmt, va_list ap)
{
    const int n = vsnprintf(dst, cap, fmt, ap);
    if (n < 0) {
        dst[0] = '\0';
    } else if ((size_t)n >= cap && cap > 3) {
        memcpy(dst + cap - 4, "...", 4);
    }
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    if (err != NULL) {
        /* Through a buffer: an argument may point into err->msg. */
        char text[sizeof err->msg];
        va_list ap;
        va_start(ap, fmt);
        err_text(text, sizeof text, fmt, ap);
        va_end(ap);
        err->code = code;
        memcpy(err->msg, text, sizeof text);
    }
    return (int)code;
}

int err_sys(struct err *err, enum err_code code, int errnum, const char *fmt, ...)
{
    if (err != NULL) {
        char text[sizeof err->msg];
        va_list ap;
        va_start(ap, fmt);
        err_text(text, sizeof text, fmt, ap);
        va_end(ap);
        return err_set(err, code, "%s: %s", text, strerror(errnum));
    }
    return (int)code;
}

int err_add(struct err *err, const char *fmt, ...)
{
    if (err == NULL) {
        return ERR_IO; /* the code is not known here, but it was a failure and must stay one */
    }
    char text[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    err_text(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(err, err->code, "%s: %s", text, err->msg);
}

const char *err_name(enum err_code code)
{
    switch (code) {
#define X(c, name) \
    case ERR_##c:  \
        return name;
#include "base/err.def"
#undef X
    }
    return "unknown error";
}
