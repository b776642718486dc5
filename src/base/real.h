/* The one floating-point type of all tensors.
 *
 * The program computes in float32. The same sources compiled with -DDIVISION_REAL_DOUBLE give the
 * float64 oracle that the gradient checks and the comparison with PyTorch use. Loss sums, batch
 * statistics and schedules are always double. */
#ifndef BASE_REAL_H
#define BASE_REAL_H

#ifdef DIVISION_REAL_DOUBLE
typedef double real;
#else
typedef float real;
#endif

#endif
