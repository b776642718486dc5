# The programs: each is one small file plus the library. What two of them share is in libcli.
cli_sources = \
	src/cli/cli.c \
	src/cli/cli.h

bin_PROGRAMS += division-run
division_run_SOURCES = \
	$(cli_sources) \
	src/cli/list.c \
	src/cli/list.h \
	src/cli/progress.c \
	src/cli/progress.h \
	src/cli/run_main.c
division_run_LDADD = libdivision.a $(division_libs)

bin_PROGRAMS += division-codec
division_codec_SOURCES = \
	$(cli_sources) \
	src/cli/codec_main.c
division_codec_LDADD = libdivision.a $(division_libs)
