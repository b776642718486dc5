/* The table of data sets, and the made-up images. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "data/dataset.h"
#include "data_fixture.h"

START_TEST(test_table)
{
    size_t n = 0;
    const struct dataset_type *const *types = dataset_types(&n);
    ck_assert_uint_ge(n, 5);
    for (size_t i = 0; i < n; ++i) {
        ck_assert(types[i]->name[0] != '\0' && types[i]->summary[0] != '\0');
        ck_assert(types[i]->default_path != NULL && types[i]->how_to_get[0] != '\0');
        ck_assert(types[i]->describe && types[i]->open && types[i]->read && types[i]->close);
        ck_assert_ptr_eq(dataset_find(types[i]->name), types[i]);
        struct dataset_config cfg = {.name = types[i]->name};
        struct dataset_info info;
        struct err err = {0};
        ck_assert_msg(dataset_describe(&cfg, &info, &err) == 0, "%s", err.msg);
        ck_assert(info.height > 0 && info.width > 0 && info.channels > 0 && info.channels <= 4);
        for (size_t c = 0; c < info.channels; ++c) {
            ck_assert(info.mean[c] > 0 && info.mean[c] < 1 && info.std[c] > 0 && info.std[c] < 1);
        }
        /* Whatever needs files says where it looked, and how to get them. */
        cfg.path = fixture_dir();
        struct dataset *ds = NULL;
        const int rc = dataset_open(&cfg, &ds, &err);
        if (rc == 0) {
            ck_assert_str_eq(types[i]->default_path, "");
            dataset_close(ds);
        } else {
            fixture_assert_failed(rc, &err, ERR_MISSING, fixture_dir(), types[i]->how_to_get, NULL);
        }
    }
    ck_assert_ptr_null(dataset_find("cifar"));
    ck_assert_ptr_null(dataset_find(NULL));
    dataset_close(NULL);
}
END_TEST

START_TEST(test_unknown_name)
{
    struct dataset_config cfg = {.name = "cifar11"};
    struct dataset_info info;
    struct dataset *ds = NULL;
    struct err err = {0};
    fixture_assert_failed(dataset_describe(&cfg, &info, &err), &err, ERR_CONFIG, "'cifar11'",
                          "did you mean", "cifar10, cifar100, fashion_mnist, idx, synthetic", NULL);
    err = (struct err){0};
    fixture_assert_failed(dataset_open(&cfg, &ds, &err), &err, ERR_CONFIG, "'cifar11'", NULL);
    cfg.name = "something quite different";
    fixture_assert_failed(dataset_open(&cfg, &ds, &err), &err, ERR_CONFIG, "synthetic", NULL);
    ck_assert_ptr_null(strstr(err.msg, "did you mean"));
}
END_TEST

static struct dataset *synthetic_open(struct dataset_config cfg)
{
    cfg.name = "synthetic";
    struct dataset *ds = NULL;
    struct err err = {0};
    ck_assert_msg(dataset_open(&cfg, &ds, &err) == 0, "%s", err.msg);
    return ds;
}

static uint32_t image(const struct dataset *ds, enum data_split split, size_t index,
                      uint8_t *pixels)
{
    uint32_t label = 0;
    struct err err = {0};
    ck_assert_int_eq(dataset_read(ds, split, index, pixels, &label, &err), 0);
    ck_assert_uint_lt(label, ds->info.classes);
    return label;
}

START_TEST(test_synthetic_sizes)
{
    struct dataset *ds = synthetic_open((struct dataset_config){.seed = 1});
    ck_assert(ds->info.height == 32 && ds->info.width == 32 && ds->info.channels == 3);
    ck_assert(ds->info.classes == 10 && ds->info.n_train == 2048 && ds->info.n_test == 512);
    dataset_close(ds);

    const struct dataset_config cfgs[] = {
        {.size = 1, .channels = 1, .classes = 1, .limit = 1, .test_limit = 1},
        {.size = 5, .channels = 4, .classes = 1000, .limit = 100000, .test_limit = 5000},
        {.size = 224, .channels = 3, .classes = 3, .limit = 4, .test_limit = 2},
    };
    for (size_t i = 0; i < sizeof cfgs / sizeof cfgs[0]; ++i) {
        ds = synthetic_open(cfgs[i]);
        ck_assert_uint_eq(dataset_size(ds, DATA_TRAIN), cfgs[i].limit);
        ck_assert_uint_eq(dataset_size(ds, DATA_TEST), cfgs[i].test_limit);
        const size_t n = cfgs[i].size * cfgs[i].size * cfgs[i].channels;
        uint8_t *pixels = malloc(n); /* its very size: overruns are for the sanitizer */
        ck_assert_uint_eq(image(ds, DATA_TRAIN, cfgs[i].limit - 1, pixels),
                          (cfgs[i].limit - 1) % cfgs[i].classes);
        image(ds, DATA_TEST, cfgs[i].test_limit - 1, pixels);
        free(pixels);
        dataset_close(ds);
    }

    const struct {
        struct dataset_config cfg;
        const char *key;
    } bad[] = {
        {{.name = "synthetic", .size = 1025}, "data.size is 1025"},
        {{.name = "synthetic", .channels = 5}, "data.channels is 5"},
        {{.name = "synthetic", .classes = 65537}, "model.classes is 65537"},
        {{.name = "cifar10", .size = 64}, "data.size is 64, but the data set cifar10 has 32"},
        {{.name = "idx", .path = ".", .channels = 3}, "data.channels is 3, but"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        struct dataset *none = NULL;
        struct err err = {0};
        fixture_assert_failed(dataset_open(&bad[i].cfg, &none, &err), &err, ERR_CONFIG, bad[i].key,
                              NULL);
    }

    /* The size that they have is no mistake. */
    const struct dataset_config same = {.name = "cifar10", .size = 32, .channels = 3};
    struct dataset_info info;
    struct err err = {0};
    ck_assert_msg(dataset_describe(&same, &info, &err) == 0, "%s", err.msg);
}
END_TEST

START_TEST(test_synthetic_is_a_function_of_seed_split_index)
{
    enum { N = 32 * 32 * 3 };
    uint8_t a[N], b[N];
    struct dataset *one = synthetic_open((struct dataset_config){.seed = 1});
    struct dataset *same = synthetic_open((struct dataset_config){.seed = 1, .limit = 99});
    struct dataset *other = synthetic_open((struct dataset_config){.seed = 2});
    for (size_t i = 0; i < 20; ++i) {
        image(one, DATA_TRAIN, i, a);
        image(same, DATA_TRAIN, 19 - i, b); /* another order of calls */
        image(same, DATA_TRAIN, i, b);
        ck_assert_mem_eq(a, b, N);
        image(one, DATA_TEST, i, b);
        ck_assert_mem_ne(a, b, N);
        image(one, DATA_TRAIN, i + 10, b); /* same class */
        ck_assert_mem_ne(a, b, N);
        image(other, DATA_TRAIN, i, b);
        ck_assert_mem_ne(a, b, N);
    }
    dataset_close(one);
    dataset_close(same);
    dataset_close(other);
}
END_TEST

/* The part of test images that are nearest to their own class's mean training image. */
static double nearest_mean(const struct dataset *ds)
{
    const struct dataset_info *info = &ds->info;
    const size_t n = info->height * info->width * info->channels;
    double *mean = calloc(info->classes * n, sizeof *mean);
    size_t *count = calloc(info->classes, sizeof *count);
    uint8_t *pixels = malloc(n);
    for (size_t i = 0; i < info->n_train; ++i) {
        const uint32_t label = image(ds, DATA_TRAIN, i, pixels);
        ++count[label];
        for (size_t j = 0; j < n; ++j) {
            mean[label * n + j] += pixels[j];
        }
    }
    size_t right = 0;
    for (size_t i = 0; i < info->n_test; ++i) {
        const uint32_t label = image(ds, DATA_TEST, i, pixels);
        double best = 1e300;
        uint32_t guess = 0;
        for (uint32_t k = 0; k < info->classes; ++k) {
            double d = 0;
            for (size_t j = 0; j < n; ++j) {
                const double e = pixels[j] - mean[k * n + j] / (double)count[k];
                d += e * e;
            }
            if (d < best) {
                best = d;
                guess = k;
            }
        }
        right += guess == label;
    }
    free(mean);
    free(count);
    free(pixels);
    return (double)right / (double)info->n_test;
}

START_TEST(test_synthetic_can_be_learnt_but_not_trivially)
{
    const struct {
        struct dataset_config cfg;
        double low, high;
    } cases[] = {
        {{.seed = 0}, 0.6, 0.95},
        {{.seed = 7, .size = 8}, 0.6, 0.95},
        {{.seed = 3, .size = 16, .channels = 1}, 0.3, 0.9},
        {{.seed = 4, .size = 16, .classes = 100}, 0.2, 0.8},
        {{.seed = 5, .size = 16, .classes = 2}, 0.7, 0.998},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        struct dataset *ds = synthetic_open(cases[i].cfg);
        const double right = nearest_mean(ds);
        ck_assert_msg(right >= cases[i].low && right <= cases[i].high, "case %zu: %.3f", i, right);
        dataset_close(ds);
    }
}
END_TEST

/* The mean and deviation that normalisation uses are about those of the pixels. */
START_TEST(test_synthetic_statistics)
{
    enum { N = 32 * 32 * 3, IMAGES = 200 };
    uint8_t pixels[N];
    struct dataset *ds = synthetic_open((struct dataset_config){.seed = 11});
    double sum = 0, squares = 0;
    for (size_t i = 0; i < IMAGES; ++i) {
        image(ds, DATA_TRAIN, i, pixels);
        for (size_t j = 0; j < N; ++j) {
            sum += pixels[j] / 255.0;
            squares += pixels[j] / 255.0 * (pixels[j] / 255.0);
        }
    }
    const double mean = sum / (N * IMAGES), variance = squares / (N * IMAGES) - mean * mean;
    ck_assert_double_eq_tol(mean, (double)ds->info.mean[0], 0.03);
    ck_assert_double_eq_tol(variance, 0.2 * 0.2, 0.012);
    dataset_close(ds);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data/dataset");
    TCase *t = tcase_create("dataset");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, fixture_begin, fixture_end);
    tcase_add_test(t, test_table);
    tcase_add_test(t, test_unknown_name);
    tcase_add_test(t, test_synthetic_sizes);
    tcase_add_test(t, test_synthetic_is_a_function_of_seed_split_index);
    tcase_add_test(t, test_synthetic_can_be_learnt_but_not_trivially);
    tcase_add_test(t, test_synthetic_statistics);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
