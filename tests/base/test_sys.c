/* What the machine says; checked for sense, since every machine says something else. */
#include <ctype.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sys.h"
#include "test_base.h"

START_TEST(clock_goes_forward)
{
    const double a = sys_now_s();
    usleep(2000);
    const double b = sys_now_s();
    ck_assert_double_ge(b - a, 0.002);
    ck_assert_double_lt(b - a, 2.0);
}
END_TEST

START_TEST(peak_is_at_least_resident_and_grows)
{
    const size_t peak = sys_peak_bytes();
    if (peak == 0) {
        return; /* this system does not say */
    }
    ck_assert_uint_gt(sys_resident_bytes(), 0);
    ck_assert_uint_ge(peak, sys_resident_bytes() / 2);
    ck_assert_uint_lt(peak, (size_t)1 << 46); /* bytes, not pages or kB squared */
    const size_t bytes = (size_t)64 << 20;
    char *p = mem_alloc(MEM_DATA, bytes); /* not malloc: the compiler may do without it */
    ck_assert_ptr_nonnull(p);
    memset(p, 1, bytes);
    ck_assert_uint_ge(sys_peak_bytes(), peak + bytes / 2);
    ck_assert_int_eq(p[bytes / 2], 1);
    mem_free(p);
}
END_TEST

START_TEST(machine_is_sensible)
{
    ck_assert_int_ge(sys_n_cpus(), 1);
    if (access("/proc/loadavg", R_OK) == 0) {
        ck_assert_int_ge(sys_n_runnable(), 1); /* this one runs */
    }
    const size_t memory = sys_memory_bytes();
    ck_assert(memory == 0 || memory > (size_t)16 << 20);
    const struct sys_isa isa = sys_isa_get();
    ck_assert(!isa.avx512 || isa.avx2);
}
END_TEST

START_TEST(cpu_has_a_name_within_bounds)
{
    char name[128], small[4];
    ck_assert_ptr_eq(sys_cpu_name(name, sizeof name), name);
    ck_assert_uint_gt(strlen(name), 0);
    ck_assert(!isspace((unsigned char)name[0]));
    ck_assert_ptr_null(strchr(name, '\n'));
    ck_assert_uint_lt(strlen(sys_cpu_name(small, sizeof small)), sizeof small);
}
END_TEST

START_TEST(time_is_iso_8601)
{
    char buf[32];
    const char *pattern = "dddd-dd-ddTdd:dd:ddZ", *t = sys_time_utc(buf);
    ck_assert_uint_eq(strlen(t), strlen(pattern));
    for (size_t i = 0; pattern[i] != '\0'; i++) {
        ck_assert(pattern[i] == 'd' ? isdigit((unsigned char)t[i]) : t[i] == pattern[i]);
    }
}
END_TEST

Suite *sys_suite(void)
{
    Suite *s = suite_create("sys");
    TCase *t = tcase_create("sys");
    tcase_add_test(t, clock_goes_forward);
    tcase_add_test(t, peak_is_at_least_resident_and_grows);
    tcase_add_test(t, machine_is_sensible);
    tcase_add_test(t, cpu_has_a_name_within_bounds);
    tcase_add_test(t, time_is_iso_8601);
    suite_add_tcase(s, t);
    return s;
}
