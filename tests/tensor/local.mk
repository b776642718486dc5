check_PROGRAMS += tests/tensor/test_tensor
TESTS += tests/tensor/test_tensor
tests_tensor_test_tensor_SOURCES = \
	tests/scratch.h \
	tests/tensor/test_npy.c \
	tests/tensor/test_safetensors.c \
	tests/tensor/test_safetensors_hostile.c \
	tests/tensor/test_tensor.c \
	tests/tensor/test_tensor.h
tests_tensor_test_tensor_CFLAGS = $(TEST_CFLAGS)
tests_tensor_test_tensor_LDADD = $(TEST_LIBS)
