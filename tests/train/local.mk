check_PROGRAMS += tests/train/test_accumulate tests/train/test_schedule
TESTS += tests/train/test_accumulate tests/train/test_schedule

tests_train_test_accumulate_SOURCES = tests/train/test_accumulate.c
tests_train_test_accumulate_CFLAGS = $(TEST_CFLAGS)
tests_train_test_accumulate_LDADD = $(TEST_LIBS)

tests_train_test_schedule_SOURCES = tests/train/test_schedule.c
tests_train_test_schedule_CFLAGS = $(TEST_CFLAGS)
tests_train_test_schedule_LDADD = $(TEST_LIBS)
