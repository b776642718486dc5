/* Inner kernels of convolution and GEMM for one ISA; called by the drivers in conv_*.c and gemm.c
 * only. Single-threaded; nothing here allocates. No alignment beyond sizeof(real) is asked for, and
 * nothing beyond the named elements is read or written. Outputs overlap no input. */
#ifndef KERNELS_CONV_ISA_H
#define KERNELS_CONV_ISA_H

#include <stddef.h>

#include "base/real.h"

/* Upper bounds of what any ISA's tile has, for the drivers' tables. */
enum { CONV_TILE_MAX_VECTORS = 4, CONV_TILE_MAX_PIXELS = 16 };

/* One register tile of an implicit GEMM: for every pixel p < n_pixels and filter f < k
 *   y[p][f] = start + sum over taps t and channels i < c of
 *                     x[p][offset[t] + i] * w[t*w_tap + i*w_ld + f]
 * where start is y[p][f] if accumulate, else bias[f], else 0. x and y have tile_pixels[vectors of
 * k] pointers; those of pixels >= n_pixels are read but not written through. */
struct conv_tile {
    const real *const *x;
    const ptrdiff_t *offset;
    size_t n_taps, c;
    const real *w;
    size_t w_tap, w_ld;
    real *const *y;
    size_t n_pixels, k; /* k <= max_vectors * lanes */
    const real *bias;
    int accumulate;
};

/* Sum of outer products over a box of pixels: for i < c and f < k
 *   dw[i*dw_ld + f] += sum over image, row, col of x[.. + i] * dy[.. + f]
 * in that order, with a stride for each of the three loops. Meanwhile what comes next is fetched: of
 * x and of dy n_next elements from `next` on. */
struct conv_outer {
    const real *x, *dy;
    size_t x_image, x_row, x_col, dy_image, dy_row, dy_col;
    size_t n_images, n_rows, n_cols;
    size_t c, k;
    real *dw;
    size_t dw_ld;
    const real *next[2];
    size_t n_next[2];
};

/* C[m,n] (+)= A*B, row-major with leading dimensions; A is [m][k] in nn, [k][m] in tn. */
struct gemm_args {
    size_t m, n, k;
    const real *a;
    size_t lda;
    const real *b;
    size_t ldb;
    real *c;
    size_t ldc;
    int accumulate;
};

/* One tile of Winograd's F(4x4, 3x3), whose transforms lead from pixels (or filter taps) to 36
 * positions and back. Reading a map, rows [row0, row1) and columns [col0, col1) of the tile exist,
 * the others count as 0. Writing one, the first row1 rows and col1 columns exist. */
enum { WINOGRAD_OUT = 4, WINOGRAD_IN = 6, WINOGRAD_POSITIONS = 36 };
struct winograd_tile {
    const real *map; /* read: pixel (row0, col0) */
    real *out;       /* written: pixel (0, 0) */
    size_t row, col; /* elements between rows, between columns */
    size_t row0, row1, col0, col1;
    real *positions; /* channel i of position q at positions[q*position + i] */
    size_t position;
    size_t c;         /* channels */
    const real *bias; /* [c], added on the way to a map; or NULL */
    int accumulate;   /* add to what the map holds, instead of the bias */
};

struct conv_kernels {
    size_t lanes; /* floats per vector; 0: no tile kernels, only GEMM (ref) */
    size_t max_vectors;
    size_t tile_pixels[CONV_TILE_MAX_VECTORS + 1]; /* by number of filter vectors; [0] unused */
    void (*tile)(const struct conv_tile *t);
    void (*outer)(const struct conv_outer *o);
    /* Tile by tile: map 6x6 -> positions; filter 3x3 -> positions; positions -> map 4x4; and for
     * the weight gradient map 4x4 -> positions, positions -> filter 3x3. */
    void (*winograd_input)(const struct winograd_tile *t);
    void (*winograd_filter)(const struct winograd_tile *t);
    void (*winograd_output)(const struct winograd_tile *t);
    void (*winograd_output_adjoint)(const struct winograd_tile *t);
    void (*winograd_filter_adjoint)(const struct winograd_tile *t);
    /* dst [rows][cols] = transpose of src [cols][rows]. */
    void (*transpose)(real *dst, size_t dst_ld, const real *src, size_t src_ld, size_t rows,
                      size_t cols);
    void (*gemm_nn)(const struct gemm_args *g);
    void (*gemm_tn)(const struct gemm_args *g);
};

void conv_kernels_fill_ref(struct conv_kernels *k);
void conv_kernels_fill_base(struct conv_kernels *k);
void conv_kernels_fill_avx2(struct conv_kernels *k);
void conv_kernels_fill_avx512(struct conv_kernels *k);

/* Winograd's transforms, and the transpose. */
void winograd_kernels_fill_base(struct conv_kernels *k);
void winograd_kernels_fill_avx2(struct conv_kernels *k);
void winograd_kernels_fill_avx512(struct conv_kernels *k);

#endif
