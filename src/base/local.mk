base_sources = \
	src/base/err.c \
	src/base/err.def \
	src/base/err.h \
	src/base/file.c \
	src/base/file.h \
	src/base/mem.c \
	src/base/mem.h \
	src/base/real.h \
	src/base/rng.c \
	src/base/rng.h \
	src/base/str.c \
	src/base/str.h \
	src/base/sys.c \
	src/base/sys.h \
	src/base/tasks.c \
	src/base/tasks.h \
	src/base/threads.c \
	src/base/threads.h
