run_sources = \
	src/run/budget.c \
	src/run/budget.h \
	src/run/evaluate_run.c \
	src/run/folder.c \
	src/run/folder.h \
	src/run/forecast.c \
	src/run/forecast.h \
	src/run/job.c \
	src/run/job.h \
	src/run/plan_run.c \
	src/run/plan_table.c \
	src/run/plan_table.h \
	src/run/plan_totals.c \
	src/run/record_run.c \
	src/run/record_run.h \
	src/run/run.h \
	src/run/session.c \
	src/run/session.h \
	src/run/sweep.c \
	src/run/sweep.h \
	src/run/timeline_run.c \
	src/run/train_run.c \
	src/run/weights.c \
	src/run/weights.h
