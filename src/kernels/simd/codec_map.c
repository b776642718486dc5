/* The codec on maps, one SIMD lane per channel. Compiled once per ISA, without contraction.
 *
 * Whole vectors of channels and whole octets of pixels take the fast way, a copy of the loops for
 * each number of bits; what is left over takes one way for all (the functions that end in _any). */
#include "kernels/simd/codec_simd.h"

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* --- block means and the range of what they leave --------------------------------------------- */

/* Sum (by rows), least and largest value of the pixels y0..y1-1, x0..x1-1. */
struct block_stats {
    simd_f32 sum, low, high;
};

SIMD_INLINE struct block_stats block_stats(const float *x, size_t stride, size_t w, size_t y0,
                                           size_t y1, size_t x0, size_t x1, size_t lanes)
{
    struct block_stats s = {
        .sum = simd_zero(),
        .low = simd_set1(__builtin_inff()),
        .high = simd_set1(-__builtin_inff()),
    };
    for (size_t i = y0; i < y1; i++) {
        const float *row = x + i * w * stride;
        simd_f32 row_sum = simd_zero();
        for (size_t j = x0; j < x1; j++) {
            const simd_f32 v = codec_load(row + j * stride, lanes);
            s.low = codec_min(v, s.low);
            s.high = codec_max(v, s.high);
            row_sum += v;
        }
        s.sum += row_sum;
    }
    return s;
}

/* One pass over the values: subtraction is monotonic, so the least r of a block is the rounded
 * difference of its least value and its mean. */
SIMD_INLINE void map_stats(const struct codec_unit *u, const float *x, size_t stride, size_t lanes,
                           unsigned char *means, simd_f32 *low, simd_f32 *high, simd_f32 *damage)
{
    *low = simd_set1(__builtin_inff());
    *high = simd_set1(-__builtin_inff());
    *damage = simd_zero();
    if (means == NULL) {
        const struct block_stats s = block_stats(x, stride, u->w, 0, u->h, 0, u->w, lanes);
        *low = s.low;
        *high = s.high;
        /* NaN if there was one. (Infinities show in the range, overflow of finite sums is none.) */
        *damage = (simd_f32)((simd_u32)(s.sum != s.sum) & (simd_u32)simd_set1(1.0f));
        return;
    }
    for (size_t row = 0; row < u->n_rows; row++) {
        const size_t y0 = row * u->block_h, y1 = min_size(y0 + u->block_h, u->h);
        for (size_t col = 0; col < u->n_cols; col++) {
            const size_t x0 = col * u->block_w, x1 = min_size(x0 + u->block_w, u->w);
            const struct block_stats s = block_stats(x, stride, u->w, y0, y1, x0, x1, lanes);
            simd_f32 mean = s.sum * (1.0f / (float)((y1 - y0) * (x1 - x0)));
            mean = codec_min(s.high, codec_max(s.low, mean));
            const simd_u32 bf16 = codec_bf16_nearest_lanes(mean);
            codec_store_bf16(means + (row * u->n_cols + col) * u->means_stride * 2, bf16, lanes);
            const simd_f32 stored = (simd_f32)(bf16 << 16);
            *low = codec_min(s.low - stored, *low);
            *high = codec_max(s.high - stored, *high);
            *damage += stored - stored;
        }
    }
}

static void map_stats_whole(const struct codec_unit *u, const float *x, size_t stride,
                            unsigned char *means, simd_f32 *low, simd_f32 *high, simd_f32 *damage)
{
    map_stats(u, x, stride, SIMD_LANES, means, low, high, damage);
}

static void map_stats_any(const struct codec_unit *u, const float *x, size_t stride, size_t lanes,
                          unsigned char *means, simd_f32 *low, simd_f32 *high, simd_f32 *damage)
{
    map_stats(u, x, stride, lanes, means, low, high, damage);
}

/* --- walking through the means in the order of pixels ----------------------------------------- */

/* The means of up to 8 consecutive pixels, in `mean` at steps of `step`: 0 if they are all one. */
struct mean_walk {
    const unsigned char *means; /* NULL: 0 */
    size_t row_bytes;           /* from one row of blocks to the next */
    size_t col_bytes;           /* from one block to the next */
    size_t w, block_h, block_w;
    size_t y, x;    /* the next pixel */
    int is_aligned; /* an octet never lies in two blocks */
    size_t step;
    simd_f32 mean[CODEC_OCTET];
};

SIMD_INLINE void mean_walk_init(struct mean_walk *m, const struct codec_unit *u,
                                const unsigned char *means, size_t y)
{
    *m = (struct mean_walk){
        .means = means,
        .col_bytes = u->means_stride * 2,
        .row_bytes = u->n_cols * u->means_stride * 2,
        .w = u->w,
        .block_h = u->block_h,
        .block_w = u->block_w,
        .y = y,
        .is_aligned = (u->block_w % CODEC_OCTET == 0 && u->w % CODEC_OCTET == 0) ||
                      (u->n_rows == 1 && u->n_cols == 1),
    };
}

SIMD_INLINE simd_f32 mean_walk_load(const struct mean_walk *m, size_t lanes)
{
    return codec_load_means(
        m->means + m->y / m->block_h * m->row_bytes + m->x / m->block_w * m->col_bytes, lanes);
}

/* The means of the next n pixels. */
SIMD_INLINE void mean_walk_next(struct mean_walk *m, size_t n, size_t lanes)
{
    if (m->means == NULL) {
        return;
    }
    if (m->is_aligned) {
        m->mean[0] = mean_walk_load(m, lanes);
        for (m->x += n; m->x >= m->w; m->x -= m->w) {
            m->y++;
        }
        return;
    }
    m->step = 1;
    for (size_t i = 0; i < n; i++) {
        m->mean[i] = i > 0 && m->x % m->block_w != 0 ? m->mean[i - 1] : mean_walk_load(m, lanes);
        if (++m->x == m->w) {
            m->x = 0;
            m->y++;
        }
    }
}

/* --- encode ----------------------------------------------------------------------------------- */

static __attribute__((noinline)) void
encode_octet_any(const struct codec_lanes *range, const float *x, size_t stride,
                 const struct mean_walk *walk, size_t n, size_t lanes, unsigned bits,
                 const simd_u32 words[4], unsigned char *codes, size_t row_bytes)
{
    codec_encode_octet(range, x, stride, walk->mean, walk->step, n, lanes, bits, words, codes,
                       row_bytes);
}

/* `lanes` channels from `channel` on; x, means are the first one's. is_whole: lanes and bits are
 * constants, lanes that of a whole vector. */
SIMD_INLINE void encode_lanes(const struct codec_unit *u, const struct codec_philox *ph,
                              const float *x, size_t stride, size_t channel, size_t lanes,
                              unsigned bits, int is_whole, unsigned char *means, unsigned char *dst)
{
    simd_f32 low, high, damage;
    if (is_whole) {
        map_stats_whole(u, x, stride, means, &low, &high, &damage);
    } else {
        map_stats_any(u, x, stride, lanes, means, &low, &high, &damage);
    }
    if (!u->has_codes) {
        return;
    }
    struct codec_lanes range;
    codec_lanes_make(&range, low, high, damage, bits);
    codec_store_bf16(dst + u->ranges_at + channel * 2, range.minimum_bf16, lanes);
    codec_store_bf16(dst + u->ranges_at + (u->c + channel) * 2, range.step_bf16, lanes);

    const size_t n_pixels = u->h * u->w;
    uint64_t block = u->sample * ((n_pixels + 7) / 8) * u->c + channel;
    unsigned char *codes = dst + u->codes_at + channel;
    struct mean_walk walk;
    mean_walk_init(&walk, u, means, 0);
    simd_u32 words[4];
    for (size_t i = 0; i < 4; i++) {
        words[i] = codec_set_u32(0x80008000u);
    }
    for (size_t p = 0; p < n_pixels; p += CODEC_OCTET) {
        const size_t n = min_size(CODEC_OCTET, n_pixels - p);
        if (u->stochastic) {
            codec_philox(ph, block, words);
        }
        mean_walk_next(&walk, n, lanes);
        if (is_whole && n == CODEC_OCTET) {
            codec_encode_octet(&range, x, stride, walk.mean, walk.step, CODEC_OCTET, lanes, bits,
                               words, codes, u->c);
        } else {
            encode_octet_any(&range, x, stride, &walk, n, lanes, bits, words, codes, u->c);
        }
        x += CODEC_OCTET * stride;
        codes += u->c * bits; /* 8 pixels: `bits` bytes per channel */
        block += u->c;
    }
}

static void encode_lanes_any(const struct codec_unit *u, const struct codec_philox *ph,
                             const float *x, size_t stride, size_t channel, size_t lanes,
                             unsigned char *means, unsigned char *dst)
{
    encode_lanes(u, ph, x, stride, channel, lanes, u->bits, 0, means, dst);
}

SIMD_INLINE void encode_bits(const struct codec_unit *u, const float *x, size_t stride, size_t c0,
                             size_t c1, unsigned bits, unsigned char *means, unsigned char *dst)
{
    struct codec_philox ph;
    codec_philox_init(&ph, &u->rng);
    size_t ch = c0;
    for (; ch + SIMD_LANES <= c1; ch += SIMD_LANES) {
        unsigned char *first = means == NULL ? NULL : means + (ch - c0) * 2;
        encode_lanes(u, &ph, x + ch, stride, ch, SIMD_LANES, bits, 1, first, dst);
    }
    if (ch < c1) {
        unsigned char *first = means == NULL ? NULL : means + (ch - c0) * 2;
        encode_lanes_any(u, &ph, x + ch, stride, ch, c1 - ch, first, dst);
    }
}

static void encode_map(const struct codec_unit *u, const float *x, size_t stride, size_t c0,
                       size_t c1, unsigned char *means, unsigned char *dst)
{
    switch (u->bits) {
    case 1: encode_bits(u, x, stride, c0, c1, 1, means, dst); break;
    case 2: encode_bits(u, x, stride, c0, c1, 2, means, dst); break;
    case 4: encode_bits(u, x, stride, c0, c1, 4, means, dst); break;
    default: encode_bits(u, x, stride, c0, c1, 8, means, dst); break;
    }
}

/* --- decode ----------------------------------------------------------------------------------- */

static void decode_means(const struct codec_unit *u, const unsigned char *means, size_t h0,
                         size_t h1, size_t lanes, float *out, size_t stride)
{
    struct mean_walk walk;
    mean_walk_init(&walk, u, means, h0);
    for (size_t p = 0; p < (h1 - h0) * u->w; p++) {
        codec_store(out + p * stride, mean_walk_load(&walk, lanes), lanes);
        if (++walk.x == u->w) {
            walk.x = 0;
            walk.y++;
        }
    }
}

static __attribute__((noinline)) void decode_octet_any(simd_f32 minimum, simd_f32 step,
                                                       const unsigned char *codes, size_t row_bytes,
                                                       size_t from, size_t to, size_t lanes,
                                                       unsigned bits, const struct mean_walk *walk,
                                                       float *out, size_t stride)
{
    codec_decode_octet(minimum, step, codes, row_bytes, from, to, lanes, bits, walk->mean,
                       walk->step, out, stride);
}

SIMD_INLINE void decode_lanes(const struct codec_unit *u, const unsigned char *src, size_t h0,
                              size_t h1, size_t channel, size_t lanes, unsigned bits, int is_whole,
                              float *out, size_t stride)
{
    const unsigned char *means = u->has_means ? src + channel * 2 : NULL;
    if (!u->has_codes) {
        decode_means(u, means, h0, h1, lanes, out, stride);
        return;
    }
    simd_f32 minimum, step;
    codec_lanes_load(codec_load_bf16(src + u->ranges_at + channel * 2, lanes),
                     codec_load_bf16(src + u->ranges_at + (u->c + channel) * 2, lanes), &minimum,
                     &step);
    struct mean_walk walk;
    mean_walk_init(&walk, u, means, h0);
    /* Rows may begin in the middle of an octet; an octet may then lie in two blocks. */
    walk.is_aligned &= h0 * u->w % CODEC_OCTET == 0 || u->n_rows * u->n_cols == 1;
    for (size_t p = h0 * u->w; p < h1 * u->w;) {
        const size_t from = p % CODEC_OCTET;
        const size_t to = min_size(CODEC_OCTET, from + (h1 * u->w - p));
        const unsigned char *codes = src + u->codes_at + channel + p / CODEC_OCTET * u->c * bits;
        mean_walk_next(&walk, to - from, lanes);
        if (is_whole && to - from == CODEC_OCTET) {
            codec_decode_octet(minimum, step, codes, u->c, 0, CODEC_OCTET, lanes, bits, walk.mean,
                               walk.step, out, stride);
        } else {
            decode_octet_any(minimum, step, codes, u->c, from, to, lanes, bits, &walk, out, stride);
        }
        out += (to - from) * stride;
        p += to - from;
    }
}

static void decode_lanes_any(const struct codec_unit *u, const unsigned char *src, size_t h0,
                             size_t h1, size_t channel, size_t lanes, float *out, size_t stride)
{
    decode_lanes(u, src, h0, h1, channel, lanes, u->bits, 0, out, stride);
}

SIMD_INLINE void decode_bits(const struct codec_unit *u, const unsigned char *src, size_t h0,
                             size_t h1, size_t c0, size_t c1, unsigned bits, float *out,
                             size_t stride)
{
    size_t ch = c0;
    for (; ch + SIMD_LANES <= c1; ch += SIMD_LANES) {
        decode_lanes(u, src, h0, h1, ch, SIMD_LANES, bits, 1, out + (ch - c0), stride);
    }
    if (ch < c1) {
        decode_lanes_any(u, src, h0, h1, ch, c1 - ch, out + (ch - c0), stride);
    }
}

static void decode_map(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                       size_t c0, size_t c1, float *out, size_t stride)
{
    switch (u->bits) {
    case 1: decode_bits(u, src, h0, h1, c0, c1, 1, out, stride); break;
    case 2: decode_bits(u, src, h0, h1, c0, c1, 2, out, stride); break;
    case 4: decode_bits(u, src, h0, h1, c0, c1, 4, out, stride); break;
    default: decode_bits(u, src, h0, h1, c0, c1, 8, out, stride); break;
    }
}

void SIMD_NAME(codec_map_fill)(struct codec_kernels *k)
{
    k->encode_map = encode_map;
    k->decode_map = decode_map;
}
