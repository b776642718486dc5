models_sources = \
	src/models/models.c \
	src/models/models.def \
	src/models/models.h \
	src/models/preact.c \
	src/models/resnet.c
