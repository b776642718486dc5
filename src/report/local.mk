report_sources = \
	src/report/columns.c \
	src/report/columns.h \
	src/report/csv_read.c \
	src/report/csv_read.h \
	src/report/csv_write.c \
	src/report/csv_write.h \
	src/report/epochs.def \
	src/report/gnuplot.c \
	src/report/gnuplot.h \
	src/report/plan.def \
	src/report/plan_row.c \
	src/report/plan_row.h \
	src/report/record.c \
	src/report/record.h \
	src/report/steps.c \
	src/report/steps.def \
	src/report/steps.h \
	src/report/summary.c \
	src/report/summary.h \
	src/report/table.c \
	src/report/table.h \
	src/report/timeline.c \
	src/report/timeline.def \
	src/report/timeline.h
