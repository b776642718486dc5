check_PROGRAMS += tests/models/test_models tests/models/test_memory tests/models/test_logits
TESTS += tests/models/test_models tests/models/test_memory tests/models/test_logits

tests_models_test_models_SOURCES = tests/models/test_models.c
tests_models_test_models_CFLAGS = $(TEST_CFLAGS)
tests_models_test_models_LDADD = $(TEST_LIBS)

tests_models_test_memory_SOURCES = tests/models/test_memory.c
tests_models_test_memory_CFLAGS = $(TEST_CFLAGS)
tests_models_test_memory_LDADD = $(TEST_LIBS)

tests_models_test_logits_SOURCES = tests/models/test_logits.c
tests_models_test_logits_CFLAGS = $(TEST_CFLAGS)
tests_models_test_logits_LDADD = $(TEST_LIBS)
