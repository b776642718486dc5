# Convolution and GEMM.
check_PROGRAMS += \
	tests/kernels/test_conv \
	tests/kernels/test_conv_grad \
	tests/kernels/test_conv_layers \
	tests/kernels/test_conv_runs
TESTS += \
	tests/kernels/test_conv \
	tests/kernels/test_conv_grad \
	tests/kernels/test_conv_layers \
	tests/kernels/test_conv_runs
tests_kernels_test_conv_runs_SOURCES = tests/kernels/test_conv_runs.c
tests_kernels_test_conv_runs_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_conv_runs_LDADD = $(TEST_LIBS)
tests_kernels_test_conv_layers_SOURCES = tests/kernels/test_conv_layers.c
tests_kernels_test_conv_layers_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_conv_layers_LDADD = $(TEST_LIBS)
tests_kernels_test_conv_SOURCES = tests/kernels/test_conv.c
tests_kernels_test_conv_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_conv_LDADD = $(TEST_LIBS)
tests_kernels_test_conv_grad_SOURCES = tests/kernels/test_conv_grad.c
tests_kernels_test_conv_grad_CFLAGS = $(TEST_F64_CFLAGS)
tests_kernels_test_conv_grad_LDADD = $(TEST_F64_LIBS)

# Batch-norm, element-wise passes, pooling, loss, SGD.
check_PROGRAMS += \
	tests/kernels/test_loops \
	tests/kernels/test_pools \
	tests/kernels/test_loops_grad
TESTS += \
	tests/kernels/test_loops \
	tests/kernels/test_pools \
	tests/kernels/test_loops_grad
tests_kernels_test_loops_SOURCES = tests/kernels/test_loops.c tests/kernels/loops_fixture.h
tests_kernels_test_loops_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_loops_LDADD = $(TEST_LIBS)
tests_kernels_test_pools_SOURCES = tests/kernels/test_pools.c tests/kernels/loops_fixture.h
tests_kernels_test_pools_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_pools_LDADD = $(TEST_LIBS)
tests_kernels_test_loops_grad_SOURCES = tests/kernels/test_loops_grad.c tests/kernels/loops_fixture.h
tests_kernels_test_loops_grad_CFLAGS = $(TEST_F64_CFLAGS)
tests_kernels_test_loops_grad_LDADD = $(TEST_F64_LIBS)

# The codec.
check_PROGRAMS += \
	tests/kernels/test_codec \
	tests/kernels/test_codec_bins \
	tests/kernels/test_codec_official \
	tests/kernels/test_codec_planes \
	tests/kernels/test_codec_sides
TESTS += \
	tests/kernels/test_codec \
	tests/kernels/test_codec_bins \
	tests/kernels/test_codec_official \
	tests/kernels/test_codec_planes \
	tests/kernels/test_codec_sides
tests_kernels_test_codec_SOURCES = tests/kernels/test_codec.c tests/kernels/codec_fixture.h
tests_kernels_test_codec_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_codec_LDADD = $(TEST_LIBS)
tests_kernels_test_codec_official_SOURCES = tests/kernels/test_codec_official.c \
	tests/kernels/codec_fixture.h
tests_kernels_test_codec_official_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_codec_official_LDADD = $(TEST_LIBS)
tests_kernels_test_codec_bins_SOURCES = tests/kernels/test_codec_bins.c tests/kernels/codec_fixture.h
tests_kernels_test_codec_bins_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_codec_bins_LDADD = $(TEST_LIBS)
tests_kernels_test_codec_planes_SOURCES = tests/kernels/test_codec_planes.c tests/kernels/codec_fixture.h
tests_kernels_test_codec_planes_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_codec_planes_LDADD = $(TEST_LIBS)
tests_kernels_test_codec_sides_SOURCES = tests/kernels/test_codec_sides.c tests/kernels/codec_fixture.h
tests_kernels_test_codec_sides_CFLAGS = $(TEST_CFLAGS)
tests_kernels_test_codec_sides_LDADD = $(TEST_LIBS)
