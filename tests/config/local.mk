check_PROGRAMS += tests/config/test_config
TESTS += tests/config/test_config tests/config/man_keys.sh
EXTRA_DIST += tests/config/man_keys.sh
tests_config_test_config_SOURCES = tests/config/test_config.c
tests_config_test_config_CFLAGS = $(TEST_CFLAGS)
tests_config_test_config_LDADD = $(TEST_LIBS)
