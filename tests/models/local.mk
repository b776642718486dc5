check_PROGRAMS += tests/models/test_models
TESTS += tests/models/test_models

tests_models_test_models_SOURCES = tests/models/test_models.c
tests_models_test_models_CFLAGS = $(TEST_CFLAGS)
tests_models_test_models_LDADD = $(TEST_LIBS)
