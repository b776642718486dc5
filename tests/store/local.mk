# Storage policies; and the example that uses the installed library's codec, compiled and run.
check_PROGRAMS += \
	examples/codec \
	tests/store/test_actnn \
	tests/store/test_acgc \
	tests/store/test_blpa \
	tests/store/test_store \
	tests/store/test_swap
TESTS += \
	examples/codec \
	tests/store/test_actnn \
	tests/store/test_acgc \
	tests/store/test_blpa \
	tests/store/test_store \
	tests/store/test_swap
tests_store_test_actnn_SOURCES = tests/store/test_actnn.c tests/nn/net.h
tests_store_test_actnn_CFLAGS = $(TEST_CFLAGS)
tests_store_test_actnn_LDADD = $(TEST_LIBS)
tests_store_test_store_SOURCES = tests/store/test_store.c
tests_store_test_store_CFLAGS = $(TEST_CFLAGS)
tests_store_test_store_LDADD = $(TEST_LIBS)
tests_store_test_swap_SOURCES = tests/store/test_swap.c
tests_store_test_swap_CFLAGS = $(TEST_CFLAGS)
tests_store_test_swap_LDADD = $(TEST_LIBS)
examples_codec_SOURCES = examples/codec.c
examples_codec_CFLAGS = $(TEST_CFLAGS)
examples_codec_LDADD = $(TEST_LIBS)
tests_store_test_blpa_SOURCES = tests/store/test_blpa.c tests/nn/net.h
tests_store_test_blpa_CFLAGS = $(TEST_CFLAGS)
tests_store_test_blpa_LDADD = $(TEST_LIBS)
tests_store_test_acgc_SOURCES = tests/store/test_acgc.c tests/nn/net.h
tests_store_test_acgc_CFLAGS = $(TEST_CFLAGS)
tests_store_test_acgc_LDADD = $(TEST_LIBS)
