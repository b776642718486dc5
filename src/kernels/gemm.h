/* The one door to matrix products. Row-major, single-threaded: callers cut work into blocks with
 * OpenMP and call this from inside, with shapes and leading dimensions that do not depend on the
 * number of threads.
 *
 * Behind the door: triple loops for the ISA "ref"; OpenBLAS where the build has it (its thread
 * number is set to 1 once, in kernels_fill); else register tiles of our own. */
#ifndef KERNELS_GEMM_H
#define KERNELS_GEMM_H

#include "base/err.h"
#include "kernels/conv_isa.h"

/* C (+)= A * B:    A [m][k], B [k][n], C [m][n]. */
static inline void gemm_nn(const struct conv_kernels *k, const struct gemm_args *g)
{
    k->gemm_nn(g);
}

/* C (+)= A^T * B:  A [k][m], B [k][n], C [m][n]. */
static inline void gemm_tn(const struct conv_kernels *k, const struct gemm_args *g)
{
    k->gemm_tn(g);
}

/* "OpenBLAS 0.3.21 (SkylakeX)" or "own": what stands behind the door for the fast ISAs. Returns
 * buf. */
const char *gemm_library_name(char *buf, size_t cap);

/* Puts OpenBLAS behind the door, if the build has it, after a check of about 1 ms against the
 * triple loop. ERR_UNSUPPORTED if it computes wrongly. Not for the ISA "ref". */
int gemm_use_library(struct conv_kernels *k, struct err *err) MUST_USE;

#endif
