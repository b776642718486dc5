/* safetensors files that lie: each is refused with a message, and nothing leaks. */
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "scratch.h"
#include "tensor/safetensors.h"
#include "test_tensor.h"

static struct scratch scratch;
static struct mem_count before;

static void set_up(void)
{
    scratch_make(&scratch);
    mem_count_get(&before);
}

static void tear_down(void)
{
    struct mem_count after;
    mem_count_get(&after);
    ck_assert_mem_eq(after.now_bytes, before.now_bytes, sizeof before.now_bytes);
    scratch_remove(&scratch);
}

static void put_length(unsigned char *file, uint64_t length)
{
    for (int i = 0; i < 8; i++) {
        file[i] = (unsigned char)(length >> (8 * i));
    }
}

/* Header length, header, 12 bytes of data: returns the file's size. */
static size_t make_file(unsigned char *file, const char *header, size_t len)
{
    put_length(file, len);
    memcpy(file + 8, header, len);
    memset(file + 8 + len, 0x3f, 12);
    return 8 + len + 12;
}

static int read_bytes(const unsigned char *file, size_t n, struct err *err)
{
    struct safetensors_file f = {.n_entries = 77};
    const int code = safetensors_read(scratch_write(&scratch, "made", file, n), &f, err);
    if (code == 0) {
        safetensors_fini(&f);
    } else {
        ck_assert_uint_eq(f.n_entries, 77); /* outputs are written only on success */
        ck_assert_ptr_nonnull(strstr(err->msg, "made"));
    }
    return code;
}

#define T(shape, begin, end) \
    "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static const char good_header[] = "{\"a\":" T("[2]", "0", "8") ",\"b\":" T("[1]", "8", "12") "}";

/* With a word that the message must have. */
static const struct {
    const char *header, *word;
} bad_headers[] = {
    {"", "no JSON"},
    {" ", "no JSON"},
    {"{", "no JSON"},
    {"[]", "no JSON object"},
    {"null", "no JSON"},
    {"{} {}", "no JSON"},
    {"{}", "the tensors cover 0"},
    {"{\"a\":1}", "'a'"},
    {"{\"a\":{}}", "'a'"},
    {"{\"a\":[1,2,3]}", "'a'"},
    {"{\"a\":" T("[2]", "0", "8") "}", "cover 8"},
    {"{\"a\":" T("[3]", "0", "12") ",\"a\":" T("[3]", "0", "12") "}", "duplicate"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"shape\":[3],\"data_offsets\":[0,12]}}",
     "duplicate"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12],\"x\":1}}", "expected"},
    {"{\"a\":{\"dtype\":\"F33\",\"shape\":[3],\"data_offsets\":[0,12]}}", "\"F33\""},
    {"{\"a\":{\"dtype\":\"I32\",\"shape\":[3],\"data_offsets\":[0,12]}}", "\"I32\""},
    {"{\"a\":{\"dtype\":4,\"shape\":[3],\"data_offsets\":[0,12]}}", "expected"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0]}}", "expected"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,6,12]}}", "expected"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":\"0,12\"}}", "expected"},
    {"{\"a\":" T("3", "0", "12") "}", "\"shape\""},
    {"{\"a\":" T("[-3]", "0", "12") "}", "\"shape\""},
    {"{\"a\":" T("[3.0]", "0", "12") "}", "\"shape\""},
    {"{\"a\":" T("[\"3\"]", "0", "12") "}", "\"shape\""},
    {"{\"a\":" T("[3,1,1,1,1,1,1,1,1]", "0", "12") "}", "at most 8"},
    {"{\"a\":" T("[4294967296,4294967296]", "0", "12") "}", "fit into memory"},
    {"{\"a\":" T("[4611686018427387904]", "0", "12") "}", "fit into memory"},
    {"{\"a\":" T("[99999999999999999999]", "0", "12") "}", "no JSON"},
    {"{\"a\":" T("[3]", "-4", "8") "}", "data_offsets"},
    {"{\"a\":" T("[3]", "0", "12.0") "}", "data_offsets"},
    {"{\"a\":" T("[3]", "12", "0") "}", "data_offsets"},
    {"{\"a\":" T("[4]", "0", "16") "}", "at most the file's 12 bytes"},
    {"{\"a\":" T("[3]", "9223372036854775795", "9223372036854775807") "}", "at most"},
    {"{\"a\":" T("[2]", "0", "12") "}", "its shape needs 8"},
    {"{\"a\":" T("[0]", "0", "12") "}", "its shape needs 0"},
    {"{\"a\":" T("[2]", "0", "8") ",\"b\":" T("[2]", "4", "12") "}", "overlap"},
    {"{\"a\":" T("[3]", "0", "12") ",\"b\":" T("[3]", "0", "12") "}", "overlap"},
    {"{\"a\":" T("[1]", "0", "4") ",\"b\":" T("[1]", "8", "12") "}", "leave a hole"},
    {"{\"a\":" T("[2]", "4", "12") "}", "leave a hole"},
    {"{\"\\u0000\":" T("[3]", "0", "12") "}", "no JSON"},
    {"{\"\xff\":" T("[3]", "0", "12") "}", "no JSON"},
};

START_TEST(bad_header_is_a_format_error)
{
    unsigned char file[1024];
    struct err err = {0};
    const char *header = bad_headers[_i].header;
    ck_assert_int_eq(read_bytes(file, make_file(file, header, strlen(header)), &err), ERR_FORMAT);
    ck_assert_msg(strstr(err.msg, bad_headers[_i].word) != NULL, "%s", err.msg);
}
END_TEST

START_TEST(cut_at_every_byte)
{
    unsigned char file[1024];
    struct err err = {0};
    const size_t n = make_file(file, good_header, strlen(good_header));
    for (size_t len = 0; len < n; len++) {
        ck_assert_int_eq(read_bytes(file, len, &err), ERR_FORMAT);
    }
    ck_assert_int_eq(read_bytes(file, n, &err), 0);
    file[n] = 0;
    ck_assert_int_eq(read_bytes(file, n + 1, &err), ERR_FORMAT);
}
END_TEST

START_TEST(every_byte_changed)
{
    /* Any single wrong bit of length or header is refused, or still describes 12 bytes of data. */
    unsigned char file[1024];
    const size_t n = make_file(file, good_header, strlen(good_header));
    for (size_t at = 0; at < n - 12; at++) {
        for (int flip = 1; flip < 256; flip *= 2) {
            struct err err = {0};
            file[at] ^= (unsigned char)flip;
            const int code = read_bytes(file, n, &err);
            ck_assert(code == 0 || code == ERR_FORMAT);
            file[at] ^= (unsigned char)flip;
        }
    }
}
END_TEST

START_TEST(header_length_is_not_trusted)
{
    unsigned char file[1024];
    const size_t n = make_file(file, good_header, strlen(good_header));
    const uint64_t lengths[] = {0,          1,         n - 7,          n,         100000001,
                                UINT32_MAX, INT64_MAX, UINT64_MAX - 8, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct err err = {0};
        put_length(file, lengths[i]);
        ck_assert_int_eq(read_bytes(file, n, &err), ERR_FORMAT);
    }
}
END_TEST

START_TEST(deep_and_wide_json)
{
    enum { DEPTH = 200000 };
    unsigned char *file = mem_alloc(MEM_OTHER, 3 * DEPTH + 64);
    char *header = mem_alloc(MEM_OTHER, 3 * DEPTH);
    const struct {
        const char *open;
    } kinds[] = {{"["}, {"{\"a\":"}};
    for (size_t k = 0; k < 2; k++) {
        struct err err = {0};
        const size_t step = strlen(kinds[k].open);
        size_t len = 0;
        while (len + step < 3 * DEPTH - 1) {
            memcpy(header + len, kinds[k].open, step);
            len += step;
        }
        ck_assert_int_eq(read_bytes(file, make_file(file, header, len), &err), ERR_FORMAT);
    }
    mem_free(header);
    mem_free(file);
}
END_TEST

START_TEST(a_long_name_is_cut_in_messages_only)
{
    static unsigned char file[8192];
    static char header[7000];
    struct err err = {0};
    size_t len = 0;
    header[len++] = '{';
    header[len++] = '"';
    memset(header + len, 'n', 5000);
    len += 5000;
    const char *rest = "\":" T("[2]", "0", "12") "}";
    memcpy(header + len, rest, strlen(rest));
    len += strlen(rest);
    ck_assert_int_eq(read_bytes(file, make_file(file, header, len), &err), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.msg, "its shape needs 8"));
}
END_TEST

START_TEST(not_a_file)
{
    struct err err = {0};
    struct safetensors_file f = {0};
    ck_assert_int_eq(safetensors_read(scratch_path(&scratch, "none"), &f, &err), ERR_MISSING);
    ck_assert_int_eq(safetensors_read(scratch.dir, &f, &err), ERR_IO);
    ck_assert_int_eq(safetensors_read("/dev/zero", &f, &err), ERR_IO);
    const char zip[] = "PK\3\4\0\0\0\0\0\0 what torch.save writes";
    ck_assert_int_eq(safetensors_read(scratch_write(&scratch, "m.pth", zip, sizeof zip), &f, &err),
                     ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.msg, "no safetensors file"));
}
END_TEST

Suite *safetensors_hostile_suite(void)
{
    Suite *s = suite_create("safetensors, hostile");
    TCase *t = tcase_create("hostile");
    tcase_set_timeout(t, 60); /* of wall time, on a machine that may be busy */
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, bad_header_is_a_format_error, 0,
                        (int)(sizeof bad_headers / sizeof bad_headers[0]));
    tcase_add_test(t, cut_at_every_byte);
    tcase_add_test(t, every_byte_changed);
    tcase_add_test(t, header_length_is_not_trusted);
    tcase_add_test(t, deep_and_wide_json);
    tcase_add_test(t, a_long_name_is_cut_in_messages_only);
    tcase_add_test(t, not_a_file);
    suite_add_tcase(s, t);
    return s;
}
