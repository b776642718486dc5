#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cli_settle_threads(char **argv)
{
    const char *blas = getenv("OPENBLAS_NUM_THREADS");
    if (getenv("OMP_WAIT_POLICY") && blas && strcmp(blas, "1") == 0) {
        return;
    }
    if (setenv("OMP_WAIT_POLICY", "passive", 0) == 0 &&
        setenv("OPENBLAS_NUM_THREADS", "1", 1) == 0) {
        (void)execv("/proc/self/exe", argv); /* without /proc the run is as it would be */
    }
}

int cli_flush(struct err *err)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return 0;
    }
    return errno ? err_sys(err, ERR_IO, errno, "cannot write to standard output")
                 : err_set(err, ERR_IO, "cannot write to standard output");
}

int cli_status(const struct err *err)
{
    switch (err->code) {
    case ERR_OK: return CLI_OK;
    case ERR_IO: return CLI_FAILED;
    case ERR_CONFIG:
    case ERR_EXISTS:
    case ERR_RANGE:
    case ERR_UNSUPPORTED: return CLI_USAGE;
    case ERR_FORMAT:
    case ERR_MISSING:
    case ERR_SHAPE: return CLI_DATA;
    case ERR_NOMEM: return CLI_MEMORY;
    case ERR_DIVERGED: return CLI_DIVERGED;
    case ERR_INTERRUPTED: return CLI_INTERRUPTED;
    }
    return CLI_FAILED;
}

void cli_error(const char *program, const struct err *err)
{
    /* What was printed before the error shall stand before it, whatever the two are sent to. */
    (void)fflush(stdout);
    (void)fprintf(stderr, "%s: %s\n", program,
                  err->msg[0] != '\0' ? err->msg : err_name(err->code));
}
