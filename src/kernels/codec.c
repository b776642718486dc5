/* The codec's drivers: sizes, sections, and the cut of a tensor into units of work. */
#include "kernels/codec.h"

#include <assert.h>
#include <string.h>

#include "base/tasks.h"
#include "base/threads.h"

/* Channels, and groups, of one unit of work: by size alone, never by the number of threads. */
#define UNIT_CHANNELS 64
#define UNIT_GROUPS 64

/* Below this many values starting threads costs more than it saves. */
#define MIN_PARALLEL 32768

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Bytes of one sample's sections. */
struct sections {
    size_t means, ranges, codes;
};

static struct sections make_sections(const struct codec_unit *u)
{
    struct sections s = {0};
    if (u->has_means) {
        s.means = u->n_rows * u->n_cols * u->c * 2;
    }
    if (!u->has_codes) {
        return s;
    }
    const size_t pixels = u->h * u->w;
    if (!u->has_ranges) {
        s.codes = ceil_div(pixels, 8 / u->bits) * u->c;
    } else if (u->group != 0) {
        s.ranges = ceil_div(pixels * u->c, u->group) * 4;
        s.codes = ceil_div(pixels * u->c, CODEC_TILE) * CODEC_TILE_LANES * u->bits;
    } else {
        s.ranges = u->c * 4;
        s.codes = ceil_div(pixels, 8 / u->bits) * u->c;
    }
    return s;
}

/* Everything but the random stream and the sample's index. */
static struct codec_unit make_unit(const struct codec_spec *spec, const struct shape *shape,
                                   struct sections *sections)
{
    assert(spec->bits == 1 || spec->bits == 2 || spec->bits == 4 || spec->bits == 8);
    struct codec_unit u = {
        .h = shape->h,
        .w = shape->w,
        .c = shape->c,
        .bits = spec->bits,
        .stochastic = spec->stochastic,
        .has_codes = 1,
        .has_ranges = spec->kind != CODEC_BINS,
    };
    switch (spec->kind) {
    case CODEC_GROUP:
        assert(spec->group > 0 && spec->group % CODEC_TILE == 0);
        u.group = spec->group;
        break;
    case CODEC_MAP:
        if (spec->block > 0) {
            u.block_h = u.block_w = spec->block;
            u.n_rows = ceil_div(u.h, u.block_h);
            u.n_cols = ceil_div(u.w, u.block_w);
            u.has_means = spec->keep != CODEC_KEEP_HIGH;
        }
        u.has_codes = !u.has_means || spec->keep != CODEC_KEEP_LOW;
        break;
    case CODEC_OFFICIAL:
        assert(spec->block > 0);
        u.block_h = u.block_w = min_size(spec->block, u.h);
        if (u.h > 0) {
            u.n_rows = u.h / u.block_h;
            u.n_cols = u.w / u.block_w;
        }
        u.has_means = 1;
        break;
    case CODEC_SIDES:
        if (spec->block > 0) {
            u.block_h = u.block_w = spec->block;
            u.n_rows = ceil_div(u.h, u.block_h);
            u.n_cols = ceil_div(u.w, u.block_w);
            u.has_means = 1;
        }
        break;
    case CODEC_BINS: break;
    }
    *sections = make_sections(&u);
    u.ranges_at = sections->means;
    u.codes_at = sections->means + sections->ranges;
    return u;
}

static size_t sections_sum(const struct sections *s)
{
    return s->means + s->ranges + s->codes;
}

/* Official: a single row is kept as it is, and a map narrower than the block has no means. */
static int is_raw(const struct codec_spec *spec, const struct codec_unit *u,
                  const struct sections *sections)
{
    const size_t raw_bytes = u->h * u->w * u->c * sizeof(float);
    return sections_sum(sections) >= raw_bytes ||
           (spec->kind == CODEC_OFFICIAL && (u->h == 1 || u->n_cols == 0));
}

size_t codec_bytes(const struct codec_spec *spec, const struct shape *shape,
                   struct codec_bytes *parts)
{
    struct sections s;
    const struct codec_unit u = make_unit(spec, shape, &s);
    struct codec_bytes bytes = {0};
    if (is_raw(spec, &u, &s)) {
        bytes.raw = shape_bytes(shape);
    } else {
        bytes.means = shape->n * s.means;
        bytes.ranges = shape->n * s.ranges;
        bytes.codes = shape->n * s.codes;
    }
    if (parts != NULL) {
        *parts = bytes;
    }
    return bytes.means + bytes.ranges + bytes.codes + bytes.raw;
}

/* Where block means lie that are needed while encoding but not kept (keep = HIGH). */
static size_t scratch_bytes(const struct codec_unit *u)
{
    const size_t bytes = u->has_means ? 0
                                      : u->n_rows * u->n_cols * min_size(u->c, UNIT_CHANNELS) * 2;
    return ceil_div(bytes, 64) * 64;
}

size_t codec_workspace_bytes(const struct codec_spec *spec, const struct shape *shape,
                             int n_threads)
{
    struct sections s;
    const struct codec_unit u = make_unit(spec, shape, &s);
    return scratch_bytes(&u) * (size_t)n_threads;
}

/* How many threads help: one if this is one of several that share the tensor already. */
static int useful_threads(const struct shape *s, int n_threads)
{
    return shape_elements(s) > MIN_PARALLEL && !threads_are_busy() ? n_threads : 1;
}

/* --- raw -------------------------------------------------------------------------------------- */

static void encode_raw(const struct tensor *x, unsigned char *dst, int n_threads)
{
    const size_t pixels = shape_pixels(&x->shape), bytes = x->shape.c * sizeof(real);
    (void)n_threads; /* without OpenMP */
#pragma omp parallel for num_threads(useful_threads(&x->shape, n_threads)) schedule(static)
    for (size_t p = 0; p < pixels; p++) {
        memcpy(dst + p * bytes, x->data + p * x->pixel_stride, bytes);
    }
}

static void decode_raw(const struct shape *shape, const unsigned char *src,
                       const struct codec_block *b, struct tensor *out, int n_threads)
{
    const size_t w = shape->w, row_pixels = (b->h1 - b->h0) * w;
    const size_t bytes = (b->c1 - b->c0) * sizeof(real), pixels = (b->n1 - b->n0) * row_pixels;
    (void)n_threads; /* without OpenMP */
#pragma omp parallel for num_threads(useful_threads(&out->shape, n_threads)) schedule(static)
    for (size_t i = 0; i < pixels; i++) {
        const size_t n = b->n0 + i / row_pixels, p = b->h0 * w + i % row_pixels;
        const size_t at = ((n * shape->h * w + p) * shape->c + b->c0) * sizeof(real);
        memcpy(out->data + i * out->pixel_stride, src + at, bytes);
    }
}

/* The batch-norm group of sample n. */
static void set_norm(struct codec_unit *u, const struct codec_norm *norm, size_t n)
{
    const size_t at = n / norm->group * u->c;
    u->mean = norm->mean + at;
    u->invstd = norm->invstd + at;
    u->gamma = norm->gamma;
    u->beta = norm->beta;
    u->signs = norm->signs != NULL ? norm->signs + n * u->h * u->w * ceil_div(u->c, 8) : NULL;
}

/* --- coded ------------------------------------------------------------------------------------ */

/* What one call encodes: samples first .. of a tensor; the code of sample `at_dst` is at dst. */
struct encode_job {
    const struct codec_spec *spec;
    const struct tensor *x;
    size_t first, at_dst;
    const struct rng *rng;
    unsigned char *dst, *workspace;
};

/* Returns the bytes written. */
static size_t encode(const struct kernels *k, const struct encode_job *job, int n_threads)
{
    const struct codec_spec *const spec = job->spec;
    const struct tensor *const x = job->x;
    const size_t n = x->shape.n, pixels = x->shape.h * x->shape.w;
    struct sections sections;
    struct codec_unit unit = make_unit(spec, &x->shape, &sections);
    if (is_raw(spec, &unit, &sections)) {
        struct shape before = x->shape;
        before.n = job->first - job->at_dst;
        encode_raw(x, job->dst + shape_bytes(&before), n_threads);
        return shape_bytes(&x->shape);
    }
    unit.rng = *job->rng;
    const int by_group = spec->kind == CODEC_GROUP;
    const size_t sample_bytes = sections_sum(&sections), scratch = scratch_bytes(&unit);
    const size_t n_items = by_group ? ceil_div(pixels * unit.c, unit.group) : unit.c;
    const size_t step = by_group ? UNIT_GROUPS : UNIT_CHANNELS;
    const size_t n_parts = ceil_div(n_items, step);
    struct tasks tasks;
    tasks_share(&tasks, n * n_parts, useful_threads(&x->shape, n_threads));

#pragma omp parallel num_threads(n_threads) if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        struct codec_unit u = unit;
        u.sample = job->first + i / n_parts;
        const size_t from = i % n_parts * step, to = min_size(from + step, n_items);
        const real *sample = x->data + i / n_parts * pixels * x->pixel_stride;
        unsigned char *code = job->dst + (u.sample - job->at_dst) * sample_bytes;
        unsigned char *means = NULL;
        if (u.has_means) {
            means = code + from * 2;
            u.means_stride = u.c;
        } else if (scratch > 0) {
            const size_t own = n_threads > 1 ? thread_index() : 0;
            means = job->workspace + own * scratch;
            u.means_stride = to - from;
        }
        if (by_group) {
            k->codec.encode_group(&u, sample, x->pixel_stride, from, to, code);
        } else if (spec->kind == CODEC_BINS) {
            set_norm(&u, spec->norm, u.sample);
            k->codec.encode_bins(&u, sample, x->pixel_stride, from, to, code);
        } else if (spec->kind == CODEC_SIDES) {
            set_norm(&u, spec->norm, u.sample);
            k->codec.encode_sides(&u, sample, x->pixel_stride, from, to, means, code);
        } else if (spec->kind == CODEC_OFFICIAL) {
            k->codec.encode_official(&u, sample, x->pixel_stride, from, to, means, code);
        } else {
            k->codec.encode_map(&u, sample, x->pixel_stride, from, to, means, code);
        }
    }
    return n * sample_bytes;
}

size_t codec_encode(const struct kernels *k, const struct codec_spec *spec, const struct tensor *x,
                    const struct rng *rng, void *dst, void *workspace, int n_threads)
{
    const struct encode_job job = {
        .spec = spec, .x = x, .rng = rng, .dst = dst, .workspace = workspace};
    return encode(k, &job, n_threads);
}

void codec_encode_samples(const struct kernels *k, const struct codec_spec *spec,
                          const struct tensor *x, size_t first, const struct rng *rng, void *dst,
                          void *workspace)
{
    const struct encode_job job = {
        .spec = spec, .x = x, .first = first, .rng = rng, .dst = dst, .workspace = workspace};
    (void)encode(k, &job, 1);
}

size_t codec_encode_one(const struct kernels *k, const struct codec_spec *spec,
                        const struct tensor *x, size_t sample, const struct rng *rng, void *dst,
                        void *workspace, int n_threads)
{
    assert(x->shape.n == 1);
    const struct encode_job job = {.spec = spec,
                                   .x = x,
                                   .first = sample,
                                   .at_dst = sample,
                                   .rng = rng,
                                   .dst = dst,
                                   .workspace = workspace};
    return encode(k, &job, n_threads);
}

void codec_decode(const struct kernels *k, const struct codec_spec *spec, const struct shape *shape,
                  const void *src, const struct codec_block *block, struct tensor *out,
                  int n_threads)
{
    const struct codec_block b = *block;
    assert(b.n0 <= b.n1 && b.n1 <= shape->n && b.h0 <= b.h1 && b.h1 <= shape->h);
    assert(b.c0 <= b.c1 && b.c1 <= shape->c);
    assert(out->shape.n == b.n1 - b.n0 && out->shape.h == b.h1 - b.h0);
    assert(out->shape.w == shape->w && out->shape.c == b.c1 - b.c0);
    struct sections sections;
    struct codec_unit unit = make_unit(spec, shape, &sections);
    if (is_raw(spec, &unit, &sections)) {
        decode_raw(shape, src, block, out, n_threads);
        return;
    }
    unit.means_stride = unit.c;
    const size_t sample_bytes = sections_sum(&sections);
    const size_t out_pixels = (b.h1 - b.h0) * shape->w;
    /* A group runs across channels: its units are whole pixels. */
    const size_t step = spec->kind == CODEC_GROUP ? unit.c : UNIT_CHANNELS;
    const size_t n_parts = ceil_div(b.c1 - b.c0, step);
    struct tasks tasks;
    tasks_share(&tasks, (b.n1 - b.n0) * n_parts, useful_threads(&out->shape, n_threads));

#pragma omp parallel num_threads(n_threads) if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const size_t n = i / n_parts;
        const size_t c0 = b.c0 + i % n_parts * step, c1 = min_size(c0 + step, b.c1);
        const unsigned char *code = (const unsigned char *)src + (b.n0 + n) * sample_bytes;
        real *to = out->data + n * out_pixels * out->pixel_stride + (c0 - b.c0);
        if (spec->kind == CODEC_GROUP) {
            k->codec.decode_group(&unit, code, b.h0, b.h1, c0, c1, to, out->pixel_stride);
        } else if (spec->kind == CODEC_BINS) {
            struct codec_unit u = unit;
            set_norm(&u, spec->norm, b.n0 + n);
            k->codec.decode_bins(&u, code, b.h0, b.h1, c0, c1, to, out->pixel_stride);
        } else if (spec->kind == CODEC_SIDES) {
            struct codec_unit u = unit;
            set_norm(&u, spec->norm, b.n0 + n);
            k->codec.decode_sides(&u, code, b.h0, b.h1, c0, c1, to, out->pixel_stride);
        } else if (spec->kind == CODEC_OFFICIAL) {
            k->codec.decode_official(&unit, code, b.h0, b.h1, c0, c1, to, out->pixel_stride);
        } else {
            k->codec.decode_map(&unit, code, b.h0, b.h1, c0, c1, to, out->pixel_stride);
        }
    }
}
