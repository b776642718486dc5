config_sources = \
	src/config/config.c \
	src/config/config.def \
	src/config/config.h \
	src/config/config_except.c \
	src/config/config_priv.h \
	src/config/config_set.c \
	src/config/config_sweep.c \
	src/config/config_value.c \
	src/config/config_write.c \
	src/config/config_yaml.c \
	src/config/quote.c \
	src/config/quote.h \
	src/config/reader.c \
	src/config/reader.h
