train_sources = \
	src/train/schedule.c \
	src/train/schedule.h \
	src/train/trainer.c \
	src/train/trainer.h
