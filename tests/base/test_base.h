/* The suites of this program, one per file. */
#ifndef TESTS_BASE_TEST_BASE_H
#define TESTS_BASE_TEST_BASE_H

#include <check.h>

Suite *err_suite(void);
Suite *file_suite(void);
Suite *mem_suite(void);
Suite *rng_suite(void);
Suite *str_suite(void);
Suite *sys_suite(void);
Suite *tasks_suite(void);

#endif
