/* Learning-rate schedules against their formulas. */
#include <check.h>
#include <math.h>

#include "train/schedule.h"

static void near(double a, double b)
{
    ck_assert_msg(fabs(a - b) <= 1e-12 * (fabs(b) + 1e-12), "%.17g, expected %.17g", a, b);
}

START_TEST(constant)
{
    struct schedule s = {.kind = SCHEDULE_CONSTANT, .lr = 0.1, .epochs = 10};
    near(schedule_lr(&s, 0, 0, 5), 0.1);
    near(schedule_lr(&s, 9, 4, 5), 0.1);
}
END_TEST

START_TEST(cosine_is_per_epoch)
{
    struct schedule s = {.kind = SCHEDULE_COSINE, .lr = 0.1, .epochs = 4};
    near(schedule_lr(&s, 0, 0, 5), 0.1);
    near(schedule_lr(&s, 0, 4, 5), 0.1); /* changes between epochs only */
    near(schedule_lr(&s, 1, 0, 5), 0.05 * (1 + sqrt(0.5)));
    near(schedule_lr(&s, 2, 3, 5), 0.05);
    near(schedule_lr(&s, 3, 0, 5), 0.05 * (1 - sqrt(0.5)));
}
END_TEST

START_TEST(multistep)
{
    struct schedule s = {.kind = SCHEDULE_MULTISTEP,
                         .lr = 1,
                         .gamma = 0.1,
                         .epochs = 10,
                         .milestones = {3, 5},
                         .n_milestones = 2};
    near(schedule_lr(&s, 2, 4, 5), 1);
    near(schedule_lr(&s, 3, 0, 5), 0.1);
    near(schedule_lr(&s, 4, 0, 5), 0.1);
    near(schedule_lr(&s, 5, 0, 5), 0.01);
}
END_TEST

START_TEST(warm_up_rises_step_by_step)
{
    struct schedule s = {.kind = SCHEDULE_COSINE, .lr = 0.8, .epochs = 5, .warmup_epochs = 1};
    near(schedule_lr(&s, 0, 0, 4), 0.2);
    near(schedule_lr(&s, 0, 3, 4), 0.8);
    near(schedule_lr(&s, 1, 0, 4), 0.8); /* the cosine covers the four epochs left */
    near(schedule_lr(&s, 3, 0, 4), 0.4);
    s.warmup_epochs = 0.5;
    near(schedule_lr(&s, 0, 0, 4), 0.4);
    near(schedule_lr(&s, 0, 1, 4), 0.8);
    near(schedule_lr(&s, 0, 3, 4), 0.8);
}
END_TEST

START_TEST(names)
{
    enum schedule_kind kind;
    struct err err = {0};
    ck_assert(schedule_kind_parse("multistep", &kind, &err) == 0 && kind == SCHEDULE_MULTISTEP);
    ck_assert(schedule_kind_parse("step", &kind, &err) == ERR_CONFIG);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("schedule");
    TCase *t = tcase_create("schedule");
    tcase_add_test(t, constant);
    tcase_add_test(t, cosine_is_per_epoch);
    tcase_add_test(t, multistep);
    tcase_add_test(t, warm_up_rises_step_by_step);
    tcase_add_test(t, names);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
