/* The codec's bins of the normalised value, one SIMD lane per channel. Compiled once per ISA, without
 * contraction. */
#include "kernels/simd/codec_simd.h"

/* struct codec_bins of a vector of channels. */
struct bins_lanes {
    simd_f32 mean, scale, offset, low, high, base, step;
    simd_u32 last;
};

/* Through memory, and not inlined: compilers take long over lanes with a variable number. */
static __attribute__((noinline)) void make_lanes(const struct codec_unit *u, size_t channel,
                                                 size_t lanes, struct bins_lanes *v)
{
    float f[7][SIMD_LANES] = {{0}};
    uint32_t last[SIMD_LANES] = {0};
    for (size_t i = 0; i < lanes; i++) {
        const struct codec_bins bins = codec_bins_make(u, channel + i);
        f[0][i] = bins.mean;
        f[1][i] = bins.scale;
        f[2][i] = bins.offset;
        f[3][i] = bins.low;
        f[4][i] = bins.high;
        f[5][i] = bins.base;
        f[6][i] = bins.step;
        last[i] = (uint32_t)bins.last;
    }
    v->mean = simd_load(f[0]);
    v->scale = simd_load(f[1]);
    v->offset = simd_load(f[2]);
    v->low = simd_load(f[3]);
    v->high = simd_load(f[4]);
    v->base = simd_load(f[5]);
    v->step = simd_load(f[6]);
    memcpy(&v->last, last, sizeof(last));
}

SIMD_INLINE simd_u32 bins_code(const struct bins_lanes *v, simd_f32 x)
{
    simd_f32 t = (x - v->mean) * v->scale + v->offset;
    t = codec_max(codec_min(t, v->high), v->low);
    const simd_u32 nearest = codec_round(t);
    const simd_i32 is_below = __builtin_convertvector((simd_i32)nearest, simd_f32) < t;
    return nearest - (simd_u32)is_below + v->last; /* ceil(t) + last */
}

SIMD_INLINE void encode_lanes(const struct codec_unit *u, const float *x, size_t stride,
                              size_t channel, size_t lanes, unsigned bits, unsigned char *dst)
{
    struct bins_lanes v;
    make_lanes(u, channel, lanes, &v);
    const size_t per_byte = 8 / bits, n_pixels = u->h * u->w;
    unsigned char *codes = dst + channel;
    size_t p = 0;
    for (; p + per_byte <= n_pixels; p += per_byte, codes += u->c) {
        simd_u32 byte = {0};
#pragma GCC unroll 8
        for (unsigned s = 0; s < per_byte; s++) {
            byte |= bins_code(&v, codec_load(x + (p + s) * stride, lanes)) << s * bits;
        }
        codec_store_bytes(codes, byte, lanes);
    }
    if (p < n_pixels) {
        simd_u32 byte = {0};
        for (unsigned s = 0; p + s < n_pixels; s++) {
            byte |= bins_code(&v, codec_load(x + (p + s) * stride, lanes)) << s * bits;
        }
        codec_store_bytes(codes, byte, lanes);
    }
}

static void encode_lanes_any(const struct codec_unit *u, const float *x, size_t stride,
                             size_t channel, size_t lanes, unsigned char *dst)
{
    encode_lanes(u, x, stride, channel, lanes, u->bits, dst);
}

static void encode_bins(const struct codec_unit *u, const float *x, size_t stride, size_t c0,
                        size_t c1, unsigned char *dst)
{
    size_t ch = c0;
    for (; ch + SIMD_LANES <= c1 && u->bits == 4; ch += SIMD_LANES) {
        encode_lanes(u, x + ch, stride, ch, SIMD_LANES, 4, dst);
    }
    for (; ch + SIMD_LANES <= c1 && u->bits == 8; ch += SIMD_LANES) {
        encode_lanes(u, x + ch, stride, ch, SIMD_LANES, 8, dst);
    }
    for (; ch < c1; ch += SIMD_LANES) {
        encode_lanes_any(u, x + ch, stride, ch, c1 - ch < SIMD_LANES ? c1 - ch : SIMD_LANES, dst);
    }
}

SIMD_INLINE void decode_lanes(const struct codec_unit *u, const unsigned char *src, size_t h0,
                              size_t h1, size_t channel, size_t lanes, unsigned bits, float *out,
                              size_t stride)
{
    struct bins_lanes v;
    make_lanes(u, channel, lanes, &v);
    const unsigned per_byte = 8 / bits;
    const uint32_t mask = (1u << bits) - 1u;
    for (size_t p = h0 * u->w; p < h1 * u->w; p++, out += stride) {
        const simd_u32 byte = codec_load_bytes(src + p / per_byte * u->c + channel, lanes);
        const simd_i32 code = (simd_i32)(byte >> (unsigned)(p % per_byte) * bits & mask);
        codec_store(out, v.base + __builtin_convertvector(code, simd_f32) * v.step, lanes);
    }
}

static void decode_lanes_any(const struct codec_unit *u, const unsigned char *src, size_t h0,
                             size_t h1, size_t channel, size_t lanes, float *out, size_t stride)
{
    decode_lanes(u, src, h0, h1, channel, lanes, u->bits, out, stride);
}

static void decode_bins(const struct codec_unit *u, const unsigned char *src, size_t h0, size_t h1,
                        size_t c0, size_t c1, float *out, size_t stride)
{
    size_t ch = c0;
    for (; ch + SIMD_LANES <= c1 && u->bits == 4; ch += SIMD_LANES) {
        decode_lanes(u, src, h0, h1, ch, SIMD_LANES, 4, out + (ch - c0), stride);
    }
    for (; ch + SIMD_LANES <= c1 && u->bits == 8; ch += SIMD_LANES) {
        decode_lanes(u, src, h0, h1, ch, SIMD_LANES, 8, out + (ch - c0), stride);
    }
    for (; ch < c1; ch += SIMD_LANES) {
        const size_t lanes = c1 - ch < SIMD_LANES ? c1 - ch : SIMD_LANES;
        decode_lanes_any(u, src, h0, h1, ch, lanes, out + (ch - c0), stride);
    }
}

void SIMD_NAME(codec_bins_fill)(struct codec_kernels *k)
{
    k->encode_bins = encode_bins;
    k->decode_bins = decode_bins;
}
