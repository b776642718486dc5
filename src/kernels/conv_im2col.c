/* Convolution as matrix products on panels of gathered patches.
 *
 * A panel is some output pixels x all (taps, channels), gathered by one thread into its own scratch
 * and multiplied at once; the whole matrix never exists. A 1x1 convolution with stride 1 multiplies
 * the tensor in place. */
#include "kernels/conv_priv.h"

#include <string.h>

#include "base/tasks.h"
#include "base/threads.h"
#include "kernels/gemm.h"

static int im2col_supports(const struct conv_kernels *k, const struct conv_geom *g,
                           const struct shape *x, enum conv_op op)
{
    (void)k;
    (void)g;
    (void)x;
    (void)op;
    return 1;
}

/* Pixels of a panel whose rows have `cols` elements: half a MiB, but tall enough for a GEMM. */
static size_t panel_pixels(size_t cols)
{
    enum { PANEL_ELEMENTS = 1 << 17, MIN_PIXELS = 32, MAX_PIXELS = 512 };
    return max_size(MIN_PIXELS, min_size(MAX_PIXELS, PANEL_ELEMENTS / cols / 16 * 16));
}

/* Rows [px0, px1) of taps [t0, t1): panel [px1 - px0][(t1 - t0) * in_c]. */
static void fill_panel(const struct conv_gather *p, size_t px0, size_t px1, size_t t0, size_t t1,
                       real *panel)
{
    const size_t bytes = p->in_c * sizeof(real);
    struct conv_cursor at = conv_cursor_at(p, px0);

    for (size_t px = px0; px < px1; px++, conv_cursor_next(p, &at)) {
        for (size_t t = t0; t < t1; t++, panel += p->in_c) {
            const real *const row = conv_gather_input(p, &at, t / p->n_b, t % p->n_b);
            if (row) {
                memcpy(panel, row, bytes);
            } else {
                memset(panel, 0, bytes);
            }
        }
    }
}

/* Is one output pixel out_col behind the other, across rows and images? */
static int has_linear_output(const struct conv_gather *p)
{
    return p->out_row == p->out_w * p->out_col && p->out_image == p->out_h * p->out_row;
}

/* Elements of one thread's scratch: a panel, and products that cannot be written in place. */
static size_t gather_scratch(size_t cols, size_t out_c)
{
    return line_up(panel_pixels(cols) * (cols + out_c));
}

/* w: [taps * in_c][out_c]. */
static void run_gather(const struct conv_kernels *k, const struct conv_gather *p, const real *w,
                       const real *bias, int accumulate, real *scratch, int n_threads)
{
    const size_t n_pixels = p->n * p->out_h * p->out_w, n_taps = p->n_a * p->n_b;
    const size_t cols = n_taps * p->in_c, panel_px = panel_pixels(cols);
    const int linear = has_linear_output(p);
    const int in_place = n_taps == 1 && p->step == 1 && p->off_a == 0 && p->off_b == 0 &&
                         p->in_h == p->out_h && p->in_w == p->out_w;

    (void)n_threads; /* without OpenMP */
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (size_t px0 = 0; px0 < n_pixels; px0 += panel_px) {
        const size_t n = min_size(panel_px, n_pixels - px0);
        real *const panel = scratch + thread_index() * gather_scratch(cols, p->out_c);
        real *const product = panel + panel_px * cols;
        struct gemm_args gemm = {
            .m = n,
            .n = p->out_c,
            .k = cols,
            .a = panel,
            .lda = cols,
            .b = w,
            .ldb = p->out_c,
            .c = product,
            .ldc = p->out_c,
        };
        if (in_place) {
            gemm.a = p->in + px0 * p->in_pixel;
            gemm.lda = p->in_pixel;
        } else {
            fill_panel(p, px0, px0 + n, 0, n_taps, panel);
        }
        if (linear) {
            gemm.c = p->out + px0 * p->out_col;
            gemm.ldc = p->out_col;
            gemm.accumulate = accumulate || bias;
        }
        for (size_t q = 0; linear && bias && q < n; q++) {
            memcpy(gemm.c + q * gemm.ldc, bias, p->out_c * sizeof(real));
        }
        gemm_nn(k, &gemm);
        if (linear) {
            continue;
        }
        struct conv_cursor at = conv_cursor_at(p, px0);
        for (size_t q = 0; q < n; q++, conv_cursor_next(p, &at)) {
            real *const out = conv_gather_output(p, &at);
            for (size_t f = 0; f < p->out_c; f++) {
                out[f] = product[q * p->out_c + f] + (accumulate ? out[f] : 0);
            }
        }
    }
}

static void im2col_forward(const struct conv_kernels *k, const struct conv_geom *g,
                           const struct conv_forward_args *a, void *workspace, int n_threads)
{
    struct conv_gather p;
    conv_gather_forward(&p, g, a->x, a->y);
    run_gather(k, &p, a->w, a->b, 0, workspace, n_threads);
}

static void im2col_backward_data(const struct conv_kernels *k, const struct conv_geom *g,
                                 const struct conv_backward_data_args *a, void *workspace,
                                 int n_threads)
{
    real *const packed = workspace;
    const size_t max_taps = div_up(g->r, g->stride) * div_up(g->s, g->stride);

    for (size_t phase = 0; phase < g->stride * g->stride; phase++) {
        struct conv_gather p;
        conv_gather_backward_data(&p, g, a->dy, a->dx, phase);
        if (p.out_h == 0 || p.out_w == 0) {
            continue;
        }
        if (p.n_a == 0 || p.n_b == 0) {
            conv_gather_no_taps(&p, a->accumulate, n_threads);
            continue;
        }
        conv_gather_pack(&p, g, a->w, 1, g->c, packed, n_threads);
        run_gather(k, &p, packed, NULL, a->accumulate, packed + line_up(max_taps * g->c * g->k),
                   n_threads);
    }
}

/* As in conv_igemm.c: units of pixels (here panels) dealt to parts, taps as tasks if parts are few. */
struct weight_plan {
    struct conv_parts parts;
    size_t taps_step, cols, panel_px, n_panels;
};

static struct weight_plan weight_plan_of(const struct conv_geom *g, const struct shape *out)
{
    const size_t n_taps = g->r * g->s, n_pixels = shape_pixels(out);
    struct weight_plan plan;

    plan.panel_px = panel_pixels(n_taps * g->c);
    plan.n_panels = div_up(n_pixels, plan.panel_px);
    plan.parts = conv_parts_of(g, plan.n_panels);
    plan.taps_step = plan.parts.split ? 1 : n_taps;
    plan.cols = plan.taps_step * g->c;
    return plan;
}

static void im2col_backward_weight(const struct conv_kernels *k, const struct conv_geom *g,
                                   const struct conv_backward_weight_args *a, void *workspace,
                                   int n_threads)
{
    const struct weight_plan plan = weight_plan_of(g, &a->dy->shape);
    const size_t n_pixels = shape_pixels(&a->dy->shape), n_taps = g->r * g->s;
    const size_t n_dw = n_taps * g->c * g->k, tap_tasks = n_taps / plan.taps_step;
    const size_t scratch = line_up(plan.panel_px * plan.cols);
    real *const bias_scratch = workspace;
    real *const panels = bias_scratch + line_up(CONV_BIAS_PARTS * g->k);
    real *const sums = plan.parts.n > 1 ? panels + (size_t)n_threads * scratch : a->dw;
    const int in_place = conv_is_pointwise(g);
    struct tensor dy = *a->dy; /* the gather's output side: read here, never written */
    struct conv_gather p;

    conv_gather_forward(&p, g, a->x, &dy);
    if (a->db) {
        conv_bias_gradient(a->dy, a->db, bias_scratch, n_threads);
    }
    struct tasks tasks;
    tasks_share(&tasks, plan.parts.n * tap_tasks, n_threads);
#pragma omp parallel num_threads(n_threads)
    for (size_t task; tasks_next(&tasks, &task);) {
        const size_t part = task / tap_tasks, t0 = task % tap_tasks * plan.taps_step;
        const size_t first = plan.n_panels * part / plan.parts.n;
        const size_t end = plan.n_panels * (part + 1) / plan.parts.n;
        real *const panel = panels + thread_index() * scratch;
        for (size_t i = first; i < end; i++) {
            const size_t px0 = i * plan.panel_px, n = min_size(plan.panel_px, n_pixels - px0);
            struct gemm_args gemm = {
                .m = plan.cols,
                .n = g->k,
                .k = n,
                .a = panel,
                .lda = plan.cols,
                .b = dy.data + px0 * dy.pixel_stride,
                .ldb = dy.pixel_stride,
                .c = sums + part * n_dw + t0 * g->c * g->k,
                .ldc = g->k,
                .accumulate = i > first,
            };
            if (in_place) {
                gemm.a = a->x->data + px0 * a->x->pixel_stride;
                gemm.lda = a->x->pixel_stride;
            } else {
                fill_panel(&p, px0, px0 + n, t0, t0 + plan.taps_step, panel);
            }
            gemm_tn(k, &gemm);
        }
    }
    if (plan.parts.n > 1) {
        conv_parts_add(a->dw, sums, plan.parts.n, n_dw, n_dw, n_threads);
    }
}

static size_t im2col_workspace_bytes(const struct conv_kernels *k, const struct conv_geom *g,
                                     const struct shape *x, enum conv_op op, int n_threads)
{
    const size_t threads = (size_t)n_threads;

    (void)k;
    switch (op) {
    case CONV_FORWARD: return threads * gather_scratch(g->r * g->s * g->c, g->k) * sizeof(real);
    case CONV_BACKWARD_DATA: {
        /* Phases have different numbers of taps; a panel's size is not monotonic in them. */
        const size_t max_taps = div_up(g->r, g->stride) * div_up(g->s, g->stride);
        size_t scratch = 0;
        for (size_t taps = 1; taps <= max_taps; taps++) {
            scratch = max_size(scratch, gather_scratch(taps * g->k, g->c));
        }
        return (line_up(max_taps * g->c * g->k) + threads * scratch) * sizeof(real);
    }
    case CONV_BACKWARD_WEIGHT: {
        const struct shape out = conv2d_out_shape(g, x);
        const struct weight_plan plan = weight_plan_of(g, &out);
        const size_t copies = plan.parts.n > 1 ? plan.parts.n : 0;
        return (line_up(CONV_BIAS_PARTS * g->k) + threads * line_up(plan.panel_px * plan.cols) +
                copies * g->r * g->s * g->c * g->k) *
               sizeof(real);
    }
    }
    return 0;
}

const struct conv_impl conv_impl_im2col = {
    .name = "im2col",
    .algorithm = CONV_IM2COL,
    .supports = im2col_supports,
    .workspace_bytes = im2col_workspace_bytes,
    .forward = im2col_forward,
    .backward_data = im2col_backward_data,
    .backward_weight = im2col_backward_weight,
};
