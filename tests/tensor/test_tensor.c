/* Runs the suites of src/tensor. */
#include <check.h>
#include <stdlib.h>

#include "test_tensor.h"

int main(void)
{
    SRunner *runner = srunner_create(npy_suite());
    srunner_add_suite(runner, safetensors_suite());
    srunner_add_suite(runner, safetensors_hostile_suite());
    srunner_run_all(runner, CK_ENV);
    const int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
