/* What the tests of the loops share: tensors with guard values around and between the pixels, and a
 * comparison that knows NaN. Checks of single elements call the framework on failure only: it
 * reports every assertion to its parent process. */
#ifndef TESTS_KERNELS_LOOPS_FIXTURE_H
#define TESTS_KERNELS_LOOPS_FIXTURE_H

#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

#define GUARD ((real)-12345.25)
#define GUARD_EDGE 37 /* odd: data are aligned to a single element only */

struct guarded {
    struct tensor t;
    real *block;
    size_t n_block;
};

static inline size_t n_pixels_of(const struct guarded *g)
{
    return shape_pixels(&g->t.shape);
}

static inline size_t n_elements_of(const struct guarded *g)
{
    return shape_elements(&g->t.shape);
}

/* Element i in dense order. */
static inline real *element(const struct guarded *g, size_t i)
{
    const size_t c = g->t.shape.c;
    return g->t.data + i / c * g->t.pixel_stride + i % c;
}

static inline struct guarded guarded_new(struct shape shape, size_t extra_stride)
{
    struct guarded g = {.t = {.shape = shape, .pixel_stride = shape.c + extra_stride}};
    g.n_block = shape_pixels(&shape) * g.t.pixel_stride + 2 * GUARD_EDGE;
    g.block = malloc(g.n_block * sizeof(real));
    ck_assert_ptr_nonnull(g.block);
    for (size_t i = 0; i < g.n_block; i++) {
        g.block[i] = GUARD;
    }
    g.t.data = g.block + GUARD_EDGE;
    return g;
}

/* The guards are whole; frees the tensor. */
static inline void guarded_free(struct guarded *g)
{
    const size_t n_data = shape_pixels(&g->t.shape) * g->t.pixel_stride;
    for (size_t i = 0; i < g->n_block; i++) {
        const size_t at = i - GUARD_EDGE; /* wraps around in front */
        if (at >= n_data || at % g->t.pixel_stride >= g->t.shape.c) {
            if (g->block[i] != GUARD) {
                ck_abort_msg("guard %zu of %zu overwritten", i, g->n_block);
            }
        }
    }
    free(g->block);
}

static inline struct rng test_rng(uint32_t stream)
{
    return rng_make(7, RNG_TEST, 0, stream);
}

/* Normal numbers around `mean`. */
static inline void fill_normal(struct guarded *g, uint32_t stream, double mean)
{
    const struct rng rng = test_rng(stream);
    for (size_t i = 0; i < n_elements_of(g); i++) {
        *element(g, i) = (real)(mean + rng_normal(&rng, i));
    }
}

/* Every fifth element or so becomes a value that breaks careless code. */
static inline void sprinkle_special(struct guarded *g, uint32_t stream)
{
    static const double special[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e-40, -1e-40, 3e38};
    const struct rng rng = test_rng(stream);
    for (size_t i = 0; i < n_elements_of(g); i++) {
        if (rng_below(&rng, 2 * i, 5) == 0) {
            *element(g, i) = (real)special[rng_below(&rng, 2 * i + 1, 8)];
        }
    }
}

/* The same number; NaN equals NaN, 0 equals -0. */
static inline int same_value(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static inline void expect_same(double found, double expected, const char *what, size_t i)
{
    if (!same_value(found, expected)) {
        ck_abort_msg("%s, element %zu: %.9g, expected %.9g", what, i, found, expected);
    }
}

static inline void expect_near(double found, double expected, double tolerance, const char *what,
                               size_t i)
{
    if (!isfinite(expected)) {
        expect_same(found, expected, what, i);
    } else if (!(fabs(found - expected) <= tolerance)) {
        ck_abort_msg("%s, element %zu: %.9g, expected %.9g within %.3g", what, i, found, expected,
                     tolerance);
    }
}

static inline struct kernels kernels_of(const char *isa)
{
    struct kernels k;
    struct err err = {0};
    ck_assert_msg(kernels_fill(&k, isa, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(k.isa, isa);
    return k;
}

/* The table of a loop test's round: ISA number i % (number of ISAs). */
static inline struct kernels kernels_round(int i)
{
    size_t n;
    const char *const *names = kernels_isas(&n);
    return kernels_of(names[(size_t)i % n]);
}

static inline int n_isas(void)
{
    size_t n;
    (void)kernels_isas(&n);
    return (int)n;
}

/* Channel counts around every vector length, its multiples and the widths of strips. */
static const size_t channel_counts[] = {1,  3,  4,  7,  8,  9,  15, 16, 17, 24,
                                        31, 32, 33, 47, 48, 64, 65, 80, 130};
#define N_CHANNEL_COUNTS (sizeof(channel_counts) / sizeof(channel_counts[0]))

#endif
