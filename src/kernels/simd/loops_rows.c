/* Element-wise loops, sign bits, dropout and SGD for one ISA, and the table. */
#include <string.h>

#include "kernels/simd/loops_simd.h"
#include "kernels/simd/philox.h"

/* Elements that fill whole bytes of sign bits and whole vectors. */
enum { GROUP = SIMD_LANES < 8 ? 8 : SIMD_LANES, GROUP_VECTORS = GROUP / SIMD_LANES };

/* Below this a call to memcpy costs more than the copy. */
enum { COPY_MIN_LEN = 64 };

static void rows_copy(size_t n_rows, size_t len, const float *x, size_t xs, float *y, size_t ys)
{
    for (size_t r = 0; r < n_rows; r++, x += xs, y += ys) {
        if (len >= COPY_MIN_LEN) {
            memcpy(y, x, len * sizeof(float));
            continue;
        }
        size_t i = 0;
        for (; i + SIMD_LANES <= len; i += SIMD_LANES) {
            simd_store(y + i, simd_load(x + i));
        }
        if (i < len) {
            simd_store_n(y + i, simd_load_n(x + i, len - i), len - i);
        }
    }
}

static void rows_add(size_t n_rows, size_t len, const float *a, size_t as, const float *b,
                     size_t bs, float *y, size_t ys)
{
    for (size_t r = 0; r < n_rows; r++, a += as, b += bs, y += ys) {
        size_t i = 0;
        for (; i + SIMD_LANES <= len; i += SIMD_LANES) {
            simd_store(y + i, simd_load(a + i) + simd_load(b + i));
        }
        if (i < len) {
            const size_t n = len - i;
            simd_store_n(y + i, simd_load_n(a + i, n) + simd_load_n(b + i, n), n);
        }
    }
}

static void rows_relu(size_t n_rows, size_t len, const float *x, size_t xs, float *y, size_t ys)
{
    for (size_t r = 0; r < n_rows; r++, x += xs, y += ys) {
        size_t i = 0;
        for (; i + SIMD_LANES <= len; i += SIMD_LANES) {
            simd_store(y + i, loop_relu(simd_load(x + i)));
        }
        if (i < len) {
            simd_store_n(y + i, loop_relu(simd_load_n(x + i, len - i)), len - i);
        }
    }
}

SIMD_INLINE void store_bits(uint8_t *p, unsigned bits, size_t n_bytes)
{
    if (n_bytes > 1) { /* 16 lanes: x86, little-endian; one store */
        const uint16_t both = (uint16_t)bits;
        memcpy(p, &both, sizeof(both));
    } else {
        *p = (uint8_t)bits;
    }
}

SIMD_INLINE unsigned load_bits(const uint8_t *p, size_t n_bytes)
{
    return n_bytes > 1 ? p[0] | (unsigned)p[1] << 8 : p[0];
}

static void rows_relu_signs(size_t n_rows, size_t len, const float *x, size_t xs, float *y,
                            size_t ys, uint8_t *signs)
{
    for (size_t r = 0; r < n_rows; r++, x += xs, y += ys, signs += (len + 7) / 8) {
        size_t i = 0;
        for (; i + GROUP <= len; i += GROUP) {
            unsigned bits = 0;
            for (size_t v = 0; v < GROUP_VECTORS; v++) {
                const simd_f32 in = simd_load(x + i + v * SIMD_LANES);
                bits |= loop_sign_bits(in) << v * SIMD_LANES;
                simd_store(y + i + v * SIMD_LANES, loop_relu(in));
            }
            store_bits(signs + i / 8, bits, GROUP / 8);
        }
        if (i < len) {
            unsigned bits = 0; /* lanes behind the end read as 0: no bit */
            const size_t n_bytes = (len - i + 7) / 8;
            for (size_t j = i; j < len; j += SIMD_LANES) {
                const size_t n = len - j < SIMD_LANES ? len - j : SIMD_LANES;
                const simd_f32 in = loop_load(x + j, n);
                bits |= loop_sign_bits(in) << (j - i);
                loop_store(y + j, loop_relu(in), n);
            }
            store_bits(signs + i / 8, bits, n_bytes);
        }
    }
}

SIMD_INLINE void back_signs(size_t n_rows, size_t len, const float *dy, size_t dys,
                            const uint8_t *signs, float *dx, size_t dxs, const int accumulate)
{
    for (size_t r = 0; r < n_rows; r++, dy += dys, dx += dxs, signs += (len + 7) / 8) {
        size_t i = 0;
        for (; i + GROUP <= len; i += GROUP) {
            const unsigned bits = load_bits(signs + i / 8, GROUP / 8);
            for (size_t v = 0; v < GROUP_VECTORS; v++) {
                const size_t j = i + v * SIMD_LANES;
                const simd_f32 d = loop_keep_bits(simd_load(dy + j), bits >> v * SIMD_LANES);
                loop_put(dx + j, d, SIMD_LANES, accumulate);
            }
        }
        if (i < len) {
            const unsigned bits = load_bits(signs + i / 8, (len - i + 7) / 8);
            for (size_t j = i; j < len; j += SIMD_LANES) {
                const size_t n = len - j < SIMD_LANES ? len - j : SIMD_LANES;
                const simd_f32 d = loop_keep_bits(loop_load(dy + j, n), bits >> (j - i));
                loop_put(dx + j, d, n, accumulate);
            }
        }
    }
}

static void rows_relu_back_signs(size_t n_rows, size_t len, const float *dy, size_t dys,
                                 const uint8_t *signs, float *dx, size_t dxs, int accumulate)
{
    if (accumulate) {
        back_signs(n_rows, len, dy, dys, signs, dx, dxs, 1);
    } else {
        back_signs(n_rows, len, dy, dys, signs, dx, dxs, 0);
    }
}

SIMD_INLINE void back_output(size_t n_rows, size_t len, const float *dy, size_t dys, const float *y,
                             size_t ys, float *dx, size_t dxs, const int accumulate)
{
    for (size_t r = 0; r < n_rows; r++, dy += dys, y += ys, dx += dxs) {
        size_t i = 0;
        for (; i + SIMD_LANES <= len; i += SIMD_LANES) {
            const simd_i32 mask = simd_load(y + i) > simd_zero();
            loop_put(dx + i, loop_keep(mask, simd_load(dy + i)), SIMD_LANES, accumulate);
        }
        if (i < len) {
            const size_t n = len - i;
            const simd_i32 mask = simd_load_n(y + i, n) > simd_zero();
            loop_put(dx + i, loop_keep(mask, simd_load_n(dy + i, n)), n, accumulate);
        }
    }
}

static void rows_relu_back_output(size_t n_rows, size_t len, const float *dy, size_t dys,
                                  const float *y, size_t ys, float *dx, size_t dxs, int accumulate)
{
    if (accumulate) {
        back_output(n_rows, len, dy, dys, y, ys, dx, dxs, 1);
    } else {
        back_output(n_rows, len, dy, dys, y, ys, dx, dxs, 0);
    }
}

/* n elements from the words of their indices; multiplied, so that NaN stays NaN as in PyTorch. */
SIMD_INLINE void drop(const struct dropout_run *d, size_t n, const uint32_t *words, const float *x,
                      float *y)
{
    /* A threshold of 2^32 does not fit a lane: it drops all, and so does a scale of 0. */
    const uint32_t threshold = (uint32_t)d->threshold;
    const float scale = d->threshold > UINT32_MAX ? 0 : d->scale;
    const int accumulate = d->accumulate;
    for (size_t i = 0; i < n; i += SIMD_LANES) {
        const size_t n_here = n - i < SIMD_LANES ? n - i : SIMD_LANES;
        simd_u32 w = {0};
        memcpy(&w, words + i, n_here == SIMD_LANES ? sizeof(w) : n_here * sizeof(uint32_t));
        const simd_f32 keep = loop_keep(w >= threshold, simd_set1(scale));
        loop_put(y + i, loop_load(x + i, n_here) * keep, n_here, accumulate);
    }
}

static void rows_dropout(const struct dropout_run *d)
{
    uint32_t words[PHILOX_WORDS];
    uint64_t e = d->first;
    uint64_t batch = e / PHILOX_WORDS + 1; /* of `words`; none yet */
    for (size_t r = 0; r < d->n_rows; r++) {
        const float *const x = d->x + r * d->x_stride;
        float *const y = d->y + r * d->y_stride;
        for (size_t i = 0; i < d->len;) {
            if (batch != e / PHILOX_WORDS) {
                batch = e / PHILOX_WORDS;
                philox_words(&d->rng, batch * PHILOX_BLOCKS, words);
            }
            const size_t at = (size_t)(e % PHILOX_WORDS);
            const size_t n = d->len - i < PHILOX_WORDS - at ? d->len - i : PHILOX_WORDS - at;
            drop(d, n, words + at, x + i, y + i);
            i += n;
            e += n;
        }
    }
}

static void rows_sgd(const struct sgd_run *s)
{
    const float lr = s->lr, momentum = s->momentum, decay = s->weight_decay;
    const int has_m = s->m != NULL, nesterov = s->nesterov;
    for (size_t i = 0; i < s->n; i += SIMD_LANES) {
        const size_t n = s->n - i < SIMD_LANES ? s->n - i : SIMD_LANES;
        const simd_f32 w = loop_load(s->w + i, n);
        const simd_f32 g = loop_load(s->dw + i, n) + decay * w;
        simd_f32 step = g;
        if (has_m) {
            const simd_f32 m = momentum * loop_load(s->m + i, n) + g;
            loop_store(s->m + i, m, n);
            step = nesterov ? g + momentum * m : m;
        }
        loop_store(s->w + i, w - lr * step, n);
    }
}

void SIMD_NAME(loop_kernels_fill_rows)(struct loop_kernels *k)
{
    k->copy = rows_copy;
    k->add = rows_add;
    k->relu = rows_relu;
    k->relu_signs = rows_relu_signs;
    k->relu_back_signs = rows_relu_back_signs;
    k->relu_back_output = rows_relu_back_output;
    k->dropout = rows_dropout;
    k->sgd = rows_sgd;
}

void SIMD_NAME(loop_kernels_fill)(struct loop_kernels *k)
{
    SIMD_NAME(loop_kernels_fill_rows)(k);
    SIMD_NAME(loop_kernels_fill_bn)(k);
    SIMD_NAME(loop_kernels_fill_pool)(k);
}
