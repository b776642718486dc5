/* Drawing with gnuplot, which is there at run time or not. */
#ifndef REPORT_GNUPLOT_H
#define REPORT_GNUPLOT_H

#include "base/err.h"

/* Runs gnuplot on `script` in folder `dir`, without the user's own settings. *is_there = 0: there is
 * no gnuplot, which is no error. ERR_IO if it cannot be started or fails. */
int gnuplot_run(const char *dir, const char *script, int *is_there, struct err *err) MUST_USE;

#endif
