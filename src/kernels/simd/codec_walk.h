/* A map's block means and range, and the walk through its means: what codes with a range per map
 * share. */
#ifndef KERNELS_CODEC_WALK_H
#define KERNELS_CODEC_WALK_H

#include "kernels/simd/codec_octet.h"

SIMD_INLINE size_t codec_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Philox blocks of a sample: one per channel for two octets. */
SIMD_INLINE uint64_t codec_sample_blocks(const struct codec_unit *u)
{
    return (u->h * u->w + 2 * CODEC_OCTET - 1) / (2 * CODEC_OCTET) * u->c;
}

/* Block number of a channel's first octet. */
SIMD_INLINE uint64_t codec_first_block(const struct codec_unit *u, size_t channel)
{
    return u->sample * codec_sample_blocks(u) + channel;
}

/* --- block means and the range of what they leave --------------------------------------------- */

/* Of `vectors` vectors of channels; all loops below take one (of `lanes` channels) or a strip. */
struct codec_map_stats {
    simd_f32 low[CODEC_VECTORS], high[CODEC_VECTORS];
    simd_f32 damage[CODEC_VECTORS]; /* not 0: NaN or infinity was among the values */
};

/* Sum (by lines), least and largest value of the pixels of a block. */
struct codec_block_stats {
    simd_f32 sum[CODEC_VECTORS], low[CODEC_VECTORS], high[CODEC_VECTORS];
};

/* Lines that are summed side by side: each sum is a chain of additions, and four chains keep the
 * adders busy. */
#define CODEC_STATS_LINES (CODEC_VECTORS < 4 ? 4 / CODEC_VECTORS : 1)

/* Adds `lines` lines of n pixels. */
SIMD_INLINE void codec_block_add(struct codec_block_stats *s, const float *x, size_t stride,
                                 size_t w, size_t n, size_t lines, size_t vectors, size_t lanes)
{
    simd_f32 line_sum[CODEC_STATS_LINES][CODEC_VECTORS] = {{{0}}};
#pragma GCC unroll 4
    for (size_t j = 0; j < n; j++) {
#pragma GCC unroll 4
        for (size_t i = 0; i < lines; i++) {
#pragma GCC unroll 4
            for (size_t v = 0; v < vectors; v++) {
                const simd_f32 value = codec_load(x + i * w * stride + v * SIMD_LANES, lanes);
                s->low[v] = codec_min(value, s->low[v]);
                s->high[v] = codec_max(value, s->high[v]);
                line_sum[i][v] += value;
            }
        }
        x += stride;
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < lines; i++) {
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++) {
            s->sum[v] += line_sum[i][v];
        }
    }
}

/* x is the first of its h lines of n pixels, in a map w wide. */
SIMD_INLINE struct codec_block_stats codec_block_stats(const float *x, size_t stride, size_t w,
                                                       size_t h, size_t n, size_t vectors,
                                                       size_t lanes)
{
    struct codec_block_stats s;
    for (size_t v = 0; v < vectors; v++) {
        s.sum[v] = simd_zero();
        s.low[v] = simd_set1(__builtin_inff());
        s.high[v] = simd_set1(-__builtin_inff());
    }
    size_t y = 0;
    for (; y + CODEC_STATS_LINES <= h; y += CODEC_STATS_LINES) {
        codec_block_add(&s, x + y * w * stride, stride, w, n, CODEC_STATS_LINES, vectors, lanes);
    }
    for (; y < h; y++) {
        codec_block_add(&s, x + y * w * stride, stride, w, n, 1, vectors, lanes);
    }
    return s;
}

/* One pass over the values: subtraction is monotonic, so the least r of a block is the rounded
 * difference of its least value and its mean. */
SIMD_INLINE struct codec_map_stats codec_map_stats(const struct codec_unit *u, const float *x,
                                                   size_t stride, size_t vectors, size_t lanes,
                                                   unsigned char *means)
{
    struct codec_map_stats map;
    if (means == NULL) {
        const struct codec_block_stats s = codec_block_stats(x, stride, u->w, u->h, u->w, vectors,
                                                             lanes);
        for (size_t v = 0; v < vectors; v++) {
            map.low[v] = s.low[v];
            map.high[v] = s.high[v];
            /* NaN if there was one. (Infinities show in the range, overflow of finite sums is
             * none.) */
            map.damage[v] = (simd_f32)((simd_u32)(s.sum[v] != s.sum[v]) &
                                       (simd_u32)simd_set1(1.0f));
        }
        return map;
    }
    for (size_t v = 0; v < vectors; v++) {
        map.low[v] = simd_set1(__builtin_inff());
        map.high[v] = simd_set1(-__builtin_inff());
        map.damage[v] = simd_zero();
    }
    for (size_t row = 0; row < u->n_rows; row++) {
        const size_t y = row * u->block_h, h = codec_min_size(u->block_h, u->h - y);
        for (size_t col = 0; col < u->n_cols; col++) {
            const size_t at = col * u->block_w, n = codec_min_size(u->block_w, u->w - at);
            const struct codec_block_stats s = codec_block_stats(
                x + (y * u->w + at) * stride, stride, u->w, h, n, vectors, lanes);
            unsigned char *const to = means + (row * u->n_cols + col) * u->means_stride * 2;
            const float scale = 1.0f / (float)(h * n);
            for (size_t v = 0; v < vectors; v++) {
                const simd_f32 mean = codec_min(s.high[v], codec_max(s.low[v], s.sum[v] * scale));
                const simd_u32 bf16 = codec_bf16_nearest_lanes(mean);
                codec_store_bf16(to + v * SIMD_LANES * 2, bf16, lanes);
                const simd_f32 stored = (simd_f32)(bf16 << 16);
                map.low[v] = codec_min(s.low[v] - stored, map.low[v]);
                map.high[v] = codec_max(s.high[v] - stored, map.high[v]);
                map.damage[v] += stored - stored;
            }
        }
    }
    return map;
}

static __attribute__((noinline, unused)) struct codec_map_stats
codec_map_stats_strip(const struct codec_unit *u, const float *x, size_t stride,
                      unsigned char *means)
{
    return codec_map_stats(u, x, stride, CODEC_VECTORS, SIMD_LANES, means);
}

static __attribute__((noinline, unused)) struct codec_map_stats
codec_map_stats_part(const struct codec_unit *u, const float *x, size_t stride, size_t lanes,
                     unsigned char *means)
{
    return codec_map_stats(u, x, stride, 1, lanes, means);
}

/* Ranges of `vectors` vectors of channels from `channel` on, and where they are stored. */
SIMD_INLINE void codec_make_ranges(const struct codec_unit *u, const struct codec_map_stats *stats,
                                   size_t channel, size_t vectors, size_t lanes, unsigned char *dst,
                                   struct codec_lanes *range)
{
    unsigned char *const to = dst + u->ranges_at + channel * 2;
    for (size_t v = 0; v < vectors; v++) {
        const size_t at = v * SIMD_LANES * 2;
        codec_lanes_make(&range[v], stats->low[v], stats->high[v], stats->damage[v], u->bits);
        codec_store_bf16(to + at, range[v].minimum_bf16, lanes);
        codec_store_bf16(to + u->c * 2 + at, range[v].step_bf16, lanes);
    }
}

/* --- walking through the means in the order of pixels ----------------------------------------- */

/* Goes from run to run: a run is pixels that follow each other and have the same mean. */
struct codec_walk {
    const unsigned char *means; /* of the row of blocks that the run is in; NULL: all 0 */
    const unsigned char *next;  /* of the block behind the run, if the line goes on */
    size_t row_bytes;           /* from one row of blocks to the next */
    size_t col_bytes;           /* from one block to the next */
    size_t w, block_w, block_h;
    size_t x;                                   /* column of the pixel behind the run */
    size_t n_lines;                             /* lines of pixels left in the row of blocks */
    size_t run;                                 /* pixels left of the run */
    int in_octets;                              /* whole octets never reach beyond a run */
    simd_f32 now[CODEC_VECTORS];                /* the run's mean */
    simd_f32 mean[CODEC_OCTET * CODEC_VECTORS]; /* of the pixels asked for, if they differ */
};

/* Takes the run that begins at column x. */
SIMD_INLINE void codec_walk_run(struct codec_walk *m, size_t vectors, size_t lanes)
{
    if (m->x == m->w) {
        m->x = 0;
        if (--m->n_lines == 0) {
            m->n_lines = m->block_h;
            m->means += m->row_bytes;
        }
        m->next = m->means;
    }
    for (size_t v = 0; v < vectors; v++) {
        m->now[v] = codec_load_means(m->next + v * SIMD_LANES * 2, lanes);
    }
    m->next += m->col_bytes;
    m->run = codec_min_size(m->block_w, m->w - m->x);
    m->x += m->run;
}

/* codec_walk_next of a strip's whole octet, if in_octets. */
SIMD_INLINE struct codec_means codec_walk_octet(struct codec_walk *m)
{
    if (m->run == 0) {
        codec_walk_run(m, CODEC_VECTORS, SIMD_LANES);
    }
    m->run -= m->means == NULL ? 0 : CODEC_OCTET;
    return (struct codec_means){m->now, 0};
}

/* Whether the octets from a map's beginning on, or from a line that begins with one, have one mean
 * each. */
SIMD_INLINE int codec_is_in_octets(const struct codec_unit *u)
{
    return u->n_cols == 1 ? u->w * u->block_h % CODEC_OCTET == 0
                          : u->block_w % CODEC_OCTET == 0 && u->w % u->block_w == 0;
}

/* Begins with line y. */
SIMD_INLINE void codec_walk_init(struct codec_walk *m, const struct codec_unit *u,
                                 const unsigned char *means, size_t y, size_t vectors, size_t lanes)
{
    m->means = means;
    m->run = SIZE_MAX;
    m->in_octets = 1;
    for (size_t v = 0; v < vectors; v++) {
        m->now[v] = simd_zero();
    }
    if (means == NULL || y == u->h) {
        return;
    }
    m->col_bytes = u->means_stride * 2;
    m->row_bytes = u->n_cols * m->col_bytes;
    m->means += y / u->block_h * m->row_bytes;
    m->w = u->w;
    m->block_w = u->block_w;
    m->block_h = u->block_h;
    m->n_lines = u->block_h - y % u->block_h;
    m->x = 0;
    m->next = m->means;
    if (u->n_cols == 1) { /* lines with one mean follow each other: one long line each row */
        m->w = m->block_w = u->w * u->block_h;
        m->block_h = m->n_lines = 1;
        m->x = y % u->block_h * u->w;
    }
    m->in_octets = codec_is_in_octets(u) && y * u->w % CODEC_OCTET == 0;
    codec_walk_run(m, vectors, lanes);
}

/* The means of the next n pixels. The run behind them is looked up when it is needed: behind the
 * last pixel there is none. */
SIMD_INLINE struct codec_means codec_walk_next(struct codec_walk *m, size_t n, size_t vectors,
                                               size_t lanes)
{
    if (m->means == NULL) {
        return (struct codec_means){m->now, 0};
    }
    if (m->run == 0) {
        codec_walk_run(m, vectors, lanes);
    }
    if (m->run >= n) {
        m->run -= n;
        return (struct codec_means){m->now, 0};
    }
    for (size_t i = 0; i < n; i++) {
        if (m->run == 0) {
            codec_walk_run(m, vectors, lanes);
        }
        m->run--;
        for (size_t v = 0; v < vectors; v++) {
            m->mean[i * vectors + v] = m->now[v];
        }
    }
    return (struct codec_means){m->mean, vectors};
}

#endif
