# division-codec.
TESTS += tests/cli/codec.sh
EXTRA_DIST += tests/cli/codec.sh

# division-run.
division_run_tests = \
	tests/cli/budget.sh \
	tests/cli/accumulate.sh \
	tests/cli/determinism.sh \
	tests/cli/endings.sh \
	tests/cli/errors.sh \
	tests/cli/except.sh \
	tests/cli/folders.sh \
	tests/cli/man_flags.sh \
	tests/cli/paper_memory.sh \
	tests/cli/plan.sh \
	tests/cli/run.sh \
	tests/cli/swap.sh \
	tests/cli/timeline.sh
TESTS += $(division_run_tests)
EXTRA_DIST += $(division_run_tests) tests/cli/lib.sh

# division-bench.
TESTS += tests/cli/bench.sh
EXTRA_DIST += tests/cli/bench.sh

# Minutes: part of make check-slow.
slow_tests += tests/cli/every_plan.sh
EXTRA_DIST += tests/cli/every_plan.sh
