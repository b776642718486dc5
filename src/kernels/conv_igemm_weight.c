/* The weight gradient of implicit GEMM. Tiles of channels x filters stay in registers over a group of
 * pixels (some rows of an image, or several images).
 *
 * Parts have sums of their own, which are added in order at the end: the same bits for any number of
 * threads. A part is some runs of samples, so that what is upstream of x may bring it back run by run
 * (conv2d_gradient_parts). A gradient that is too large for enough copies of it, and that of a small
 * map, which makes few runs, is dealt by groups instead, and of the first (tap, 64 channels) are tasks
 * too. */
#include <string.h>

#include "base/tasks.h"
#include "kernels/conv_priv.h"
#include "kernels/sample_runs.h"

enum {
    GROUP_PIXELS = 256,
    L1_PIXELS = 1 << 12, /* of both maps, 16 KiB: pixels between loads of the accumulators */
    MIN_PIXELS = 32,     /* of these, so that the loads are cheap */
    L2_SUMS = 1 << 16,   /* elements, 256 KiB: beyond, the loads are not */
    TASK_CHANNELS = 64,  /* of a task when taps are tasks */
    RUN_SAMPLES = 8,     /* at most, of a run that parts are made of */
};

/* Pixels of the output, cut into groups by size alone. */
struct groups {
    int is_flat; /* 1x1, stride 1: images and rows are one long row */
    size_t n;
    size_t images, rows;     /* of a group; images > 1 only with whole images */
    size_t blocks_per_image; /* row blocks */
    size_t n_pixels;         /* flat: all */
};

static struct groups groups_of(const struct conv_geom *g, const struct shape *out)
{
    if (conv_is_pointwise(g)) {
        const size_t n_pixels = shape_pixels(out);
        return (struct groups){
            .is_flat = 1, .n = div_up(n_pixels, GROUP_PIXELS), .n_pixels = n_pixels};
    }
    const size_t rows = min_size(max_size(1, GROUP_PIXELS / out->w), out->h);
    const size_t images = rows < out->h ? 1 : max_size(1, GROUP_PIXELS / (out->h * out->w));
    const size_t blocks = div_up(out->h, rows);
    return (struct groups){.n = div_up(out->n, images) * blocks,
                           .images = images,
                           .rows = rows,
                           .blocks_per_image = blocks};
}

/* Outputs [*begin, *end) of one axis whose pixel under filter tap `tap` lies inside the map. */
static void valid_outputs(const struct conv_geom *g, size_t tap, size_t in, size_t out,
                          size_t *begin, size_t *end)
{
    *begin = tap >= g->pad ? 0 : div_up(g->pad - tap, g->stride);
    *end = in + g->pad > tap ? min_size(out, (in - 1 + g->pad - tap) / g->stride + 1) : 0;
}

/* o->dw += what pixels [first, end) of one long row give; o->x: channel 0 of the first of all. The
 * pixels that all tiles read again and again stay in L1, and the next ones are fetched. */
static void add_flat(const struct conv_kernels *k, const struct conv_backward_weight_args *a,
                     struct conv_outer *o, size_t first, size_t end)
{
    const struct tensor *const x = a->x, *const dy = a->dy;
    const int is_small = o->c * o->k <= L2_SUMS && o->c == x->pixel_stride;
    const size_t step = is_small ? max_size(MIN_PIXELS, L1_PIXELS / (o->c + o->k)) : GROUP_PIXELS;
    const real *const from = o->x;

    o->n_images = 1;
    o->n_rows = 1;
    for (size_t at = first; at < end; at += o->n_cols) {
        o->n_cols = min_size(step, end - at);
        o->x = from + at * x->pixel_stride;
        o->dy = dy->data + at * dy->pixel_stride;
        if (is_small) {
            const size_t n = min_size(step, end - at - o->n_cols);
            o->next[0] = o->x + o->n_cols * x->pixel_stride;
            o->next[1] = o->dy + o->n_cols * dy->pixel_stride;
            o->n_next[0] = n * x->pixel_stride;
            o->n_next[1] = n * dy->pixel_stride;
        }
        k->outer(o);
    }
}

/* dw [c1 - c0][k] of filter tap (r, s) += what group `i` gives. */
static void add_group(const struct conv_kernels *k, const struct conv_geom *g,
                      const struct groups *groups, const struct conv_backward_weight_args *a,
                      size_t i, size_t r, size_t s, size_t c0, size_t c1, real *dw)
{
    const struct tensor *const x = a->x, *const dy = a->dy;
    struct conv_outer o = {
        .x_col = g->stride * x->pixel_stride,
        .dy_col = dy->pixel_stride,
        .c = c1 - c0,
        .k = g->k,
        .dw = dw,
        .dw_ld = g->k,
    };

    if (groups->is_flat) {
        const size_t first = i * GROUP_PIXELS;
        o.x = x->data + c0;
        add_flat(k, a, &o, first, min_size(first + GROUP_PIXELS, groups->n_pixels));
        return;
    }
    const size_t image = i / groups->blocks_per_image * groups->images;
    const size_t row = i % groups->blocks_per_image * groups->rows;
    size_t row0, row1, col0, col1;
    valid_outputs(g, r, x->shape.h, dy->shape.h, &row0, &row1);
    valid_outputs(g, s, x->shape.w, dy->shape.w, &col0, &col1);
    row0 = max_size(row0, row);
    row1 = min_size(row1, row + groups->rows);
    if (row0 >= row1 || col0 >= col1) {
        return;
    }
    const size_t y_in = row0 * g->stride + r - g->pad, x_in = col0 * g->stride + s - g->pad;
    o.n_images = min_size(groups->images, x->shape.n - image);
    o.n_rows = row1 - row0;
    o.n_cols = col1 - col0;
    o.x_row = g->stride * x->shape.w * x->pixel_stride;
    o.x_image = x->shape.h * x->shape.w * x->pixel_stride;
    o.dy_row = dy->shape.w * dy->pixel_stride;
    o.dy_image = dy->shape.h * dy->shape.w * dy->pixel_stride;
    o.x = x->data + image * o.x_image + (y_in * x->shape.w + x_in) * x->pixel_stride + c0;
    o.dy = dy->data + image * o.dy_image + (row0 * dy->shape.w + col0) * dy->pixel_stride;
    k->outer(&o);
}

/* --- by groups --------------------------------------------------------------------------------- */

static void by_groups(const struct conv_kernels *k, const struct conv_geom *g,
                      const struct conv_backward_weight_args *a, real *workspace, int n_threads)
{
    const struct groups groups = groups_of(g, &a->dy->shape);
    const struct conv_parts parts = conv_parts_of(g, groups.n);
    const size_t n_taps = g->r * g->s, n_dw = n_taps * g->c * g->k;
    const size_t taps_step = parts.split ? 1 : n_taps;
    const size_t c_step = parts.split ? TASK_CHANNELS : g->c;
    const size_t c_tasks = div_up(g->c, c_step), tap_tasks = div_up(n_taps, taps_step);
    real *const bias_scratch = workspace;
    real *const sums = parts.n > 1 ? bias_scratch + line_up(CONV_BIAS_PARTS * g->k) : a->dw;

    if (a->db) {
        conv_bias_gradient(a->dy, a->db, bias_scratch, n_threads);
    }
    struct tasks tasks;
    tasks_share(&tasks, parts.n * tap_tasks * c_tasks, n_threads);
#pragma omp parallel num_threads(n_threads)
    for (size_t task; tasks_next(&tasks, &task);) {
        const size_t part = task / (tap_tasks * c_tasks);
        const size_t t0 = task / c_tasks % tap_tasks * taps_step;
        const size_t c0 = task % c_tasks * c_step, c1 = min_size(c0 + c_step, g->c);
        real *const dw = sums + part * n_dw;
        for (size_t t = t0; t < t0 + taps_step; t++) {
            memset(dw + (t * g->c + c0) * g->k, 0, (c1 - c0) * g->k * sizeof(real));
        }
        for (size_t i = groups.n * part / parts.n; i < groups.n * (part + 1) / parts.n; i++) {
            for (size_t t = t0; t < t0 + taps_step; t++) {
                add_group(k, g, &groups, a, i, t / g->s, t % g->s, c0, c1,
                          dw + (t * g->c + c0) * g->k);
            }
        }
    }
    if (parts.n > 1) {
        conv_parts_add(a->dw, sums, parts.n, n_dw, n_dw, n_threads);
    }
}

static size_t groups_bytes(const struct conv_geom *g, const struct shape *out)
{
    const struct conv_parts parts = conv_parts_of(g, groups_of(g, out).n);
    const size_t copies = parts.n > 1 ? parts.n : 0;
    return (line_up(CONV_BIAS_PARTS * g->k) + copies * g->r * g->s * g->c * g->k) * sizeof(real);
}

/* --- by runs ----------------------------------------------------------------------------------- */

/* Decided by the geometry alone: a smaller batch must not change it. */
static int goes_by_runs(const struct conv_geom *g, const struct shape *x)
{
    return !conv_parts_of(g, SIZE_MAX).split &&
           x->h * x->w * x->c * sizeof(real) * RUN_SAMPLES >= SAMPLE_RUN_BYTES;
}

size_t conv_igemm_gradient_parts(const struct conv_geom *g, const struct shape *x, size_t group)
{
    return goes_by_runs(g, x) ? conv_parts_of(g, sample_runs_cut(x, group).n_runs).n : 0;
}

/* The workspace: [part][dw and db]. */
static size_t sums_of_part(const struct conv_geom *g)
{
    return line_up((g->r * g->s * g->c + 1) * g->k);
}

void conv_igemm_gradient_run(const struct conv_kernels *k, const struct conv_geom *g,
                             const struct tensor *x, const struct tensor *dy, int want_db,
                             size_t part, int is_first, void *workspace)
{
    const struct conv_backward_weight_args a = {.x = x, .dy = dy};
    const struct groups groups = groups_of(g, &dy->shape);
    const size_t n_taps = g->r * g->s, tap = g->c * g->k;
    real *const sums = (real *)workspace + part * sums_of_part(g);
    if (is_first) {
        memset(sums, 0, (n_taps * tap + g->k) * sizeof(real));
    }
    for (size_t i = 0; i < groups.n; i++) {
        for (size_t t = 0; t < n_taps; t++) {
            add_group(k, g, &groups, &a, i, t / g->s, t % g->s, 0, g->c, sums + t * tap);
        }
    }
    if (want_db) {
        conv_bias_add(dy, 0, shape_pixels(&dy->shape), sums + n_taps * tap);
    }
}

void conv_igemm_gradient_end(const struct conv_geom *g, size_t n_parts, real *dw, real *db,
                             void *workspace, int n_threads)
{
    const size_t n_dw = g->r * g->s * g->c * g->k, step = sums_of_part(g);
    const real *const sums = workspace;
    conv_parts_add(dw, sums, n_parts, step, n_dw, n_threads);
    if (db) {
        conv_parts_add(db, sums + n_dw, n_parts, step, g->k, 1);
    }
}

static void by_runs(const struct conv_kernels *k, const struct conv_geom *g,
                    const struct conv_backward_weight_args *a, size_t n_parts, void *workspace,
                    int n_threads)
{
    const struct sample_runs runs = sample_runs_cut(&a->x->shape, a->group);
    struct tasks tasks;
    tasks_share(&tasks, n_parts, n_threads);
#pragma omp parallel num_threads(n_threads)
    for (size_t part; tasks_next(&tasks, &part);) {
        const size_t from = sample_runs_part(&runs, part, n_parts);
        const size_t to = sample_runs_part(&runs, part + 1, n_parts);
        for (size_t run = from; run < to; run++) {
            size_t first, n;
            (void)sample_runs_get(&runs, run, &first, &n);
            const struct tensor x = tensor_samples(a->x, first, n);
            const struct tensor dy = tensor_samples(a->dy, first, n);
            conv_igemm_gradient_run(k, g, &x, &dy, a->db != NULL, part, run == from, workspace);
        }
    }
    conv_igemm_gradient_end(g, n_parts, a->dw, a->db, workspace, n_threads);
}

/* --- both -------------------------------------------------------------------------------------- */

void conv_igemm_backward_weight(const struct conv_kernels *k, const struct conv_geom *g,
                                const struct conv_backward_weight_args *a, void *workspace,
                                int n_threads)
{
    const size_t n_parts = conv_igemm_gradient_parts(g, &a->x->shape, a->group);
    if (n_parts > 0) {
        by_runs(k, g, a, n_parts, workspace, n_threads);
    } else {
        by_groups(k, g, a, workspace, n_threads);
    }
}

size_t conv_igemm_weight_bytes(const struct conv_geom *g, const struct shape *x)
{
    const struct shape out = conv2d_out_shape(g, x);
    if (shape_pixels(&out) == 0) {
        return 0;
    }
    /* The most parts that a batch of this size can have: one sample a group. */
    const size_t n_parts = conv_igemm_gradient_parts(g, x, 1);
    return n_parts > 0 ? n_parts * sums_of_part(g) * sizeof(real) : groups_bytes(g, &out);
}
