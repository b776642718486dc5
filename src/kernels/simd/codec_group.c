/* The codec on runs of consecutive values: a tile of 128 values is eight "pixels" of 16 "channels".
 * Compiled once per ISA, without contraction. */
#include "kernels/simd/codec_octet.h"

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Copies values e0..e1-1 of a sample, in memory order, from pixels `stride` apart. */
static void gather(const struct codec_unit *u, const float *x, size_t stride, size_t e0, size_t e1,
                   float *to)
{
    size_t p = e0 / u->c, ch = e0 % u->c;
    for (size_t e = e0; e < e1;) {
        const size_t n = min_size(u->c - ch, e1 - e);
        memcpy(to, x + p * stride + ch, n * sizeof(*to));
        to += n;
        e += n;
        ch = 0;
        p++;
    }
}

/* Values of tile `tile`: in place if the sample is dense and the tile whole, else in `copy`, with
 * the tile's first value repeated behind the sample's end. */
static const float *tile_values(const struct codec_unit *u, const float *x, size_t stride,
                                size_t tile, float copy[CODEC_TILE])
{
    const size_t n_values = u->h * u->w * u->c;
    const size_t e0 = tile * CODEC_TILE, e1 = min_size(e0 + CODEC_TILE, n_values);
    if (stride == u->c && e1 - e0 == CODEC_TILE) {
        return x + e0;
    }
    gather(u, x, stride, e0, e1, copy);
    for (size_t i = e1 - e0; i < CODEC_TILE; i++) {
        copy[i] = copy[0];
    }
    return copy;
}

static void clear_missing_codes(unsigned char *codes, unsigned bits, size_t n)
{
    const size_t per_byte = 8 / bits;
    for (size_t i = n; i < CODEC_TILE; i++) {
        const size_t pixel = i / CODEC_TILE_LANES;
        unsigned char *at = codes + pixel / per_byte * CODEC_TILE_LANES + i % CODEC_TILE_LANES;
        *at = (unsigned char)(*at & ~(((1u << bits) - 1u) << pixel % per_byte * bits));
    }
}

/* Block number of the first lane of an even tile; the next tile has the same blocks. */
static uint64_t first_block(const struct codec_unit *u, size_t tile)
{
    const size_t n = (u->h * u->w * u->c + 2 * CODEC_TILE - 1) / (2 * CODEC_TILE);
    return (u->sample * n + tile / 2) * CODEC_TILE_LANES;
}

/* A tile is an octet of a strip, and the same range in every lane. */
SIMD_INLINE void encode_tile(const struct codec_philox *ph, const struct codec_lanes *range,
                             const float *v, struct codec_stream *stream, unsigned bits,
                             unsigned char *codes)
{
    const simd_f32 no_mean[CODEC_VECTORS] = {{0}};
    codec_encode_next(range, v, CODEC_TILE_LANES, (struct codec_means){no_mean, 0}, bits, 0, ph,
                      stream, codes, CODEC_TILE_LANES);
}

/* The range of tiles t0..t1-1, the same in every lane; the stored form goes to dst. */
static void group_range(const struct codec_unit *u, const float *x, size_t stride, size_t t0,
                        size_t t1, size_t group, struct codec_lanes *range, unsigned char *dst)
{
    const size_t n_groups = (u->h * u->w * u->c + u->group - 1) / u->group;
    simd_f32 low = simd_set1(__builtin_inff()), high = -low, sum = simd_zero();
    float copy[CODEC_TILE];
    for (size_t t = t0; t < t1; t++) {
        const float *v = tile_values(u, x, stride, t, copy);
        for (size_t i = 0; i < CODEC_TILE; i += SIMD_LANES) {
            const simd_f32 values = simd_load(v + i);
            low = codec_min(values, low);
            high = codec_max(values, high);
            sum += values;
        }
    }
    float least = low[0], largest = high[0], damage = 0.0f;
    for (size_t i = 0; i < SIMD_LANES; i++) {
        least = low[i] < least ? low[i] : least;
        largest = high[i] > largest ? high[i] : largest;
        damage = sum[i] != sum[i] ? 1.0f : damage; /* NaN; infinities show in the range */
    }
    codec_lanes_make(range, simd_set1(least), simd_set1(largest), simd_set1(damage), u->bits);
    codec_store_u16(dst + u->ranges_at + group * 2, range->minimum_bf16[0]);
    codec_store_u16(dst + u->ranges_at + (n_groups + group) * 2, range->step_bf16[0]);
}

static void encode_group(const struct codec_unit *u, const float *x, size_t stride, size_t g0,
                         size_t g1, unsigned char *dst)
{
    const size_t n_values = u->h * u->w * u->c, tiles_per_group = u->group / CODEC_TILE;
    const size_t n_tiles = (n_values + CODEC_TILE - 1) / CODEC_TILE;
    const size_t first = g0 * tiles_per_group, end = min_size(g1 * tiles_per_group, n_tiles);
    struct codec_philox ph;
    codec_philox_init(&ph, &u->rng, first_block(u, first));
    struct codec_stream stream = codec_stream_make(&ph, u->stochastic, first_block(u, first),
                                                   CODEC_TILE_LANES, first_block(u, end + 2));
    for (size_t g = g0; g < g1; g++) {
        const size_t t0 = g * tiles_per_group, t1 = min_size(t0 + tiles_per_group, n_tiles);
        struct codec_lanes range[CODEC_VECTORS];
        group_range(u, x, stride, t0, t1, g, &range[0], dst);
        for (size_t v = 1; v < CODEC_VECTORS; v++) {
            range[v] = range[0];
        }
        for (size_t t = t0; t < t1; t++) {
            float copy[CODEC_TILE];
            const float *v = tile_values(u, x, stride, t, copy);
            unsigned char *codes = dst + u->codes_at + t * CODEC_TILE_LANES * u->bits;
            switch (u->bits) {
            case 1: encode_tile(&ph, range, v, &stream, 1, codes); break;
            case 2: encode_tile(&ph, range, v, &stream, 2, codes); break;
            case 4: encode_tile(&ph, range, v, &stream, 4, codes); break;
            default: encode_tile(&ph, range, v, &stream, 8, codes); break;
            }
            if ((t + 1) * CODEC_TILE > n_values) {
                clear_missing_codes(codes, u->bits, n_values - t * CODEC_TILE);
            }
        }
    }
}

SIMD_INLINE void decode_tile(const struct codec_levels *levels, const unsigned char *codes,
                             unsigned bits, float *out)
{
    const simd_f32 no_mean[CODEC_VECTORS] = {{0}};
    codec_decode_octet(levels, codes, CODEC_TILE_LANES, (struct codec_means){no_mean, 0}, bits, out,
                       CODEC_TILE_LANES);
}

static void decode_whole_tile(const struct codec_unit *u, const unsigned char *src, size_t tile,
                              float *out)
{
    const size_t n_groups = (u->h * u->w * u->c + u->group - 1) / u->group;
    const size_t g = tile * CODEC_TILE / u->group;
    const unsigned char *codes = src + u->codes_at + tile * CODEC_TILE_LANES * u->bits;
    float minimum, step;
    codec_range_load(codec_load_u16(src + u->ranges_at + g * 2),
                     codec_load_u16(src + u->ranges_at + (n_groups + g) * 2), &minimum, &step);
    struct codec_levels levels[CODEC_VECTORS];
    for (size_t v = 0; v < CODEC_VECTORS; v++) {
        levels[v] = (struct codec_levels){simd_set1(minimum), simd_set1(step)};
    }
    switch (u->bits) {
    case 1: decode_tile(levels, codes, 1, out); break;
    case 2: decode_tile(levels, codes, 2, out); break;
    case 4: decode_tile(levels, codes, 4, out); break;
    default: decode_tile(levels, codes, 8, out); break;
    }
}

static void decode_group(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                         size_t c0, size_t c1, float *out, size_t stride)
{
    const size_t first = h0 * u->w * u->c, last = h1 * u->w * u->c;
    const int is_dense = c0 == 0 && c1 == u->c && stride == u->c;
    for (size_t e = first; e < last;) {
        const size_t tile = e / CODEC_TILE, end = min_size((tile + 1) * CODEC_TILE, last);
        if (is_dense && end - e == CODEC_TILE) {
            decode_whole_tile(u, src, tile, out + (e - first));
            e = end;
            continue;
        }
        float values[CODEC_TILE];
        decode_whole_tile(u, src, tile, values);
        /* Run by run: the values of one pixel, of which channels c0..c1-1 are wanted. */
        while (e < end) {
            const size_t p = e / u->c, ch = e % u->c, n = min_size(u->c - ch, end - e);
            const size_t from = ch > c0 ? ch : c0, to = min_size(ch + n, c1);
            if (from < to) {
                memcpy(out + (p - h0 * u->w) * stride + (from - c0),
                       values + e % CODEC_TILE + (from - ch), (to - from) * sizeof(*out));
            }
            e += n;
        }
    }
}

void SIMD_NAME(codec_kernels_fill)(struct codec_kernels *k)
{
    /* The code is little-endian, and so are these loads and stores; elsewhere the reference
     * stays. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    SIMD_NAME(codec_map_fill)(k);
    SIMD_NAME(codec_sides_fill)(k);
    SIMD_NAME(codec_bins_fill)(k);
    SIMD_NAME(codec_planes_fill)(k);
    k->encode_group = encode_group;
    k->decode_group = decode_group;
#else
    (void)k;
#endif
}
