/* Winograd convolution F(4x4, 3x3): 3x3 filters with stride 1, any padding and size.
 *
 * An output tile of 4x4 pixels needs 6x6 input pixels. Transformed, tile and filter have 36
 * positions, at each of which the convolution is a product: 36 multiplications per tile, channel
 * and filter instead of 144. At one position the tiles of a group make a matrix product [tiles, c]
 * x [c, filters], which the register tiles of conv_tiles.c compute.
 *
 * Forward and data gradient: a task is a slab of filters and a part of the tiles. It transforms its
 * filters, then group after group of its tiles: input transform, products, output transform. Tasks
 * share nothing and wait for nothing: filters transformed by several threads for all would travel
 * between their caches (measured on two cores: 256x256 filters, 2.7 ms instead of 0.5). The price
 * is that input is transformed once per slab, and filters once per slab and thread: the parts of a
 * slab come one after the other (base/threads.h), and who takes another part of its slab has its
 * filters already.
 *
 * Weight gradient: dg = G^T [sum over tiles of (A dy A^T) . (B^T d B)] G. A task is a block of
 * channels x filters and a part of the tiles. It holds the sums of its 36 positions, adds group
 * after group, and transforms once at its end; no task waits for another. The transforms of a
 * group's channels are repeated for each block of filters and vice versa, which costs less than
 * keeping them. Parts are a function of sizes and added in order.
 *
 * Tiles beyond the map's edge read zeros and write nothing, hence sizes need not be multiples of
 * 4. */
#include "kernels/conv_priv.h"

#include <stdint.h>
#include <string.h>

#include "base/tasks.h"
#include "base/threads.h"

enum {
    BLOCK_FILTERS = 64,   /* columns of one product */
    SLAB_BYTES = 5 << 20, /* transformed filters of a task, in a share of L3; or one block */
    FILTER_CHANNELS = 16, /* channels that are transposed at a time */
    GROUP = 12,           /* tiles, at least: what they need stays in L2 */
    TASKS = 128,          /* of all slabs: a small share of the whole is what threads wait for */
    GRADIENT_BLOCK = 64,  /* channels and filters of a task's sums: 576 KiB of an L2 of 1 MiB */
    GRADIENT_GROUP = 24,  /* tiles between additions to these sums */
    GRADIENT_TASKS = 16,
};

static int winograd_supports(const struct conv_kernels *k, const struct conv_geom *g,
                             const struct shape *x, enum conv_op op)
{
    (void)x;
    (void)op;
    return k->lanes > 0 && g->r == 3 && g->s == 3 && g->stride == 1;
}

/* Measured on AVX-512 and AVX2 against igemm: with 16 channels the transforms cost what the products
 * save, with 32 it is 1.6 to 1.9 times as fast, from 64 on 2 to 3 times. 14x14 and 7x7 fill their
 * tiles to 77 %, where F(4x4) saves a factor of 3.1 and F(2x2) would save 2.25 at best. With few
 * tiles the transform of the filters, worth 3 of them, weighs too much. */
static int winograd_pays(const struct conv_kernels *k, const struct conv_geom *g,
                         const struct shape *x, enum conv_op op)
{
    (void)k;
    (void)op;
    const struct shape y = conv2d_out_shape(g, x);
    const size_t tiles = div_up(y.h, WINOGRAD_OUT) * div_up(y.w, WINOGRAD_OUT);
    const size_t pixels = tiles * WINOGRAD_OUT * WINOGRAD_OUT;
    return g->c >= 32 && g->k >= 32 && y.h * y.w > pixels / 2 && y.n * tiles >= 8;
}

/* --- tiles of a map ----------------------------------------------------------------------------- */

/* The tiles of all images in one row: tile = (image * tiles_h + i) * tiles_w + j. */
struct tiling {
    size_t tiles_h, tiles_w, n;
};

static struct tiling tiling_of(size_t n_images, size_t out_h, size_t out_w)
{
    const size_t h = div_up(out_h, WINOGRAD_OUT), w = div_up(out_w, WINOGRAD_OUT);
    return (struct tiling){.tiles_h = h, .tiles_w = w, .n = n_images * h * w};
}

static double winograd_macs(const struct conv_geom *g, const struct shape *x, enum conv_op op)
{
    const struct shape y = conv2d_out_shape(g, x);
    const struct shape *tiled = op == CONV_BACKWARD_DATA ? x : &y;
    return (double)tiling_of(tiled->n, tiled->h, tiled->w).n * WINOGRAD_IN * WINOGRAD_IN *
           (double)(g->c * g->k);
}

/* Which of the `size` pixels from `origin` on lie in a map of `limit` pixels: [*first, *end). */
static void clip(ptrdiff_t origin, size_t size, size_t limit, size_t *first, size_t *end)
{
    const ptrdiff_t left = (ptrdiff_t)limit - origin;
    *first = origin < 0 ? min_size((size_t)-origin, size) : 0;
    *end = left > (ptrdiff_t)*first ? min_size((size_t)left, size) : *first;
}

/* One map as the tiles see it: pixel (0, 0) of tile (i, j) is (4*i + off_h, 4*j + off_w). */
struct map_view {
    const real *data;             /* read */
    real *out;                    /* or written */
    size_t h, w, image, row, col; /* pixels; strides */
    ptrdiff_t off_h, off_w;
    size_t size; /* of a tile */
};

/* Fills in where the tile lies, from channel `c0` on. */
static void place_tile(const struct map_view *m, const struct tiling *g, size_t index, size_t c0,
                       struct winograd_tile *t)
{
    const size_t image = index / (g->tiles_h * g->tiles_w);
    const size_t i = index / g->tiles_w % g->tiles_h, j = index % g->tiles_w;
    const ptrdiff_t y = (ptrdiff_t)(i * WINOGRAD_OUT) + m->off_h;
    const ptrdiff_t x = (ptrdiff_t)(j * WINOGRAD_OUT) + m->off_w;

    clip(y, m->size, m->h, &t->row0, &t->row1);
    clip(x, m->size, m->w, &t->col0, &t->col1);
    if (t->row0 == t->row1) {
        t->col1 = t->col0;
    }
    t->row = m->row;
    t->col = m->col;
    const size_t at = t->col0 < t->col1
                          ? image * m->image + (size_t)(y + (ptrdiff_t)t->row0) * m->row +
                                (size_t)(x + (ptrdiff_t)t->col0) * m->col + c0
                          : 0; /* nothing of it lies in the map */
    t->map = m->data ? m->data + at : NULL;
    t->out = m->out ? m->out + at : NULL;
}

/* Elements between positions: an odd number of cache lines, so that the 36 stores of a vector do
 * not meet in one set of the cache. */
static size_t position_stride(size_t elements)
{
    const size_t line = 64 / sizeof(real);
    return (div_up(elements, line) | 1) * line;
}

/* --- forward and data gradient ------------------------------------------------------------------ */

struct gather_plan {
    struct tiling tiling;
    size_t panel; /* filters of a register tile */
    size_t block; /* of a product: panels, at most BLOCK_FILTERS */
    size_t slab;  /* of a task: blocks */
    size_t group; /* tiles */
    size_t n_groups, n_slabs, n_parts;
    size_t v_ld, v_position; /* transformed input of a group: [position][tile][channel] */
    size_t m_position;       /* products: [position][tile][filter], rows of `block` */
    size_t u_position;       /* filters: [block][position][panel][channel][filter] */
    size_t n_filters;        /* elements of a slab */
    size_t n_scratch;        /* elements for a thread: a slab, and a group or transposed filters */
};

static struct gather_plan gather_plan_of(const struct conv_kernels *k, const struct conv_gather *p)
{
    struct gather_plan plan = {.tiling = tiling_of(p->n, p->out_h, p->out_w)};
    const size_t panel = k->max_vectors * k->lanes;

    plan.panel = min_size(panel, p->out_c);
    plan.block = min_size(BLOCK_FILTERS / panel * panel, p->out_c);
    plan.u_position = position_stride(p->in_c * plan.block);
    const size_t block_bytes = WINOGRAD_POSITIONS * plan.u_position * sizeof(real);
    const size_t n_blocks = min_size(max_size(1, SLAB_BYTES / block_bytes),
                                     div_up(p->out_c, plan.block));
    plan.slab = n_blocks * plan.block;
    plan.n_slabs = div_up(p->out_c, plan.slab);
    plan.n_filters = n_blocks * WINOGRAD_POSITIONS * plan.u_position;

    plan.v_ld = line_up(p->in_c);
    /* Whole register tiles. */
    const size_t n_p = k->tile_pixels[div_up(plan.panel, k->lanes)];
    plan.group = div_up(GROUP, n_p) * n_p;
    plan.n_groups = div_up(plan.tiling.n, plan.group);
    plan.n_parts = min_size(div_up(TASKS, plan.n_slabs), plan.n_groups);
    plan.v_position = position_stride(plan.group * plan.v_ld);
    plan.m_position = position_stride(plan.group * line_up(plan.block));
    plan.n_scratch = plan.n_filters +
                     max_size(WINOGRAD_POSITIONS * (plan.v_position + plan.m_position),
                              9 * FILTER_CHANNELS * line_up(plan.block));
    return plan;
}

struct gather_run {
    const struct conv_kernels *kernels;
    const struct conv_geom *g;
    const struct conv_gather *p;
    struct gather_plan plan;
    const real *w;
    int transposed; /* filters and summed channels change places, taps are mirrored */
    const real *bias;
    int accumulate;
};

/* Channels [e0, e1) of filters [f0, f0 + width) into the block `u`. */
static void transform_filters(const struct gather_run *run, size_t f0, size_t width, size_t e0,
                              size_t e1, real *u, real *scratch)
{
    const struct conv_geom *const g = run->g;
    const size_t tap = g->c * g->k, n = e1 - e0, ld = line_up(run->plan.block);
    struct winograd_tile t = {.row1 = 3, .col1 = 3, .position = run->plan.u_position};
    const real *src;
    size_t e_step;

    if (run->transposed) {
        for (size_t q = 0; q < 9; q++) {
            run->kernels->transpose(scratch + (8 - q) * n * ld, ld,
                                    run->w + q * tap + f0 * g->k + e0, g->k, n, width);
        }
        src = scratch;
        e_step = ld;
        t.col = n * ld;
    } else {
        src = run->w + e0 * g->k + f0;
        e_step = g->k;
        t.col = tap;
    }
    t.row = 3 * t.col;
    for (size_t e = 0; e < n; e++) {
        for (size_t f = 0; f < width; f += run->plan.panel) {
            t.c = min_size(run->plan.panel, width - f);
            t.map = src + e * e_step + f;
            t.positions = u + f * run->p->in_c + (e0 + e) * t.c;
            run->kernels->winograd_filter(&t);
        }
    }
}

/* m [tile][filter] = v [tile][channel] * u [panel][channel][filter] */
static void multiply(const struct gather_run *run, const real *v, const real *u, real *m,
                     size_t n_tiles, size_t width)
{
    const struct gather_plan *const plan = &run->plan;
    const size_t m_ld = line_up(plan->block), in_c = run->p->in_c;
    const ptrdiff_t offset = 0;
    const real *x[CONV_TILE_MAX_PIXELS];
    real *y[CONV_TILE_MAX_PIXELS];
    struct conv_tile tile = {.x = x, .offset = &offset, .n_taps = 1, .c = in_c, .y = y};

    for (size_t f = 0; f < width; f += plan->panel) {
        tile.k = min_size(plan->panel, width - f);
        tile.w = u + f * in_c;
        tile.w_ld = tile.k;
        const size_t n_p = run->kernels->tile_pixels[div_up(tile.k, run->kernels->lanes)];
        for (size_t t0 = 0; t0 < n_tiles; t0 += n_p) {
            tile.n_pixels = min_size(n_p, n_tiles - t0);
            for (size_t q = 0; q < n_p; q++) {
                const size_t t = q < tile.n_pixels ? t0 + q : t0;
                x[q] = v + t * plan->v_ld;
                y[q] = m + t * m_ld + f;
            }
            run->kernels->tile(&tile);
        }
    }
}

/* Tiles [t0, t0 + n) for the filters [f0, f1) of a slab that begins with f0. */
static void run_group(const struct gather_run *run, size_t t0, size_t n, size_t f0, size_t f1,
                      const real *u, real *scratch)
{
    const struct conv_gather *const p = run->p;
    const struct gather_plan *const plan = &run->plan;
    real *const v = scratch, *const m = v + WINOGRAD_POSITIONS * plan->v_position;
    const struct map_view in = {.data = p->in,
                                .h = p->in_h,
                                .w = p->in_w,
                                .image = p->in_h * p->in_w * p->in_pixel,
                                .row = p->in_w * p->in_pixel,
                                .col = p->in_pixel,
                                .off_h = p->off_a,
                                .off_w = p->off_b,
                                .size = WINOGRAD_IN};
    const struct map_view out = {.out = p->out,
                                 .h = p->out_h,
                                 .w = p->out_w,
                                 .image = p->out_image,
                                 .row = p->out_row,
                                 .col = p->out_col,
                                 .size = WINOGRAD_OUT};
    struct winograd_tile tile = {.position = plan->v_position, .c = p->in_c};

    for (size_t t = 0; t < n; t++) {
        place_tile(&in, &plan->tiling, t0 + t, 0, &tile);
        tile.positions = v + t * plan->v_ld;
        run->kernels->winograd_input(&tile);
    }
    for (size_t f = f0; f < f1; f += plan->block, u += WINOGRAD_POSITIONS * plan->u_position) {
        const size_t width = min_size(plan->block, f1 - f);
        for (size_t q = 0; q < WINOGRAD_POSITIONS; q++) {
            multiply(run, v + q * plan->v_position, u + q * plan->u_position,
                     m + q * plan->m_position, n, width);
        }
        tile = (struct winograd_tile){.position = plan->m_position,
                                      .c = width,
                                      .bias = run->bias ? run->bias + f : NULL,
                                      .accumulate = run->accumulate};
        for (size_t t = 0; t < n; t++) {
            place_tile(&out, &plan->tiling, t0 + t, f, &tile);
            tile.positions = m + t * line_up(plan->block);
            run->kernels->winograd_output(&tile);
        }
    }
}

/* Filters [f0, f1), into the beginning of a thread's scratch. */
static void transform_slab(const struct gather_run *run, size_t f0, size_t f1, real *u)
{
    const struct gather_plan *const plan = &run->plan;
    const size_t in_c = run->p->in_c;
    real *const scratch = u + plan->n_filters;

    for (size_t f = f0; f < f1; f += plan->block, u += WINOGRAD_POSITIONS * plan->u_position) {
        for (size_t e = 0; e < in_c; e += FILTER_CHANNELS) {
            transform_filters(run, f, min_size(plan->block, f1 - f), e,
                              min_size(e + FILTER_CHANNELS, in_c), u, scratch);
        }
    }
}

static void run_gather(struct gather_run *run, real *workspace, int n_threads)
{
    const struct gather_plan plan = run->plan = gather_plan_of(run->kernels, run->p);
    const size_t out_c = run->p->out_c;

    struct tasks tasks;
    tasks_share(&tasks, plan.n_slabs * plan.n_parts, n_threads);
#pragma omp parallel num_threads(n_threads)
    {
        real *const scratch = workspace + thread_index() * plan.n_scratch;
        size_t in_scratch = SIZE_MAX; /* the slab whose filters are there */
        for (size_t task; tasks_next(&tasks, &task);) {
            const size_t slab = task / plan.n_parts, part = task % plan.n_parts;
            const size_t f0 = slab * plan.slab, f1 = min_size(f0 + plan.slab, out_c);
            const size_t end = plan.n_groups * (part + 1) / plan.n_parts;
            if (slab != in_scratch) {
                transform_slab(run, f0, f1, scratch);
                in_scratch = slab;
            }
            for (size_t group = plan.n_groups * part / plan.n_parts; group < end; group++) {
                const size_t t0 = group * plan.group;
                run_group(run, t0, min_size(plan.group, plan.tiling.n - t0), f0, f1, scratch,
                          scratch + plan.n_filters);
            }
        }
    }
}

static void winograd_forward(const struct conv_kernels *k, const struct conv_geom *g,
                             const struct conv_forward_args *a, void *workspace, int n_threads)
{
    struct conv_gather p;
    conv_gather_forward(&p, g, a->x, a->y);
    run_gather(&(struct gather_run){.kernels = k, .g = g, .p = &p, .w = a->w, .bias = a->b},
               workspace, n_threads);
}

static void winograd_backward_data(const struct conv_kernels *k, const struct conv_geom *g,
                                   const struct conv_backward_data_args *a, void *workspace,
                                   int n_threads)
{
    struct conv_gather p;
    conv_gather_backward_data(&p, g, a->dy, a->dx, 0);
    run_gather(
        &(struct gather_run){
            .kernels = k, .g = g, .p = &p, .w = a->w, .transposed = 1, .accumulate = a->accumulate},
        workspace, n_threads);
}

/* --- weight gradient ---------------------------------------------------------------------------- */

struct weight_plan {
    struct tiling tiling;
    size_t c_block, k_block, c_tasks, k_tasks;
    size_t n_parts, group, n_groups;
    size_t v_position, w_position, sum_position;
    size_t n_scratch; /* elements for a thread */
};

static struct weight_plan weight_plan_of(const struct conv_geom *g, const struct shape *out)
{
    struct weight_plan plan = {.tiling = tiling_of(out->n, out->h, out->w),
                               .c_block = min_size(GRADIENT_BLOCK, g->c),
                               .k_block = min_size(GRADIENT_BLOCK, g->k)};
    plan.c_tasks = div_up(g->c, plan.c_block);
    plan.k_tasks = div_up(g->k, plan.k_block);
    plan.group = min_size(GRADIENT_GROUP, plan.tiling.n);
    plan.n_groups = div_up(plan.tiling.n, plan.group);
    plan.n_parts = min_size(div_up(GRADIENT_TASKS, plan.c_tasks * plan.k_tasks), plan.n_groups);
    plan.v_position = position_stride(plan.group * line_up(plan.c_block));
    plan.w_position = position_stride(plan.group * line_up(plan.k_block));
    plan.sum_position = position_stride(plan.c_block * line_up(plan.k_block));
    plan.n_scratch = WINOGRAD_POSITIONS * (plan.v_position + plan.w_position + plan.sum_position);
    return plan;
}

/* The gradient of filters [f0, f1) at channels [c0, c1) from the groups [first, end) of tiles. */
static void weight_task(const struct conv_kernels *k, const struct conv_geom *g,
                        const struct conv_backward_weight_args *a, const struct weight_plan *plan,
                        size_t c0, size_t c1, size_t f0, size_t f1, size_t first, size_t end,
                        real *dw, real *scratch)
{
    const struct tensor *const x = a->x, *const dy = a->dy;
    const size_t v_ld = line_up(plan->c_block), w_ld = line_up(plan->k_block);
    real *const v = scratch, *const w = v + WINOGRAD_POSITIONS * plan->v_position;
    real *const sums = w + WINOGRAD_POSITIONS * plan->w_position;
    const struct map_view x_view = {.data = x->data,
                                    .h = x->shape.h,
                                    .w = x->shape.w,
                                    .image = x->shape.h * x->shape.w * x->pixel_stride,
                                    .row = x->shape.w * x->pixel_stride,
                                    .col = x->pixel_stride,
                                    .off_h = -(ptrdiff_t)g->pad,
                                    .off_w = -(ptrdiff_t)g->pad,
                                    .size = WINOGRAD_IN};
    const struct map_view dy_view = {.data = dy->data,
                                     .h = dy->shape.h,
                                     .w = dy->shape.w,
                                     .image = dy->shape.h * dy->shape.w * dy->pixel_stride,
                                     .row = dy->shape.w * dy->pixel_stride,
                                     .col = dy->pixel_stride,
                                     .size = WINOGRAD_OUT};
    struct winograd_tile x_tile = {.position = plan->v_position, .c = c1 - c0};
    struct winograd_tile dy_tile = {.position = plan->w_position, .c = f1 - f0};

    memset(sums, 0, WINOGRAD_POSITIONS * plan->sum_position * sizeof(real));
    for (size_t group = first; group < end; group++) {
        const size_t t0 = group * plan->group, n = min_size(plan->group, plan->tiling.n - t0);
        for (size_t t = 0; t < n; t++) {
            place_tile(&x_view, &plan->tiling, t0 + t, c0, &x_tile);
            x_tile.positions = v + t * v_ld;
            k->winograd_input(&x_tile);
            place_tile(&dy_view, &plan->tiling, t0 + t, f0, &dy_tile);
            dy_tile.positions = w + t * w_ld;
            k->winograd_output_adjoint(&dy_tile);
        }
        for (size_t q = 0; q < WINOGRAD_POSITIONS; q++) {
            k->outer(&(struct conv_outer){.x = v + q * plan->v_position,
                                          .x_col = v_ld,
                                          .dy = w + q * plan->w_position,
                                          .dy_col = w_ld,
                                          .n_images = 1,
                                          .n_rows = 1,
                                          .n_cols = n,
                                          .c = c1 - c0,
                                          .k = f1 - f0,
                                          .dw = sums + q * plan->sum_position,
                                          .dw_ld = w_ld});
        }
    }
    struct winograd_tile tile = {.row = 3 * g->c * g->k,
                                 .col = g->c * g->k,
                                 .row1 = 3,
                                 .col1 = 3,
                                 .position = plan->sum_position,
                                 .c = f1 - f0};
    for (size_t c = c0; c < c1; c++) {
        tile.positions = sums + (c - c0) * w_ld;
        tile.out = dw + c * g->k + f0;
        k->winograd_filter_adjoint(&tile);
    }
}

static void winograd_backward_weight(const struct conv_kernels *k, const struct conv_geom *g,
                                     const struct conv_backward_weight_args *a, void *workspace,
                                     int n_threads)
{
    const struct weight_plan plan = weight_plan_of(g, &a->dy->shape);
    const size_t n_dw = 9 * g->c * g->k, n_blocks = plan.c_tasks * plan.k_tasks;
    real *const bias_scratch = workspace;
    real *const scratches = bias_scratch + line_up(CONV_BIAS_PARTS * g->k);
    real *const sums = plan.n_parts > 1 ? scratches + (size_t)n_threads * plan.n_scratch : a->dw;

    if (a->db) {
        conv_bias_gradient(a->dy, a->db, bias_scratch, n_threads);
    }
    struct tasks tasks;
    tasks_share(&tasks, plan.n_parts * n_blocks, n_threads);
#pragma omp parallel num_threads(n_threads)
    for (size_t task; tasks_next(&tasks, &task);) {
        const size_t part = task / n_blocks;
        const size_t c0 = task / plan.k_tasks % plan.c_tasks * plan.c_block;
        const size_t f0 = task % plan.k_tasks * plan.k_block;
        weight_task(k, g, a, &plan, c0, min_size(c0 + plan.c_block, g->c), f0,
                    min_size(f0 + plan.k_block, g->k), plan.n_groups * part / plan.n_parts,
                    plan.n_groups * (part + 1) / plan.n_parts, sums + part * n_dw,
                    scratches + thread_index() * plan.n_scratch);
    }
    if (plan.n_parts > 1) {
        conv_parts_add(a->dw, sums, plan.n_parts, n_dw, n_dw, n_threads);
    }
}

static size_t winograd_workspace_bytes(const struct conv_kernels *k, const struct conv_geom *g,
                                       const struct shape *x, enum conv_op op, int n_threads)
{
    struct tensor in = {.shape = *x, .pixel_stride = x->c};
    struct tensor out = {.shape = conv2d_out_shape(g, x), .pixel_stride = g->k};
    const size_t threads = (size_t)n_threads;
    struct conv_gather p;

    if (shape_pixels(&in.shape) == 0 || shape_pixels(&out.shape) == 0) {
        return 0;
    }
    if (op == CONV_BACKWARD_WEIGHT) {
        const struct weight_plan plan = weight_plan_of(g, &out.shape);
        const size_t copies = plan.n_parts > 1 ? plan.n_parts : 0;
        return (line_up(CONV_BIAS_PARTS * g->k) + threads * plan.n_scratch +
                copies * 9 * g->c * g->k) *
               sizeof(real);
    }
    if (op == CONV_FORWARD) {
        conv_gather_forward(&p, g, &in, &out);
    } else {
        conv_gather_backward_data(&p, g, &out, &in, 0);
    }
    const struct gather_plan plan = gather_plan_of(k, &p);
    return threads * plan.n_scratch * sizeof(real);
}

const struct conv_impl conv_impl_winograd = {
    .name = "winograd",
    .algorithm = CONV_WINOGRAD,
    .supports = winograd_supports,
    .pays = winograd_pays,
    .macs = winograd_macs,
    .workspace_bytes = winograd_workspace_bytes,
    .forward = winograd_forward,
    .backward_data = winograd_backward_data,
    .backward_weight = winograd_backward_weight,
};
