/* Shared by the codec's tests: tensors between guards, made-up maps, one round trip. */
#ifndef TESTS_CODEC_FIXTURE_H
#define TESTS_CODEC_FIXTURE_H

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/codec.h"

/* A passed ck_assert writes a message to the parent: too slow for each of a million values. */
#define EXPECT(condition, ...)         \
    do {                               \
        if (!(condition)) {            \
            ck_abort_msg(__VA_ARGS__); \
        }                              \
    } while (0)

#define GUARD_BYTE 0xA5
#define GUARD_BYTES 64

/* Bytes with a guard in front of and behind them. */
struct guarded_bytes {
    unsigned char *block, *p;
    size_t n;
};

static inline struct guarded_bytes guarded_bytes_new(size_t n)
{
    struct guarded_bytes g = {.block = mem_alloc(MEM_OTHER, n + 2 * GUARD_BYTES), .n = n};
    ck_assert_ptr_nonnull(g.block);
    memset(g.block, GUARD_BYTE, n + 2 * GUARD_BYTES);
    g.p = g.block + GUARD_BYTES;
    return g;
}

static inline void guarded_bytes_free(struct guarded_bytes *g)
{
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        EXPECT(g->block[i] == GUARD_BYTE, "written in front");
        EXPECT(g->p[g->n + i] == GUARD_BYTE, "written behind");
    }
    mem_free(g->block);
}

/* A tensor whose pixels are `gap` values apart; the gaps are guards. */
static inline struct tensor guarded_tensor(struct shape shape, size_t gap, struct guarded_bytes *g)
{
    const size_t stride = shape.c + gap;
    *g = guarded_bytes_new(shape_pixels(&shape) * stride * sizeof(real));
    return (struct tensor){.data = (real *)(void *)g->p, .shape = shape, .pixel_stride = stride};
}

static inline void check_gaps(const struct tensor *t)
{
    const size_t gap_bytes = (t->pixel_stride - t->shape.c) * sizeof(real);
    for (size_t p = 0; p < shape_pixels(&t->shape); p++) {
        const real *pixel = t->data + p * t->pixel_stride + t->shape.c;
        const unsigned char *gap = (const unsigned char *)pixel;
        for (size_t i = 0; i < gap_bytes; i++) {
            EXPECT(gap[i] == GUARD_BYTE, "written between pixels");
        }
    }
}

static inline real *pixel_at(const struct tensor *t, size_t pixel)
{
    return t->data + pixel * t->pixel_stride;
}

/* Values like activations: normal numbers of channel-dependent size, some channels cut at 0, one in
 * seven flat. */
static inline void fill_map(const struct tensor *t, uint64_t seed)
{
    const struct rng rng = rng_make(seed, RNG_TEST, 0, 0);
    const size_t c = t->shape.c;
    for (size_t p = 0; p < shape_pixels(&t->shape); p++) {
        for (size_t ch = 0; ch < c; ch++) {
            double v = rng_normal(&rng, p * c + ch) * (1.0 + (double)(ch % 5)) + (double)(ch % 3);
            if (ch % 2 == 1 && v < 0) {
                v = 0;
            }
            if (ch % 7 == 6) {
                v = 0.1 + (double)ch;
            }
            pixel_at(t, p)[ch] = (real)v;
        }
    }
}

/* Encodes and decodes with n_threads. `code` may be NULL; else it is the caller's to free. */
static inline void round_trip(const struct kernels *k, const struct codec_spec *spec,
                              const struct tensor *x, const struct rng *rng, struct tensor *out,
                              int n_threads, struct guarded_bytes *code)
{
    const size_t bytes = codec_bytes(spec, &x->shape, NULL);
    struct guarded_bytes slot = guarded_bytes_new(bytes);
    struct guarded_bytes work = guarded_bytes_new(
        codec_workspace_bytes(spec, &x->shape, n_threads));
    ck_assert_uint_eq(codec_encode(k, spec, x, rng, slot.p, work.p, n_threads), bytes);
    guarded_bytes_free(&work);
    const struct codec_block whole = {0, x->shape.n, 0, x->shape.h, 0, x->shape.c};
    codec_decode(k, spec, &x->shape, slot.p, &whole, out, n_threads);
    if (code != NULL) {
        *code = slot;
    } else {
        guarded_bytes_free(&slot);
    }
}

/* The same float, or both NaN. */
static inline int same_value(real a, real b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

/* Filling the table includes a test of the BLAS, about 1 ms: keep the result. */
static inline struct kernels kernels_of(const char *isa)
{
    struct kernels k;
    struct err err = {0};
    ck_assert_msg(kernels_fill(&k, isa, &err) == 0, "%s", err.msg);
    return k;
}

#define MAX_ISAS 8

/* All that this processor and this build have; "ref" comes first. */
static inline size_t kernels_all(struct kernels k[MAX_ISAS])
{
    size_t n;
    const char *const *isas = kernels_isas(&n);
    ck_assert_uint_le(n, MAX_ISAS);
    ck_assert_str_eq(isas[0], "ref");
    for (size_t i = 0; i < n; i++) {
        k[i] = kernels_of(isas[i]);
    }
    return n;
}

#endif
