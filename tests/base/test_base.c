/* Runs the suites of src/base. */
#include <check.h>
#include <stdlib.h>

#include "test_base.h"

int main(void)
{
    SRunner *runner = srunner_create(err_suite());
    srunner_add_suite(runner, file_suite());
    srunner_add_suite(runner, mem_suite());
    srunner_add_suite(runner, rng_suite());
    srunner_add_suite(runner, str_suite());
    srunner_add_suite(runner, sys_suite());
    srunner_add_suite(runner, tasks_suite());
    srunner_run_all(runner, CK_ENV);
    const int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
