/* Error records. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "test_base.h"

START_TEST(set_gives_code_and_text)
{
    struct err e = {0};
    ck_assert_int_eq(err_set(&e, ERR_RANGE, "lr %d", 3), ERR_RANGE);
    ck_assert_int_eq(e.code, ERR_RANGE);
    ck_assert_str_eq(e.msg, "lr 3");
}
END_TEST

START_TEST(add_puts_text_in_front_and_keeps_the_code)
{
    struct err e = {0};
    (void)err_set(&e, ERR_FORMAT, "bad byte");
    ck_assert_int_eq(err_add(&e, "reading %s", "x.tar"), ERR_FORMAT);
    ck_assert_int_eq(err_add(&e, "run"), ERR_FORMAT);
    ck_assert_str_eq(e.msg, "run: reading x.tar: bad byte");
}
END_TEST

START_TEST(sys_puts_the_reason_behind)
{
    struct err e = {0};
    ck_assert_int_eq(err_sys(&e, ERR_IO, ENOSPC, "cannot write %s", "x"), ERR_IO);
    ck_assert_str_eq(e.msg, "cannot write x: No space left on device");
}
END_TEST

START_TEST(message_may_be_its_own_argument)
{
    struct err e = {0};
    (void)err_set(&e, ERR_IO, "inner");
    (void)err_set(&e, ERR_CONFIG, "outer (%s)", e.msg);
    ck_assert_str_eq(e.msg, "outer (inner)");
}
END_TEST

START_TEST(long_message_is_cut_with_dots)
{
    struct err e = {0};
    char text[3000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    (void)err_set(&e, ERR_IO, "%s", text);
    ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
    ck_assert_str_eq(e.msg + sizeof e.msg - 5, "a...");
    (void)err_add(&e, "front");
    ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
    ck_assert(strncmp(e.msg, "front: aaa", 10) == 0);
}
END_TEST

START_TEST(no_record_still_fails)
{
    ck_assert_int_eq(err_set(NULL, ERR_SHAPE, "x"), ERR_SHAPE);
    ck_assert_int_eq(err_sys(NULL, ERR_IO, ENOENT, "x"), ERR_IO);
    ck_assert_int_ne(err_add(NULL, "x"), ERR_OK);
}
END_TEST

START_TEST(every_code_has_its_name)
{
#define X(code, name) ck_assert_str_eq(err_name(ERR_##code), name);
#include "base/err.def"
#undef X
    ck_assert_int_eq(ERR_OK, 0);
    ck_assert_ptr_nonnull(err_name((enum err_code)99));
}
END_TEST

Suite *err_suite(void)
{
    Suite *s = suite_create("err");
    TCase *t = tcase_create("err");
    tcase_add_test(t, set_gives_code_and_text);
    tcase_add_test(t, add_puts_text_in_front_and_keeps_the_code);
    tcase_add_test(t, sys_puts_the_reason_behind);
    tcase_add_test(t, message_may_be_its_own_argument);
    tcase_add_test(t, long_message_is_cut_with_dots);
    tcase_add_test(t, no_record_still_fails);
    tcase_add_test(t, every_code_has_its_name);
    suite_add_tcase(s, t);
    return s;
}
