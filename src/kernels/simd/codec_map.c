/* The codec on maps, one SIMD lane per channel. Compiled once per ISA, without contraction.
 *
 * Strips of 16 channels and whole octets of pixels take the fast way, a copy of the loops for each
 * number of bits; what is left over takes one way for all (the functions that end in _part). */
#include "kernels/simd/codec_octet.h"

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* --- block means and the range of what they leave --------------------------------------------- */

/* Of `vectors` vectors of channels; all loops below take one (of `lanes` channels) or a strip. */
struct map_stats {
    simd_f32 low[CODEC_VECTORS], high[CODEC_VECTORS];
    simd_f32 damage[CODEC_VECTORS]; /* not 0: NaN or infinity was among the values */
};

/* Sum (by lines), least and largest value of the pixels of a block. */
struct block_stats {
    simd_f32 sum[CODEC_VECTORS], low[CODEC_VECTORS], high[CODEC_VECTORS];
};

/* Lines that are summed side by side: each sum is a chain of additions, and four chains keep the
 * adders busy. */
#define STATS_LINES (CODEC_VECTORS < 4 ? 4 / CODEC_VECTORS : 1)

/* Adds `lines` lines of n pixels. */
SIMD_INLINE void block_add(struct block_stats *s, const float *x, size_t stride, size_t w, size_t n,
                           size_t lines, size_t vectors, size_t lanes)
{
    simd_f32 line_sum[STATS_LINES][CODEC_VECTORS] = {{{0}}};
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
SIMD_INLINE struct block_stats block_stats(const float *x, size_t stride, size_t w, size_t h,
                                           size_t n, size_t vectors, size_t lanes)
{
    struct block_stats s;
    for (size_t v = 0; v < vectors; v++) {
        s.sum[v] = simd_zero();
        s.low[v] = simd_set1(__builtin_inff());
        s.high[v] = simd_set1(-__builtin_inff());
    }
    size_t y = 0;
    for (; y + STATS_LINES <= h; y += STATS_LINES) {
        block_add(&s, x + y * w * stride, stride, w, n, STATS_LINES, vectors, lanes);
    }
    for (; y < h; y++) {
        block_add(&s, x + y * w * stride, stride, w, n, 1, vectors, lanes);
    }
    return s;
}

/* One pass over the values: subtraction is monotonic, so the least r of a block is the rounded
 * difference of its least value and its mean. */
SIMD_INLINE struct map_stats map_stats(const struct codec_unit *u, const float *x, size_t stride,
                                       size_t vectors, size_t lanes, unsigned char *means)
{
    struct map_stats map;
    if (means == NULL) {
        const struct block_stats s = block_stats(x, stride, u->w, u->h, u->w, vectors, lanes);
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
        const size_t y = row * u->block_h, h = min_size(u->block_h, u->h - y);
        for (size_t col = 0; col < u->n_cols; col++) {
            const size_t at = col * u->block_w, n = min_size(u->block_w, u->w - at);
            const struct block_stats s = block_stats(x + (y * u->w + at) * stride, stride, u->w, h,
                                                     n, vectors, lanes);
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

static struct map_stats map_stats_strip(const struct codec_unit *u, const float *x, size_t stride,
                                        unsigned char *means)
{
    return map_stats(u, x, stride, CODEC_VECTORS, SIMD_LANES, means);
}

static struct map_stats map_stats_part(const struct codec_unit *u, const float *x, size_t stride,
                                       size_t lanes, unsigned char *means)
{
    return map_stats(u, x, stride, 1, lanes, means);
}

/* --- walking through the means in the order of pixels ----------------------------------------- */

/* Goes from run to run: a run is pixels that follow each other and have the same mean. */
struct mean_walk {
    const unsigned char *means; /* of the row of blocks that the next pixel is in; NULL: all 0 */
    size_t row_bytes;           /* from one row of blocks to the next */
    size_t col_bytes;           /* from one block to the next */
    size_t w, block_w, block_h;
    size_t x, col;               /* column of the pixel behind the run, and the block it is in */
    size_t n_lines;              /* lines of pixels left in the row of blocks */
    size_t run;                  /* pixels left of the run */
    simd_f32 now[CODEC_VECTORS]; /* the run's mean */
    simd_f32 mean[CODEC_OCTET * CODEC_VECTORS]; /* of the pixels asked for, if they differ */
};

/* Takes the run that begins at column x. */
SIMD_INLINE void mean_walk_run(struct mean_walk *m, size_t vectors, size_t lanes)
{
    if (m->x == m->w) {
        m->x = 0;
        m->col = 0;
        if (--m->n_lines == 0) {
            m->n_lines = m->block_h;
            m->means += m->row_bytes;
        }
    }
    const unsigned char *at = m->means + m->col * m->col_bytes;
    for (size_t v = 0; v < vectors; v++) {
        m->now[v] = codec_load_means(at + v * SIMD_LANES * 2, lanes);
    }
    m->run = min_size(m->block_w, m->w - m->x);
    m->x += m->run;
    m->col++;
}

/* Begins with line y. */
SIMD_INLINE void mean_walk_init(struct mean_walk *m, const struct codec_unit *u,
                                const unsigned char *means, size_t y, size_t vectors, size_t lanes)
{
    m->means = means;
    m->run = SIZE_MAX;
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
    m->col = 0;
    if (u->n_cols == 1) { /* lines with one mean follow each other: one long line each row */
        m->w = m->block_w = u->w * u->block_h;
        m->block_h = m->n_lines = 1;
        m->x = y % u->block_h * u->w;
    }
    mean_walk_run(m, vectors, lanes);
}

/* The means of the next n pixels. The run behind them is looked up when it is needed: behind the
 * last pixel there is none. */
SIMD_INLINE struct codec_means mean_walk_next(struct mean_walk *m, size_t n, size_t vectors,
                                              size_t lanes)
{
    if (m->means == NULL) {
        return (struct codec_means){m->now, 0};
    }
    if (m->run == 0) {
        mean_walk_run(m, vectors, lanes);
    }
    if (m->run >= n) {
        m->run -= n;
        return (struct codec_means){m->now, 0};
    }
    for (size_t i = 0; i < n; i++) {
        if (m->run == 0) {
            mean_walk_run(m, vectors, lanes);
        }
        m->run--;
        for (size_t v = 0; v < vectors; v++) {
            m->mean[i * vectors + v] = m->now[v];
        }
    }
    return (struct codec_means){m->mean, vectors};
}

/* --- encode ----------------------------------------------------------------------------------- */

/* As codec_encode_part. */
static __attribute__((noinline)) void encode_part(const struct codec_unit *u,
                                                  const struct codec_lanes *range, const float *x,
                                                  size_t stride, struct codec_means means, size_t n,
                                                  size_t lanes, const struct codec_words *words,
                                                  unsigned char *codes)
{
    codec_encode_part(range, x, stride, means, n, lanes, u->bits, words, codes, u->c);
}

/* Block number of a channel's first octet. */
static uint64_t first_block(const struct codec_unit *u, size_t channel)
{
    return u->sample * ((u->h * u->w + CODEC_OCTET - 1) / CODEC_OCTET) * u->c + channel;
}

static void encode_octets_vector(const struct codec_unit *u, const struct codec_philox *ph,
                                 const struct codec_lanes *range, const float *x, size_t stride,
                                 size_t channel, size_t lanes, const unsigned char *means,
                                 unsigned char *codes)
{
    const size_t n_pixels = u->h * u->w;
    uint64_t block = first_block(u, channel);
    struct mean_walk walk;
    mean_walk_init(&walk, u, means, 0, 1, lanes);
    for (size_t p = 0; p < n_pixels; p += CODEC_OCTET) {
        const size_t n = min_size(CODEC_OCTET, n_pixels - p);
        const struct codec_means at = mean_walk_next(&walk, n, 1, lanes);
        const struct codec_words words = u->stochastic ? codec_philox_any(ph, block)
                                                       : codec_no_words();
        encode_part(u, range, x + p * stride, stride, at, n, lanes, &words, codes);
        codes += u->c * u->bits; /* 8 pixels: `bits` bytes per channel */
        block += u->c;
    }
}

/* The last octet of a strip draws the random bits for the first of the next one. */
SIMD_INLINE void encode_octets_strip(const struct codec_unit *u, const struct codec_philox *ph,
                                     struct codec_stream *stream, const struct codec_lanes *range,
                                     const float *x, size_t stride, const unsigned char *means,
                                     unsigned bits, unsigned char *codes)
{
    const size_t n_octets = u->h * u->w / CODEC_OCTET, n_left = u->h * u->w % CODEC_OCTET;
    struct mean_walk walk;
    mean_walk_init(&walk, u, means, 0, CODEC_VECTORS, SIMD_LANES);
    for (size_t i = 0; i < n_octets; i++) {
        const struct codec_means at = mean_walk_next(&walk, CODEC_OCTET, CODEC_VECTORS, SIMD_LANES);
        if (i + 1 == n_octets && n_left == 0) {
            codec_stream_next_strip(stream);
        }
        codec_encode_next(range, x, stride, at, bits, ph, stream, codes, u->c);
        x += CODEC_OCTET * stride;
        codes += u->c * bits;
    }
    if (n_left > 0) {
        struct codec_means at = mean_walk_next(&walk, n_left, CODEC_VECTORS, SIMD_LANES);
        for (size_t v = 0; v < CODEC_VECTORS; v++) {
            encode_part(u, &range[v], x + v * SIMD_LANES, stride, at, n_left, SIMD_LANES,
                        &stream->words[v], codes + v * SIMD_LANES);
            at.mean++;
        }
        codec_stream_next_strip(stream);
        codec_stream_draw(ph, stream);
    }
}

/* Ranges of `vectors` vectors of channels from `channel` on, and where they are stored. */
SIMD_INLINE void make_ranges(const struct codec_unit *u, const struct map_stats *stats,
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

/* `lanes` channels from `channel` on, one vector; x, means are the first one's. */
static void encode_vector(const struct codec_unit *u, const struct codec_philox *ph, const float *x,
                          size_t stride, size_t channel, size_t lanes, unsigned char *means,
                          unsigned char *dst)
{
    const struct map_stats stats = map_stats_part(u, x, stride, lanes, means);
    if (u->has_codes) {
        struct codec_lanes range;
        make_ranges(u, &stats, channel, 1, lanes, dst, &range);
        encode_octets_vector(u, ph, &range, x, stride, channel, lanes, means,
                             dst + u->codes_at + channel);
    }
}

static void encode_strip(const struct codec_unit *u, const struct codec_philox *ph,
                         struct codec_stream *stream, const float *x, size_t stride, size_t channel,
                         unsigned char *means, unsigned char *dst)
{
    const struct map_stats stats = map_stats_strip(u, x, stride, means);
    if (!u->has_codes) {
        return;
    }
    struct codec_lanes range[CODEC_VECTORS];
    make_ranges(u, &stats, channel, CODEC_VECTORS, SIMD_LANES, dst, range);
    unsigned char *const codes = dst + u->codes_at + channel;
    switch (u->bits) {
    case 1: encode_octets_strip(u, ph, stream, range, x, stride, means, 1, codes); break;
    case 2: encode_octets_strip(u, ph, stream, range, x, stride, means, 2, codes); break;
    case 4: encode_octets_strip(u, ph, stream, range, x, stride, means, 4, codes); break;
    default: encode_octets_strip(u, ph, stream, range, x, stride, means, 8, codes); break;
    }
}

static void encode_map(const struct codec_unit *u, const float *x, size_t stride, size_t c0,
                       size_t c1, unsigned char *means, unsigned char *dst)
{
    const uint64_t first = first_block(u, c0);
    const uint64_t last = first + u->h * u->w / CODEC_OCTET * u->c + (c1 - c0);
    struct codec_philox ph;
    codec_philox_init(&ph, &u->rng, first);
    struct codec_stream stream = codec_stream_make(&ph, u->stochastic, first, u->c, last);
    size_t ch = c0;
    for (; ch + CODEC_STRIP <= c1; ch += CODEC_STRIP) {
        encode_strip(u, &ph, &stream, x + ch, stride, ch,
                     means == NULL ? NULL : means + (ch - c0) * 2, dst);
    }
    for (; ch < c1; ch += SIMD_LANES) {
        encode_vector(u, &ph, x + ch, stride, ch, min_size(SIMD_LANES, c1 - ch),
                      means == NULL ? NULL : means + (ch - c0) * 2, dst);
    }
}

/* --- decode ----------------------------------------------------------------------------------- */

/* Pixels of lines h0..h1-1 of one vector of channels from `channel` on; that alone of their
 * means. */
static void decode_means(const struct codec_unit *u, const unsigned char *means, size_t h0,
                         size_t h1, size_t lanes, float *out, size_t stride)
{
    struct mean_walk walk;
    mean_walk_init(&walk, u, means, h0, 1, lanes);
    for (size_t p = 0; p < (h1 - h0) * u->w; p++) {
        const struct codec_means at = mean_walk_next(&walk, 1, 1, lanes);
        codec_store(out + p * stride, at.mean[0], lanes);
    }
}

static void load_levels(const struct codec_unit *u, const unsigned char *src, size_t channel,
                        size_t lanes, struct codec_levels *levels)
{
    const unsigned char *const ranges = src + u->ranges_at + channel * 2;
    *levels = codec_levels_make(codec_load_bf16(ranges, lanes),
                                codec_load_bf16(ranges + u->c * 2, lanes));
}

/* As codec_decode_part, of a strip or a vector. */
static __attribute__((noinline)) void decode_part(const struct codec_levels *levels,
                                                  const unsigned char *codes, size_t row_bytes,
                                                  struct codec_means means, size_t from, size_t to,
                                                  size_t vectors, size_t lanes, unsigned bits,
                                                  float *out, size_t stride)
{
    for (size_t v = 0; v < vectors; v++) {
        codec_decode_part(&levels[v], codes + v * SIMD_LANES, row_bytes, means, from, to, lanes,
                          bits, out + v * SIMD_LANES, stride);
        means.mean++;
    }
}

/* `vectors` is that of a strip, whose whole octets are quick, or 1. */
SIMD_INLINE void decode_lines(const struct codec_unit *u, const unsigned char *src, size_t h0,
                              size_t h1, size_t channel, size_t vectors, size_t lanes,
                              unsigned bits, int is_strip, float *out, size_t stride)
{
    const unsigned char *means = u->has_means ? src + channel * 2 : NULL;
    struct codec_levels levels[CODEC_VECTORS];
    for (size_t v = 0; v < vectors; v++) {
        load_levels(u, src, channel + v * SIMD_LANES, lanes, &levels[v]);
    }
    struct mean_walk walk;
    mean_walk_init(&walk, u, means, h0, vectors, lanes);
    const unsigned char *const codes = src + u->codes_at + channel;
    for (size_t p = h0 * u->w; p < h1 * u->w;) {
        const size_t from = p % CODEC_OCTET;
        const size_t to = min_size(CODEC_OCTET, from + (h1 * u->w - p));
        const unsigned char *octet = codes + p / CODEC_OCTET * u->c * bits;
        const struct codec_means at = mean_walk_next(&walk, to - from, vectors, lanes);
        if (is_strip && to - from == CODEC_OCTET) {
            codec_decode_octet(levels, octet, u->c, at, bits, out, stride);
        } else {
            decode_part(levels, octet, u->c, at, from, to, vectors, lanes, bits, out, stride);
        }
        out += (to - from) * stride;
        p += to - from;
    }
}

static void decode_vector(const struct codec_unit *u, const unsigned char *src, size_t h0,
                          size_t h1, size_t channel, size_t lanes, float *out, size_t stride)
{
    if (u->has_codes) {
        decode_lines(u, src, h0, h1, channel, 1, lanes, u->bits, 0, out, stride);
    } else {
        decode_means(u, src + channel * 2, h0, h1, lanes, out, stride);
    }
}

SIMD_INLINE void decode_strip(const struct codec_unit *u, const unsigned char *src, size_t h0,
                              size_t h1, size_t channel, unsigned bits, float *out, size_t stride)
{
    decode_lines(u, src, h0, h1, channel, CODEC_VECTORS, SIMD_LANES, bits, 1, out, stride);
}

static void decode_map(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                       size_t c0, size_t c1, float *out, size_t stride)
{
    size_t ch = c0;
    for (; u->has_codes && ch + CODEC_STRIP <= c1; ch += CODEC_STRIP) {
        switch (u->bits) {
        case 1: decode_strip(u, src, h0, h1, ch, 1, out + (ch - c0), stride); break;
        case 2: decode_strip(u, src, h0, h1, ch, 2, out + (ch - c0), stride); break;
        case 4: decode_strip(u, src, h0, h1, ch, 4, out + (ch - c0), stride); break;
        default: decode_strip(u, src, h0, h1, ch, 8, out + (ch - c0), stride); break;
        }
    }
    for (; ch < c1; ch += SIMD_LANES) {
        decode_vector(u, src, h0, h1, ch, min_size(SIMD_LANES, c1 - ch), out + (ch - c0), stride);
    }
}

void SIMD_NAME(codec_map_fill)(struct codec_kernels *k)
{
    k->encode_map = encode_map;
    k->decode_map = decode_map;
}
