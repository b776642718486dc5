tensor_sources = \
	src/tensor/bytes.c \
	src/tensor/bytes_priv.h \
	src/tensor/npy.c \
	src/tensor/npy.h \
	src/tensor/safetensors.c \
	src/tensor/safetensors.h \
	src/tensor/tensor.h
