/* The heap's door and its ledger. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/sys.h"
#include "test_base.h"

static struct mem_count now(void)
{
    struct mem_count c;
    mem_count_get(&c);
    return c;
}

static int is_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0) {
            return 0;
        }
    }
    return 1;
}

START_TEST(blocks_are_zeroed_aligned_and_writable_to_the_last_byte)
{
    const size_t sizes[] = {0, 1, 63, 64, 65, 1000, 4096, 1000003};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *a = mem_alloc(MEM_GRAD, sizes[i]);
        unsigned char *b = mem_alloc_untouched(MEM_ARENA, sizes[i]);
        ck_assert_ptr_nonnull(a);
        ck_assert_ptr_nonnull(b);
        ck_assert_uint_eq((uintptr_t)a % 64, 0);
        ck_assert_uint_eq((uintptr_t)b % 64, 0);
        ck_assert(is_zero(a, sizes[i]));
        ck_assert(is_zero(b, sizes[i]));
        memset(a, 255, sizes[i]);
        memset(b, 255, sizes[i]);
        mem_free(a);
        mem_free(b);
    }
    mem_free(NULL);
}
END_TEST

START_TEST(reused_memory_is_zeroed_too)
{
    for (int i = 0; i < 8; i++) {
        unsigned char *p = mem_alloc(MEM_DATA, 500);
        ck_assert(is_zero(p, 500));
        memset(p, 0x5a, 500);
        mem_free(p);
    }
}
END_TEST

START_TEST(ledger_counts_each_tag)
{
    const struct mem_count before = now();
    for (int t = 0; t < MEM_N_TAGS; t++) {
        const struct mem_count a = now();
        void *p = mem_alloc((enum mem_tag)t, 1000);
        const struct mem_count b = now();
        ck_assert_uint_eq(b.now_bytes[t], a.now_bytes[t] + 1000);
        const int is_live = t != MEM_ARENA && t != MEM_OTHER;
        ck_assert_uint_eq(b.live_bytes, a.live_bytes + (is_live ? 1000 : 0));
        ck_assert_uint_eq(b.n_allocs, a.n_allocs + 1);
        mem_free(p);
    }
    const struct mem_count after = now();
    ck_assert_mem_eq(after.now_bytes, before.now_bytes, sizeof before.now_bytes);
    ck_assert_uint_eq(after.live_bytes, before.live_bytes);
}
END_TEST

START_TEST(peak_is_the_highest_live_value)
{
    mem_peak_reset();
    const size_t start = now().live_bytes;
    mem_acquire(MEM_SAVED, 100);
    mem_acquire(MEM_ACTIVATION, 50);
    mem_release(MEM_SAVED, 100);
    mem_acquire(MEM_WORKSPACE, 60);
    ck_assert_uint_eq(now().live_peak_bytes, start + 150);
    ck_assert_uint_eq(now().live_bytes, start + 110);
    mem_peak_reset();
    ck_assert_uint_eq(now().live_peak_bytes, start + 110);
    mem_release(MEM_ACTIVATION, 50);
    mem_release(MEM_WORKSPACE, 60);
    ck_assert_uint_eq(now().live_bytes, start);
    ck_assert_uint_eq(now().live_peak_bytes, start + 110);
}
END_TEST

START_TEST(acquire_takes_no_memory)
{
    const size_t before = now().n_allocs;
    mem_acquire(MEM_SAVED, SIZE_MAX / 4);
    ck_assert_uint_eq(now().n_allocs, before);
    mem_release(MEM_SAVED, SIZE_MAX / 4);
}
END_TEST

START_TEST(realloc_keeps_contents_and_zeroes_the_rest)
{
    const struct mem_count before = now();
    unsigned char *p = mem_realloc(MEM_DATA, NULL, 10);
    memset(p, 7, 10);
    p = mem_realloc(MEM_DATA, p, 1000);
    ck_assert_uint_eq((uintptr_t)p % 64, 0);
    ck_assert_int_eq(p[9], 7);
    ck_assert(is_zero(p + 10, 990));
    p = mem_realloc(MEM_DATA, p, 5);
    ck_assert_int_eq(p[4], 7);
    ck_assert_uint_eq(now().now_bytes[MEM_DATA], before.now_bytes[MEM_DATA] + 5);

    mem_fail_after(1);
    ck_assert_ptr_null(mem_realloc(MEM_DATA, p, 100));
    ck_assert_int_eq(p[4], 7);
    mem_free(p);
    ck_assert_uint_eq(now().live_bytes, before.live_bytes);
}
END_TEST

START_TEST(impossible_sizes_give_null)
{
    const struct mem_count before = now();
    ck_assert_ptr_null(mem_alloc(MEM_DATA, SIZE_MAX));
    ck_assert_ptr_null(mem_alloc(MEM_DATA, SIZE_MAX - 64));
    ck_assert_ptr_null(mem_alloc_untouched(MEM_DATA, SIZE_MAX));
    ck_assert_ptr_null(mem_alloc_untouched(MEM_DATA, SIZE_MAX / 4));
    ck_assert_ptr_null(mem_calloc(MEM_DATA, SIZE_MAX / 2, 3));
    ck_assert_uint_eq(now().live_bytes, before.live_bytes);
    ck_assert_uint_eq(now().n_allocs, before.n_allocs);
}
END_TEST

START_TEST(the_nth_allocation_fails_once)
{
    mem_fail_after(3);
    void *a = mem_alloc(MEM_OTHER, 1), *b = mem_alloc_untouched(MEM_OTHER, 1);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(b);
    ck_assert_ptr_null(mem_strdup("x"));
    char *c = mem_strdup("again");
    ck_assert_str_eq(c, "again");
    mem_fail_after(1);
    mem_fail_after(0);
    void *d = mem_calloc(MEM_OTHER, 2, 3);
    ck_assert_ptr_nonnull(d);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(d);
}
END_TEST

START_TEST(untouched_pages_stay_with_the_system)
{
    const size_t bytes = (size_t)256 << 20;
    for (int round = 0; round < 2; round++) {
        const size_t before = sys_resident_bytes();
        char *p = mem_alloc_untouched(MEM_ARENA, bytes);
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_lt(sys_resident_bytes(), before + bytes / 4);
        p[bytes - 1] = 1;
        mem_free(p);
    }
}
END_TEST

#define N_ROUNDS 2000

static void *churn(void *unused)
{
    for (int i = 0; i < N_ROUNDS; i++) {
        void *p = mem_alloc(MEM_DATA, 24);
        mem_acquire(MEM_SAVED, 8);
        mem_free(p);
        mem_release(MEM_SAVED, 8);
    }
    return unused;
}

START_TEST(counters_are_exact_under_threads)
{
    const struct mem_count before = now();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    const struct mem_count after = now();
    ck_assert_mem_eq(after.now_bytes, before.now_bytes, sizeof before.now_bytes);
    ck_assert_uint_eq(after.live_bytes, before.live_bytes);
    ck_assert_uint_eq(after.n_allocs, before.n_allocs + 4 * N_ROUNDS);
}
END_TEST

START_TEST(releasing_too_much_stops_the_program)
{
    mem_release(MEM_SAVED, 1);
}
END_TEST

START_TEST(size_mul_reports_overflow)
{
    int overflow = 0;
    ck_assert_uint_eq(size_mul(6, 7, &overflow), 42);
    ck_assert_uint_eq(size_mul(SIZE_MAX, 1, &overflow), SIZE_MAX);
    ck_assert_uint_eq(size_mul(0, SIZE_MAX, &overflow), 0);
    ck_assert_int_eq(overflow, 0);
    ck_assert_uint_eq(size_mul(SIZE_MAX / 2 + 1, 2, &overflow), 0);
    ck_assert_int_eq(overflow, 1);
    (void)size_mul(2, 2, &overflow);
    ck_assert_int_eq(overflow, 1); /* stays: products may be chained */
}
END_TEST

START_TEST(nomem_says_what_and_how_much)
{
    struct err e = {0};
    ck_assert_int_eq(err_nomem(&e, "the arena", (size_t)3 << 20), ERR_NOMEM);
    ck_assert_int_eq(e.code, ERR_NOMEM);
    ck_assert_ptr_nonnull(strstr(e.msg, "out of memory: the arena needs 3.00 MiB"));
}
END_TEST

START_TEST(every_tag_has_a_name_of_its_own)
{
    for (int t = 0; t < MEM_N_TAGS; t++) {
        ck_assert_str_ne(mem_tag_name((enum mem_tag)t), "unknown");
        for (int u = 0; u < t; u++) {
            ck_assert_str_ne(mem_tag_name((enum mem_tag)t), mem_tag_name((enum mem_tag)u));
        }
    }
    ck_assert_str_eq(mem_tag_name(MEM_PARAM), "param");
    ck_assert_str_eq(mem_tag_name(MEM_N_TAGS), "unknown");
}
END_TEST

Suite *mem_suite(void)
{
    Suite *s = suite_create("mem");
    TCase *t = tcase_create("mem");
    tcase_set_timeout(t, 60); /* of wall time, on a machine that may be busy */
    tcase_add_test(t, blocks_are_zeroed_aligned_and_writable_to_the_last_byte);
    tcase_add_test(t, reused_memory_is_zeroed_too);
    tcase_add_test(t, ledger_counts_each_tag);
    tcase_add_test(t, peak_is_the_highest_live_value);
    tcase_add_test(t, acquire_takes_no_memory);
    tcase_add_test(t, realloc_keeps_contents_and_zeroes_the_rest);
    tcase_add_test(t, impossible_sizes_give_null);
    tcase_add_test(t, the_nth_allocation_fails_once);
    tcase_add_test(t, untouched_pages_stay_with_the_system);
    tcase_add_test(t, counters_are_exact_under_threads);
    tcase_add_test(t, size_mul_reports_overflow);
    tcase_add_test(t, nomem_says_what_and_how_much);
    tcase_add_test(t, every_tag_has_a_name_of_its_own);
#ifndef NDEBUG
    const char *fork_mode = getenv("CK_FORK");
    if (fork_mode == NULL || strcmp(fork_mode, "no") != 0) {
        tcase_add_test_raise_signal(t, releasing_too_much_stops_the_program, SIGABRT);
    }
#endif
    suite_add_tcase(s, t);
    return s;
}
