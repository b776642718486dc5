/* Convolution and GEMM: every ISA of this processor x every algorithm x shapes, against a plain loop
 * in double; guards around everything that must stay untouched; equal bits for 1, 2 and 3 threads. */
#include "config.h"

#include "kernels/conv.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/gemm.h"

static unsigned random_state;

static unsigned random_below(unsigned n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

static float random_value(void)
{
    return (float)random_below(1 << 16) / 32768.0f - 1.0f;
}

/* --- tensors with guards ------------------------------------------------------------------------ */

/* What lies between and around the pixels: NaN, so that reading it spoils the result too. */
static const unsigned guard_bits = 0x7fc12345u;
enum { N_GUARD = 32 };

struct guarded {
    float *block;
    size_t n; /* floats between the guards */
};

static int is_guard(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits == guard_bits;
}

static struct guarded guarded_new(size_t n)
{
    struct guarded g = {.block = mem_calloc(MEM_OTHER, n + 2 * N_GUARD, sizeof(float)), .n = n};
    ck_assert_ptr_nonnull(g.block);
    for (size_t i = 0; i < n + 2 * N_GUARD; i++) {
        memcpy(&g.block[i], &guard_bits, sizeof(float));
    }
    return g;
}

static float *guarded_data(const struct guarded *g)
{
    return g->block + N_GUARD;
}

/* Only elements with i % stride < width inside the guards may differ from the guard. */
static void guarded_check(const struct guarded *g, size_t stride, size_t width, const char *what)
{
    for (size_t i = 0; i < g->n + 2 * N_GUARD; i++) {
        const size_t inside = i - N_GUARD;
        if (i >= N_GUARD && inside < g->n && inside % stride < width) {
            continue;
        }
        if (!is_guard(g->block[i])) { /* an assert that passes writes to a file: too slow here */
            ck_abort_msg("%s: element %td beside the tensor changed", what, (ptrdiff_t)i - N_GUARD);
        }
    }
}

static struct tensor guarded_tensor(struct guarded *g, struct shape shape, size_t gap)
{
    const size_t stride = shape.c + gap;
    *g = guarded_new(shape_pixels(&shape) * stride);
    struct tensor t = {.data = guarded_data(g), .shape = shape, .pixel_stride = stride};
    for (size_t p = 0; p < shape_pixels(&shape); p++) {
        for (size_t c = 0; c < shape.c; c++) {
            t.data[p * stride + c] = random_value();
        }
    }
    return t;
}

/* --- one case ----------------------------------------------------------------------------------- */

struct conv_case {
    size_t n, h, w;
    struct conv_geom g;
    size_t x_gap, y_gap;
};

/* A result in double, with the sum of |products| and their number for the tolerance. */
struct expected {
    double *value, *scale;
    double n_terms;
    double least_scale; /* of every element: see spread_error */
};

static struct expected expected_new(size_t n, double n_terms)
{
    struct expected e = {
        .value = calloc(n, sizeof(double)), .scale = calloc(n, sizeof(double)), .n_terms = n_terms};
    ck_assert(e.value && e.scale);
    return e;
}

static void expected_free(struct expected *e)
{
    free(e->value);
    free(e->scale);
}

static void expected_add(struct expected *e, size_t i, double product)
{
    e->value[i] += product;
    e->scale[i] += fabs(product);
}

static void expected_check(const struct expected *e, size_t i, float got, const char *what)
{
    const double scale = fmax(e->scale[i] + 1e-3, e->least_scale);
    const double tolerance = 0x1p-24 * (4 + 2 * sqrt(e->n_terms)) * scale;
    if (!(fabs((double)got - e->value[i]) <= tolerance)) {
        ck_abort_msg("%s: element %zu is %.9g, expected %.9g within %.2g", what, i, (double)got,
                     e->value[i], tolerance);
    }
}

/* Winograd's transforms mix the pixels of a tile: an element inherits the rounding errors of its
 * neighbours, however small it is itself, and the transforms amplify them. Elements are judged by
 * four times the largest of them instead; the largest error seen in 1500 cases is 0.73 of it. */
static void spread_error(struct expected *e, size_t n, int on)
{
    e->least_scale = 0;
    for (size_t i = 0; on && i < n; i++) {
        e->least_scale = fmax(e->least_scale, 4 * e->scale[i]);
    }
}

struct fixture {
    struct conv_case c;
    int max_threads;
    struct guarded x_mem, dy_mem, w_mem, b_mem;
    struct tensor x, dy;
    struct expected y, dx, dw, db;
};

static void fixture_expect(struct fixture *f)
{
    const struct conv_geom *g = &f->c.g;
    const struct shape out = f->dy.shape;
    const float *const w = guarded_data(&f->w_mem), *const b = guarded_data(&f->b_mem);

    f->y = expected_new(shape_elements(&out), (double)(g->r * g->s * g->c + 1));
    f->dx = expected_new(shape_elements(&f->x.shape), (double)(g->r * g->s * g->k + 1));
    f->dw = expected_new(g->r * g->s * g->c * g->k, (double)shape_pixels(&out));
    f->db = expected_new(g->k, (double)shape_pixels(&out));
    for (size_t q = 0; q < shape_pixels(&out); q++) {
        const size_t n = q / (out.h * out.w), i = q / out.w % out.h, j = q % out.w;
        const float *const dy = f->dy.data + q * f->dy.pixel_stride;
        for (size_t k = 0; k < g->k; k++) {
            expected_add(&f->y, q * g->k + k, b[k]);
            expected_add(&f->db, k, dy[k]);
        }
        for (size_t t = 0; t < g->r * g->s; t++) {
            const ptrdiff_t yi = (ptrdiff_t)(i * g->stride + t / g->s) - (ptrdiff_t)g->pad;
            const ptrdiff_t xi = (ptrdiff_t)(j * g->stride + t % g->s) - (ptrdiff_t)g->pad;
            if (yi < 0 || xi < 0 || yi >= (ptrdiff_t)f->c.h || xi >= (ptrdiff_t)f->c.w) {
                continue;
            }
            const size_t in = (n * f->c.h + (size_t)yi) * f->c.w + (size_t)xi;
            const float *const x = f->x.data + in * f->x.pixel_stride;
            for (size_t c = 0; c < g->c; c++) {
                for (size_t k = 0; k < g->k; k++) {
                    const size_t iw = (t * g->c + c) * g->k + k;
                    expected_add(&f->y, q * g->k + k, (double)x[c] * (double)w[iw]);
                    expected_add(&f->dx, in * g->c + c, (double)dy[k] * (double)w[iw]);
                    expected_add(&f->dw, iw, (double)x[c] * (double)dy[k]);
                }
            }
        }
    }
}

static void fixture_init(struct fixture *f, const struct conv_case *c)
{
    const struct shape in = {.n = c->n, .h = c->h, .w = c->w, .c = c->g.c};
    const struct shape out = conv2d_out_shape(&c->g, &in);
    const size_t n_w = c->g.r * c->g.s * c->g.c * c->g.k;

    f->c = *c;
    f->x = guarded_tensor(&f->x_mem, in, c->x_gap);
    f->dy = guarded_tensor(&f->dy_mem, out, c->y_gap);
    f->w_mem = guarded_new(n_w);
    f->b_mem = guarded_new(c->g.k);
    for (size_t i = 0; i < n_w; i++) {
        guarded_data(&f->w_mem)[i] = random_value();
    }
    for (size_t i = 0; i < c->g.k; i++) {
        guarded_data(&f->b_mem)[i] = random_value();
    }
    fixture_expect(f);
}

static void fixture_fini(struct fixture *f)
{
    mem_free(f->x_mem.block);
    mem_free(f->dy_mem.block);
    mem_free(f->w_mem.block);
    mem_free(f->b_mem.block);
    expected_free(&f->y);
    expected_free(&f->dx);
    expected_free(&f->dw);
    expected_free(&f->db);
}

/* Scratch of exactly the promised size, full of NaN, behind a guard. */
static struct guarded scratch_new(const struct kernels *k, const struct fixture *f, enum conv_op op,
                                  int n_threads)
{
    const size_t bytes = conv2d_workspace_bytes(k, &f->c.g, &f->x.shape, op, n_threads);
    ck_assert_uint_eq(bytes % sizeof(float), 0);
    return guarded_new(bytes / sizeof(float));
}

static void scratch_free(struct guarded *s, const char *what)
{
    guarded_check(s, 1, 1, what);
    mem_free(s->block);
}

static void check_tensor(const struct expected *e, const struct guarded *mem,
                         const struct tensor *t, const char *what)
{
    guarded_check(mem, t->pixel_stride, t->shape.c, what);
    for (size_t p = 0; p < shape_pixels(&t->shape); p++) {
        for (size_t c = 0; c < t->shape.c; c++) {
            expected_check(e, p * t->shape.c + c, t->data[p * t->pixel_stride + c], what);
        }
    }
}

/* Keeps the first result; compares the bits of later ones and frees them. */
static void same_bits(struct guarded *first, struct guarded *now, int n_threads, const char *what)
{
    if (n_threads == 1) {
        *first = *now;
        return;
    }
    ck_assert_msg(memcmp(first->block, now->block, (now->n + 2 * N_GUARD) * sizeof(float)) == 0,
                  "%s: other bits with %d threads than with 1", what, n_threads);
    mem_free(now->block);
}

static void run_forward(const struct kernels *k, struct fixture *f, const char *what)
{
    struct guarded first = {0};
    for (int threads = 1; threads <= f->max_threads; threads++) {
        struct guarded mem, scratch = scratch_new(k, f, CONV_FORWARD, threads);
        struct tensor y = guarded_tensor(&mem, f->dy.shape, f->c.y_gap);
        conv2d_forward(k, &f->c.g, &f->x, guarded_data(&f->w_mem), guarded_data(&f->b_mem), &y,
                       guarded_data(&scratch), threads);
        check_tensor(&f->y, &mem, &y, what);
        same_bits(&first, &mem, threads, what);
        scratch_free(&scratch, what);
    }
    mem_free(first.block);
}

static void run_backward_data(const struct kernels *k, struct fixture *f, int accumulate,
                              const char *what)
{
    struct guarded first = {0};

    for (size_t i = 0; accumulate && i < shape_elements(&f->x.shape); i++) {
        expected_add(&f->dx, i, 0.5);
    }
    for (int threads = 1; threads <= f->max_threads; threads++) {
        struct guarded mem, scratch = scratch_new(k, f, CONV_BACKWARD_DATA, threads);
        struct tensor dx = guarded_tensor(&mem, f->x.shape, f->c.x_gap);
        for (size_t p = 0; accumulate && p < shape_pixels(&dx.shape); p++) {
            for (size_t c = 0; c < dx.shape.c; c++) {
                dx.data[p * dx.pixel_stride + c] = 0.5f;
            }
        }
        conv2d_backward_data(k, &f->c.g, &f->dy, guarded_data(&f->w_mem), &dx, accumulate,
                             guarded_data(&scratch), threads);
        check_tensor(&f->dx, &mem, &dx, what);
        same_bits(&first, &mem, threads, what);
        scratch_free(&scratch, what);
    }
    mem_free(first.block);
    for (size_t i = 0; accumulate && i < shape_elements(&f->x.shape); i++) {
        expected_add(&f->dx, i, -0.5);
    }
}

static void run_backward_weight(const struct kernels *k, struct fixture *f, const char *what)
{
    const size_t n_w = f->w_mem.n, n_b = f->c.g.k;
    struct guarded first_w = {0}, first_b = {0};
    for (int threads = 1; threads <= f->max_threads; threads++) {
        struct guarded dw = guarded_new(n_w), db = guarded_new(n_b);
        struct guarded scratch = scratch_new(k, f, CONV_BACKWARD_WEIGHT, threads);
        conv2d_backward_weight(k, &f->c.g, &f->x, &f->dy, f->x.shape.n, guarded_data(&dw),
                               guarded_data(&db), guarded_data(&scratch), threads);
        guarded_check(&dw, 1, 1, what);
        guarded_check(&db, 1, 1, what);
        for (size_t i = 0; i < n_w; i++) {
            expected_check(&f->dw, i, guarded_data(&dw)[i], what);
        }
        for (size_t i = 0; i < n_b; i++) {
            expected_check(&f->db, i, guarded_data(&db)[i], what);
        }
        same_bits(&first_w, &dw, threads, what);
        same_bits(&first_b, &db, threads, what);
        scratch_free(&scratch, what);
    }
    mem_free(first_w.block);
    mem_free(first_b.block);
}

static void run_case(const struct kernels *k, struct fixture *f, const char *algorithm)
{
    const struct conv_geom *g = &f->c.g;
    static const char *const ops[] = {"forward", "weight gradient", "data gradient",
                                      "data gradient accumulate"};

    for (int op = 0; op < 4; op++) {
        char what[256];
        snprintf(what, sizeof(what),
                 "%s %s %s, x %zux%zux%zux%zu (+%zu), filter %zux%zux%zu stride %zu pad %zu",
                 k->isa, algorithm, ops[op], f->c.n, f->c.h, f->c.w, g->c, f->c.x_gap, g->r, g->s,
                 g->k, g->stride, g->pad);
        switch (op) {
        case 0: run_forward(k, f, what); break;
        case 1: run_backward_weight(k, f, what); break;
        default: run_backward_data(k, f, op == 3, what); break;
        }
    }
}

/* --- cases -------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct conv_case fixed_cases[] = {
    /* n, h, w, {c, k, r, s, stride, pad}, gaps */
    {128, 1, 1, {64, 10, 1, 1, 1, 0}, 0, 0},       /* a linear layer */
    {2, 16, 16, {16, 16, 3, 3, 1, 1}, 0, 0},
    {3, 8, 8, {64, 64, 3, 3, 1, 1}, 0, 0},
    {2, 16, 16, {16, 32, 3, 3, 2, 1}, 0, 0},
    {2, 16, 16, {16, 32, 1, 1, 2, 0}, 0, 0},       /* phases without taps */
    {2, 18, 18, {3, 33, 7, 7, 2, 3}, 0, 0},
    {1, 12, 12, {16, 64, 1, 1, 1, 0}, 0, 0},
    {1, 4, 4, {300, 130, 3, 3, 1, 1}, 1, 2},       /* several passes and blocks; taps are tasks */
    {1, 2, 2, {2100, 17, 1, 1, 1, 0}, 0, 3},       /* channels in passes */
    {1, 3, 3, {17, 2100, 2, 2, 1, 0}, 0, 0},
    {1, 40, 40, {8, 16, 3, 3, 1, 1}, 0, 0},        /* several chunks of rows */
    {40, 5, 5, {4, 8, 3, 3, 1, 1}, 4, 4},          /* several images in a chunk */
    {1, 1, 1, {5, 7, 3, 3, 1, 1}, 0, 0},           /* all but one tap in the padding */
    {1, 9, 9, {2, 3, 11, 11, 1, 5}, 1, 0},
    {1, 3, 70, {40, 20, 3, 3, 1, 1}, 0, 0},
    {20, 4, 4, {520, 140, 3, 3, 1, 1}, 0, 0},      /* Winograd: several slabs of filters */
    {2, 30, 30, {5, 70, 3, 3, 1, 0}, 0, 3},        /* several groups, parts */
    {1, 2, 3, {16, 16, 3, 3, 1, 5}, 0, 0},         /* tiles that see padding alone */
};
/* clang-format on */
enum { N_FIXED = sizeof(fixed_cases) / sizeof(fixed_cases[0]), N_RANDOM = 150, N_WINOGRAD = 60 };

#define PICK(list) list[random_below(sizeof(list) / sizeof(list[0]))]

static struct conv_case random_case(unsigned seed)
{
    static const size_t filters[] = {1, 2, 3, 5, 7};
    static const size_t channels[] = {1, 3, 5, 16, 17, 31, 32, 33, 64};
    static const size_t sides[] = {1, 2, 3, 5, 7, 8, 9, 11};
    struct conv_case c;

    random_state = seed;
    do {
        const size_t r = PICK(filters);
        c = (struct conv_case){
            .n = 1 + random_below(3),
            .h = PICK(sides),
            .w = PICK(sides),
            .g = {.c = PICK(channels),
                  .k = PICK(channels),
                  .r = r,
                  .s = random_below(4) ? r : PICK(filters),
                  .stride = 1 + random_below(3),
                  .pad = random_below(4)},
            .x_gap = random_below(2) * (1 + random_below(20)),
            .y_gap = random_below(2) * (1 + random_below(20)),
        };
    } while (c.h + 2 * c.g.pad < c.g.r || c.w + 2 * c.g.pad < c.g.s);
    return c;
}

static struct conv_case random_winograd_case(unsigned seed)
{
    static const size_t channels[] = {1, 5, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 80, 130};
    struct conv_case c = random_case(seed);

    c.g.r = c.g.s = 3;
    c.g.stride = 1;
    c.g.c = PICK(channels);
    c.g.k = PICK(channels);
    c.h = 1 + random_below(14);
    c.w = 1 + random_below(14);
    c.g.pad = c.h < 3 || c.w < 3 ? 1 + random_below(3) : random_below(3);
    return c;
}

/* --- tests -------------------------------------------------------------------------------------- */

static struct kernels filled(const char *isa)
{
    struct err err = {0};
    struct kernels k;
    ck_assert_msg(kernels_fill(&k, isa, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(k.isa, isa);
    return k;
}

static const struct {
    const char *name;
    enum conv_algorithm algorithm;
    int on_ref;
} algorithms[] = {{"direct", CONV_DIRECT, 1},
                  {"im2col", CONV_IM2COL, 1},
                  {"igemm", CONV_IGEMM, 0},
                  {"winograd", CONV_WINOGRAD, 0}};
enum { N_ALGORITHMS = sizeof(algorithms) / sizeof(algorithms[0]) };

static void run_all(const struct conv_case *c, int max_threads)
{
    size_t n_isas;
    const char *const *isas = kernels_isas(&n_isas);
    struct err err = {0};
    struct fixture f;

    fixture_init(&f, c);
    f.max_threads = max_threads;
    for (size_t i = 0; i < n_isas; i++) {
        struct kernels k = filled(isas[i]);
        const int is_ref = strcmp(isas[i], "ref") == 0;
        for (size_t a = 0; a < N_ALGORITHMS; a++) {
            if (is_ref ? !algorithms[a].on_ref : algorithms[a].algorithm == CONV_DIRECT) {
                continue; /* direct loops do not depend on the ISA */
            }
            const int is_winograd = algorithms[a].algorithm == CONV_WINOGRAD;
            if (is_winograd && (c->g.r != 3 || c->g.s != 3 || c->g.stride != 1)) {
                continue;
            }
            spread_error(&f.y, shape_elements(&f.dy.shape), is_winograd);
            spread_error(&f.dx, shape_elements(&f.x.shape), is_winograd);
            spread_error(&f.dw, f.w_mem.n, is_winograd);
            ck_assert_msg(kernels_set_algorithm(&k, algorithms[a].name, &err) == 0, "%s", err.msg);
            for (int op = CONV_FORWARD; op <= CONV_BACKWARD_WEIGHT; op++) {
                ck_assert_int_eq(conv2d_algorithm(&k, &c->g, &f.x.shape, (enum conv_op)op),
                                 algorithms[a].algorithm);
            }
            run_case(&k, &f, algorithms[a].name);
        }
    }
    fixture_fini(&f);
}

START_TEST(test_fixed_case)
{
    random_state = 1;
    run_all(&fixed_cases[_i], 3);
}
END_TEST

/* Ten cases a fork. Few with several threads: parallel regions of more threads than processors cost
 * more than the cases. */
START_TEST(test_random_cases)
{
    for (int i = 0; i < 10; i++) {
        const struct conv_case c = random_case((unsigned)(_i * 10 + i + 7));
        run_all(&c, i == 0 && _i % 5 == 0 ? 3 : 1);
    }
}
END_TEST

START_TEST(test_random_winograd_cases)
{
    for (int i = 0; i < 10; i++) {
        const struct conv_case c = random_winograd_case((unsigned)(_i * 10 + i + 7));
        run_all(&c, i == 0 && _i % 5 == 0 ? 4 : 1);
    }
}
END_TEST

/* CONV_AUTO: where the layer is wide and its tiles well filled; and what cannot be done gives way. */
START_TEST(test_winograd_choice)
{
    static const struct {
        struct conv_case c;
        int forced, automatic;
    } rows[] = {
        {{2, 32, 32, {64, 64, 3, 3, 1, 1}, 0, 0}, 1, 1},
        {{2, 14, 14, {256, 256, 3, 3, 1, 1}, 0, 0}, 1, 1},
        {{2, 7, 7, {512, 512, 3, 3, 1, 1}, 0, 0}, 1, 1},
        {{8, 4, 4, {512, 512, 3, 3, 1, 1}, 0, 0}, 1, 1},
        {{7, 4, 4, {512, 512, 3, 3, 1, 1}, 0, 0}, 1, 0},
        {{99, 2, 2, {512, 512, 3, 3, 1, 1}, 0, 0}, 1, 0},
        {{2, 32, 32, {3, 64, 3, 3, 1, 1}, 0, 0}, 1, 0},
        {{2, 32, 32, {64, 128, 3, 3, 2, 1}, 0, 0}, 0, 0},
        {{2, 32, 32, {64, 64, 5, 5, 1, 2}, 0, 0}, 0, 0},
        {{2, 32, 32, {64, 64, 1, 1, 1, 0}, 0, 0}, 0, 0},
    };
    size_t n_isas;
    const char *const *isas = kernels_isas(&n_isas);
    struct err err = {0};

    for (size_t i = 0; i < n_isas; i++) {
        struct kernels k = filled(isas[i]);
        const int has_vectors = strcmp(isas[i], "ref") != 0;
        for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
            const struct conv_case *const c = &rows[row].c;
            const struct shape x = {.n = c->n, .h = c->h, .w = c->w, .c = c->g.c};
            for (int op = CONV_FORWARD; op <= CONV_BACKWARD_WEIGHT; op++) {
                ck_assert_int_eq(kernels_set_algorithm(&k, "winograd", &err), 0);
                ck_assert_int_eq(conv2d_algorithm(&k, &c->g, &x, (enum conv_op)op) == CONV_WINOGRAD,
                                 has_vectors && rows[row].forced);
                ck_assert_int_eq(kernels_set_algorithm(&k, "auto", &err), 0);
                ck_assert_int_eq(conv2d_algorithm(&k, &c->g, &x, (enum conv_op)op) == CONV_WINOGRAD,
                                 has_vectors && rows[row].automatic);
            }
        }
    }
}
END_TEST

START_TEST(test_no_bias_no_db)
{
    size_t n_isas;
    const char *const *isas = kernels_isas(&n_isas);
    for (size_t i = 0; i < n_isas; i++) {
        const struct kernels k = filled(isas[i]);
        const struct conv_geom g = {.c = 1, .k = 1, .r = 1, .s = 1, .stride = 1};
        float x = 3, y = 7, w = 2, dw = 9, scratch[64] __attribute__((aligned(64)));
        const struct tensor tx = tensor_view(&x, (struct shape){1, 1, 1, 1});
        struct tensor ty = tensor_view(&y, (struct shape){1, 1, 1, 1});
        for (int op = CONV_FORWARD; op <= CONV_BACKWARD_WEIGHT; op++) {
            ck_assert_uint_le(conv2d_workspace_bytes(&k, &g, &tx.shape, (enum conv_op)op, 1),
                              sizeof(scratch) * 16);
        }
        conv2d_forward(&k, &g, &tx, &w, NULL, &ty, scratch, 1);
        ck_assert(y == 6);
        void *const space = mem_alloc(
            MEM_OTHER, conv2d_workspace_bytes(&k, &g, &tx.shape, CONV_BACKWARD_WEIGHT, 1));
        conv2d_backward_weight(&k, &g, &tx, &ty, tx.shape.n, &dw, NULL, space, 1);
        ck_assert(dw == 18);
        mem_free(space);
    }
}
END_TEST

START_TEST(test_shapes)
{
    const struct conv_geom g = {.c = 3, .k = 64, .r = 7, .s = 5, .stride = 2, .pad = 3};
    const struct shape x = {.n = 2, .h = 224, .w = 31, .c = 3};
    const struct shape y = conv2d_out_shape(&g, &x);
    ck_assert(y.n == 2 && y.h == 112 && y.w == 17 && y.c == 64);
    ck_assert(conv2d_macs(&g, &x) == 2.0 * 112 * 17 * 7 * 5 * 3 * 64);

    const struct conv_geom too_large = {.c = 3, .k = 4, .r = 3, .s = 3, .stride = 1};
    const struct shape small = {.n = 2, .h = 2, .w = 9, .c = 3};
    const struct shape none = conv2d_out_shape(&too_large, &small);
    ck_assert_uint_eq(shape_pixels(&none), 0);
}
END_TEST

START_TEST(test_names)
{
    struct err err = {0};
    struct kernels k = filled("ref");
    const struct conv_geom g = {.c = 16, .k = 16, .r = 3, .s = 3, .stride = 1, .pad = 1};
    const struct shape x = {.n = 2, .h = 8, .w = 8, .c = 16};

    ck_assert_int_eq(conv2d_algorithm(&k, &g, &x, CONV_FORWARD), CONV_DIRECT);
    ck_assert_int_eq(kernels_set_algorithm(&k, "igemm", &err), 0);
    ck_assert_int_eq(conv2d_algorithm(&k, &g, &x, CONV_FORWARD), CONV_DIRECT);
    ck_assert_int_eq(kernels_set_algorithm(&k, "auto", &err), 0);
    ck_assert_int_eq(kernels_set_algorithm(&k, "fast", &err), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(err.msg, "im2col"));

    ck_assert_int_eq(kernels_fill(&k, "sse9", &err), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(err.msg, "avx512"));

    setenv("DIVISION_ISA", "ref", 1);
    ck_assert_int_eq(kernels_fill(&k, "auto", &err), 0);
    ck_assert_str_eq(k.isa, "ref");
    ck_assert_int_eq(kernels_fill(&k, "base", &err), 0);
    ck_assert_str_eq(k.isa, "base");
    setenv("DIVISION_ISA", "nonsense", 1);
    ck_assert_int_eq(kernels_fill(&k, NULL, &err), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(err.msg, "DIVISION_ISA"));
    unsetenv("DIVISION_ISA");

    size_t n_isas;
    const char *const *isas = kernels_isas(&n_isas);
    ck_assert_uint_ge(n_isas, 2);
    ck_assert_str_eq(isas[0], "ref");
    ck_assert_int_eq(kernels_fill(&k, NULL, &err), 0);
    ck_assert_str_eq(k.isa, isas[n_isas - 1]);
}
END_TEST

/* --- GEMM: what stands behind the door, and our own tiles, which OpenBLAS may hide --------------- */

static void check_gemm(const struct conv_kernels *k, const char *isa, size_t m, size_t n, size_t kk,
                       int transposed, int accumulate)
{
    const size_t rows = transposed ? kk : m, cols = transposed ? m : kk;
    struct guarded a_mem, b_mem, c_mem;
    struct tensor a = guarded_tensor(&a_mem, (struct shape){1, 1, rows, cols}, 3);
    struct tensor b = guarded_tensor(&b_mem, (struct shape){1, 1, kk, n}, 1);
    struct tensor c = guarded_tensor(&c_mem, (struct shape){1, 1, m, n}, 2);
    struct expected e = expected_new(m * n, (double)kk + 1);
    char what[128];

    snprintf(what, sizeof(what), "%s gemm_%s %zux%zux%zu%s", isa, transposed ? "tn" : "nn", m, n,
             kk, accumulate ? " accumulate" : "");
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            if (accumulate) {
                expected_add(&e, i * n + j, c.data[i * c.pixel_stride + j]);
            }
            for (size_t q = 0; q < kk; q++) {
                const size_t ia = transposed ? q * a.pixel_stride + i : i * a.pixel_stride + q;
                expected_add(&e, i * n + j,
                             (double)a.data[ia] * (double)b.data[q * b.pixel_stride + j]);
            }
        }
    }
    const struct gemm_args args = {.m = m,
                                   .n = n,
                                   .k = kk,
                                   .a = a.data,
                                   .lda = a.pixel_stride,
                                   .b = b.data,
                                   .ldb = b.pixel_stride,
                                   .c = c.data,
                                   .ldc = c.pixel_stride,
                                   .accumulate = accumulate};
    (transposed ? gemm_tn : gemm_nn)(k, &args);
    check_tensor(&e, &c_mem, &c, what);
    expected_free(&e);
    mem_free(a_mem.block);
    mem_free(b_mem.block);
    mem_free(c_mem.block);
}

static void check_gemms(const struct conv_kernels *k, const char *isa)
{
    static const size_t sizes[] = {1, 2, 7, 16, 17, 33, 64, 70};
    random_state = 3;
    for (int i = 0; i < 60; i++) {
        const size_t m = PICK(sizes), n = PICK(sizes), kk = PICK(sizes);
        check_gemm(k, isa, m, n, kk, i % 2, i / 2 % 2);
    }
    check_gemm(k, isa, 5, 70, 2500, 0, 0);
    check_gemm(k, isa, 5, 70, 2500, 0, 1);
}

START_TEST(test_gemm)
{
    size_t n_isas, n_own = 0;
    const char *const *isas = kernels_isas(&n_isas);
    for (size_t i = 0; i < n_isas; i++) {
        const struct kernels k = filled(isas[i]);
        struct conv_kernels own = {0};
        check_gemms(&k.conv, isas[i]);
        if (strcmp(isas[i], "base") == 0) {
            conv_kernels_fill_base(&own);
        }
#ifdef HAVE_KERNELS_AVX2
        if (strcmp(isas[i], "avx2") == 0) {
            conv_kernels_fill_avx2(&own);
        }
#endif
#ifdef HAVE_KERNELS_AVX512
        if (strcmp(isas[i], "avx512") == 0) {
            conv_kernels_fill_avx512(&own);
        }
#endif
        if (own.gemm_nn) {
            check_gemms(&own, isas[i]);
            n_own++;
        }
    }
    ck_assert_uint_eq(n_own, n_isas - 1); /* every supported ISA but ref ran its own */
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("conv");
    TCase *const tcase = tcase_create("conv");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_shapes);
    tcase_add_test(tcase, test_names);
    tcase_add_test(tcase, test_gemm);
    tcase_add_test(tcase, test_no_bias_no_db);
    tcase_add_loop_test(tcase, test_fixed_case, 0, N_FIXED);
    tcase_add_loop_test(tcase, test_random_cases, 0, N_RANDOM / 10);
    tcase_add_loop_test(tcase, test_random_winograd_cases, 0, N_WINOGRAD / 10);
    tcase_add_test(tcase, test_winograd_choice);
    suite_add_tcase(suite, tcase);

    SRunner *const runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
