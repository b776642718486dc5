data_sources = \
	src/data/augment.c \
	src/data/augment_priv.h \
	src/data/cifar.c \
	src/data/cifar10.c \
	src/data/cifar100.c \
	src/data/cifar_priv.h \
	src/data/data.def \
	src/data/dataset.c \
	src/data/dataset.h \
	src/data/dataset_file.c \
	src/data/dataset_priv.h \
	src/data/fashion_mnist.c \
	src/data/idx.c \
	src/data/idx_file.c \
	src/data/idx_priv.h \
	src/data/idx_stream.c \
	src/data/idx_stream_priv.h \
	src/data/loader.c \
	src/data/loader.h \
	src/data/micro_batch.h \
	src/data/synthetic.c
