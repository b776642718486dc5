/* IDX files, plain and gzipped, right and wrong; Fashion-MNIST's promises. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/mem.h"
#include "data/dataset.h"
#include "data_fixture.h"

#define TRAIN_IMAGES "train-images-idx3-ubyte"
#define TRAIN_LABELS "train-labels-idx1-ubyte"
#define TEST_IMAGES "t10k-images-idx3-ubyte"
#define TEST_LABELS "t10k-labels-idx1-ubyte"

/* A file in the making. */
struct bytes {
    uint8_t *b;
    size_t n;
};

static void put_header(struct bytes *f, uint32_t magic, const size_t *dims, size_t n_dims)
{
    for (size_t i = 0; i <= n_dims; ++i) {
        const size_t v = i == 0 ? magic : dims[i - 1];
        for (size_t j = 0; j < 4; ++j) {
            f->b[f->n++] = (uint8_t)(v >> (24 - 8 * j));
        }
    }
}

static struct bytes images_make(size_t n, size_t h, size_t w, size_t salt)
{
    struct bytes f = {malloc(16 + n * h * w), 0};
    ck_assert_ptr_nonnull(f.b);
    put_header(&f, 0x803, (const size_t[]){n, h, w}, 3);
    for (size_t i = 0; i < n * h * w; ++i) {
        f.b[f.n++] = fixture_byte(salt + i);
    }
    return f;
}

static struct bytes labels_make(size_t n, size_t n_classes)
{
    struct bytes f = {malloc(8 + n), 0};
    ck_assert_ptr_nonnull(f.b);
    put_header(&f, 0x801, &n, 1);
    for (size_t i = 0; i < n; ++i) {
        f.b[f.n++] = (uint8_t)(i % n_classes);
    }
    return f;
}

static void write_and_free(const char *name, int gzip, struct bytes f)
{
    if (gzip) {
        char gz[64];
        snprintf(gz, sizeof gz, "%s.gz", name);
        fixture_write_gzip(gz, f.b, f.n);
    } else {
        fixture_write(name, f.b, f.n);
    }
    free(f.b);
}

enum { N_TRAIN = 60, N_TEST = 9, N_CLASSES = 7, TEST_SALT = 5000 };

/* A sound set of h x w images. */
static void write_set(int gzip, size_t h, size_t w)
{
    write_and_free(TRAIN_IMAGES, gzip, images_make(N_TRAIN, h, w, 0));
    write_and_free(TRAIN_LABELS, gzip, labels_make(N_TRAIN, N_CLASSES));
    write_and_free(TEST_IMAGES, gzip, images_make(N_TEST, h, w, TEST_SALT));
    write_and_free(TEST_LABELS, gzip, labels_make(N_TEST, N_CLASSES));
}

static struct dataset_config config(const char *name)
{
    return (struct dataset_config){.name = name, .path = fixture_dir()};
}

static struct dataset *open_ok(const struct dataset_config *cfg)
{
    struct dataset *ds = NULL;
    struct err err = {0};
    ck_assert_msg(dataset_open(cfg, &ds, &err) == 0, "%s", err.msg);
    return ds;
}

#define ASSERT_OPEN_FAILS(cfg, code, ...)                           \
    do {                                                            \
        struct dataset *ds_ = NULL;                                 \
        struct err err_ = {0};                                      \
        const int rc_ = dataset_open(cfg, &ds_, &err_);             \
        fixture_assert_failed(rc_, &err_, code, __VA_ARGS__, NULL); \
        ck_assert_ptr_null(ds_);                                    \
    } while (0)

static void assert_image(const struct dataset *ds, enum data_split split, size_t index, size_t h,
                         size_t w)
{
    uint8_t pixels[32 * 32];
    uint32_t label = 999;
    struct err err = {0};
    ck_assert_msg(dataset_read(ds, split, index, pixels, &label, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(label, index % N_CLASSES);
    const size_t top = (32 - h) / 2, left = (32 - w) / 2;
    for (size_t y = 0; y < 32; ++y) {
        for (size_t x = 0; x < 32; ++x) {
            const int inside = y >= top && y < top + h && x >= left && x < left + w;
            const size_t salt = split == DATA_TRAIN ? 0 : TEST_SALT;
            const uint8_t want = inside ? fixture_byte(salt + (index * h + y - top) * w + x - left)
                                        : 0;
            ck_assert_uint_eq(pixels[y * 32 + x], want);
        }
    }
}

static const size_t sides[][2] = {{28, 28}, {32, 32}, {1, 1}, {27, 5}, {31, 32}};

START_TEST(test_reads_every_image)
{
    const size_t h = sides[_i / 2][0], w = sides[_i / 2][1];
    const int gzip = _i % 2;
    write_set(gzip, h, w);
    const struct dataset_config cfg = config("idx");
    struct mem_count count[2];
    mem_count_get(&count[0]);
    struct dataset *ds = open_ok(&cfg);
    mem_count_get(&count[1]);
    ck_assert_uint_eq(dataset_size(ds, DATA_TRAIN), N_TRAIN);
    ck_assert_uint_eq(dataset_size(ds, DATA_TEST), N_TEST);
    ck_assert(ds->info.height == 32 && ds->info.width == 32 && ds->info.channels == 1);
    ck_assert_uint_eq(ds->info.classes, N_CLASSES);
    ck_assert_uint_eq(ds->memory_bytes, (N_TRAIN + N_TEST) * (gzip ? h * w + 1 : 1));
    ck_assert_uint_eq(ds->memory_bytes,
                      count[1].now_bytes[MEM_DATA] - count[0].now_bytes[MEM_DATA]);
    for (size_t i = 0; i < N_TRAIN; ++i) {
        assert_image(ds, DATA_TRAIN, N_TRAIN - 1 - i, h, w);
    }
    for (size_t i = 0; i < N_TEST; ++i) {
        assert_image(ds, DATA_TEST, i, h, w);
    }
    dataset_close(ds);
}
END_TEST

START_TEST(test_plain_and_gzip_have_one_checksum)
{
    struct bytes images = images_make(N_TRAIN, 28, 28, 0), labels = labels_make(N_TRAIN, N_CLASSES);
    uLong crc = crc32(0, images.b, (uInt)images.n);
    crc = crc32(crc, labels.b, (uInt)labels.n);
    free(images.b);
    free(labels.b);
    struct dataset_config cfg = config("idx");
    write_set(1, 28, 28);
    struct dataset *ds = open_ok(&cfg);
    ck_assert_uint_eq(ds->crc[DATA_TRAIN], crc);
    const uint32_t test_crc = ds->crc[DATA_TEST];
    dataset_close(ds);
    write_set(0, 28, 28); /* the plain files go first */
    cfg.limit = 3;
    ds = open_ok(&cfg);
    ck_assert_uint_eq(ds->memory_bytes, 3 + N_TEST);
    ck_assert_uint_eq(ds->crc[DATA_TRAIN], crc);
    ck_assert_uint_eq(ds->crc[DATA_TEST], test_crc);
    dataset_close(ds);
}
END_TEST

START_TEST(test_gzip_by_content_and_members)
{
    write_set(0, 28, 28);
    /* Unpacked, but still named .gz. */
    size_t n;
    uint8_t *plain = fixture_read(TRAIN_IMAGES, &n);
    fixture_write(TRAIN_IMAGES ".gz", plain, n);
    fixture_remove(TRAIN_IMAGES);
    const struct dataset_config cfg = config("idx");
    struct dataset *ds = open_ok(&cfg);
    assert_image(ds, DATA_TRAIN, 59, 28, 28);
    dataset_close(ds);
    /* Two members, cut in the middle of the header. */
    fixture_write_gzip("a.gz", plain, 7);
    fixture_write_gzip("b.gz", plain + 7, n - 7);
    mem_free(plain);
    size_t na, nb;
    uint8_t *a = fixture_read("a.gz", &na), *b = fixture_read("b.gz", &nb);
    uint8_t *both = malloc(na + nb);
    memcpy(both, a, na);
    memcpy(both + na, b, nb);
    fixture_write(TRAIN_IMAGES ".gz", both, na + nb);
    ds = open_ok(&cfg);
    assert_image(ds, DATA_TRAIN, 59, 28, 28);
    dataset_close(ds);
    free(both);
    mem_free(a);
    mem_free(b);
}
END_TEST

START_TEST(test_limits)
{
    write_set(_i, 28, 28);
    struct dataset_config cfg = config("idx");
    cfg.limit = 5;
    cfg.test_limit = N_TEST;
    struct dataset *ds = open_ok(&cfg);
    ck_assert_uint_eq(dataset_size(ds, DATA_TRAIN), 5);
    ck_assert_uint_eq(ds->info.classes, N_CLASSES); /* of all labels, not only those used */
    ck_assert_uint_eq(ds->memory_bytes, _i ? (5 + N_TEST) * 785 : 5 + N_TEST);
    assert_image(ds, DATA_TRAIN, 4, 28, 28);
    uint8_t pixels[1024];
    uint32_t label;
    struct err err = {0};
    fixture_assert_failed(dataset_read(ds, DATA_TRAIN, 5, pixels, &label, &err), &err, ERR_RANGE,
                          NULL);
    dataset_close(ds);
    cfg.limit = N_TRAIN + 1;
    ASSERT_OPEN_FAILS(&cfg, ERR_RANGE, "61", "60");
    cfg.limit = 0;
    cfg.test_limit = 1000;
    ASSERT_OPEN_FAILS(&cfg, ERR_RANGE, "1000", "has 9 images");
}
END_TEST

START_TEST(test_classes)
{
    write_set(0, 28, 28);
    struct dataset_config cfg = config("idx");
    cfg.classes = 12;
    struct dataset *ds = open_ok(&cfg);
    ck_assert_uint_eq(ds->info.classes, 12);
    dataset_close(ds);
    cfg.classes = N_CLASSES - 1;
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_LABELS, "label 6 of image 6", "offset 14", "0 to 5");
    cfg.limit = 3; /* labels that are not used are checked too */
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_LABELS, "label 6 of image 6", "offset 14");
    cfg.classes = 257;
    ASSERT_OPEN_FAILS(&cfg, ERR_CONFIG, "257", "256");
}
END_TEST

START_TEST(test_bad_headers)
{
    const struct dataset_config cfg = config("idx");
    struct bytes f;

    write_set(_i, 28, 28);
    f = images_make(N_TRAIN, 28, 28, 0);
    f.b[2] = 0x0d; /* floats */
    write_and_free(TRAIN_IMAGES, _i, f);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_IMAGES, "0x00000d03", "0x00000803", "offset 0");

    write_and_free(TRAIN_IMAGES, _i, labels_make(N_TRAIN, N_CLASSES));
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_IMAGES, "0x00000801", "0x00000803");

    write_and_free(TRAIN_IMAGES, _i, images_make(N_TRAIN, 33, 28, 0));
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_IMAGES, "33 x 28", "32 x 32");

    write_and_free(TRAIN_IMAGES, _i, images_make(N_TRAIN - 1, 28, 28, 0));
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "59 images", TRAIN_LABELS, "60 labels");

    write_and_free(TRAIN_IMAGES, _i, images_make(0, 28, 28, 0));
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_IMAGES, "dimension 0 at offset 4 is 0");

    write_and_free(TRAIN_IMAGES, _i, images_make(N_TRAIN, 20, 28, 0));
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "20 x 28", "28 x 28");

    /* Absurd sizes must not ask for memory. */
    f = images_make(N_TRAIN, 28, 28, 0);
    memset(f.b + 4, 0xff, 4);
    write_and_free(TRAIN_IMAGES, _i, f);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_IMAGES, "header promises", "cut short");
    f = images_make(N_TRAIN, 28, 28, 0);
    memset(f.b + 4, 0xff, 12);
    write_and_free(TRAIN_IMAGES, _i, f);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_IMAGES, "beyond any file");
}
END_TEST

START_TEST(test_cut_and_overlong_content)
{
    const struct dataset_config cfg = config("idx");
    const char *names[] = {TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS};
    for (size_t k = 0; k < 4; ++k) {
        write_set(0, 28, 28);
        size_t n;
        uint8_t *all = fixture_read(names[k], &n);
        if (_i) {
            fixture_remove(names[k]); /* else it would go before the gzipped one */
        }
        const size_t header = k % 2 == 0 ? 16 : 8;
        const size_t cuts[] = {0, 1, 3, 4, 7, header - 1, header, header + 1, n - 1};
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; ++i) {
            struct bytes part = {malloc(cuts[i] + 1), cuts[i]};
            memcpy(part.b, all, cuts[i]);
            write_and_free(names[k], _i, part);
            ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, names[k]);
        }
        struct bytes more = {malloc(n + 1), n + 1};
        memcpy(more.b, all, n);
        more.b[n] = 0;
        write_and_free(names[k], _i, more);
        ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, names[k], "overlong");
        mem_free(all);
        if (_i) {
            char gz[64];
            snprintf(gz, sizeof gz, "%s.gz", names[k]);
            fixture_remove(gz);
        }
    }
}
END_TEST

START_TEST(test_damaged_gzip)
{
    struct dataset_config cfg = config("idx");
    cfg.limit = 1; /* the rest is checked as well */
    write_set(1, 28, 28);
    size_t n;
    const char *name = TRAIN_IMAGES ".gz";
    uint8_t *all = fixture_read(name, &n);

    const size_t cuts[] = {2, 9, 10, 11, 18, n / 2, n - 9, n - 8, n - 4, n - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; ++i) {
        fixture_write(name, all, cuts[i]);
        ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, name);
    }
    fixture_write(name, all, n - 1);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "is cut short");

    /* Every single byte of the trailer, and many of the data. */
    for (size_t at = n - 8; at < n; ++at) {
        all[at] ^= 0x40;
        fixture_write(name, all, n);
        all[at] ^= 0x40;
        ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, name, "damaged gzip data near offset");
    }
    for (size_t at = 10; at < n - 8; at += n / 40) {
        all[at] ^= 0x10;
        fixture_write(name, all, n);
        all[at] ^= 0x10;
        ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, name);
    }

    uint8_t *more = malloc(n + 3);
    memcpy(more, all, n);
    memcpy(more + n, "abc", 3);
    fixture_write(name, more, n + 3);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, name, "damaged gzip data");
    free(more);
    mem_free(all);
}
END_TEST

START_TEST(test_missing)
{
    struct dataset_config cfg = config("idx");
    ASSERT_OPEN_FAILS(&cfg, ERR_MISSING, TRAIN_IMAGES "[.gz]", fixture_dir());
    write_set(1, 28, 28);
    fixture_remove(TEST_LABELS ".gz");
    ASSERT_OPEN_FAILS(&cfg, ERR_MISSING, TEST_LABELS "[.gz]", fixture_dir(), "data.path");
    cfg.name = "fashion_mnist";
    cfg.allow_partial = 1;
    ASSERT_OPEN_FAILS(&cfg, ERR_MISSING, TEST_LABELS "[.gz]", "dataset-fashion-mnist");
    cfg.name = "idx";
    cfg.path = "";
    ASSERT_OPEN_FAILS(&cfg, ERR_CONFIG, "data.path");
    cfg.path = NULL;
    ASSERT_OPEN_FAILS(&cfg, ERR_CONFIG, "data.path");
}
END_TEST

START_TEST(test_fashion_mnist)
{
    /* The original's size, black images. */
    const struct {
        const char *images, *labels;
        size_t n;
    } files[2] = {{TRAIN_IMAGES, TRAIN_LABELS, 60000}, {TEST_IMAGES, TEST_LABELS, 10000}};
    for (int i = 0; i < 2; ++i) {
        struct bytes f = {calloc(1, 16 + files[i].n * 784), 0};
        put_header(&f, 0x803, (const size_t[]){files[i].n, 28, 28}, 3);
        f.n += files[i].n * 784;
        write_and_free(files[i].images, 1, f);
        write_and_free(files[i].labels, 1, labels_make(files[i].n, 10));
    }
    struct dataset_config cfg = config("fashion_mnist");
    cfg.limit = 2000;
    cfg.test_limit = 10;
    struct dataset *ds = open_ok(&cfg);
    ck_assert_uint_eq(dataset_size(ds, DATA_TRAIN), 2000);
    ck_assert_uint_eq(ds->memory_bytes, 2010 * 785);
    ck_assert_uint_eq(ds->info.classes, 10);
    dataset_close(ds);
    cfg.limit = 60001;
    ASSERT_OPEN_FAILS(&cfg, ERR_RANGE, "60001", "60000");

    write_set(0, 28, 28);
    cfg.limit = 10;
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_IMAGES, "60 images", "60000", "allow_partial");
    cfg.allow_partial = 1;
    cfg.test_limit = 2;
    ds = open_ok(&cfg);
    assert_image(ds, DATA_TRAIN, 9, 28, 28);
    dataset_close(ds);
    cfg.limit = 61;
    ASSERT_OPEN_FAILS(&cfg, ERR_RANGE, "61", "60");
    cfg.limit = 0;
    write_set(0, 32, 32);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "32 x 32", "expected 28 x 28");
    write_set(0, 28, 28);
    write_and_free(TEST_LABELS, 0, labels_make(N_TEST, 11)); /* 9 labels: 0 .. 8, allowed */
    dataset_close(open_ok(&cfg));
    write_and_free(TRAIN_LABELS, 0, labels_make(N_TRAIN, 11));
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, TRAIN_LABELS, "label 10 of image 10", "0 to 9");
}
END_TEST

START_TEST(test_describe)
{
    struct dataset_config cfg = {.name = "fashion_mnist"};
    struct dataset_info info;
    struct err err = {0};
    ck_assert_int_eq(dataset_describe(&cfg, &info, &err), 0);
    ck_assert(info.height == 32 && info.width == 32 && info.channels == 1 && info.classes == 10);
    ck_assert(info.n_train == 60000 && info.n_test == 10000);
    ck_assert_double_eq_tol((double)info.mean[0], 0.2860, 1e-7);
    ck_assert_double_eq_tol((double)info.std[0], 0.3530, 1e-7);
    cfg.limit = 60001;
    fixture_assert_failed(dataset_describe(&cfg, &info, &err), &err, ERR_RANGE, "60001", NULL);
    cfg = (struct dataset_config){.name = "idx", .limit = 77};
    ck_assert_int_eq(dataset_describe(&cfg, &info, &err), 0);
    ck_assert(info.n_train == 77 && info.n_test == 0 && info.classes == 0);
    cfg.classes = 12;
    ck_assert_int_eq(dataset_describe(&cfg, &info, &err), 0);
    ck_assert_uint_eq(info.classes, 12);
}
END_TEST

START_TEST(test_out_of_memory)
{
    write_set(_i, 28, 28);
    const struct dataset_config cfg = config("idx");
    int rc = ERR_NOMEM;
    for (size_t n = 1; rc != 0; ++n) {
        struct dataset *ds = NULL;
        struct err err = {0};
        mem_fail_after(n);
        rc = dataset_open(&cfg, &ds, &err);
        mem_fail_after(0);
        ck_assert_msg(rc == 0 || rc == ERR_NOMEM, "%s", err.msg);
        ck_assert_uint_lt(n, 200);
        dataset_close(ds);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data/idx");
    TCase *t = tcase_create("idx");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, fixture_begin, fixture_end);
    tcase_add_loop_test(t, test_reads_every_image, 0, 10);
    tcase_add_test(t, test_plain_and_gzip_have_one_checksum);
    tcase_add_test(t, test_gzip_by_content_and_members);
    tcase_add_loop_test(t, test_limits, 0, 2);
    tcase_add_test(t, test_classes);
    tcase_add_loop_test(t, test_bad_headers, 0, 2);
    tcase_add_loop_test(t, test_cut_and_overlong_content, 0, 2);
    tcase_add_test(t, test_damaged_gzip);
    tcase_add_test(t, test_missing);
    tcase_add_test(t, test_fashion_mnist);
    tcase_add_test(t, test_describe);
    tcase_add_loop_test(t, test_out_of_memory, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
