check_PROGRAMS += tests/base/test_base
TESTS += tests/base/test_base
tests_base_test_base_SOURCES = \
	tests/base/test_base.c \
	tests/base/test_base.h \
	tests/base/test_err.c \
	tests/base/test_file.c \
	tests/base/test_mem.c \
	tests/base/test_rng.c \
	tests/base/test_str.c \
	tests/base/test_sys.c \
	tests/base/test_tasks.c \
	tests/scratch.h
tests_base_test_base_CFLAGS = $(TEST_CFLAGS)
tests_base_test_base_LDADD = $(TEST_LIBS)
