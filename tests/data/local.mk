# Each test is its own source and the files it makes.
data_fixture = tests/data/data_fixture.c tests/data/data_fixture.h
data_tests = \
	tests/data/test_cifar \
	tests/data/test_dataset \
	tests/data/test_idx \
	tests/data/test_loader

check_PROGRAMS += $(data_tests)
TESTS += $(data_tests)

tests_data_test_cifar_SOURCES = tests/data/test_cifar.c $(data_fixture)
tests_data_test_cifar_CFLAGS = $(TEST_CFLAGS)
tests_data_test_cifar_LDADD = $(TEST_LIBS)
tests_data_test_dataset_SOURCES = tests/data/test_dataset.c $(data_fixture)
tests_data_test_dataset_CFLAGS = $(TEST_CFLAGS)
tests_data_test_dataset_LDADD = $(TEST_LIBS)
tests_data_test_idx_SOURCES = tests/data/test_idx.c $(data_fixture)
tests_data_test_idx_CFLAGS = $(TEST_CFLAGS)
tests_data_test_idx_LDADD = $(TEST_LIBS)
tests_data_test_loader_SOURCES = tests/data/test_loader.c $(data_fixture)
tests_data_test_loader_CFLAGS = $(TEST_CFLAGS)
tests_data_test_loader_LDADD = $(TEST_LIBS)
