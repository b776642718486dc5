# Tests of the tree itself.
lint_tests = \
	tests/lint/headers.sh \
	tests/lint/objects.sh \
	tests/lint/rooms.sh \
	tests/lint/rooms_test.sh
TESTS += $(lint_tests)
EXTRA_DIST += $(lint_tests)
