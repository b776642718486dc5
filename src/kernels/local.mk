# The kernels. Three lists, because they are compiled differently:
#   kernels_sources            drivers, reference loops and headers; in the double library too
#   kernels_isa_sources        once per ISA with -DKERNELS_ISA=base|avx2|avx512, that ISA's -m flags
#                              and -ffp-contract=fast
#   kernels_codec_isa_sources  the same with -ffp-contract=off: codes are equal bits on every ISA
# Each group of kernels has a block of its own below.

kernels_sources =
kernels_isa_sources =
kernels_codec_isa_sources =

# The table of kernels, convolution, GEMM.
kernels_sources += \
	src/kernels/kernels.c \
	src/kernels/kernels.h \
	src/kernels/simd/simd.h \
	src/kernels/gemm.c \
	src/kernels/gemm.h \
	src/kernels/conv.c \
	src/kernels/conv.h \
	src/kernels/conv_isa.h \
	src/kernels/conv_priv.h \
	src/kernels/conv_gather.c \
	src/kernels/conv_ref.c \
	src/kernels/conv_im2col.c \
	src/kernels/conv_igemm.c \
	src/kernels/conv_igemm_weight.c \
	src/kernels/conv_winograd.c
kernels_isa_sources += \
	src/kernels/simd/conv_tiles.c \
	src/kernels/simd/winograd.c

# Batch-norm, element-wise passes, pooling, loss, SGD.
kernels_sources += \
	src/kernels/loops_isa.h \
	src/kernels/loops_priv.h \
	src/kernels/sample_runs.h \
	src/kernels/loops_ref.c \
	src/kernels/batch_norm.c \
	src/kernels/batch_norm.h \
	src/kernels/eltwise.c \
	src/kernels/eltwise.h \
	src/kernels/pool.c \
	src/kernels/pool.h \
	src/kernels/loss.c \
	src/kernels/loss.h \
	src/kernels/sgd.c \
	src/kernels/sgd.h \
	src/kernels/simd/loops_simd.h \
	src/kernels/simd/philox.h
kernels_isa_sources += \
	src/kernels/simd/loops_rows.c \
	src/kernels/simd/loops_bn.c \
	src/kernels/simd/loops_pool.c

# The codec.
kernels_sources += \
	src/kernels/codec.c \
	src/kernels/codec.h \
	src/kernels/codec_isa.h \
	src/kernels/codec_planes_ref.c \
	src/kernels/codec_priv.h \
	src/kernels/codec_ref.c \
	src/kernels/simd/codec_octet.h \
	src/kernels/simd/codec_philox.h \
	src/kernels/simd/codec_simd.h \
	src/kernels/simd/codec_walk.h
kernels_codec_isa_sources += \
	src/kernels/simd/codec_bins.c \
	src/kernels/simd/codec_group.c \
	src/kernels/simd/codec_map.c \
	src/kernels/simd/codec_planes.c \
	src/kernels/simd/codec_sides.c
