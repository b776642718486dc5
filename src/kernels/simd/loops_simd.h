/* What the sources of the loops for one ISA share. */
#ifndef KERNELS_SIMD_LOOPS_SIMD_H
#define KERNELS_SIMD_LOOPS_SIMD_H

#include "kernels/loops_isa.h"
#include "kernels/simd/simd.h"

/* Each source fills its part of the table. */
void SIMD_NAME(loop_kernels_fill_rows)(struct loop_kernels *k);
void SIMD_NAME(loop_kernels_fill_bn)(struct loop_kernels *k);
void SIMD_NAME(loop_kernels_fill_pool)(struct loop_kernels *k);

/* Vector at p, whole if n is SIMD_LANES. Callers pass that as a constant outside tails. */
SIMD_INLINE simd_f32 loop_load(const float *p, size_t n)
{
    return n == SIMD_LANES ? simd_load(p) : simd_load_n(p, n);
}

SIMD_INLINE void loop_store(float *p, simd_f32 v, size_t n)
{
    if (n == SIMD_LANES) {
        simd_store(p, v);
    } else {
        simd_store_n(p, v, n);
    }
}

/* p (+)= v */
SIMD_INLINE void loop_put(float *p, simd_f32 v, size_t n, int accumulate)
{
    loop_store(p, accumulate ? loop_load(p, n) + v : v, n);
}

/* v where the mask is all ones, 0 where it is 0. */
SIMD_INLINE simd_f32 loop_keep(simd_i32 mask, simd_f32 v)
{
    return (simd_f32)(mask & (simd_i32)v);
}

#endif
