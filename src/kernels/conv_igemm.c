/* Implicit GEMM: register tiles that read the input through one pointer per pixel, displaced by a
 * constant per filter tap. No patch matrix exists.
 *
 * Forward and data gradient: a task is a chunk of output rows or of images, and a block of filters
 * or, where the weights of all blocks are small, all of them: then a chunk's input is read from
 * memory once and its output written in one go, pixel by pixel if the weights fit into L1 (measured
 * on AVX2, where a block is one line of 64 bytes: 1x1 layers up to 1.7 times as fast).
 * Where taps can fall into the padding, the input rows of a chunk are first copied into a strip
 * with the padding written out: one copy per input value, against taps*filters multiplications,
 * and then no pixel needs a test. Elsewhere the tensor is read in place. In a dense strip the taps
 * of a filter row are neighbours in memory and run as one tap with n_b times the channels. The
 * weights of a block are contiguous (packed unless they already are); a pass takes as many taps and
 * channels as leave them in half of a 1 MiB L2, further passes add to the output.
 *
 * The weight gradient is in conv_igemm_weight.c. */
#include "kernels/conv_priv.h"

#include <string.h>

#include "base/tasks.h"
#include "base/threads.h"

enum {
    PASS_ROWS = 2048,         /* taps x channels of one pass: with 64 filters, 512 KiB */
    PASS_TAPS = 64,           /* of one pass, for the table of offsets */
    CHUNK_PIXELS = 512,       /* enough that the last, partly filled tile of a chunk is cheap */
    MIN_CHUNK_PIXELS = 64,    /* for small problems, so that there are chunks to share */
    STRIP_ELEMENTS = 1 << 16, /* 256 KiB: strip and weights share L2 */
    L1_WEIGHTS = 1 << 12,     /* elements, 16 KiB: half of an L1 */
    SHARED_WEIGHTS =
        1 << 18,       /* elements, 1 MiB: cheaper to read again for each chunk than its pixels */
    ENOUGH_CHUNKS = 8, /* so that threads have tasks without those of blocks */
    MIN_PACK_PARALLEL = 1 << 14, /* elements; below, a parallel region costs more than the copy */
};

static int igemm_supports(const struct conv_kernels *k, const struct conv_geom *g,
                          const struct shape *x, enum conv_op op)
{
    (void)g;
    (void)x;
    (void)op;
    return k->lanes > 0;
}

/* --- forward and data gradient ----------------------------------------------------------------- */

/* How a problem is cut; by sizes alone. */
struct chunks {
    size_t images, rows;     /* of a chunk; images > 1 only with all rows */
    size_t blocks_per_image; /* row blocks */
    size_t n;
    int has_strip;
    size_t strip_h, strip_w; /* pixels per image of a full chunk */
};

static struct chunks chunks_of(const struct conv_gather *p)
{
    const size_t n_pixels = p->n * p->out_h * p->out_w;
    const size_t target = max_size(MIN_CHUNK_PIXELS,
                                   min_size(CHUNK_PIXELS, n_pixels / (32 * p->out_w) * p->out_w));
    struct chunks c = {.has_strip = !conv_gather_is_inside(p)};

    c.strip_w = (p->out_w - 1) * p->step + p->n_b;
    c.rows = min_size(max_size(1, target / p->out_w), p->out_h);
    if (c.has_strip) {
        /* rows*step + n_a - step input rows must fit */
        const size_t fit = STRIP_ELEMENTS / (c.strip_w * p->in_c);
        c.rows = fit > p->n_a ? min_size(c.rows, (fit - p->n_a) / p->step + 1) : 1;
    }
    c.strip_h = (c.rows - 1) * p->step + p->n_a;
    c.images = 1;
    if (c.rows == p->out_h) {
        c.images = max_size(1, min_size(p->n, target / (p->out_h * p->out_w)));
        if (c.has_strip) {
            const size_t fit = STRIP_ELEMENTS / (c.strip_h * c.strip_w * p->in_c);
            c.images = max_size(1, min_size(c.images, fit));
        }
    }
    c.blocks_per_image = div_up(p->out_h, c.rows);
    c.n = div_up(p->n, c.images) * c.blocks_per_image;
    return c;
}

static size_t strip_elements(const struct conv_gather *p)
{
    const struct chunks c = chunks_of(p);
    return c.has_strip ? line_up(c.images * c.strip_h * c.strip_w * p->in_c) : 0;
}

/* The input of one chunk: tap (0, 0) of output pixel (n, i, j), counted within the chunk, at
 * origin + n*image + i*row + j*col; tap (a, b) is a*tap_a + b*tap_b behind it. */
struct chunk_input {
    const real *origin;
    size_t image, row, col, tap_a, tap_b;
    const real *next; /* the next chunk's input in memory, to be fetched meanwhile */
    size_t n_next;    /* its elements */
};

/* One output chunk: images [n0, n0 + n), rows [i0, i0 + rows). */
struct chunk {
    size_t n0, n, i0, rows;
};

/* Copies the input rows of the chunk, padding written out as zeros. */
static void fill_strip(const struct conv_gather *p, const struct chunk *k, size_t strip_h,
                       size_t strip_w, real *strip)
{
    const ptrdiff_t y0 = (ptrdiff_t)(k->i0 * p->step) + p->off_a, x0 = p->off_b;
    const size_t c = p->in_c, row = strip_w * c;
    /* Columns [left, right) of a strip row are inside the map. */
    const size_t left = x0 < 0 ? min_size((size_t)-x0, strip_w) : 0;
    const ptrdiff_t inside = (ptrdiff_t)p->in_w - x0;
    const size_t right = inside > (ptrdiff_t)left ? min_size((size_t)inside, strip_w) : left;

    for (size_t n = k->n0; n < k->n0 + k->n; n++) {
        for (size_t i = 0; i < strip_h; i++, strip += row) {
            const ptrdiff_t y = y0 + (ptrdiff_t)i;
            if (y < 0 || y >= (ptrdiff_t)p->in_h || left == right) {
                memset(strip, 0, row * sizeof(real));
                continue;
            }
            const real *src = p->in + ((n * p->in_h + (size_t)y) * p->in_w +
                                       (size_t)(x0 + (ptrdiff_t)left)) *
                                          p->in_pixel;
            memset(strip, 0, left * c * sizeof(real));
            memset(strip + right * c, 0, (strip_w - right) * c * sizeof(real));
            if (p->in_pixel == c) {
                memcpy(strip + left * c, src, (right - left) * c * sizeof(real));
                continue;
            }
            for (size_t j = left; j < right; j++, src += p->in_pixel) {
                memcpy(strip + j * c, src, c * sizeof(real));
            }
        }
    }
}

static struct chunk_input chunk_input_of(const struct conv_gather *p, const struct chunks *c,
                                         const struct chunk *k, real *strip)
{
    const size_t in_row = p->in_w * p->in_pixel;
    /* The chunk's first input row, but for off_a; with wide padding it may lie behind the map. */
    const size_t y = min_size(k->i0 * p->step, p->in_h);
    const real *const in = p->in + (k->n0 * p->in_h + y) * in_row;
    struct chunk_input result;

    if (c->has_strip) {
        const size_t strip_h = (k->rows - 1) * p->step + p->n_a, row = c->strip_w * p->in_c;
        fill_strip(p, k, strip_h, c->strip_w, strip);
        result = (struct chunk_input){.origin = strip,
                                      .image = strip_h * row,
                                      .row = p->step * row,
                                      .col = p->step * p->in_c,
                                      .tap_a = row,
                                      .tap_b = p->in_c};
    } else {
        result = (struct chunk_input){.origin = in + (size_t)p->off_a * in_row +
                                                (size_t)p->off_b * p->in_pixel,
                                      .image = p->in_h * in_row,
                                      .row = p->step * in_row,
                                      .col = p->step * p->in_pixel,
                                      .tap_a = in_row,
                                      .tap_b = p->in_pixel};
    }
    const size_t n_rows = k->rows == p->out_h ? k->n * p->in_h : k->rows * p->step;
    const size_t after = (p->n - k->n0) * p->in_h - y; /* rows from `in` on */
    result.next = in + min_size(n_rows, after) * in_row;
    result.n_next = min_size(n_rows, after - min_size(n_rows, after)) * in_row;
    return result;
}

struct gather_run {
    const struct conv_kernels *kernels;
    const struct conv_gather *p;
    const real *w; /* [block][tap][channel][filter of the block] */
    const real *bias;
    int accumulate;
};

/* The next tile.k filters of the same pixels. */
static void next_block(struct conv_tile *tile, real **y, size_t n_p, size_t w_block)
{
    tile->w += w_block;
    tile->bias = tile->bias ? tile->bias + tile->k : NULL;
    for (size_t q = 0; q < n_p; q++) {
        y[q] += tile->k;
    }
}

/* Fetches the output lines of the next tile: where there is little arithmetic, stores would
 * wait for them. They may lie behind the map's end, which a prefetch may. */
static void fetch_output(const struct conv_tile *tile, size_t ahead, size_t filters)
{
    const size_t line = 64 / sizeof(real);
    for (size_t q = 0; q < tile->n_pixels; q++) {
        for (size_t f = 0; f < filters; f += line) {
            __builtin_prefetch(tile->y[q] + ahead + f, 1, 3);
        }
    }
}

/* One pass over the pixels of a chunk, for n_blocks blocks of tile.k filters whose weights lie
 * w_block apart. out: the chunk's first pixel and filter. */
static void run_tiles(const struct gather_run *run, const struct chunk *k,
                      const struct chunk_input *in, real *out, const struct conv_tile *first,
                      size_t n_blocks, size_t w_block)
{
    struct conv_tile tile = *first;
    const struct conv_gather *const p = run->p;
    const size_t n_p = run->kernels->tile_pixels[div_up(tile.k, run->kernels->lanes)];
    const real *x[CONV_TILE_MAX_PIXELS];
    real *y[CONV_TILE_MAX_PIXELS];
    const real *in_row = in->origin;
    real *out_row = out;
    size_t n = 0, i = 0, j = 0;
    const size_t n_tiles = div_up(k->n * k->rows * p->out_w, n_p);
    const size_t line = 64 / sizeof(real);
    const size_t fetch = line_up(div_up(in->n_next, n_tiles));
    const int is_writing = tile.n_taps * tile.c <= 2 * n_blocks * tile.k;
    size_t fetched = 0;

    tile.x = x;
    tile.y = y;
    for (size_t left = k->n * k->rows * p->out_w; left > 0; left -= tile.n_pixels) {
        tile.n_pixels = min_size(n_p, left);
        for (size_t q = 0; q < tile.n_pixels; q++) {
            x[q] = in_row + j * in->col;
            y[q] = out_row + j * p->out_col;
            if (++j < p->out_w) {
                continue;
            }
            j = 0;
            if (++i == k->rows) {
                i = 0;
                n++;
            }
            in_row = in->origin + n * in->image + i * in->row;
            out_row = out + n * p->out_image + i * p->out_row;
        }
        for (size_t q = tile.n_pixels; q < n_p; q++) {
            x[q] = x[0];
            y[q] = y[0];
        }
        for (const size_t end = min_size(fetched + fetch, in->n_next); fetched < end;
             fetched += line) {
            __builtin_prefetch(in->next + fetched, 0, 2);
        }
        if (is_writing) {
            fetch_output(&tile, n_p * p->out_col, n_blocks * tile.k);
        }
        run->kernels->tile(&tile);
        for (size_t b = 1; b < n_blocks; b++) {
            next_block(&tile, y, n_p, w_block);
            run->kernels->tile(&tile);
        }
        tile.w = first->w;
        tile.bias = first->bias;
    }
}

static size_t block_filters(const struct conv_kernels *k, size_t filters)
{
    return min_size(k->max_vectors * k->lanes, filters);
}

/* n_blocks > 1: blocks of `width` filters from f0 on, pixel by pixel; they take one pass. */
static void run_blocks(const struct gather_run *run, const struct chunk *k,
                       const struct chunk_input *in, size_t f0, size_t width, size_t n_blocks)
{
    const struct conv_gather *const p = run->p;
    /* The taps of a filter row are one tap if they are neighbours. */
    const size_t merged = in->tap_b == p->in_c ? p->n_b : 1;
    const size_t n_taps = p->n_a * p->n_b / merged, n_b = p->n_b / merged, c = p->in_c * merged;
    const size_t c_step = min_size(c, PASS_ROWS);
    const size_t max_taps = min_size(min_size(PASS_ROWS / c_step, PASS_TAPS), n_taps);
    const size_t t_step = div_up(n_taps, div_up(n_taps, max_taps)); /* passes of like size */
    const real *const w = run->w + n_taps * c * f0;
    real *const out = p->out + k->n0 * p->out_image + k->i0 * p->out_row + f0;

    for (size_t t0 = 0; t0 < n_taps; t0 += t_step) {
        for (size_t c0 = 0; c0 < c; c0 += c_step) {
            ptrdiff_t offset[PASS_TAPS];
            struct conv_tile tile = {
                .offset = offset,
                .n_taps = min_size(t_step, n_taps - t0),
                .c = min_size(c_step, c - c0),
                .w = w + (t0 * c + c0) * width,
                .w_tap = c * width,
                .w_ld = width,
                .k = width,
                .bias = run->bias ? run->bias + f0 : NULL,
                .accumulate = run->accumulate || t0 > 0 || c0 > 0,
            };
            for (size_t t = 0; t < tile.n_taps; t++) {
                const size_t a = (t0 + t) / n_b, b = (t0 + t) % n_b;
                offset[t] = (ptrdiff_t)(a * in->tap_a + b * in->tap_b + c0);
            }
            run_tiles(run, k, in, out, &tile, n_blocks, n_taps * c * width);
        }
    }
}

/* The filters [f0, f1) of a chunk. */
static void run_task(const struct gather_run *run, const struct chunk *k, struct chunk_input *in,
                     size_t f0, size_t f1)
{
    const struct conv_gather *const p = run->p;
    const size_t block = block_filters(run->kernels, p->out_c);
    if (f1 - f0 > block && (f1 - f0) % block == 0 &&
        p->n_a * p->n_b * p->in_c * p->out_c <= L1_WEIGHTS && p->n_a * p->n_b <= PASS_TAPS) {
        run_blocks(run, k, in, f0, block, (f1 - f0) / block);
        return;
    }
    for (; f0 < f1; f0 += block) {
        run_blocks(run, k, in, f0, min_size(block, f1 - f0), 1);
        in->n_next = 0; /* has been fetched */
    }
}

static void run_gather(const struct gather_run *run, real *strips, int n_threads)
{
    const struct conv_gather *const p = run->p;
    const struct chunks c = chunks_of(p);
    const int is_small = p->n_a * p->n_b * p->in_c * p->out_c <= SHARED_WEIGHTS;
    const size_t filters = is_small && c.n >= ENOUGH_CHUNKS ? p->out_c
                                                            : block_filters(run->kernels, p->out_c);
    const size_t n_blocks = div_up(p->out_c, filters), strip = strip_elements(p);

    struct tasks tasks;
    tasks_share(&tasks, n_blocks * c.n, n_threads);
#pragma omp parallel num_threads(n_threads)
    for (size_t task; tasks_next(&tasks, &task);) {
        const size_t f0 = task / c.n * filters, i = task % c.n;
        const size_t n0 = i / c.blocks_per_image * c.images, i0 = i % c.blocks_per_image * c.rows;
        const struct chunk k = {.n0 = n0,
                                .n = min_size(c.images, p->n - n0),
                                .i0 = i0,
                                .rows = min_size(c.rows, p->out_h - i0)};
        struct chunk_input in = chunk_input_of(p, &c, &k, strips + thread_index() * strip);
        run_task(run, &k, &in, f0, min_size(f0 + filters, p->out_c));
    }
}

static size_t packed_elements(const struct conv_kernels *k, const struct conv_geom *g,
                              enum conv_op op)
{
    if (op == CONV_FORWARD) {
        return g->k > block_filters(k, g->k) ? line_up(g->r * g->s * g->c * g->k) : 0;
    }
    return line_up(div_up(g->r, g->stride) * div_up(g->s, g->stride) * g->c * g->k);
}

static void igemm_forward(const struct conv_kernels *k, const struct conv_geom *g,
                          const struct conv_forward_args *a, void *workspace, int n_threads)
{
    const size_t n_packed = packed_elements(k, g, CONV_FORWARD);
    real *const packed = workspace;
    struct conv_gather p;

    conv_gather_forward(&p, g, a->x, a->y);
    struct gather_run run = {.kernels = k, .p = &p, .w = a->w, .bias = a->b};
    if (n_packed > 0) {
        conv_gather_pack(&p, g, a->w, 0, block_filters(k, g->k), packed, n_threads);
        run.w = packed;
    }
    run_gather(&run, packed + n_packed, n_threads);
}

static void igemm_backward_data(const struct conv_kernels *k, const struct conv_geom *g,
                                const struct conv_backward_data_args *a, void *workspace,
                                int n_threads)
{
    real *const packed = workspace;
    real *const strips = packed + packed_elements(k, g, CONV_BACKWARD_DATA);

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
        const size_t n_packed = p.n_a * p.n_b * p.in_c * p.out_c;
        conv_gather_pack(&p, g, a->w, 1, block_filters(k, g->c), packed,
                         n_packed < MIN_PACK_PARALLEL ? 1 : n_threads);
        run_gather(
            &(struct gather_run){.kernels = k, .p = &p, .w = packed, .accumulate = a->accumulate},
            strips, n_threads);
    }
}

/* --- the table row ----------------------------------------------------------------------------- */

/* The largest strip of any problem of this operation. */
static size_t max_strip(const struct conv_geom *g, const struct shape *in, enum conv_op op)
{
    struct tensor x = {.shape = *in, .pixel_stride = in->c};
    struct tensor y = {.shape = conv2d_out_shape(g, in), .pixel_stride = g->k};
    struct conv_gather p;
    size_t most = 0;

    if (op == CONV_FORWARD) {
        conv_gather_forward(&p, g, &x, &y);
        return shape_pixels(&y.shape) > 0 ? strip_elements(&p) : 0;
    }
    for (size_t phase = 0; phase < g->stride * g->stride; phase++) {
        conv_gather_backward_data(&p, g, &y, &x, phase);
        if (p.n * p.out_h * p.out_w * p.n_a * p.n_b > 0) {
            most = max_size(most, strip_elements(&p));
        }
    }
    return most;
}

static size_t igemm_workspace_bytes(const struct conv_kernels *k, const struct conv_geom *g,
                                    const struct shape *x, enum conv_op op, int n_threads)
{
    if (op != CONV_BACKWARD_WEIGHT) {
        return (packed_elements(k, g, op) + (size_t)n_threads * max_strip(g, x, op)) * sizeof(real);
    }
    return conv_igemm_weight_bytes(g, x);
}

const struct conv_impl conv_impl_igemm = {
    .name = "igemm",
    .algorithm = CONV_IGEMM,
    .supports = igemm_supports,
    .workspace_bytes = igemm_workspace_bytes,
    .forward = igemm_forward,
    .backward_data = igemm_backward_data,
    .backward_weight = conv_igemm_backward_weight,
    .gradient_parts = conv_igemm_gradient_parts,
    .gradient_run = conv_igemm_gradient_run,
    .gradient_end = conv_igemm_gradient_end,
};
