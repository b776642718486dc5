/* The codec's inner kernels from the formulas in codec.h, one value at a time; and the official
 * arithmetic, which exists in this form only. */
#include "kernels/codec_isa.h"

#include <math.h>

#include "kernels/codec_priv.h"

/* The official code's guard against a division by zero. */
#define OFFICIAL_EPSILON 2e-6f

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Whether each of n numbers so far was finite, and their least and largest. */
struct extent {
    float low, high;
    int damaged;
};

static struct extent extent_none(void)
{
    return (struct extent){.low = INFINITY, .high = -INFINITY};
}

static void extent_add(struct extent *e, float v)
{
    e->low = v < e->low ? v : e->low;
    e->high = v > e->high ? v : e->high;
    e->damaged |= !isfinite(v);
}

/* Random number 0..15 of a Philox block. */
static uint32_t random_number(const struct rng *rng, uint64_t block, size_t number)
{
    uint32_t words[4];
    rng_block(rng, block, words);
    const uint64_t twice = (uint64_t)words[number / 4] << 32 | words[number / 4];
    return (uint32_t)(twice >> number % 4 * 8) & 0xFFFFu;
}

static uint32_t map_random(const struct codec_unit *u, size_t pixel, size_t channel)
{
    const uint64_t blocks = (u->h * u->w + 15) / 16;
    return random_number(&u->rng, (u->sample * blocks + pixel / 16) * u->c + channel, pixel % 16);
}

static uint32_t quantise(const struct codec_range *range, float r, uint32_t random)
{
    float t = (r - range->minimum) * range->scale;
    t = t < range->limit ? t : range->limit;
    return ((uint32_t)rintf(t) + random) >> 16;
}

/* r on its side of d. */
static uint32_t quantise_side(const struct codec_sides *sides, float limit, float r,
                              uint32_t random)
{
    const float a = r - sides->d;
    float t = fabsf(a) * codec_side_scale(a > 0.0f ? sides->up : sides->down);
    t = t < limit ? t : limit;
    return ((uint32_t)rintf(t) + random) >> 16;
}

/* --- one range per map ------------------------------------------------------------------------ */

/* Rows are summed on their own, which errs less than one long sum. The mean of equal values is that
 * value, and a sum that overflows still gives a mean among the values. */
static float block_mean(const struct codec_unit *u, const real *x, size_t stride, size_t row,
                        size_t col)
{
    const size_t y1 = min_size((row + 1) * u->block_h, u->h);
    const size_t x1 = min_size((col + 1) * u->block_w, u->w);
    const size_t n = (y1 - row * u->block_h) * (x1 - col * u->block_w);
    struct extent e = extent_none();
    float sum = 0.0f;
    for (size_t i = row * u->block_h; i < y1; i++) {
        float row_sum = 0.0f;
        for (size_t j = col * u->block_w; j < x1; j++) {
            const float v = (float)x[(i * u->w + j) * stride];
            extent_add(&e, v);
            row_sum += v;
        }
        sum += row_sum;
    }
    float mean = sum * (1.0f / (float)n);
    mean = mean < e.low ? e.low : mean;
    return mean > e.high ? e.high : mean;
}

/* Stored mean of the block that pixel (i, j) lies in; `means` is that channel's first. */
static float mean_at(const struct codec_unit *u, const unsigned char *means, size_t i, size_t j)
{
    if (means == NULL) {
        return 0.0f;
    }
    const size_t block = i / u->block_h * u->n_cols + j / u->block_w;
    return codec_bf16_float(codec_load_u16(means + block * u->means_stride * 2));
}

static void put_code(const struct codec_unit *u, unsigned char *codes, size_t row_bytes,
                     size_t pixel, uint32_t code)
{
    const size_t per_byte = 8 / u->bits;
    unsigned char *at = codes + pixel / per_byte * row_bytes;
    *at = (unsigned char)(*at | code << (pixel % per_byte * u->bits));
}

static uint32_t get_code(const struct codec_unit *u, const unsigned char *codes, size_t row_bytes,
                         size_t pixel)
{
    const size_t per_byte = 8 / u->bits;
    const unsigned byte = codes[pixel / per_byte * row_bytes];
    return byte >> (pixel % per_byte * u->bits) & ((1u << u->bits) - 1u);
}

static void clear_codes(const struct codec_unit *u, unsigned char *codes, size_t row_bytes,
                        size_t n_pixels)
{
    const size_t per_byte = 8 / u->bits;
    for (size_t i = 0; i < (n_pixels + per_byte - 1) / per_byte; i++) {
        codes[i * row_bytes] = 0;
    }
}

static void encode_channel(const struct codec_unit *u, const real *x, size_t stride, size_t channel,
                           int by_sides, unsigned char *means, unsigned char *dst)
{
    struct extent e = extent_none();
    for (size_t row = 0; row < u->n_rows; row++) {
        for (size_t col = 0; col < u->n_cols; col++) {
            const uint32_t mean = codec_bf16_nearest(block_mean(u, x, stride, row, col));
            codec_store_u16(means + (row * u->n_cols + col) * u->means_stride * 2, mean);
            e.damaged |= !isfinite(codec_bf16_float(mean));
        }
    }
    if (!u->has_codes) {
        return;
    }
    for (size_t i = 0; i < u->h; i++) {
        for (size_t j = 0; j < u->w; j++) {
            extent_add(&e, (float)x[(i * u->w + j) * stride] - mean_at(u, means, i, j));
        }
    }
    const struct codec_range range = codec_range_make(e.low, e.high, e.damaged, u->bits);
    codec_store_u16(dst + u->ranges_at + channel * 2, range.minimum_bf16);
    codec_store_u16(dst + u->ranges_at + (u->c + channel) * 2, range.step_bf16);
    struct codec_side_range side_range = {0};
    if (by_sides) {
        side_range = codec_side_range_make(&range, codec_threshold(u, channel), u->bits);
    }

    unsigned char *codes = dst + u->codes_at + channel;
    clear_codes(u, codes, u->c, u->h * u->w);
    for (size_t i = 0; i < u->h; i++) {
        for (size_t j = 0; j < u->w; j++) {
            const size_t pixel = i * u->w + j;
            const float mean = mean_at(u, means, i, j), r = (float)x[pixel * stride] - mean;
            const uint32_t random = u->stochastic ? map_random(u, pixel, channel) : 0x8000u;
            const struct codec_sides sides = codec_sides_make(&side_range, mean);
            put_code(u, codes, u->c, pixel,
                     by_sides ? quantise_side(&sides, range.limit, r, random)
                              : quantise(&range, r, random));
        }
    }
}

static void encode_map_ref(const struct codec_unit *u, const real *x, size_t stride, size_t c0,
                           size_t c1, unsigned char *means, unsigned char *dst)
{
    for (size_t ch = c0; ch < c1; ch++) {
        encode_channel(u, x + ch, stride, ch, 0, means == NULL ? NULL : means + (ch - c0) * 2, dst);
    }
}

static void decode_map_ref(const struct codec_unit *u, const unsigned char *src, size_t h0,
                           size_t h1, size_t c0, size_t c1, real *out, size_t stride)
{
    for (size_t ch = c0; ch < c1; ch++) {
        const unsigned char *means = u->has_means ? src + ch * 2 : NULL;
        float minimum = 0.0f, step = 0.0f;
        if (u->has_codes) {
            codec_range_load(codec_load_u16(src + u->ranges_at + ch * 2),
                             codec_load_u16(src + u->ranges_at + (u->c + ch) * 2), &minimum, &step);
        }
        for (size_t i = h0; i < h1; i++) {
            for (size_t j = 0; j < u->w; j++) {
                float v = mean_at(u, means, i, j);
                if (u->has_codes) {
                    const uint32_t code = get_code(u, src + u->codes_at + ch, u->c, i * u->w + j);
                    const float r = minimum + (float)code * step;
                    v += r;
                }
                out[((i - h0) * u->w + j) * stride + (ch - c0)] = (real)v;
            }
        }
    }
}

/* --- the same, from the batch-norm's threshold to either side ---------------------------------- */

static void encode_sides_ref(const struct codec_unit *u, const real *x, size_t stride, size_t c0,
                             size_t c1, unsigned char *means, unsigned char *dst)
{
    for (size_t ch = c0; ch < c1; ch++) {
        encode_channel(u, x + ch, stride, ch, 1, means == NULL ? NULL : means + (ch - c0) * 2, dst);
    }
}

static void decode_sides_ref(const struct codec_unit *u, const unsigned char *src, size_t h0,
                             size_t h1, size_t c0, size_t c1, real *out, size_t stride)
{
    for (size_t ch = c0; ch < c1; ch++) {
        const unsigned char *means = u->has_means ? src + ch * 2 : NULL;
        const struct codec_side_range range = codec_side_range_load(
            codec_load_u16(src + u->ranges_at + ch * 2),
            codec_load_u16(src + u->ranges_at + (u->c + ch) * 2), codec_threshold(u, ch), u->bits);
        const int falls = (float)u->gamma[ch] < 0.0f;
        for (size_t i = h0; i < h1; i++) {
            for (size_t j = 0; j < u->w; j++) {
                const size_t pixel = i * u->w + j;
                const float mean = mean_at(u, means, i, j);
                const struct codec_sides sides = codec_sides_make(&range, mean);
                const int sign = u->signs[pixel * ((u->c + 7) / 8) + ch / 8] >> ch % 8 & 1;
                const float step = (sign != falls ? sides.up : -sides.down) + range.last_bit;
                const uint32_t code = get_code(u, src + u->codes_at + ch, u->c, pixel);
                const float r = sides.d + (float)code * step;
                out[(pixel - h0 * u->w) * stride + (ch - c0)] = (real)(mean + r);
            }
        }
    }
}

/* --- one range per run of values -------------------------------------------------------------- */

static size_t n_groups(const struct codec_unit *u)
{
    return (u->h * u->w * u->c + u->group - 1) / u->group;
}

static float value_at(const struct codec_unit *u, const real *x, size_t stride, size_t e)
{
    return (float)x[e / u->c * stride + e % u->c];
}

static void encode_group_ref(const struct codec_unit *u, const real *x, size_t stride, size_t g0,
                             size_t g1, unsigned char *dst)
{
    const size_t n_values = u->h * u->w * u->c;
    const uint64_t two_tiles = (n_values + 2 * CODEC_TILE - 1) / (2 * CODEC_TILE);
    for (size_t g = g0; g < g1; g++) {
        const size_t e0 = g * u->group, e1 = min_size(e0 + u->group, n_values);
        struct extent extent = extent_none();
        for (size_t e = e0; e < e1; e++) {
            extent_add(&extent, value_at(u, x, stride, e));
        }
        const struct codec_range range = codec_range_make(extent.low, extent.high, extent.damaged,
                                                          u->bits);
        codec_store_u16(dst + u->ranges_at + g * 2, range.minimum_bf16);
        codec_store_u16(dst + u->ranges_at + (n_groups(u) + g) * 2, range.step_bf16);

        for (size_t e = e0; e < e1; e++) {
            const size_t tile = e / CODEC_TILE, lane = e % CODEC_TILE_LANES;
            const size_t pixel = e % CODEC_TILE / CODEC_TILE_LANES;
            unsigned char *codes = dst + u->codes_at + tile * CODEC_TILE_LANES * u->bits + lane;
            if (e % CODEC_TILE == 0) {
                memset(codes, 0, CODEC_TILE_LANES * u->bits);
            }
            uint32_t random = 0x8000u;
            if (u->stochastic) {
                const uint64_t block = (u->sample * two_tiles + tile / 2) * CODEC_TILE_LANES + lane;
                random = random_number(&u->rng, block, tile % 2 * 8 + pixel);
            }
            put_code(u, codes, CODEC_TILE_LANES, pixel,
                     quantise(&range, value_at(u, x, stride, e), random));
        }
    }
}

static void decode_group_ref(const struct codec_unit *u, const unsigned char *src, size_t h0,
                             size_t h1, size_t c0, size_t c1, real *out, size_t stride)
{
    for (size_t p = h0 * u->w; p < h1 * u->w; p++) {
        for (size_t ch = c0; ch < c1; ch++) {
            const size_t e = p * u->c + ch, g = e / u->group;
            float minimum, step;
            codec_range_load(codec_load_u16(src + u->ranges_at + g * 2),
                             codec_load_u16(src + u->ranges_at + (n_groups(u) + g) * 2), &minimum,
                             &step);
            const unsigned char *codes = src + u->codes_at +
                                         e / CODEC_TILE * CODEC_TILE_LANES * u->bits +
                                         e % CODEC_TILE_LANES;
            const uint32_t code = get_code(u, codes, CODEC_TILE_LANES,
                                           e % CODEC_TILE / CODEC_TILE_LANES);
            const float r = minimum + (float)code * step;
            out[(p - h0 * u->w) * stride + (ch - c0)] = (real)(0.0f + r); /* no -0, as with L = 0 */
        }
    }
}

/* --- official --------------------------------------------------------------------------------- */

/* Enlarged mean at pixel (i, j); `means` is that channel's first. */
static float official_mean_at(const struct codec_unit *u, const unsigned char *means, size_t i,
                              size_t j)
{
    const size_t block = i * u->n_rows / u->h * u->n_cols + j * u->n_cols / u->w;
    return codec_bf16_float(codec_load_u16(means + block * u->means_stride * 2));
}

static void official_pool(const struct codec_unit *u, const real *x, size_t stride,
                          unsigned char *means)
{
    for (size_t row = 0; row < u->n_rows; row++) {
        for (size_t col = 0; col < u->n_cols; col++) {
            float sum = 0.0f;
            for (size_t i = 0; i < u->block_h; i++) {
                for (size_t j = 0; j < u->block_w; j++) {
                    const size_t y = row * u->block_h + i, z = col * u->block_w + j;
                    sum += (float)x[(y * u->w + z) * stride];
                }
            }
            const float mean = sum / (float)(u->block_h * u->block_w);
            codec_store_u16(means + (row * u->n_cols + col) * u->means_stride * 2,
                            codec_bf16_nearest(mean));
        }
    }
}

static void official_channel(const struct codec_unit *u, const real *x, size_t stride,
                             size_t channel, unsigned char *means, unsigned char *dst)
{
    const float levels = (float)((1u << u->bits) - 1u);
    official_pool(u, x, stride, means);
    struct extent e = extent_none();
    for (size_t i = 0; i < u->h; i++) {
        for (size_t j = 0; j < u->w; j++) {
            extent_add(&e, (float)x[(i * u->w + j) * stride] - official_mean_at(u, means, i, j));
        }
    }
    const int damaged = e.damaged || !isfinite(e.high - e.low);
    const float scale = levels / (e.high - e.low + OFFICIAL_EPSILON);
    codec_store_u16(dst + u->ranges_at + channel * 2,
                    damaged ? CODEC_BF16_NAN : codec_bf16_nearest(e.low));
    codec_store_u16(dst + u->ranges_at + (u->c + channel) * 2,
                    damaged ? CODEC_BF16_NAN : codec_bf16_nearest(scale));

    unsigned char *codes = dst + u->codes_at + channel;
    clear_codes(u, codes, u->c, u->h * u->w);
    for (size_t i = 0; i < u->h && !damaged; i++) {
        for (size_t j = 0; j < u->w; j++) {
            const size_t pixel = i * u->w + j;
            const float r = (float)x[pixel * stride] - official_mean_at(u, means, i, j);
            const uint32_t random = u->stochastic ? map_random(u, pixel, channel) : 0x7FFFu;
            const float noise = (float)(random + 1) / 65536.0f;
            float q = (r - e.low) * scale + noise - 0.5f;
            q = q > 0.0f ? q : 0.0f;
            q = q < levels ? q : levels;
            put_code(u, codes, u->c, pixel, (uint32_t)rintf(q)); /* ties to even */
        }
    }
}

static void encode_official_ref(const struct codec_unit *u, const real *x, size_t stride, size_t c0,
                                size_t c1, unsigned char *means, unsigned char *dst)
{
    for (size_t ch = c0; ch < c1; ch++) {
        official_channel(u, x + ch, stride, ch, means + (ch - c0) * 2, dst);
    }
}

static void decode_official_ref(const struct codec_unit *u, const unsigned char *src, size_t h0,
                                size_t h1, size_t c0, size_t c1, real *out, size_t stride)
{
    for (size_t ch = c0; ch < c1; ch++) {
        const float minimum = codec_bf16_float(codec_load_u16(src + u->ranges_at + ch * 2));
        const float scale = codec_bf16_float(codec_load_u16(src + u->ranges_at + (u->c + ch) * 2));
        for (size_t i = h0; i < h1; i++) {
            for (size_t j = 0; j < u->w; j++) {
                const uint32_t code = get_code(u, src + u->codes_at + ch, u->c, i * u->w + j);
                const float r = (float)code / scale + minimum;
                out[((i - h0) * u->w + j) * stride + (ch - c0)] =
                    (real)(official_mean_at(u, src + ch * 2, i, j) + r);
            }
        }
    }
}

/* --- bins of the normalised value ------------------------------------------------------------- */

static void encode_bins_ref(const struct codec_unit *u, const real *x, size_t stride, size_t c0,
                            size_t c1, unsigned char *dst)
{
    for (size_t ch = c0; ch < c1; ch++) {
        const struct codec_bins bins = codec_bins_make(u, ch);
        clear_codes(u, dst + ch, u->c, u->h * u->w);
        for (size_t p = 0; p < u->h * u->w; p++) {
            float t = ((float)x[p * stride + ch] - bins.mean) * bins.scale + bins.offset;
            t = t < bins.high ? t : bins.high; /* NaN too */
            t = t > bins.low ? t : bins.low;
            put_code(u, dst + ch, u->c, p, (uint32_t)(ceilf(t) + bins.last));
        }
    }
}

static void decode_bins_ref(const struct codec_unit *u, const unsigned char *src, size_t h0,
                            size_t h1, size_t c0, size_t c1, real *out, size_t stride)
{
    for (size_t ch = c0; ch < c1; ch++) {
        const struct codec_bins bins = codec_bins_make(u, ch);
        for (size_t p = h0 * u->w; p < h1 * u->w; p++) {
            const uint32_t code = get_code(u, src + ch, u->c, p);
            out[(p - h0 * u->w) * stride + (ch - c0)] = (real)(bins.base + (float)code * bins.step);
        }
    }
}

void codec_kernels_fill_ref(struct codec_kernels *k)
{
    *k = (struct codec_kernels){
        .encode_map = encode_map_ref,
        .decode_map = decode_map_ref,
        .encode_group = encode_group_ref,
        .decode_group = decode_group_ref,
        .encode_official = encode_official_ref,
        .decode_official = decode_official_ref,
        .encode_sides = encode_sides_ref,
        .decode_sides = decode_sides_ref,
        .encode_bins = encode_bins_ref,
        .decode_bins = decode_bins_ref,
    };
    codec_planes_fill_ref(k);
}
