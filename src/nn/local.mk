nn_sources = \
	src/nn/add_layer.c \
	src/nn/avg_pool_layer.c \
	src/nn/batch_norm_layer.c \
	src/nn/conv2d_layer.c \
	src/nn/conv2d_priv.h \
	src/nn/dropout_layer.c \
	src/nn/exec.c \
	src/nn/exec.h \
	src/nn/global_avg_pool_layer.c \
	src/nn/graph.c \
	src/nn/graph.h \
	src/nn/layer.c \
	src/nn/layer.h \
	src/nn/layers.def \
	src/nn/layers.h \
	src/nn/linear_layer.c \
	src/nn/max_pool_layer.c \
	src/nn/param.c \
	src/nn/plan.c \
	src/nn/plan.h \
	src/nn/plan_pack.c \
	src/nn/relu_layer.c
