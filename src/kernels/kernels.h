/* The table of inner loops for one instruction set.
 *
 * Inner kernels are single-threaded, allocate nothing and take pointers, sizes and strides. Drivers
 * (conv.h, batch_norm.h, eltwise.h, pool.h, loss.h, sgd.h, codec.h) cut work into blocks by size,
 * run them with OpenMP and call the inner kernels through this record, which is passed by const
 * pointer: a test can hold two at once.
 *
 * ISAs: "ref" (scalar, obvious, no BLAS; compiled in double it is the tests' oracle), "base" (the
 * vectorisable sources for the compiler's baseline), "avx2", "avx512". "auto" takes the best that
 * this processor and this build have. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include <stddef.h>

#include "base/err.h"
#include "kernels/codec_isa.h"
#include "kernels/conv_isa.h"
#include "kernels/loops_isa.h"

/* How a convolution is computed; a pure function of shape, ISA and this setting. */
enum conv_algorithm {
    CONV_AUTO,
    CONV_DIRECT,   /* the reference loops */
    CONV_IM2COL,   /* GEMM on panels of gathered patches; 1x1 stride 1 on the tensor in place */
    CONV_IGEMM,    /* our own implicit GEMM, patches read in place through row pointers */
    CONV_WINOGRAD, /* F(4x4, 3x3); 3x3 filters with stride 1 */
};

struct kernels {
    const char *isa;
    enum conv_algorithm algorithm; /* forced by kernels.algorithm, or CONV_AUTO */
    struct conv_kernels conv;
    struct loop_kernels loop;
    struct codec_kernels codec;
};

/* Fills *k with ref's functions, laid over by those of each supported ISA up to `isa`.
 * isa: "auto" or NULL (then the variable DIVISION_ISA decides, if set), "ref", "base", "avx2",
 * "avx512". ERR_CONFIG for an unknown name; ERR_UNSUPPORTED, naming what is missing, for one that
 * this processor or build does not have. In the double build only "ref" exists and "auto" is it. */
int kernels_fill(struct kernels *k, const char *isa, struct err *err) MUST_USE;

/* "auto", "direct", "im2col", "igemm", "winograd" -> algorithm. ERR_CONFIG with the valid names. */
int kernels_set_algorithm(struct kernels *k, const char *name, struct err *err) MUST_USE;
/* The same names, the other way. */
const char *kernels_algorithm_name(enum conv_algorithm algorithm);

/* Names of the ISAs that this processor and this build support, "ref" first; n of them. */
const char *const *kernels_isas(size_t *n);

#endif
