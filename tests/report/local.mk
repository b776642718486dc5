check_PROGRAMS += tests/report/test_report
TESTS += tests/report/test_report
tests_report_test_report_SOURCES = tests/report/test_report.c
tests_report_test_report_CFLAGS = $(TEST_CFLAGS)
tests_report_test_report_LDADD = $(TEST_LIBS)
