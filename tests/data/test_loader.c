/* Augmentation against an obvious twin; the loader's batches, order, errors and shutdown. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "data/augment_priv.h"
#include "data/loader.h"
#include "data_fixture.h"

/* --- augmentation ------------------------------------------------ */

/* Builds the padded image as a whole, cuts, then mirrors. */
static void augment_twin(unsigned flags, struct augment_draw draw, struct augment_size s,
                         const uint8_t *src, uint8_t *dst)
{
    const size_t ph = s.h + 8, pw = s.w + 8;
    uint8_t *padded = calloc(ph * pw * s.c, 1);
    for (size_t y = 0; y < ph; ++y) {
        for (size_t x = 0; x < pw; ++x) {
            int sy = (int)y - 4, sx = (int)x - 4;
            if (flags & AUGMENT_CROP4_REFLECT) {
                sy = abs(sy);
                sx = abs(sx);
                sy = sy >= (int)s.h ? 2 * ((int)s.h - 1) - sy : sy;
                sx = sx >= (int)s.w ? 2 * ((int)s.w - 1) - sx : sx;
            }
            if (sy >= 0 && sy < (int)s.h && sx >= 0 && sx < (int)s.w) {
                for (size_t c = 0; c < s.c; ++c) {
                    padded[(y * pw + x) * s.c + c] = src[((size_t)sy * s.w + (size_t)sx) * s.c + c];
                }
            }
        }
    }
    const int crop = (flags & (AUGMENT_CROP4 | AUGMENT_CROP4_REFLECT)) != 0;
    const size_t dy = crop ? draw.dy : 4, dx = crop ? draw.dx : 4;
    for (size_t y = 0; y < s.h; ++y) {
        for (size_t x = 0; x < s.w; ++x) {
            const size_t fx = (flags & AUGMENT_FLIP) && draw.flip ? s.w - 1 - x : x;
            for (size_t c = 0; c < s.c; ++c) {
                dst[(y * s.w + x) * s.c + c] = padded[((y + dy) * pw + fx + dx) * s.c + c];
            }
        }
    }
    free(padded);
}

START_TEST(test_augment_equals_its_twin)
{
    const struct augment_size sizes[] = {{32, 32, 3}, {5, 5, 1}, {5, 9, 2}, {1, 1, 3},
                                         {3, 2, 1},   {4, 4, 1}, {32, 7, 4}};
    const unsigned all[] = {0, 1, 2, 3, 4, 6};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
        const struct augment_size s = sizes[i];
        const size_t n = s.h * s.w * s.c;
        uint8_t *src = malloc(n), *dst = malloc(n), *want = malloc(n);
        for (size_t j = 0; j < n; ++j) {
            src[j] = (uint8_t)(fixture_byte(j) | 1); /* no zeros but the padding's */
        }
        for (size_t k = 0; k < 6 * 9 * 9 * 2; ++k) {
            const unsigned flags = all[k % 6];
            if ((flags & AUGMENT_CROP4_REFLECT) && (s.h <= 4 || s.w <= 4)) {
                continue;
            }
            const struct augment_draw draw = {k / 6 % 9, k / 54 % 9, k / 486 != 0};
            memset(dst, 0xee, n);
            augment_apply(flags, draw, s, src, dst);
            augment_twin(flags, draw, s, src, want);
            ck_assert_mem_eq(dst, want, n);
        }
        free(src);
        free(dst);
        free(want);
    }
}
END_TEST

START_TEST(test_augment_draws)
{
    enum { N = 9000 };
    size_t dy[9] = {0}, dx[9] = {0}, flips = 0;
    const struct rng rng = rng_make(5, RNG_AUGMENT, 3, 0);
    for (size_t i = 0; i < N; ++i) {
        const struct augment_draw d = augment_draw_make(&rng, i);
        uint32_t word[4];
        rng_block(&rng, i, word);
        ck_assert_uint_eq(d.dy, rng_below(&rng, 4 * i, 9));
        ck_assert_uint_eq(d.dx, rng_below(&rng, 4 * i + 1, 9));
        ck_assert_uint_eq(d.flip, word[2] >> 31);
        ++dy[d.dy];
        ++dx[d.dx];
        flips += d.flip;
    }
    for (int k = 0; k < 9; ++k) { /* 1000 expected, deviation 30 */
        ck_assert(dy[k] > 850 && dy[k] < 1150 && dx[k] > 850 && dx[k] < 1150);
    }
    ck_assert(flips > N / 2 - 250 && flips < N / 2 + 250);
}
END_TEST

START_TEST(test_augment_names)
{
    size_t n;
    const char *const *names = augment_names(&n);
    ck_assert_uint_eq(n, 4);
    ck_assert_str_eq(names[0], "none");
    int ok = 0;
    ck_assert(augment_find("none", &ok) == AUGMENT_NONE && ok);
    ck_assert(augment_find("crop4", &ok) == AUGMENT_CROP4 && ok);
    ck_assert(augment_find("flip", &ok) == AUGMENT_FLIP && ok);
    ck_assert(augment_find("crop4_reflect", &ok) == AUGMENT_CROP4_REFLECT && ok);
    ck_assert(augment_find("crop", &ok) == 0 && !ok);
}
END_TEST

/* --- a data set for the loader ----------------------------------- */

/* Images of 8 x 6 x 2, bytes by index; image `fails_at` cannot be read; `delay_ns` per image. */
struct fake {
    size_t n, fails_at;
    long delay_ns;
};

enum { FAKE_H = 8, FAKE_W = 6, FAKE_C = 2, FAKE_BYTES = FAKE_H * FAKE_W * FAKE_C };

static int fake_read(const struct dataset *ds, enum data_split split, size_t index, uint8_t *pixels,
                     uint32_t *label, struct err *err)
{
    (void)split;
    const struct fake *f = ds->priv;
    if (f->delay_ns != 0) {
        nanosleep(&(struct timespec){.tv_nsec = f->delay_ns}, NULL);
    }
    if (index == f->fails_at) {
        return err_set(err, ERR_IO, "image %zu is on a broken disk", index);
    }
    for (size_t i = 0; i < FAKE_BYTES; ++i) {
        pixels[i] = fixture_byte(index * FAKE_BYTES + i);
    }
    *label = (uint32_t)(index % 7);
    return 0;
}

static const struct dataset_type fake_type = {.name = "fake", .read = fake_read};

static struct dataset fake_make(struct fake *f)
{
    return (struct dataset){
        .type = &fake_type,
        .info = {.height = FAKE_H,
                 .width = FAKE_W,
                 .channels = FAKE_C,
                 .classes = 7,
                 .n_train = f->n,
                 .n_test = f->n / 2,
                 .mean = {0.5f, 0.25f},
                 .std = {0.2f, 0.125f}},
        .priv = f,
    };
}

static struct loader *new_ok(const struct loader_config *cfg)
{
    struct loader *l = NULL;
    struct err err = {0};
    ck_assert_msg(loader_new(cfg, &l, &err) == 0, "%s", err.msg);
    return l;
}

static void start_ok(struct loader *l, size_t epoch)
{
    struct err err = {0};
    ck_assert_int_eq(loader_start(l, epoch, &err), 0);
}

static struct batch next_ok(struct loader *l)
{
    struct batch b = {0};
    struct err err = {0};
    ck_assert_msg(loader_next(l, &b, &err) == 0, "%s", err.msg);
    return b;
}

/* Everything one epoch delivers, one after the other. */
struct epoch {
    real x[200 * FAKE_BYTES];
    uint32_t labels[200];
    size_t indices[200], n, n_batches;
};

static struct epoch *epoch_read(struct loader *l, size_t number)
{
    struct epoch *e = calloc(1, sizeof *e);
    ck_assert_ptr_nonnull(e);
    start_ok(l, number);
    for (;;) {
        const struct batch b = next_ok(l);
        if (b.n == 0) {
            break;
        }
        ck_assert(b.x.shape.n == b.n && b.x.shape.h == FAKE_H && b.x.shape.w == FAKE_W);
        ck_assert(b.x.shape.c == FAKE_C && b.x.pixel_stride == FAKE_C && b.wait_s >= 0);
        memcpy(e->x + e->n * FAKE_BYTES, b.x.data, b.n * FAKE_BYTES * sizeof(real));
        memcpy(e->labels + e->n, b.labels, b.n * sizeof *b.labels);
        memcpy(e->indices + e->n, b.indices, b.n * sizeof *b.indices);
        e->n += b.n;
        ++e->n_batches;
    }
    ck_assert_uint_eq(next_ok(l).n, 0); /* stays over */
    return e;
}

static int epochs_equal(const struct epoch *a, const struct epoch *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* --- the loader -------------------------------------------------- */

/* Every sample once, its label, its pixels through the twin and the formula. */
START_TEST(test_epoch_content)
{
    struct fake fake = {.n = 103, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    const unsigned augments[] = {0, 1, 2, 3, 4, 6};
    const unsigned augment = augments[_i % 6];
    const int shuffle = _i >= 6;
    struct loader *l = new_ok(&(struct loader_config){
        .dataset = &ds, .batch_size = 10, .shuffle = shuffle, .augment = augment, .seed = 42});
    ck_assert_uint_eq(loader_n_batches(l), 11);
    struct epoch *e = epoch_read(l, 3);
    ck_assert_uint_eq(e->n, 103);
    ck_assert_uint_eq(e->n_batches, 11);
    const struct rng rng = rng_make(42, RNG_AUGMENT, 3, 0);
    int seen[103] = {0};
    size_t in_place = 0;
    for (size_t i = 0; i < e->n; ++i) {
        const size_t index = e->indices[i];
        ck_assert_uint_lt(index, 103);
        ck_assert_int_eq(seen[index]++, 0);
        in_place += index == i;
        ck_assert_uint_eq(e->labels[i], index % 7);
        uint8_t raw[FAKE_BYTES], want[FAKE_BYTES];
        for (size_t j = 0; j < FAKE_BYTES; ++j) {
            raw[j] = fixture_byte(index * FAKE_BYTES + j);
        }
        uint32_t w[4];
        rng_block(&rng, index, w);
        augment_twin(augment,
                     (struct augment_draw){rng_below(&rng, 4 * index, 9),
                                           rng_below(&rng, 4 * index + 1, 9), w[2] >> 31},
                     (struct augment_size){FAKE_H, FAKE_W, FAKE_C}, raw, want);
        for (size_t j = 0; j < FAKE_BYTES; ++j) {
            const double mean = j % 2 ? 0.25 : 0.5;
            const double std = j % 2 ? (double)0.125f : (double)0.2f;
            const double x = (want[j] / 255.0 - mean) / std;
            ck_assert_double_eq_tol((double)e->x[i * FAKE_BYTES + j], x, 1e-6);
        }
    }
    if (shuffle) {
        ck_assert_uint_lt(in_place, 20);
    } else {
        ck_assert_uint_eq(in_place, 103);
    }
    free(e);
    loader_free(l);
}
END_TEST

/* An epoch's bits depend on (seed, epoch), not on what ran before or on the batch size. */
START_TEST(test_determinism)
{
    struct fake fake = {.n = 97, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    struct loader_config cfg = {.dataset = &ds, .batch_size = 16, .shuffle = 1, .augment = 3};
    struct loader *l = new_ok(&cfg);
    struct epoch *e0 = epoch_read(l, 0), *e1 = epoch_read(l, 1), *e5 = epoch_read(l, 5);
    start_ok(l, 9);
    next_ok(l);
    struct epoch *again1 = epoch_read(l, 1), *again0 = epoch_read(l, 0);
    ck_assert(epochs_equal(e0, again0) && epochs_equal(e1, again1));
    ck_assert(!epochs_equal(e0, e1) && !epochs_equal(e1, e5));
    ck_assert(memcmp(e0->indices, e1->indices, sizeof e0->indices) != 0);
    loader_free(l);

    cfg.batch_size = 7;
    l = new_ok(&cfg);
    struct epoch *other5 = epoch_read(l, 5);
    ck_assert_mem_eq(e5->x, other5->x, sizeof e5->x);
    ck_assert_mem_eq(e5->labels, other5->labels, sizeof e5->labels);
    loader_free(l);

    cfg.seed = 1;
    l = new_ok(&cfg);
    struct epoch *seed1 = epoch_read(l, 5);
    ck_assert(memcmp(e5->indices, seed1->indices, sizeof e5->indices) != 0);
    loader_free(l);

    /* Without shuffling the augmentation of a sample is the same as with it. */
    cfg.seed = 0;
    cfg.shuffle = 0;
    l = new_ok(&cfg);
    struct epoch *ordered = epoch_read(l, 5);
    for (size_t i = 0; i < 97; ++i) {
        ck_assert_mem_eq(e5->x + i * FAKE_BYTES, ordered->x + e5->indices[i] * FAKE_BYTES,
                         FAKE_BYTES * sizeof(real));
    }
    loader_free(l);
    struct epoch *all[] = {e0, e1, e5, again0, again1, other5, seed1, ordered};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; ++i) {
        free(all[i]);
    }
}
END_TEST

/* The order is Fisher-Yates from the last place down, swap i with word i below i + 1. */
START_TEST(test_order)
{
    struct fake fake = {.n = 50, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    struct loader *l = new_ok(
        &(struct loader_config){.dataset = &ds, .batch_size = 50, .shuffle = 1, .seed = 8});
    struct epoch *e = epoch_read(l, 2);
    const struct rng rng = rng_make(8, RNG_SHUFFLE, 2, 0);
    size_t order[50];
    for (size_t i = 0; i < 50; ++i) {
        order[i] = i;
    }
    for (size_t i = 49; i > 0; --i) {
        const size_t j = rng_below(&rng, i, (uint32_t)i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    ck_assert_mem_eq(e->indices, order, sizeof order);
    free(e);
    loader_free(l);
}
END_TEST

/* Micro-batches are the batch, in pieces: the same images in the same order. */
START_TEST(test_micro_batches)
{
    struct fake fake = {.n = 103, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    static const size_t cuts[] = {1, 2, 3, 7, 10};
    for (int drop = 0; drop < 2; ++drop) {
        struct loader_config cfg = {.dataset = &ds,
                                    .batch_size = 10,
                                    .shuffle = 1,
                                    .drop_last = drop,
                                    .augment = AUGMENT_FLIP,
                                    .seed = 6};
        struct loader *whole = new_ok(&cfg);
        struct epoch *want = epoch_read(whole, 2);
        for (size_t c = 0; c < sizeof cuts / sizeof *cuts; ++c) {
            const size_t cut = cuts[c], largest = (10 + cut - 1) / cut;
            struct mem_count before, after;
            cfg.accumulate = cut;
            mem_count_get(&before);
            struct loader *l = new_ok(&cfg);
            mem_count_get(&after);
            ck_assert_uint_eq(after.now_bytes[MEM_DATA] - before.now_bytes[MEM_DATA],
                              loader_bytes(&ds.info, largest, 103));
            ck_assert_uint_eq(loader_n_batches(l), loader_n_batches(whole));
            struct epoch *got = epoch_read(l, 2);
            /* Ten batches of 10; of the 3 images left: their share of the cut, rounded up. */
            ck_assert_uint_eq(got->n_batches, 10 * cut + (drop ? 0 : (3 * cut + 9) / 10));
            got->n_batches = want->n_batches;
            ck_assert(epochs_equal(got, want));
            start_ok(l, 2);
            size_t at = 0, n_updates = 0;
            for (struct batch b = next_ok(l); b.n != 0; b = next_ok(l)) {
                ck_assert_uint_eq(b.first, at);
                ck_assert(b.n <= largest && b.n + 1 >= b.n_batch / cut);
                ck_assert_uint_eq(b.n_batch, n_updates < 10 ? 10 : 3);
                at += b.n;
                if (at == b.n_batch) {
                    at = 0;
                    ++n_updates;
                }
            }
            ck_assert_uint_eq(n_updates, loader_n_batches(l));
            ck_assert_uint_eq(at, 0);
            free(got);
            loader_free(l);
        }
        free(want);
        loader_free(whole);
    }
}
END_TEST

START_TEST(test_drop_last_and_splits)
{
    struct fake fake = {.n = 103, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    struct loader_config cfg = {.dataset = &ds, .batch_size = 10, .drop_last = 1, .shuffle = 1};
    struct loader *l = new_ok(&cfg);
    ck_assert_uint_eq(loader_n_batches(l), 10);
    struct epoch *e = epoch_read(l, 0);
    ck_assert_uint_eq(e->n, 100);
    ck_assert_uint_eq(e->n_batches, 10);
    free(e);
    loader_free(l);
    cfg.split = DATA_TEST;
    cfg.batch_size = 51; /* all of it */
    l = new_ok(&cfg);
    e = epoch_read(l, 0);
    ck_assert_uint_eq(e->n, 51);
    ck_assert_uint_eq(e->n_batches, 1);
    free(e);
    loader_free(l);
}
END_TEST

/* The bits torchvision's ToTensor and Normalize give in float32. */
START_TEST(test_normalisation_rounds_as_float)
{
    if (sizeof(real) != sizeof(float)) {
        return;
    }
    struct fake fake = {.n = 20, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    struct loader *l = new_ok(&(struct loader_config){.dataset = &ds, .batch_size = 20});
    struct epoch *e = epoch_read(l, 0);
    for (size_t j = 0; j < 20 * FAKE_BYTES; ++j) {
        const volatile float scaled = (float)fixture_byte(j) / 255.0f;
        const volatile float centred = scaled - ds.info.mean[j % 2];
        const volatile float want = centred / ds.info.std[j % 2];
        ck_assert(e->x[j] == (real)want);
    }
    free(e);
    loader_free(l);
}
END_TEST

START_TEST(test_bad_configs)
{
    struct fake fake = {.n = 20, .fails_at = SIZE_MAX};
    struct dataset ds = fake_make(&fake);
    struct loader *l = NULL;
    struct err err = {0};
    struct loader_config cfg = {.dataset = &ds, .batch_size = 21};
    fixture_assert_failed(loader_new(&cfg, &l, &err), &err, ERR_CONFIG, "21", "20", NULL);
    cfg.batch_size = 0;
    fixture_assert_failed(loader_new(&cfg, &l, &err), &err, ERR_CONFIG, "batch size is 0", NULL);
    cfg.batch_size = 11;
    cfg.split = DATA_TEST;
    fixture_assert_failed(loader_new(&cfg, &l, &err), &err, ERR_CONFIG, "11", "test split has 10",
                          NULL);
    cfg.batch_size = 1;
    cfg.augment = AUGMENT_CROP4 | AUGMENT_CROP4_REFLECT;
    fixture_assert_failed(loader_new(&cfg, &l, &err), &err, ERR_CONFIG, "crop4_reflect", NULL);
    cfg.augment = AUGMENT_CROP4_REFLECT;
    ds.info.width = 4;
    fixture_assert_failed(loader_new(&cfg, &l, &err), &err, ERR_CONFIG, "5 x 5", NULL);
    ck_assert_ptr_null(l);
    loader_free(NULL);
}
END_TEST

START_TEST(test_bytes)
{
    struct fake fake = {.n = 103, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    for (size_t batch = 1; batch <= 103; batch += 17) {
        struct mem_count before, after, end;
        mem_count_get(&before);
        struct loader *l = new_ok(&(struct loader_config){.dataset = &ds, .batch_size = batch});
        mem_count_get(&after);
        ck_assert_uint_eq(after.now_bytes[MEM_DATA] - before.now_bytes[MEM_DATA],
                          loader_bytes(&ds.info, batch, 103));
        ck_assert_uint_ge(loader_bytes(&ds.info, batch, 103),
                          2 * batch * FAKE_BYTES * sizeof(real));
        free(epoch_read(l, 0));
        mem_count_get(&end);
        ck_assert_uint_eq(end.n_allocs, after.n_allocs); /* running takes no memory */
        loader_free(l);
    }
    ck_assert_uint_eq(loader_bytes(&ds.info, SIZE_MAX / 2, 10), SIZE_MAX);
    ck_assert_uint_eq(loader_bytes(&ds.info, 1, SIZE_MAX / 2), SIZE_MAX);
    struct loader *l = NULL;
    struct err err = {0};
    for (size_t n = 1; n <= 2; ++n) {
        mem_fail_after(n);
        ck_assert_int_eq(
            loader_new(&(struct loader_config){.dataset = &ds, .batch_size = 9}, &l, &err),
            ERR_NOMEM);
        mem_fail_after(0);
    }
    ck_assert_ptr_null(l);
}
END_TEST

START_TEST(test_before_the_first_start)
{
    struct fake fake = {.n = 20, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    struct loader *l = new_ok(&(struct loader_config){.dataset = &ds, .batch_size = 8});
    ck_assert_uint_eq(next_ok(l).n, 0);
    loader_free(l);
}
END_TEST

/* A batch stays as it is while the thread is at work on the next one. */
START_TEST(test_batch_is_valid_until_the_next)
{
    struct fake fake = {.n = 40, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    struct loader *l = new_ok(&(struct loader_config){.dataset = &ds, .batch_size = 4});
    start_ok(l, 0);
    for (size_t k = 0; k < 10; ++k) {
        const struct batch b = next_ok(l);
        nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL); /* the thread could do all of it */
        for (size_t i = 0; i < 4; ++i) {
            ck_assert_uint_eq(b.indices[i], 4 * k + i);
            const double x = (fixture_byte((4 * k + i) * FAKE_BYTES) / 255.0 - 0.5) / 0.2;
            ck_assert_double_eq_tol((double)b.x.data[i * FAKE_BYTES], x, 1e-5);
        }
    }
    loader_free(l);
}
END_TEST

START_TEST(test_read_errors)
{
    struct fake fake = {.n = 40, .fails_at = 13};
    const struct dataset ds = fake_make(&fake);
    struct loader *l = new_ok(&(struct loader_config){.dataset = &ds, .batch_size = 5});
    for (size_t epoch = 0; epoch < 3; ++epoch) {
        start_ok(l, epoch);
        ck_assert_uint_eq(next_ok(l).n, 5);
        ck_assert_uint_eq(next_ok(l).n, 5); /* whole batches come first */
        for (int i = 0; i < 2; ++i) {
            struct batch b = {.n = 77};
            struct err err = {0};
            fixture_assert_failed(loader_next(l, &b, &err), &err, ERR_IO, "image 13", "broken disk",
                                  NULL);
            ck_assert_uint_eq(b.n, 77); /* not written */
        }
    }
    loader_free(l);
}
END_TEST

/* Starting, leaving off and freeing in every state. */
START_TEST(test_stress)
{
    struct fake fake = {.n = 60, .fails_at = SIZE_MAX};
    const struct dataset ds = fake_make(&fake);
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    uint64_t word = 0;
    for (size_t round = 0; round < 60; ++round) {
        fake.delay_ns = round % 3 == 0 ? 20000 : 0;
        fake.fails_at = round % 5 == 4 ? 30 : SIZE_MAX;
        struct loader *l = new_ok(&(struct loader_config){.dataset = &ds,
                                                          .batch_size = 1 + round % 60,
                                                          .shuffle = 1,
                                                          .augment = 3,
                                                          .seed = round});
        const uint32_t starts = rng_below(&rng, word++, 6);
        for (uint32_t s = 0; s < starts; ++s) {
            start_ok(l, s);
            const uint32_t batches = rng_below(&rng, word++, 8);
            for (uint32_t b = 0; b < batches; ++b) {
                struct batch batch = {0};
                struct err err = {0};
                const int rc = loader_next(l, &batch, &err);
                ck_assert(rc == 0 || (rc == ERR_IO && fake.fails_at == 30));
            }
            if (rng_below(&rng, word++, 4) == 0) {
                nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
            }
        }
        loader_free(l);
    }
}
END_TEST

START_TEST(test_real_data_set)
{
    struct dataset_config cfg = {.name = "synthetic", .size = 8, .limit = 64, .test_limit = 10};
    struct dataset *ds = NULL;
    struct err err = {0};
    ck_assert_int_eq(dataset_open(&cfg, &ds, &err), 0);
    struct loader *l = new_ok(
        &(struct loader_config){.dataset = ds, .batch_size = 64, .shuffle = 1, .augment = 3});
    start_ok(l, 0);
    const struct batch b = next_ok(l);
    ck_assert(b.n == 64 && b.x.shape.c == 3);
    double sum = 0;
    for (size_t i = 0; i < 64 * 8 * 8 * 3; ++i) {
        ck_assert(isfinite((double)b.x.data[i]));
        sum += fabs((double)b.x.data[i]);
    }
    ck_assert(sum > 0);
    loader_free(l);
    dataset_close(ds);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data/loader");
    TCase *t = tcase_create("loader");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, fixture_begin, fixture_end);
    tcase_add_test(t, test_augment_equals_its_twin);
    tcase_add_test(t, test_augment_draws);
    tcase_add_test(t, test_augment_names);
    tcase_add_loop_test(t, test_epoch_content, 0, 12);
    tcase_add_test(t, test_determinism);
    tcase_add_test(t, test_order);
    tcase_add_test(t, test_micro_batches);
    tcase_add_test(t, test_drop_last_and_splits);
    tcase_add_test(t, test_normalisation_rounds_as_float);
    tcase_add_test(t, test_bad_configs);
    tcase_add_test(t, test_bytes);
    tcase_add_test(t, test_before_the_first_start);
    tcase_add_test(t, test_batch_is_valid_until_the_next);
    tcase_add_test(t, test_read_errors);
    tcase_add_test(t, test_stress);
    tcase_add_test(t, test_real_data_set);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
