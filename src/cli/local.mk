# The programs: each is one small file plus the library. What two of them share is in libcli.
cli_sources = \
	src/cli/cli.c \
	src/cli/cli.h

bin_PROGRAMS += division-run
division_run_SOURCES = \
	$(cli_sources) \
	src/cli/dry_run.c \
	src/cli/experiment.c \
	src/cli/experiment.h \
	src/cli/list.c \
	src/cli/list.h \
	src/cli/progress.c \
	src/cli/progress.h \
	src/cli/run_args.c \
	src/cli/run_args.h \
	src/cli/run_main.c
division_run_LDADD = libdivision.a $(division_libs)

bin_PROGRAMS += division-codec
division_codec_SOURCES = \
	$(cli_sources) \
	src/cli/codec_main.c
division_codec_LDADD = libdivision.a $(division_libs)

bin_PROGRAMS += division-bench
division_bench_SOURCES = \
	$(cli_sources) \
	src/cli/bench.h \
	src/cli/bench_child.c \
	src/cli/bench_codec.c \
	src/cli/bench_config.c \
	src/cli/bench_data.c \
	src/cli/bench_kernels.c \
	src/cli/bench_main.c \
	src/cli/bench_repeat.c \
	src/cli/bench_roof.c \
	src/cli/bench_serve.c \
	src/cli/bench_step.c \
	src/cli/bench_step.h \
	src/cli/bench_table.c
division_bench_LDADD = libdivision.a $(division_libs)
