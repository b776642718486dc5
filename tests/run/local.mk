check_PROGRAMS += tests/run/test_budget tests/run/test_run
TESTS += tests/run/test_budget tests/run/test_run

tests_run_test_run_SOURCES = tests/run/test_run.c tests/scratch.h
tests_run_test_run_CFLAGS = $(TEST_CFLAGS)
tests_run_test_run_LDADD = $(TEST_LIBS)

tests_run_test_budget_SOURCES = tests/run/test_budget.c tests/scratch.h
tests_run_test_budget_CFLAGS = $(TEST_CFLAGS)
tests_run_test_budget_LDADD = $(TEST_LIBS)
