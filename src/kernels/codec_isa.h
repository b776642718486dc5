/* Inner kernels of the codec for one ISA; called by the drivers in codec.c, and those of bit planes
 * by policy acgc's in store/acgc_code.c. */
#ifndef KERNELS_CODEC_ISA_H
#define KERNELS_CODEC_ISA_H

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "base/rng.h"

/* One sample: its shape, how it is coded, and where the sections of its code lie. The format is
 * described in codec.h. */
struct codec_unit {
    size_t h, w, c;
    size_t block_h, block_w; /* pixels of a whole block; 0: no means, L = 0 */
    size_t n_rows, n_cols;   /* blocks, partial ones included */
    size_t means_stride;     /* channels from one block's means to the next's */
    size_t group;            /* CODEC_GROUP: values per run, a multiple of CODEC_TILE */
    unsigned bits;           /* 1, 2, 4, 8 */
    int stochastic;
    int has_means;              /* means are stored and added on decoding */
    int has_codes;              /* ranges and codes are stored; else the means are all there is */
    int has_ranges;             /* with the codes */
    size_t ranges_at, codes_at; /* byte offsets in the sample's code; means are at 0 */
    struct rng rng;
    uint64_t sample; /* index of the sample, for its random bits */
    /* CODEC_BINS, CODEC_SIDES: [c], of the sample's group */
    const real *mean, *invstd, *gamma, *beta;
    const uint8_t *signs; /* CODEC_SIDES, decoding: [h * w][(c + 7) / 8], of the sample */
};

/* CODEC_GROUP works on tiles of 128 consecutive values, 8 "pixels" of 16 "channels". */
#define CODEC_TILE 128
#define CODEC_TILE_LANES 16

/* A map's codes of 1 to 16 bits, a width per channel, as bit planes.
 *
 * Eight consecutive pixels (an octet) of a channel of b bits take b bytes: byte k holds bit k of the
 * eight codes, the first pixel in the low bit. The channels of an octet follow one another, the
 * octets of the map too: octet o of channel ch begins at o * row_bytes + the sum of the widths of
 * the channels before it. Pixels count through the samples; those that are missing in the last
 * octet are 0.
 *
 *   low    = -2^(bits - 1) if is_signed, else 0; top = low + 2^bits - 1
 *   code   = nearest(max(min(x * scale, top), low)) - low, ties to even, NaN as top
 *   x'     = (code + low) * step */
struct codec_planes {
    size_t c, row_bytes;        /* channels; the sum of their bits */
    const uint8_t *bits;        /* [c] */
    const float *scale, *top;   /* [c], for encoding */
    const unsigned char *steps; /* [c] of float32 at any address, for decoding */
    int is_signed;
};

#define CODEC_PLANES_PIXELS 8

struct codec_kernels {
    /* Channels c0..c1-1 of one sample x (pixels `stride` apart) into the sample's code at dst.
     * Block means of channel ch go to `means` [n_rows * n_cols][means_stride], place ch - c0
     * (bf16, any alignment): a part of dst, or scratch if they are not kept; NULL without
     * blocks. */
    void (*encode_map)(const struct codec_unit *u, const real *x, size_t stride, size_t c0,
                       size_t c1, unsigned char *means, unsigned char *dst);
    /* Rows h0..h1-1, channels c0..c1-1 into out, whose first value is that of (h0, c0). */
    void (*decode_map)(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                       size_t c0, size_t c1, real *out, size_t stride);
    /* Groups g0..g1-1 of one sample. */
    void (*encode_group)(const struct codec_unit *u, const real *x, size_t stride, size_t g0,
                         size_t g1, unsigned char *dst);
    void (*decode_group)(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                         size_t c0, size_t c1, real *out, size_t stride);
    /* As encode_map and decode_map, in the official arithmetic. */
    void (*encode_official)(const struct codec_unit *u, const real *x, size_t stride, size_t c0,
                            size_t c1, unsigned char *means, unsigned char *dst);
    void (*decode_official)(const struct codec_unit *u, const unsigned char *src, size_t h0,
                            size_t h1, size_t c0, size_t c1, real *out, size_t stride);
    /* As encode_map and decode_map, in bins of the normalised value. */
    void (*encode_bins)(const struct codec_unit *u, const real *x, size_t stride, size_t c0,
                        size_t c1, unsigned char *dst);
    void (*decode_bins)(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                        size_t c0, size_t c1, real *out, size_t stride);
    /* As encode_map and decode_map, with codes that count from the batch-norm's threshold. */
    void (*encode_sides)(const struct codec_unit *u, const real *x, size_t stride, size_t c0,
                         size_t c1, unsigned char *means, unsigned char *dst);
    void (*decode_sides)(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                         size_t c0, size_t c1, real *out, size_t stride);
    /* Adds pixels to what is known of c channels: size [c], the largest of the bits of |x| as a
     * float32, which rank as the numbers do, infinity above them, NaN above that; is_negative [c],
     * not 0 where x < 0 was among them. */
    void (*measure_planes)(const real *x, size_t stride, size_t n_pixels, size_t c, uint32_t *size,
                           uint32_t *is_negative);
    /* n_pixels into dst [ceil(n_pixels / 8)][row_bytes]. */
    void (*encode_planes)(const struct codec_planes *u, const real *x, size_t stride,
                          size_t n_pixels, unsigned char *dst);
    /* Pixels p0..p1-1, channels c0..c1-1 of the map whose planes begin at src into out, whose first
     * value is that of (p0, c0). Reads no further than the octet of pixel p1 - 1. */
    void (*decode_planes)(const struct codec_planes *u, const unsigned char *src, size_t p0,
                          size_t p1, size_t c0, size_t c1, real *out, size_t stride);
};

/* Each lays its functions over *k. */
void codec_kernels_fill_ref(struct codec_kernels *k);
void codec_planes_fill_ref(struct codec_kernels *k); /* its part of that */
void codec_kernels_fill_base(struct codec_kernels *k);
void codec_kernels_fill_avx2(struct codec_kernels *k);
void codec_kernels_fill_avx512(struct codec_kernels *k);

#endif
