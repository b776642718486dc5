# Storage policies (one file each, with a row in store.def) and the vault.
store_sources = \
	src/store/acgc.c \
	src/store/acgc_code.c \
	src/store/acgc_priv.h \
	src/store/acgc_stats.c \
	src/store/actnn.c \
	src/store/actnn_pool.c \
	src/store/actnn_priv.h \
	src/store/actnn_stats.c \
	src/store/actnn_stats.h \
	src/store/bit_budget.c \
	src/store/bit_budget.h \
	src/store/blpa.c \
	src/store/checkpoint.c \
	src/store/codec_policy.c \
	src/store/codec_policy_priv.h \
	src/store/division.c \
	src/store/fixed.c \
	src/store/normal.c \
	src/store/spill.c \
	src/store/spill_priv.h \
	src/store/store.c \
	src/store/store.def \
	src/store/store.h \
	src/store/swap.c \
	src/store/vault.c \
	src/store/vault.h
