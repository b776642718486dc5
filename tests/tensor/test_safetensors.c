/* safetensors files that are in order: round trips, types, order, alignment, errors of writing. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "scratch.h"
#include "tensor/safetensors.h"
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

static const float weight[6] = {1.0f, -2.0f, 0.5f, 1e-38f, NAN, -INFINITY};
static const float bias[3] = {7.0f, 8.0f, 9.0f};
static const double loss[2] = {1.0 / 3, -1e300};
static const int64_t steps = INT64_C(-123456789012345);

static const struct safetensors_entry entries[] = {
    {.name = "conv.weight", .n_dims = 2, .dims = {2, 3}, .data = weight},
    {.name = "conv.bias", .n_dims = 1, .dims = {3}, .data = bias},
    {.name = "bn.num_batches_tracked", .type = SAFETENSORS_I64, .data = &steps},
    {.name = "loss", .type = SAFETENSORS_F64, .n_dims = 1, .dims = {2}, .data = loss},
    {.name = "empty \"\xc3\xa9\"", .n_dims = 2, .dims = {0, 4}, .data = bias},
};
#define N_ENTRIES (sizeof entries / sizeof entries[0])

START_TEST(round_trip)
{
    struct err err = {0};
    const char *const meta[] = {"format", "pt", "policy", "division"};
    const char *path = scratch_path(&scratch, "m.safetensors");
    ck_assert_msg(safetensors_write(path, entries, N_ENTRIES, meta, 2, &err) == 0, "%s", err.msg);
    struct safetensors_file f = {0};
    ck_assert_msg(safetensors_read(path, &f, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(f.n_entries, N_ENTRIES);
    for (size_t i = 0; i < N_ENTRIES; i++) {
        const struct safetensors_entry *e = safetensors_find(&f, entries[i].name);
        ck_assert_ptr_nonnull(e);
        ck_assert_int_eq(e->type, entries[i].type);
        ck_assert_uint_eq(e->n_dims, entries[i].n_dims);
        ck_assert_mem_eq(e->dims, entries[i].dims, sizeof e->dims);
        ck_assert_uint_eq((uintptr_t)e->data % 64, 0);
    }
    ck_assert_mem_eq(safetensors_find(&f, "conv.weight")->data, weight, sizeof weight);
    ck_assert_mem_eq(safetensors_find(&f, "conv.bias")->data, bias, sizeof bias);
    ck_assert_mem_eq(safetensors_find(&f, "loss")->data, loss, sizeof loss);
    ck_assert_mem_eq(safetensors_find(&f, "bn.num_batches_tracked")->data, &steps, sizeof steps);
    ck_assert_ptr_null(safetensors_find(&f, "conv"));
    ck_assert_ptr_null(safetensors_find(&f, ""));
    safetensors_fini(&f);
    ck_assert_ptr_null(f.entries);
    safetensors_fini(&f);
}
END_TEST

START_TEST(bytes_are_the_formats)
{
    struct err err = {0};
    const char *const meta[] = {"format", "pt"};
    const struct safetensors_entry two[] = {
        {.name = "b", .n_dims = 1, .dims = {3}, .data = bias},
        {.name = "n", .type = SAFETENSORS_I64, .data = &steps},
    };
    const char *path = scratch_path(&scratch, "m.safetensors");
    ck_assert_int_eq(safetensors_write(path, two, 2, meta, 1, &err), 0);
    char *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(file_read_all(path, 1000, &data, &size, &err), 0);
    /* 8-byte elements first, so that both are aligned; header padded to a multiple of 8. */
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
                         "\"b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[8,20]}}";
    const size_t padded = (strlen(header) + 7) / 8 * 8;
    ck_assert_uint_eq(size, 8 + padded + 20);
    ck_assert_uint_eq((unsigned char)data[0], padded);
    ck_assert(strncmp(data + 8, header, strlen(header)) == 0);
    const unsigned char nine[4] = {0, 0, 0x10, 0x41};
    ck_assert_mem_eq(data + size - 4, nine, 4);
    mem_free(data);
}
END_TEST

START_TEST(no_tensors_and_no_metadata)
{
    struct err err = {0};
    struct safetensors_file f = {0};
    const char *path = scratch_path(&scratch, "m");
    ck_assert_int_eq(safetensors_write(path, NULL, 0, NULL, 0, &err), 0);
    ck_assert_int_eq(safetensors_read(path, &f, &err), 0);
    ck_assert_uint_eq(f.n_entries, 0);
    ck_assert_ptr_null(safetensors_find(&f, "x"));
    safetensors_fini(&f);
}
END_TEST

/* Writes header length, header, data. */
static const char *write_made(const char *header, const void *data, size_t data_bytes)
{
    static unsigned char file[4096];
    const size_t len = strlen(header);
    memset(file, 0, 8);
    file[0] = (unsigned char)(len & 255);
    file[1] = (unsigned char)(len >> 8);
    memcpy(file + 8, header, len);
    memcpy(file + 8 + len, data, data_bytes);
    return scratch_write(&scratch, "made", file, 8 + len + data_bytes);
}

START_TEST(half_precision_is_widened)
{
    /* One byte-odd tensor order on purpose: nothing is aligned in this file. */
    static const unsigned char data[] = {
        0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0xff, 0x7b,
        0x00, 0x7c, 0x00, 0x80, 0x00, 0xfc, 0x01, 0x7e, /* F16 */
        0x80, 0x3f, 0x00, 0xc0, 0x01, 0x00, 0x80, 0x7f, /* BF16 */
        0x00, 0x00, 0x80, 0x3f,                         /* F32 */
    };
    const char *header = "{\"h\":{\"dtype\":\"F16\",\"shape\":[2,4],\"data_offsets\":[0,16]},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[16,24]},"
                         "\"f\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[24,28]}}  ";
    struct err err = {0};
    struct safetensors_file f = {0};
    ck_assert_msg(safetensors_read(write_made(header, data, sizeof data), &f, &err) == 0, "%s",
                  err.msg);
    const float *h = safetensors_find(&f, "h")->data;
    const float want[7] = {1.0f, -2.0f, 0x1p-24f, 65504.0f, INFINITY, -0.0f, -INFINITY};
    for (int i = 0; i < 7; i++) {
        ck_assert_msg(h[i] == want[i] && signbit(h[i]) == signbit(want[i]), "%d: %g", i,
                      (double)h[i]);
    }
    ck_assert(isnan(h[7]));
    const float *b = safetensors_find(&f, "b")->data;
    ck_assert(b[0] == 1.0f && b[1] == -2.0f && b[2] == 0x1p-133f && b[3] == INFINITY);
    ck_assert(*(const float *)safetensors_find(&f, "f")->data == 1.0f);
    ck_assert_int_eq(safetensors_find(&f, "h")->type, SAFETENSORS_F32);
    safetensors_fini(&f);
}
END_TEST

START_TEST(entries_come_in_the_order_of_the_data)
{
    const char *header = "{\"z\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"
                         "\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]},"
                         "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]},"
                         "\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    struct err err = {0};
    struct safetensors_file f = {0};
    ck_assert_msg(safetensors_read(write_made(header, bias, sizeof bias), &f, &err) == 0, "%s",
                  err.msg);
    const char *const names[] = {"x", "e", "z", "y"};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_str_eq(f.entries[i].name, names[i]);
    }
    ck_assert(*(const float *)f.entries[2].data == 8.0f);
    safetensors_fini(&f);
}
END_TEST

START_TEST(writing_refuses_what_readers_would)
{
    struct err err = {0};
    struct safetensors_entry two[2] = {entries[0], entries[0]};
    const char *path = scratch_path(&scratch, "m");
    ck_assert_int_eq(safetensors_write(path, two, 2, NULL, 0, &err), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.msg, "conv.weight"));
    two[1].name = "__metadata__";
    ck_assert_int_eq(safetensors_write(path, two, 2, NULL, 0, &err), ERR_FORMAT);
    two[1].name = "bad \xff utf-8";
    ck_assert_int_eq(safetensors_write(path, two, 2, NULL, 0, &err), ERR_FORMAT);
    ck_assert_int_eq(safetensors_write(path, two, 2, NULL, 0, NULL), ERR_FORMAT);
    const char *const meta[] = {"k", "\xff"};
    ck_assert_int_eq(safetensors_write(path, two, 1, meta, 1, &err), ERR_FORMAT);
    ck_assert(!file_exists(path));
}
END_TEST

START_TEST(writing_to_a_full_disk)
{
    struct err err = {0};
    if (file_exists("/dev/full")) {
        ck_assert_int_eq(safetensors_write("/dev/full", entries, N_ENTRIES, NULL, 0, &err), ERR_IO);
        ck_assert_ptr_nonnull(strstr(err.msg, "No space left on device"));
    }
    ck_assert_int_eq(
        safetensors_write(scratch_path(&scratch, "no/m"), entries, N_ENTRIES, NULL, 0, &err),
        ERR_IO);
}
END_TEST

START_TEST(failing_allocations_leave_nothing)
{
    struct err err = {0};
    struct mem_count before, after;
    const char *path = scratch_path(&scratch, "m");
    ck_assert_int_eq(safetensors_write(path, entries, N_ENTRIES, NULL, 0, &err), 0);
    mem_count_get(&before);
    int code = ERR_NOMEM;
    for (size_t k = 1; code != 0; k++) {
        struct safetensors_file f = {0};
        ck_assert_uint_lt(k, 20);
        mem_fail_after(k);
        code = safetensors_read(path, &f, &err);
        ck_assert(code == 0 || code == ERR_NOMEM);
        safetensors_fini(&f);
        mem_count_get(&after);
        ck_assert_mem_eq(after.now_bytes, before.now_bytes, sizeof before.now_bytes);
    }
    mem_fail_after(0);
}
END_TEST

Suite *safetensors_suite(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, bytes_are_the_formats);
    tcase_add_test(t, no_tensors_and_no_metadata);
    tcase_add_test(t, half_precision_is_widened);
    tcase_add_test(t, entries_come_in_the_order_of_the_data);
    tcase_add_test(t, writing_refuses_what_readers_would);
    tcase_add_test(t, writing_to_a_full_disk);
    tcase_add_test(t, failing_allocations_leave_nothing);
    suite_add_tcase(s, t);
    return s;
}
