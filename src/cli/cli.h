/* What the programs share: the exit status of an error, and how it is shown. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/err.h"

/* Exit statuses; the programs' man pages list them. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,        /* input/output, full disk, internal */
    CLI_USAGE = 2,         /* command line or config, run folder exists */
    CLI_DATA = 3,          /* data or weights missing, damaged or foreign */
    CLI_MEMORY = 4,        /* out of memory */
    CLI_DIVERGED = 5,      /* the loss is not a number */
    CLI_INTERRUPTED = 130, /* SIGINT; SIGTERM gives 143, which the program that caught it knows */
};

/* Settles how threads wait, first thing in main: libraries read it when they are loaded, so the
 * program starts itself once more, or twice, with the variables set. On an idle machine a waiting
 * thread spins for a millisecond or two before it sleeps; on a busy one, where it would keep the
 * processor from the thread it waits for, it sleeps at once. Measured on two cores, ResNet-20:
 * spinning is 1.2 times as fast when idle, and 0.3 to 0.5 times beside one busy process.
 * OMP_WAIT_POLICY and GOMP_SPINCOUNT, where set, decide. OpenBLAS is called from one thread at a time
 * and gets no others. */
void cli_settle_threads(char **argv);

/* A limit on the size of files (ulimit -f) is a write error from now on, not the end of the process:
 * first thing in main too. */
void cli_outlive_file_limit(void);

/* Do waiting threads sleep at once? */
int cli_threads_sleep(void);

/* All that was printed has been written. ERR_IO if not, also if a line before the last one failed:
 * a full stream's buffer is empty again when the program ends. */
int cli_flush(struct err *err) MUST_USE;

/* The status of a program that ends with this error; CLI_OK without one. */
int cli_status(const struct err *err);

/* "PROGRAM: message" on stderr. */
void cli_error(const char *program, const struct err *err);

#endif
