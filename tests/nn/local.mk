check_PROGRAMS += tests/nn/test_gradient tests/nn/test_plan
TESTS += tests/nn/test_gradient tests/nn/test_plan

tests_nn_test_gradient_SOURCES = tests/nn/test_gradient.c tests/nn/net.h
tests_nn_test_gradient_CFLAGS = $(TEST_F64_CFLAGS)
tests_nn_test_gradient_LDADD = $(TEST_F64_LIBS)

tests_nn_test_plan_SOURCES = tests/nn/test_plan.c tests/nn/net.h
tests_nn_test_plan_CFLAGS = $(TEST_CFLAGS)
tests_nn_test_plan_LDADD = $(TEST_LIBS)
