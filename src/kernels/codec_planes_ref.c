/* Bit planes from the formulas at struct codec_planes, one value at a time. */
#include "kernels/codec_isa.h"

#include <math.h>
#include <string.h>

#include "kernels/codec_priv.h"

static void measure_planes_ref(const real *x, size_t stride, size_t n_pixels, size_t c,
                               uint32_t *size, uint32_t *is_negative)
{
    for (size_t p = 0; p < n_pixels; p++) {
        for (size_t ch = 0; ch < c; ch++) {
            const float v = (float)x[p * stride + ch];
            const uint32_t bits = codec_float_bits(v) & 0x7FFFFFFFu;
            size[ch] = bits > size[ch] ? bits : size[ch];
            is_negative[ch] |= v < 0.0f;
        }
    }
}

static uint32_t code_of(const struct codec_planes *u, float x, size_t ch)
{
    const float top = u->top[ch], low = u->is_signed ? -top - 1.0f : 0.0f;
    float t = x * u->scale[ch];
    t = t < top ? t : top; /* NaN too */
    t = t > low ? t : low;
    return (uint32_t)(rintf(t) - low);
}

static void encode_planes_ref(const struct codec_planes *u, const real *x, size_t stride,
                              size_t n_pixels, unsigned char *dst)
{
    for (size_t p = 0; p < n_pixels; p += CODEC_PLANES_PIXELS) {
        for (size_t ch = 0; ch < u->c; ch++) {
            memset(dst, 0, u->bits[ch]);
            for (size_t i = 0; i < CODEC_PLANES_PIXELS && p + i < n_pixels; i++) {
                const uint32_t code = code_of(u, (float)x[(p + i) * stride + ch], ch);
                for (unsigned bit = 0; bit < u->bits[ch]; bit++) {
                    dst[bit] |= (unsigned char)((code >> bit & 1u) << i);
                }
            }
            dst += u->bits[ch];
        }
    }
}

static void decode_planes_ref(const struct codec_planes *u, const unsigned char *src, size_t p0,
                              size_t p1, size_t c0, size_t c1, real *out, size_t stride)
{
    size_t at = 0;
    for (size_t ch = 0; ch < c1; ch++) {
        const float low = u->is_signed ? -(float)(1u << (u->bits[ch] - 1u)) : 0.0f;
        float step;
        memcpy(&step, u->steps + ch * sizeof(step), sizeof(step));
        for (size_t p = p0; p < p1 && ch >= c0; p++) {
            const unsigned char *planes = src + p / CODEC_PLANES_PIXELS * u->row_bytes + at;
            uint32_t code = 0;
            for (unsigned bit = 0; bit < u->bits[ch]; bit++) {
                code |= (uint32_t)(planes[bit] >> p % CODEC_PLANES_PIXELS & 1u) << bit;
            }
            out[(p - p0) * stride + (ch - c0)] = (real)(((float)code + low) * step);
        }
        at += u->bits[ch];
    }
}

void codec_planes_fill_ref(struct codec_kernels *k)
{
    k->measure_planes = measure_planes_ref;
    k->encode_planes = encode_planes_ref;
    k->decode_planes = decode_planes_ref;
}
