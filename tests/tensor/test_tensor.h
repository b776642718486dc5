/* The suites of this program, one per file. */
#ifndef TESTS_TENSOR_TEST_TENSOR_H
#define TESTS_TENSOR_TEST_TENSOR_H

#include <check.h>

Suite *npy_suite(void);
Suite *safetensors_suite(void);
Suite *safetensors_hostile_suite(void);

#endif
