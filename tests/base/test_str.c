/* String helpers. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "test_base.h"

START_TEST(a_string_grows)
{
    struct str s = {0};
    for (int i = 0; i < 1000; i++) {
        str_addf(&s, "%d,", i);
    }
    ck_assert_int_eq(s.failed, 0);
    ck_assert_uint_eq(s.len, strlen(s.s));
    ck_assert_uint_eq(s.len, 10 * 2 + 90 * 3 + 900 * 4);
    ck_assert(strncmp(s.s, "0,1,2,", 6) == 0);
    str_fini(&s);
    ck_assert_ptr_null(s.s);
    str_fini(&s);
}
END_TEST

START_TEST(a_failed_append_keeps_the_text)
{
    struct str s = {0};
    str_addf(&s, "kept");
    mem_fail_after(1);
    str_addf(&s, "%0200d", 1);
    ck_assert_int_eq(s.failed, 1);
    ck_assert_str_eq(s.s, "kept");
    str_addf(&s, "x"); /* nothing may follow a gap */
    ck_assert_str_eq(s.s, "kept");
    str_fini(&s);
}
END_TEST

START_TEST(nearest_finds_typing_errors_only)
{
    static const char *const names[] = {"batch_size", "epochs", "momentum", "lr", "weight_decay"};
    ck_assert_str_eq(str_nearest("batchsize", names, 5), "batch_size");
    ck_assert_str_eq(str_nearest("epoch", names, 5), "epochs");
    ck_assert_str_eq(str_nearest("momentun", names, 5), "momentum");
    ck_assert_str_eq(str_nearest("wieght_decya", names, 5), "weight_decay");
    ck_assert_str_eq(str_nearest("epochs", names, 5), "epochs");
    ck_assert_ptr_null(str_nearest("augmentation", names, 5));
    ck_assert_ptr_null(str_nearest("abcdef", names, 5));
    ck_assert_ptr_null(str_nearest("epochs", names, 0));
    ck_assert_str_eq(str_nearest("", names, 5), "lr");
    char longest[500];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    const char *const one[] = {longest};
    ck_assert_ptr_null(str_nearest(longest, one, 1)); /* beyond what is compared; no crash */
}
END_TEST

START_TEST(sizes_are_readable)
{
    static const struct {
        double bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {512, "512 B"},
        {1023, "1023 B"},
        {1024, "1.00 KiB"},
        {4697620, "4.48 MiB"},
        {1048575, "1.00 MiB"},
        {1048000, "1023.44 KiB"},
        {3221225472.0, "3.00 GiB"},
        {1e18, "888.18 PiB"},
        {1e30, "888178419700125.25 PiB"},
    };
    char buf[32];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_str_eq(str_bytes(buf, cases[i].bytes), cases[i].text);
    }
}
END_TEST

START_TEST(sizes_are_read)
{
    static const struct {
        const char *text;
        size_t bytes; /* 0: none */
    } cases[] = {
        {"1", 1},
        {"4096", 4096},
        {"4096B", 4096},
        {"500M", (size_t)500 << 20},
        {"2G", (size_t)2 << 30},
        {"2GiB", (size_t)2 << 30},
        {"2GB", (size_t)2 << 30},
        {"1.5K", 1536},
        {"3T", (size_t)3 << 40},
        {"", 0},
        {"0", 0},
        {"-1", 0},
        {" 1", 0},
        {"+1", 0},
        {"0x10", 0},
        {"1g", 0},
        {"1Gi", 0},
        {"1 G", 0},
        {"1GG", 0},
        {"G", 0},
        {"nan", 0},
        {"1e99", 0},
        {"99999999999T", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t bytes = 0;
        const int rc = str_parse_bytes(cases[i].text, &bytes);
        ck_assert_msg(rc == (cases[i].bytes ? 0 : -1) && bytes == cases[i].bytes, "%s: %zu",
                      cases[i].text, bytes);
    }
}
END_TEST

START_TEST(copy_says_when_it_cuts)
{
    char buf[4] = "zzz";
    ck_assert_int_eq(str_copy(buf, sizeof buf, "abc"), 0);
    ck_assert_str_eq(buf, "abc");
    ck_assert_int_eq(str_copy(buf, sizeof buf, "defg"), -1);
    ck_assert_str_eq(buf, "def");
    ck_assert_int_eq(str_copy(buf, 0, ""), -1);
}
END_TEST

START_TEST(globs)
{
    static const struct {
        const char *pattern, *s;
        int match;
    } cases[] = {
        {"layer1.*", "layer1.0.conv1", 1},
        {"layer1.*", "layer2.0.conv1", 0},
        {"*", "", 1},
        {"", "", 1},
        {"", "a", 0},
        {"?", "", 0},
        {"a?c", "abc", 1},
        {"*.conv?", "layer1.0.conv2", 1},
        {"*a*b*c", "xaybzc", 1},
        {"*a*b*c", "xaybzcd", 0},
        {"*ab", "aab", 1},
        {"**b", "aab", 1},
        {"[a]", "a", 0},
        {"*a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_msg(str_glob(cases[i].pattern, cases[i].s) == cases[i].match, "%s against %s",
                      cases[i].pattern, cases[i].s);
    }
}
END_TEST

Suite *str_suite(void)
{
    Suite *s = suite_create("str");
    TCase *t = tcase_create("str");
    tcase_add_test(t, a_string_grows);
    tcase_add_test(t, a_failed_append_keeps_the_text);
    tcase_add_test(t, nearest_finds_typing_errors_only);
    tcase_add_test(t, sizes_are_readable);
    tcase_add_test(t, sizes_are_read);
    tcase_add_test(t, copy_says_when_it_cuts);
    tcase_add_test(t, globs);
    suite_add_tcase(s, t);
    return s;
}
