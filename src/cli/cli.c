#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"

/* How long a waiting thread spins, in turns of some 50 cycles: longer than the pauses between
 * parallel loops, and a small part of a training step. */
#define SPIN_TURNS "100000"

/* Other tasks that want a processor: one for every 8 that there are is busy. What runs but for a
 * moment is not seen in all of the looks. */
static int is_busy(void)
{
    enum { LOOKS = 16, PAUSE_US = 2000 };
    int others = sys_n_runnable() - 1;
    for (int i = 1; i < LOOKS && others > 0; i++) {
        (void)usleep(PAUSE_US);
        const int now = sys_n_runnable() - 1;
        others = now < others ? now : others;
    }
    return others > 0 && others * 8 >= sys_n_cpus();
}

static int is_settled(void)
{
    return getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT");
}

/* First OpenBLAS, whose threads would count as other tasks, then the rest. */
void cli_settle_threads(char **argv)
{
    const char *blas = getenv("OPENBLAS_NUM_THREADS");
    int failed;
    if (!blas || strcmp(blas, "1") != 0) {
        failed = setenv("OPENBLAS_NUM_THREADS", "1", 1);
    } else if (is_settled()) {
        return;
    } else if (is_busy()) {
        failed = setenv("OMP_WAIT_POLICY", "passive", 1);
    } else {
        failed = setenv("GOMP_SPINCOUNT", SPIN_TURNS, 1);
    }
    if (!failed) {
        (void)execv("/proc/self/exe", argv); /* without /proc the run is as it would be */
    }
}

void cli_outlive_file_limit(void)
{
    signal(SIGXFSZ, SIG_IGN);
}

int cli_threads_sleep(void)
{
    const char *policy = getenv("OMP_WAIT_POLICY"), *turns = getenv("GOMP_SPINCOUNT");
    return turns ? strcmp(turns, "0") == 0 : policy && strcmp(policy, "passive") == 0;
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
    case ERR_IO:
    case ERR_UNEXPECTED: return CLI_FAILED;
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
