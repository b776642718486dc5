/* Errors: a code and one sentence, filled where the fault is found, prefixed by each caller.
 *
 * What can fail returns int (0, or the code), takes `struct err *err` last and is MUST_USE. Outputs
 * are written only on success. The leaf says what is wrong, what was expected and what to do; each
 * caller puts where in front with err_add. Nothing below src/cli/ prints or exits. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err_code {
#define X(code, name) ERR_##code,
#include "base/err.def"
#undef X
};

struct err {
    enum err_code code; /* ERR_OK (0): no error */
    char msg[1024];
};

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Sets code and message (cut at the buffer's end). `err` may be NULL. Returns `code`. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As err_set, with ": " and strerror(errnum) behind the message. Returns `code`. */
int err_sys(struct err *err, enum err_code code, int errnum, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* Puts "<formatted>: " in front of the message. Returns the code that is already set (some nonzero
 * code if `err` is NULL). */
int err_add(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The code's short name ("damaged or foreign file"); never NULL. */
const char *err_name(enum err_code code);

#endif
