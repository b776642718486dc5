# One training step against PyTorch: see compare_torch.py. The programs write every number of a step;
# run/ is no part of the double library, so its weights.c is compiled into the double program.
check_PROGRAMS += tests/peer/step_dump tests/peer/step_dump_f64
slow_tests += tests/peer/compare_torch.sh
EXTRA_DIST += tests/peer/compare_torch.sh tests/peer/compare_torch.py \
	tests/peer/safetensors_io.py tests/peer/torch_nets.py

tests_peer_step_dump_SOURCES = tests/peer/step_dump.c
tests_peer_step_dump_CFLAGS = $(TEST_CFLAGS)
tests_peer_step_dump_LDADD = $(TEST_LIBS)

tests_peer_step_dump_f64_SOURCES = tests/peer/step_dump.c src/run/weights.c
tests_peer_step_dump_f64_CFLAGS = $(TEST_F64_CFLAGS)
tests_peer_step_dump_f64_LDADD = $(TEST_F64_LIBS)

# The same for small networks, against numbers that PyTorch left in a file: part of make check.
EXTRA_DIST += \
	tests/golden/torch_step/README.md \
	tests/golden/torch_step/make_golden.py \
	tests/golden/torch_step/groups.golden \
	tests/golden/torch_step/layers.golden \
	tests/golden/torch_step/resnet20.golden \
	tests/golden/torch_step/wrn.golden
if HAVE_CHECK
check_PROGRAMS += tests/nn/test_torch_golden tests/nn/test_torch_golden_f64
TESTS += tests/nn/test_torch_golden tests/nn/test_torch_golden_f64
tests_nn_test_torch_golden_SOURCES = tests/nn/test_torch_golden.c
tests_nn_test_torch_golden_CFLAGS = $(TEST_CFLAGS)
tests_nn_test_torch_golden_LDADD = $(TEST_LIBS)
tests_nn_test_torch_golden_f64_SOURCES = tests/nn/test_torch_golden.c
tests_nn_test_torch_golden_f64_CFLAGS = $(TEST_F64_CFLAGS)
tests_nn_test_torch_golden_f64_LDADD = $(TEST_F64_LIBS)
endif
