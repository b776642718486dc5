/* .npy files: round trips, every readable type, and files that lie. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "scratch.h"
#include "tensor/npy.h"
#include "test_tensor.h"

static struct scratch scratch;

static void set_up(void)
{
    scratch_make(&scratch);
}

static void tear_down(void)
{
    scratch_remove(&scratch);
}

/* Makes a version-1 (or wider) file of a header text, padded with one newline, and data. */
static size_t make_file(unsigned char *out, int major, const char *header, const void *data,
                        size_t data_bytes)
{
    const size_t len = strlen(header);
    const size_t length_bytes = major == 1 ? 2 : 4;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)major;
    out[7] = 0;
    for (size_t i = 0; i < length_bytes; i++) {
        out[8 + i] = (unsigned char)((len >> (8 * i)) & 255);
    }
    memcpy(out + 8 + length_bytes, header, len);
    if (data_bytes > 0) {
        memcpy(out + 8 + length_bytes + len, data, data_bytes);
    }
    return 8 + length_bytes + len + data_bytes;
}

static int read_made(int major, const char *header, const void *data, size_t data_bytes,
                     struct npy *a, struct err *err)
{
    static unsigned char file[70000];
    const size_t n = make_file(file, major, header, data, data_bytes);
    return npy_read(scratch_write(&scratch, "made.npy", file, n), a, err);
}

static const float six[6] = {0.0f, -1.5f, 3.25f, 1e-30f, -INFINITY, 7.0f};
static const char six_header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";

START_TEST(round_trip_with_any_number_of_dims)
{
    struct err err = {0};
    const size_t dims[NPY_MAX_DIMS] = {2, 3, 1, 1, 1, 1, 1, 1};
    for (size_t n_dims = 0; n_dims <= NPY_MAX_DIMS; n_dims++) {
        const char *path = scratch_path(&scratch, "x.npy");
        ck_assert_msg(npy_write(path, six, n_dims, dims, &err) == 0, "%s", err.msg);
        struct npy a = {0};
        ck_assert_msg(npy_read(path, &a, &err) == 0, "%s", err.msg);
        ck_assert_uint_eq(a.n_dims, n_dims);
        ck_assert_mem_eq(a.dims, dims, n_dims * sizeof dims[0]);
        const size_t n = n_dims == 0 ? 1 : n_dims == 1 ? 2 : 6;
        ck_assert_mem_eq(a.data, six, n * sizeof six[0]);
        npy_fini(&a);
        ck_assert_ptr_null(a.data);
        npy_fini(&a);
    }
    ck_assert_int_eq(npy_write(scratch.path, six, NPY_MAX_DIMS + 1, dims, &err), ERR_SHAPE);
}
END_TEST

START_TEST(written_bytes_are_numpys)
{
    struct err err = {0};
    const size_t dims[] = {2, 3};
    ck_assert_int_eq(npy_write(scratch_path(&scratch, "x.npy"), six, 2, dims, &err), 0);
    char *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(file_read_all(scratch.path, 1000, &data, &size, &err), 0);
    ck_assert_uint_eq(size, 128 + sizeof six); /* header padded to a multiple of 64 */
    ck_assert_mem_eq(data, "\x93NUMPY\x01\x00\x76\x00", 10);
    ck_assert(strncmp(data + 10, six_header, sizeof six_header - 2) == 0);
    ck_assert_int_eq(data[127], '\n');
    mem_free(data);
}
END_TEST

START_TEST(an_empty_array_is_an_array)
{
    struct err err = {0};
    const size_t dims[] = {0, 3};
    struct npy a = {0};
    ck_assert_int_eq(npy_write(scratch_path(&scratch, "x.npy"), NULL, 2, dims, &err), 0);
    ck_assert_int_eq(npy_read(scratch.path, &a, &err), 0);
    ck_assert_uint_eq(a.n_dims, 2);
    ck_assert_uint_eq(a.dims[0], 0);
    npy_fini(&a);
}
END_TEST

START_TEST(all_types_and_byte_orders)
{
    static const struct {
        const char *descr;
        unsigned char bytes[16];
        size_t n_bytes;
        float values[2];
    } cases[] = {
        {"<f4", {0, 0, 0xc0, 0x3f, 0, 0, 0x80, 0xbf}, 8, {1.5f, -1.0f}},
        {">f4", {0x3f, 0xc0, 0, 0, 0xbf, 0x80, 0, 0}, 8, {1.5f, -1.0f}},
        {"<f8", {0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0xf0, 0xbf}, 16, {1.5f, -1.0f}},
        {">f8", {0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0}, 16, {1.5f, -1.0f}},
        {"|u1", {255, 3}, 2, {255.0f, 3.0f}},
        {"|i1", {255, 128}, 2, {-1.0f, -128.0f}},
        {"<i2", {0xfe, 0xff, 2, 1}, 4, {-2.0f, 258.0f}},
        {">i2", {0xff, 0xfe, 1, 2}, 4, {-2.0f, 258.0f}},
        {"<u2", {0xfe, 0xff, 2, 1}, 4, {65534.0f, 258.0f}},
        {"<i4", {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x80}, 8, {-1.0f, -2147483648.0f}},
        {"<u4", {0xff, 0xff, 0, 0, 0, 0, 0, 0x80}, 8, {65535.0f, 2147483648.0f}},
        {"<i8",
         {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0x80},
         16,
         {-1.0f, -0x1p63f}},
        {"<u8", {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}, 16, {1.0f, 0x1p63f}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char header[200];
        snprintf(header, sizeof header, "{'shape': (2,), 'fortran_order': False, 'descr': '%s'}",
                 cases[i].descr);
        for (int major = 1; major <= 3; major++) {
            struct err err = {0};
            struct npy a = {0};
            const int code = read_made(major, header, cases[i].bytes, cases[i].n_bytes, &a, &err);
            ck_assert_msg(code == 0, "%s: %s", cases[i].descr, err.msg);
            ck_assert_msg(a.data[0] == cases[i].values[0] && a.data[1] == cases[i].values[1],
                          "%s: %g %g", cases[i].descr, (double)a.data[0], (double)a.data[1]);
            npy_fini(&a);
        }
    }
}
END_TEST

START_TEST(many_elements_of_a_narrow_type)
{
    struct err err = {0};
    struct npy a = {0};
    static unsigned char bytes[10000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i % 251);
    }
    const char *header = "{'descr': '|u1', 'fortran_order': False, 'shape': (100, 100)}";
    ck_assert_int_eq(read_made(1, header, bytes, sizeof bytes, &a, &err), 0);
    for (size_t i = 0; i < sizeof bytes; i++) {
        ck_assert(a.data[i] == (float)bytes[i]);
    }
    npy_fini(&a);
}
END_TEST

/* Headers that are refused, with a word that the message must have. */
static const struct {
    const char *header, *word;
} bad_headers[] = {
    {"", "'{'"},
    {"[]", "'{'"},
    {"{", "quotes"},
    {"{}", "all of"},
    {"{'descr'", "':'"},
    {"{'descr': 4}", "quotes"},
    {"{'descr: '<f4'}", "':'"},
    {"{'descr': '<f4', 'fortran_order': False}", "all of"},
    {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", "once"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}", "once"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x", "end"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)", "'}'"},
    {"{'descr': '<f4' 'fortran_order': False, 'shape': (2, 3)}", "'}'"},
    {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}", "True or False"},
    {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", "Fortran order"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': 6}", "'('"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}", "','"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3)}", "a size"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", "',' or ')'"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,,3)}", "a size"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", "8 dimensions"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3)}", "fits"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "fit"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}", "fit"},
    {"{'descr': '|u1', 'fortran_order': False, 'shape': (9223372036854775807,)}", "fit"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}", "4000000000000"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4)}", "expected 32 bytes"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (5,)}", "found 24"},
    {"{'descr': '<f2', 'fortran_order': False, 'shape': (12,)}", "'<f2'"},
    {"{'descr': '|O', 'fortran_order': False, 'shape': (6,)}", "'|O'"},
    {"{'descr': '<f4x', 'fortran_order': False, 'shape': (6,)}", "'<f4x'"},
    {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}", "quotes"},
    {"{'descr': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}", "short"},
};

START_TEST(bad_header_is_a_format_error)
{
    struct err err = {0};
    struct npy a = {.n_dims = 77};
    ck_assert_int_eq(read_made(1, bad_headers[_i].header, six, sizeof six, &a, &err), ERR_FORMAT);
    ck_assert_msg(strstr(err.msg, bad_headers[_i].word) != NULL, "%s", err.msg);
    ck_assert_ptr_nonnull(strstr(err.msg, "made.npy"));
    ck_assert_uint_eq(a.n_dims, 77); /* outputs are written only on success */
}
END_TEST

START_TEST(cut_at_every_byte)
{
    unsigned char file[256];
    const size_t n = make_file(file, 1, six_header, six, sizeof six);
    struct err err = {0};
    struct npy a = {0};
    for (size_t len = 0; len < n; len++) {
        ck_assert_int_eq(npy_read(scratch_write(&scratch, "x", file, len), &a, &err), ERR_FORMAT);
        ck_assert_ptr_null(a.data);
    }
    ck_assert_int_eq(npy_read(scratch_write(&scratch, "x", file, n), &a, &err), 0);
    npy_fini(&a);
    file[n] = 0;
    ck_assert_int_eq(npy_read(scratch_write(&scratch, "x", file, n + 1), &a, &err), ERR_FORMAT);
}
END_TEST

START_TEST(every_byte_changed)
{
    /* Any single wrong byte is either refused or yields an array of the right size. */
    unsigned char file[256];
    const size_t n = make_file(file, 1, six_header, six, sizeof six);
    for (size_t at = 0; at < n - sizeof six; at++) {
        for (int flip = 1; flip < 256; flip *= 2) {
            struct err err = {0};
            struct npy a = {0};
            file[at] ^= (unsigned char)flip;
            const int code = npy_read(scratch_write(&scratch, "x", file, n), &a, &err);
            ck_assert(code == 0 || code == ERR_FORMAT);
            ck_assert_int_eq(code == 0, a.data != NULL);
            npy_fini(&a);
            file[at] ^= (unsigned char)flip;
        }
    }
}
END_TEST

START_TEST(headers_that_lie_about_their_length)
{
    struct err err = {0};
    struct npy a = {0};
    unsigned char file[256];
    size_t n = make_file(file, 2, six_header, six, sizeof six);
    memset(file + 8, 0xff, 4);
    ck_assert_int_eq(npy_read(scratch_write(&scratch, "x", file, n), &a, &err), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.msg, "4294967295"));
    n = make_file(file, 4, six_header, six, sizeof six);
    ck_assert_int_eq(npy_read(scratch_write(&scratch, "x", file, n), &a, &err), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.msg, "version 4.0"));
}
END_TEST

START_TEST(missing_and_unreadable)
{
    struct err err = {0};
    struct npy a = {0};
    ck_assert_int_eq(npy_read(scratch_path(&scratch, "none"), &a, &err), ERR_MISSING);
    ck_assert_int_eq(npy_read(scratch.dir, &a, &err), ERR_IO);
    ck_assert_int_eq(npy_read("/dev/null", &a, &err), ERR_FORMAT);
    ck_assert_int_eq(npy_read(scratch_write(&scratch, "x", "PK\3\4 a zip file", 15), &a, &err),
                     ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.msg, "no npy file"));
}
END_TEST

START_TEST(failing_allocations_leave_nothing)
{
    struct mem_count before, after;
    unsigned char file[256];
    const size_t n = make_file(file, 1, six_header, six, sizeof six);
    scratch_write(&scratch, "x", file, n);
    mem_count_get(&before);
    int code = ERR_NOMEM;
    for (size_t k = 1; code != 0; k++) {
        struct err err = {0};
        struct npy a = {0};
        ck_assert_uint_lt(k, 10);
        mem_fail_after(k);
        code = npy_read(scratch.path, &a, &err);
        ck_assert(code == 0 || code == ERR_NOMEM);
        npy_fini(&a);
        mem_count_get(&after);
        ck_assert_mem_eq(after.now_bytes, before.now_bytes, sizeof before.now_bytes);
    }
    mem_fail_after(0);
}
END_TEST

START_TEST(full_disk)
{
    struct err err = {0};
    const size_t dims[] = {2, 3};
    if (file_exists("/dev/full")) {
        ck_assert_int_eq(npy_write("/dev/full", six, 2, dims, &err), ERR_IO);
        ck_assert_ptr_nonnull(strstr(err.msg, "No space left on device"));
    }
    ck_assert_int_eq(npy_write(scratch_path(&scratch, "no/x"), six, 2, dims, &err), ERR_IO);
}
END_TEST

Suite *npy_suite(void)
{
    Suite *s = suite_create("npy");
    TCase *t = tcase_create("npy");
    tcase_set_timeout(t, 60); /* of wall time, on a machine that may be busy */
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, round_trip_with_any_number_of_dims);
    tcase_add_test(t, written_bytes_are_numpys);
    tcase_add_test(t, an_empty_array_is_an_array);
    tcase_add_test(t, all_types_and_byte_orders);
    tcase_add_test(t, many_elements_of_a_narrow_type);
    tcase_add_loop_test(t, bad_header_is_a_format_error, 0,
                        (int)(sizeof bad_headers / sizeof bad_headers[0]));
    tcase_add_test(t, cut_at_every_byte);
    tcase_add_test(t, every_byte_changed);
    tcase_add_test(t, headers_that_lie_about_their_length);
    tcase_add_test(t, missing_and_unreadable);
    tcase_add_test(t, failing_allocations_leave_nothing);
    tcase_add_test(t, full_disk);
    suite_add_tcase(s, t);
    return s;
}
