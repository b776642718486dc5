/* What the convolution algorithms share: the table row of an algorithm, and the gather problem to
 * which forward and data gradient both reduce. For src/kernels/conv*.c only. */
#ifndef KERNELS_CONV_PRIV_H
#define KERNELS_CONV_PRIV_H

#include <stddef.h>

#include "kernels/conv.h"

/* --- algorithms ------------------------------------------------------------------------------- */

struct conv_forward_args {
    const struct tensor *x;
    const real *w, *b;
    struct tensor *y;
};

struct conv_backward_data_args {
    const struct tensor *dy;
    const real *w;
    struct tensor *dx;
    int accumulate;
};

struct conv_backward_weight_args {
    const struct tensor *x, *dy;
    size_t group; /* samples of a batch-norm group, which runs do not cross */
    real *dw, *db;
};

/* One algorithm: a constant in conv_NAME.c, a row in conv.c's table. */
struct conv_impl {
    const char *name;
    enum conv_algorithm algorithm;
    /* Can it compute this case, on this ISA? */
    int (*supports)(const struct conv_kernels *k, const struct conv_geom *g, const struct shape *x,
                    enum conv_op op);
    /* Should CONV_AUTO take it where it can? NULL: yes. */
    int (*pays)(const struct conv_kernels *k, const struct conv_geom *g, const struct shape *x,
                enum conv_op op);
    /* Multiply-adds, where they are not those of the definition. NULL: they are. */
    double (*macs)(const struct conv_geom *g, const struct shape *x, enum conv_op op);
    size_t (*workspace_bytes)(const struct conv_kernels *k, const struct conv_geom *g,
                              const struct shape *x, enum conv_op op, int n_threads);
    void (*forward)(const struct conv_kernels *k, const struct conv_geom *g,
                    const struct conv_forward_args *a, void *workspace, int n_threads);
    void (*backward_data)(const struct conv_kernels *k, const struct conv_geom *g,
                          const struct conv_backward_data_args *a, void *workspace, int n_threads);
    void (*backward_weight)(const struct conv_kernels *k, const struct conv_geom *g,
                            const struct conv_backward_weight_args *a, void *workspace,
                            int n_threads);
    /* NULL: not by runs of samples. As conv2d_gradient_parts, _run and _end. */
    size_t (*gradient_parts)(const struct conv_geom *g, const struct shape *x, size_t group);
    void (*gradient_run)(const struct conv_kernels *k, const struct conv_geom *g,
                         const struct tensor *x, const struct tensor *dy, int want_db, size_t part,
                         int is_first, void *workspace);
    void (*gradient_end)(const struct conv_geom *g, size_t n_parts, real *dw, real *db,
                         void *workspace, int n_threads);
};

extern const struct conv_impl conv_impl_direct, conv_impl_im2col, conv_impl_igemm,
    conv_impl_winograd;

/* The weight gradient of conv_impl_igemm. */
void conv_igemm_backward_weight(const struct conv_kernels *k, const struct conv_geom *g,
                                const struct conv_backward_weight_args *a, void *workspace,
                                int n_threads);
size_t conv_igemm_weight_bytes(const struct conv_geom *g, const struct shape *x);
size_t conv_igemm_gradient_parts(const struct conv_geom *g, const struct shape *x, size_t group);
void conv_igemm_gradient_run(const struct conv_kernels *k, const struct conv_geom *g,
                             const struct tensor *x, const struct tensor *dy, int want_db,
                             size_t part, int is_first, void *workspace);
void conv_igemm_gradient_end(const struct conv_geom *g, size_t n_parts, real *dw, real *db,
                             void *workspace, int n_threads);

/* --- the gather problem -----------------------------------------------------------------------
 *
 * For every pixel (i, j) of an out_h x out_w grid of each image
 *   out[i][j][f] = sum over (a, b) < (n_a, n_b) and channels e:
 *                  in[i*step + off_a + a][j*step + off_b + b][e] * w[a*n_b + b][e][f]
 * where input pixels outside the map count as 0.
 *
 * Forward is one such problem: step = stride, off = -pad. The data gradient is stride^2 of them,
 * one per phase of the input pixels (y mod stride, x mod stride): step = 1, the map is dy, and only
 * those taps occur that hit a pixel of dy, in falling order, so that no zeros are multiplied. */
struct conv_gather {
    const real *in;
    size_t n, in_h, in_w, in_pixel; /* images; map; stride between pixels */
    size_t in_c, out_c;             /* channels that are summed; filters */
    size_t out_h, out_w;
    real *out; /* pixel (n, i, j) at out + n*out_image + i*out_row + j*out_col */
    size_t out_image, out_row, out_col;
    size_t step;
    ptrdiff_t off_a, off_b;
    size_t n_a, n_b;
    /* Where the taps come from: tap (a, b) is filter tap (first_r + a*tap_step, first_s +
     * b*tap_step). */
    size_t first_r, first_s;
    ptrdiff_t tap_step;
};

void conv_gather_forward(struct conv_gather *p, const struct conv_geom *g, const struct tensor *x,
                         struct tensor *y);

/* Phase `phase` < stride^2. May have no pixels (out_h or out_w 0) or no taps (n_a or n_b 0; then
 * the gradient there is 0). */
void conv_gather_backward_data(struct conv_gather *p, const struct conv_geom *g,
                               const struct tensor *dy, struct tensor *dx, size_t phase);

/* 1x1, stride 1, no padding: the map may be read as one long row of pixels. */
int conv_is_pointwise(const struct conv_geom *g);

/* Does no tap of any output pixel fall into the padding? */
int conv_gather_is_inside(const struct conv_gather *p);

/* The position of one output pixel. */
struct conv_cursor {
    size_t image, i, j;
};
struct conv_cursor conv_cursor_at(const struct conv_gather *p, size_t pixel);
static inline void conv_cursor_next(const struct conv_gather *p, struct conv_cursor *at)
{
    if (++at->j == p->out_w) {
        at->j = 0;
        if (++at->i == p->out_h) {
            at->i = 0;
            at->image++;
        }
    }
}

/* Channel 0 of the input pixel under tap (a, b) of the output pixel; NULL in the padding. */
static inline const real *conv_gather_input(const struct conv_gather *p,
                                            const struct conv_cursor *at, size_t a, size_t b)
{
    const ptrdiff_t y = (ptrdiff_t)(at->i * p->step + a) + p->off_a;
    const ptrdiff_t x = (ptrdiff_t)(at->j * p->step + b) + p->off_b;
    if (y < 0 || y >= (ptrdiff_t)p->in_h || x < 0 || x >= (ptrdiff_t)p->in_w) {
        return NULL;
    }
    return p->in + ((at->image * p->in_h + (size_t)y) * p->in_w + (size_t)x) * p->in_pixel;
}

static inline real *conv_gather_output(const struct conv_gather *p, const struct conv_cursor *at)
{
    return p->out + at->image * p->out_image + at->i * p->out_row + at->j * p->out_col;
}

/* Sets (or, if accumulate, leaves) the outputs of a problem without taps. */
void conv_gather_no_taps(const struct conv_gather *p, int accumulate, int n_threads);

/* Copies the taps of p into `packed` as blocks [block of `k_block` filters][tap][e][filter of the
 * block], the last block narrower, from w [r][s][c][k]; transposed (filters and summed channels
 * change places) for the data gradient. in_c * out_c * taps elements. */
void conv_gather_pack(const struct conv_gather *p, const struct conv_geom *g, const real *w,
                      int transposed, size_t k_block, real *packed, int n_threads);

/* --- small helpers ----------------------------------------------------------------------------- */

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline size_t div_up(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* Elements rounded up to a 64-byte line, so that regions of a workspace share none. */
static inline size_t line_up(size_t elements)
{
    const size_t line = 64 / sizeof(real);
    return div_up(elements, line) * line;
}

/* A weight gradient is summed over units of work (groups or panels of pixels) in `n` parts with
 * sums of their own, dealt in order: a pure function of sizes, so the number of threads changes no
 * bit. split: there are few parts, so that filter taps should be tasks too. */
struct conv_parts {
    size_t n;
    int split;
};
struct conv_parts conv_parts_of(const struct conv_geom *g, size_t n_units);

/* dw[i] = sum over parts of sums[part*step + i], in order. */
void conv_parts_add(real *dw, const real *sums, size_t n_parts, size_t step, size_t n_dw,
                    int n_threads);

/* db[f] = sum of dy[p][f] over all pixels, in a fixed order. scratch: CONV_BIAS_PARTS * k. */
enum { CONV_BIAS_PARTS = 16 };
void conv_bias_gradient(const struct tensor *dy, real *db, real *scratch, int n_threads);

/* sum[f] += that of pixels first .. end - 1, one after the other. */
void conv_bias_add(const struct tensor *dy, size_t first, size_t end, real *sum);

#endif
