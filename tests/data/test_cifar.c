/* CIFAR-10 and CIFAR-100 files, right and wrong. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/mem.h"
#include "data/dataset.h"
#include "data_fixture.h"

enum { PIXELS = 3072, REC10 = 1 + PIXELS, REC100 = 2 + PIXELS };

/* `first` numbers the records through all files, so that each image is different. */
static uint8_t *records_make(size_t first, size_t n, size_t n_label_bytes)
{
    const size_t rec = n_label_bytes + PIXELS;
    uint8_t *bytes = malloc(n * rec);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < n; ++i) {
        uint8_t *r = bytes + i * rec;
        r[0] = (uint8_t)((first + i) % (n_label_bytes == 1 ? 10 : 20));
        if (n_label_bytes == 2) {
            r[1] = (uint8_t)((first + i) * 7 % 100);
        }
        for (size_t j = 0; j < PIXELS; ++j) {
            r[n_label_bytes + j] = fixture_byte((first + i) * PIXELS + j);
        }
    }
    return bytes;
}

static void write_records(const char *name, size_t first, size_t n, size_t n_label_bytes)
{
    uint8_t *bytes = records_make(first, n, n_label_bytes);
    fixture_write(name, bytes, n * (n_label_bytes + PIXELS));
    free(bytes);
}

/* Five training files of 3, 1, 4, 1, 5 records (0 .. 13) and 3 test records (100 .. 102). */
static void write_cifar10(void)
{
    write_records("data_batch_1.bin", 0, 3, 1);
    write_records("data_batch_2.bin", 3, 1, 1);
    write_records("data_batch_3.bin", 4, 4, 1);
    write_records("data_batch_4.bin", 8, 1, 1);
    write_records("data_batch_5.bin", 9, 5, 1);
    write_records("test_batch.bin", 100, 3, 1);
}

static struct dataset_config config(const char *name)
{
    return (struct dataset_config){.name = name, .path = fixture_dir(), .allow_partial = 1};
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

static void assert_image(const struct dataset *ds, enum data_split split, size_t index,
                         size_t record, uint32_t label)
{
    uint8_t pixels[PIXELS];
    uint32_t found = 999;
    struct err err = {0};
    ck_assert_msg(dataset_read(ds, split, index, pixels, &found, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(found, label);
    for (size_t y = 0; y < 32; ++y) {
        for (size_t x = 0; x < 32; ++x) {
            for (size_t c = 0; c < 3; ++c) {
                const uint8_t want = fixture_byte(record * PIXELS + (c * 32 + y) * 32 + x);
                ck_assert_uint_eq(pixels[(y * 32 + x) * 3 + c], want);
            }
        }
    }
}

START_TEST(test_cifar10_reads_every_image)
{
    write_cifar10();
    const struct dataset_config cfg = config("cifar10");
    struct dataset *ds = open_ok(&cfg);
    ck_assert_uint_eq(dataset_size(ds, DATA_TRAIN), 14);
    ck_assert_uint_eq(dataset_size(ds, DATA_TEST), 3);
    ck_assert_uint_eq(ds->info.classes, 10);
    ck_assert_uint_eq(ds->memory_bytes, 0);
    for (size_t i = 0; i < 14; ++i) {
        assert_image(ds, DATA_TRAIN, 13 - i, 13 - i, (uint32_t)((13 - i) % 10));
    }
    for (size_t i = 0; i < 3; ++i) {
        assert_image(ds, DATA_TEST, i, 100 + i, (uint32_t)i);
    }
    uint8_t *all = records_make(0, 14, 1);
    ck_assert_uint_eq(ds->crc[DATA_TRAIN], crc32(0, all, 14 * REC10));
    free(all);
    uint8_t pixels[PIXELS];
    uint32_t label;
    struct err err = {0};
    fixture_assert_failed(dataset_read(ds, DATA_TEST, 3, pixels, &label, &err), &err, ERR_RANGE,
                          "3", NULL);
    dataset_close(ds);
}
END_TEST

START_TEST(test_cifar100_takes_the_fine_label)
{
    write_records("train.bin", 0, 70, 2); /* more than one chunk of the check */
    write_records("test.bin", 200, 2, 2);
    const struct dataset_config cfg = config("cifar100");
    struct dataset *ds = open_ok(&cfg);
    ck_assert_uint_eq(ds->info.classes, 100);
    assert_image(ds, DATA_TRAIN, 0, 0, 0);
    assert_image(ds, DATA_TRAIN, 69, 69, 69 * 7 % 100);
    assert_image(ds, DATA_TEST, 1, 201, 201 * 7 % 100);
    uint8_t *all = records_make(0, 70, 2);
    ck_assert_uint_eq(ds->crc[DATA_TRAIN], crc32(0, all, 70 * REC100));
    free(all);
    dataset_close(ds);
}
END_TEST

START_TEST(test_limits)
{
    write_cifar10();
    struct dataset_config cfg = config("cifar10");
    cfg.limit = 4;
    cfg.test_limit = 3;
    struct dataset *ds = open_ok(&cfg);
    ck_assert_uint_eq(dataset_size(ds, DATA_TRAIN), 4);
    ck_assert_uint_eq(dataset_size(ds, DATA_TEST), 3);
    assert_image(ds, DATA_TRAIN, 3, 3, 3);
    uint8_t *all = records_make(0, 14, 1);
    ck_assert_uint_eq(ds->crc[DATA_TRAIN], crc32(0, all, 14 * REC10)); /* whatever the limit */
    free(all);
    dataset_close(ds);
    cfg.limit = 15;
    ASSERT_OPEN_FAILS(&cfg, ERR_RANGE, "data.limit is 15", "has 14 images");
    cfg.limit = 14;
    cfg.test_limit = 4;
    ASSERT_OPEN_FAILS(&cfg, ERR_RANGE, "data.test_limit is 4", "has 3 images");
}
END_TEST

START_TEST(test_sizes_that_are_no_whole_records)
{
    const struct dataset_config cfg = config("cifar10");
    const size_t sizes[] = {1,         PIXELS,        REC10 - 1,     REC10 + 1,
                            REC10 * 2, REC10 * 3 - 1, REC10 * 3 + 1, REC10 * 5 - PIXELS};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
        write_cifar10();
        fixture_write_hole("data_batch_3.bin", sizes[i]);
        if (sizes[i] % REC10 == 0) {
            dataset_close(open_ok(&cfg));
            continue;
        }
        char found[32];
        snprintf(found, sizeof found, "has %zu bytes", sizes[i]);
        ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "data_batch_3.bin", found, "record size 3073");
    }
    write_cifar10();
    fixture_write("test_batch.bin", "", 0);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "test_batch.bin is empty");
}
END_TEST

START_TEST(test_label_out_of_range)
{
    write_cifar10();
    uint8_t *bytes = records_make(4, 4, 1);
    bytes[2 * REC10] = 10;
    fixture_write("data_batch_3.bin", bytes, 4 * REC10);
    free(bytes);
    struct dataset_config cfg = config("cifar10");
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "data_batch_3.bin", "label 10", "offset 6146", "0 to 9");

    bytes = records_make(0, 70, 2);
    bytes[66 * REC100 + 1] = 255;
    fixture_write("train.bin", bytes, 70 * REC100);
    write_records("test.bin", 0, 1, 2);
    cfg.name = "cifar100";
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "train.bin", "fine label 255", "offset 202885", "0 to 99");
    bytes[66 * REC100 + 1] = 99;
    bytes[0] = 20;
    fixture_write("train.bin", bytes, 70 * REC100);
    free(bytes);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "coarse label 20", "offset 0", "0 to 19");
}
END_TEST

START_TEST(test_label_changed_after_opening)
{
    write_cifar10();
    const struct dataset_config cfg = config("cifar10");
    struct dataset *ds = open_ok(&cfg);
    uint8_t *bytes = records_make(0, 3, 1);
    bytes[REC10] = 77;
    fixture_write("data_batch_1.bin", bytes, 3 * REC10);
    free(bytes);
    uint8_t pixels[PIXELS];
    uint32_t label;
    struct err err = {0};
    fixture_assert_failed(dataset_read(ds, DATA_TRAIN, 1, pixels, &label, &err), &err, ERR_FORMAT,
                          "label 77", "offset 3073", NULL);
    fixture_truncate("data_batch_1.bin", REC10 + 5);
    err = (struct err){0};
    fixture_assert_failed(dataset_read(ds, DATA_TRAIN, 1, pixels, &label, &err), &err, ERR_FORMAT,
                          "data_batch_1.bin", NULL);
    dataset_close(ds);
}
END_TEST

START_TEST(test_completeness)
{
    /* The original set's size, made of holes: black images of class 0. */
    char name[] = "data_batch_1.bin";
    for (int i = 1; i <= 5; ++i) {
        name[11] = (char)('0' + i);
        fixture_write_hole(name, (size_t)10000 * REC10);
    }
    fixture_write_hole("test_batch.bin", (size_t)10000 * REC10);
    struct dataset_config cfg = config("cifar10");
    cfg.allow_partial = 0;
    struct dataset *ds = open_ok(&cfg);
    ck_assert_uint_eq(dataset_size(ds, DATA_TRAIN), 50000);
    ck_assert_uint_eq(dataset_size(ds, DATA_TEST), 10000);
    dataset_close(ds);
    cfg.limit = 50001;
    ASSERT_OPEN_FAILS(&cfg, ERR_RANGE, "50001", "50000");
    cfg.limit = 100; /* a limit does not excuse a damaged file */

    fixture_write_hole("data_batch_4.bin", (size_t)9999 * REC10);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "data_batch_4.bin", "49999", "50000", "allow_partial");
    fixture_write_hole("data_batch_4.bin", (size_t)10001 * REC10);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "data_batch_4.bin", "50001", "50000", "allow_partial");
    fixture_write_hole("data_batch_4.bin", (size_t)10000 * REC10);
    fixture_write_hole("test_batch.bin", (size_t)1 * REC10);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "test_batch.bin", "has 1 images", "10000");
    fixture_remove("data_batch_5.bin");
    ASSERT_OPEN_FAILS(&cfg, ERR_MISSING, "data_batch_5.bin", fixture_dir(),
                      "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz");
    cfg.allow_partial = 1;
    ds = open_ok(&cfg);
    ck_assert_uint_eq(dataset_size(ds, DATA_TRAIN), 100);
    dataset_close(ds);
}
END_TEST

START_TEST(test_folders_that_are_none)
{
    struct dataset_config cfg = config("cifar100");
    ASSERT_OPEN_FAILS(&cfg, ERR_MISSING, "train.bin", fixture_dir(),
                      "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz");
    write_records("train.bin", 0, 1, 2);
    ASSERT_OPEN_FAILS(&cfg, ERR_MISSING, "test.bin", fixture_dir());

    char path[4200];
    snprintf(path, sizeof path, "%s/train.bin", fixture_dir());
    cfg.path = path;
    ASSERT_OPEN_FAILS(&cfg, ERR_MISSING, "is a file", path, "cifar-100-binary.tar.gz");
    snprintf(path, sizeof path, "%s/nowhere", fixture_dir());
    ASSERT_OPEN_FAILS(&cfg, ERR_MISSING, path, "cifar-100-binary.tar.gz", "data.path");
    snprintf(path, sizeof path, "%s/train.bin/nowhere", fixture_dir());
    ASSERT_OPEN_FAILS(&cfg, ERR_MISSING, path);
}
END_TEST

START_TEST(test_files_that_are_none)
{
    const struct dataset_config cfg = config("cifar100");
    write_records("test.bin", 0, 1, 2);
    char path[4200];
    snprintf(path, sizeof path, "%s/train.bin", fixture_dir());
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "train.bin is not a regular file");
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* must not wait for a writer */
    ASSERT_OPEN_FAILS(&cfg, ERR_FORMAT, "train.bin is not a regular file");
    fixture_remove("train.bin");
    if (geteuid() != 0) { /* nothing is unreadable for root */
        write_records("train.bin", 0, 1, 2);
        ck_assert_int_eq(chmod(path, 0), 0);
        ASSERT_OPEN_FAILS(&cfg, ERR_IO, "train.bin", "ermission");
        ck_assert_int_eq(chmod(path, 0600), 0);
        ck_assert_int_eq(chmod(fixture_dir(), 0), 0);
        ASSERT_OPEN_FAILS(&cfg, ERR_IO, "train.bin", "ermission");
        ck_assert_int_eq(chmod(fixture_dir(), 0700), 0);
    }
}
END_TEST

START_TEST(test_describe)
{
    struct dataset_config cfg = {.name = "cifar100", .path = "/nonexistent"};
    struct dataset_info info;
    struct err err = {0};
    ck_assert_int_eq(dataset_describe(&cfg, &info, &err), 0);
    ck_assert(info.height == 32 && info.width == 32 && info.channels == 3 && info.classes == 100);
    ck_assert(info.n_train == 50000 && info.n_test == 10000);
    ck_assert_double_eq_tol((double)info.mean[0], 125.3 / 255, 1e-7);
    ck_assert_double_eq_tol((double)info.std[2], 66.7 / 255, 1e-7);
    cfg.name = "cifar10";
    cfg.limit = 300;
    ck_assert_int_eq(dataset_describe(&cfg, &info, &err), 0);
    ck_assert(info.classes == 10 && info.n_train == 300);
    ck_assert_double_eq_tol((double)info.mean[1], 0.4822, 1e-7);
    cfg.test_limit = 10001;
    fixture_assert_failed(dataset_describe(&cfg, &info, &err), &err, ERR_RANGE, "10001", "10000",
                          NULL);
    ck_assert(info.n_train == 300);
    cfg.allow_partial = 1; /* then only opening can tell */
    ck_assert_int_eq(dataset_describe(&cfg, &info, &err), 0);
    ck_assert_uint_eq(info.n_test, 10001);
}
END_TEST

START_TEST(test_out_of_memory)
{
    write_cifar10();
    const struct dataset_config cfg = config("cifar10");
    int rc = ERR_NOMEM;
    for (size_t n = 1; rc != 0; ++n) {
        struct dataset *ds = NULL;
        struct err err = {0};
        mem_fail_after(n);
        rc = dataset_open(&cfg, &ds, &err);
        mem_fail_after(0);
        ck_assert_msg(rc == 0 || rc == ERR_NOMEM, "%s", err.msg);
        ck_assert_uint_lt(n, 100);
        dataset_close(ds);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data/cifar");
    TCase *t = tcase_create("cifar");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, fixture_begin, fixture_end);
    tcase_add_test(t, test_cifar10_reads_every_image);
    tcase_add_test(t, test_cifar100_takes_the_fine_label);
    tcase_add_test(t, test_limits);
    tcase_add_test(t, test_sizes_that_are_no_whole_records);
    tcase_add_test(t, test_label_out_of_range);
    tcase_add_test(t, test_label_changed_after_opening);
    tcase_add_test(t, test_completeness);
    tcase_add_test(t, test_folders_that_are_none);
    tcase_add_test(t, test_files_that_are_none);
    tcase_add_test(t, test_describe);
    tcase_add_test(t, test_out_of_memory);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
