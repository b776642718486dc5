/* Storage policies: what is kept of an activation map between forward and backward.
 *
 * A policy is one file (src/store/NAME.c) with a `const struct store_policy` and one row in
 * store.def. Layers never talk to a policy: they declare which of their inputs they need again as a
 * *map* (lossy allowed) and which exact side data they need; the plan (nn/plan.h) asks the policy
 * once per map what shall happen to it, and the executor carries that out through the vault.
 *
 * Three things can happen to a map:
 *   STORE_REFERENCE  its forward buffer stays alive until its last use in backward; no copy
 *   STORE_ENCODE     `encode` writes `bytes` bytes when the map has been made; `decode` gives it
 *                    back before each layer that needs it
 *   STORE_RECOMPUTE  nothing is kept: its producer is run again from its own inputs, which the plan
 *                    then keeps (or recomputes) instead
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/rng.h"
#include "kernels/codec.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

/* What checkpoint computes again at a time. */
enum store_segments { STORE_SEGMENTS_STAGE, STORE_SEGMENTS_BLOCK };

/* actnn's levels, its default first: bits shared out by sensitivity; the same bits everywhere;
 * the same bits in inputs of convolutions, batch-norm's exact. */
enum store_level { STORE_LEVEL_L3, STORE_LEVEL_L2, STORE_LEVEL_L1 };

/* What level L3 shares bits out among: samples of all maps, or samples of each map by itself. */
enum store_adapt { STORE_ADAPT_LAYER, STORE_ADAPT_SAMPLE };

/* All settings that any policy knows; each policy names the ones it takes (store_policy.keys).
 * Strings and numbers as in the config's storage section. */
struct store_params {
    size_t block;  /* pixels per side of an averaged block */
    unsigned bits; /* bits per code */
    size_t group;  /* 0: range per (sample, channel) map; else values per range */
    enum codec_keep keep;
    int stochastic;
    int official;                 /* compat: official */
    enum store_segments segments; /* what checkpoint recomputes at a time */
    char spill_dir[256];          /* where swap puts its file; "": chosen */
    enum store_level level;       /* actnn */
    enum store_adapt adapt;       /* actnn */
    double error_budget;          /* of acgc: squared error of a gradient, relative to its square */
    /* What the plan does with the policy's choices, whatever the policy: */
    int rebuild_bn;   /* recompute: bn */
    int derived_mask; /* relu_mask: derived */
    int unshared;     /* shared_saves: off, every reader of a map keeps a code of its own */
};

/* block 8, bits 2, group 0, keep both, stochastic, not official. */
struct store_params store_params_default(void);

struct store_policy;
/* The same with what is the policy's own default. */
struct store_params store_params_of(const struct store_policy *policy);

enum store_use { STORE_USE_CONV = 1, STORE_USE_BN = 2, STORE_USE_RECOMPUTE = 4 };

/* A map's place in the network. */
enum store_mark {
    STORE_MARK_STEM = 1,      /* made before the first block */
    STORE_MARK_BLOCK_END = 2, /* output of a residual or dense block */
    STORE_MARK_STAGE_END = 4, /* input of the next stage */
    STORE_MARK_SHORTCUT = 8,  /* made by a projection shortcut's convolution */
    STORE_MARK_POOLED = 16,   /* a pooling reads it, or what batch-norm and ReLU make of it */
    STORE_MARK_SIGNED = 32,   /* with `recompute: bn`: a batch-norm alone reads it, and where its
                                 output is positive is kept exactly (store_map.norm.signs) */
};

/* One map, as a policy sees it. */
struct store_map {
    uint32_t id;          /* index of the value in the graph; also the random stream */
    const char *name;     /* value's name, for reports: "layer1.0.bn1" = output of that layer */
    const char *producer; /* layer type that makes it: "conv2d", "relu", …; NULL: the input image */
    struct shape shape;   /* n = samples of the batch at hand */
    unsigned uses;        /* STORE_USE_ bits; 0: its sign alone is wanted */
    unsigned marks;       /* STORE_MARK_ bits */
    size_t n_readers;     /* layers that read it in backward */
    int can_recompute;    /* its producer can be run again */
    struct codec_norm
        norm; /* encode, decode: with choice.normalised, the batch-norm that reads it */
};

enum store_action { STORE_REFERENCE, STORE_ENCODE, STORE_RECOMPUTE };

/* Where saved bytes go; reports name each piece. */
enum store_piece {
    STORE_PIECE_MEANS, /* block means */
    STORE_PIECE_CODES,
    STORE_PIECE_RANGES,  /* minima and steps */
    STORE_PIECE_MAPS,    /* exact maps, by reference or raw */
    STORE_PIECE_IMAGE,   /* the input image, by reference */
    STORE_PIECE_SIGNS,   /* ReLU sign bits */
    STORE_PIECE_INDICES, /* max-pool winners */
    STORE_PIECE_STATS,   /* batch-norm mean and inverse deviation */
    STORE_N_PIECES
};
const char *store_piece_name(enum store_piece piece);

struct store_choice {
    enum store_action action;
    size_t bytes;                  /* STORE_ENCODE: size of the slot, or share of the pool */
    size_t pieces[STORE_N_PIECES]; /* sum = bytes */
    size_t workspace_bytes;        /* scratch of encode and of decode */
    /* STORE_ENCODE: no slot of its own but a share (a multiple of 64 bytes) of one pool for all
     * pooled maps of a step. The pool is handed out in the order of encoding, 64-byte aligned, so a
     * map may take more or less than its share while the pool lasts. */
    int pooled;
    int normalised;    /* STORE_ENCODE, of a map with STORE_USE_BN: encode when the batch-norm that
                          reads it has its statistics (store_map.norm); decode also gets
                          norm.signs if the map has STORE_MARK_SIGNED */
    int keep_restored; /* STORE_RECOMPUTE: once made again, keep it for all of its readers */
    size_t lead; /* steps before its decoding at which `prefetch` gets the restored map's buffer */
    size_t lag;  /* steps after its encoding for which the map's buffer is not used for others */
    size_t spilled_bytes; /* of it in a file; they are in no memory and not in `bytes` */
};

/* What backward knows about a map's reader, for adaptive policies. */
struct store_gradient {
    enum store_use use;      /* STORE_USE_CONV or STORE_USE_BN */
    const struct tensor *dy; /* the gradient that reached it; see observe */
    const struct tensor *dx; /* the gradient that it sends on; NULL where none is wanted */
    const real *dw;          /* conv: gradient of its n_dw weights */
    size_t n_dw, r, s, stride;
    const real *gamma, *invstd, *dgamma; /* batch-norm: [c], [n_groups][c], [c] */
    size_t n_groups;
};

struct store; /* below */

struct store_policy {
    const char *name;
    const char *summary;     /* one line for --list policies */
    const char *const *keys; /* storage keys it takes, NULL-terminated */
    int unbiased;            /* E[decoded] = x under stochastic rounding, at the default settings */
    int exact;               /* decoded = x bit for bit */
    int batch_ranges;        /* worst_error counts ranges of a channel over all samples */
    unsigned default_bits;   /* 0: as store_params_default */

    /* Are these settings meaningful? ERR_CONFIG naming key, value and what is allowed. */
    int (*check)(const struct store_params *p, struct err *err);
    /* Short label from the non-default settings: "division", "division-B4-Q2", "fixed-b4". */
    void (*label)(const struct store_params *p, char *buf, size_t cap);
    /* Largest |decoded - x| as a multiple of the range of the map (or run) with 0 in it, max(x, 0)
     * - min(x, 0): stored numbers have relative errors, so a map far from 0 errs more than its own
     * range says. For ranges of at least 2^-100 (compat official: 1e-3, because of its 2e-6). And
     * mean bits per value. */
    double (*worst_error)(const struct store_params *p, const struct shape *shape);
    double (*bits_per_value)(const struct store_params *p, const struct shape *shape);

    /* Both may be NULL: private state for one run. */
    int (*open)(struct store *s, struct err *err);
    void (*close)(struct store *s);

    /* What shall happen to this map? Called once per map and batch size, before the first step. */
    void (*plan)(const struct store *s, const struct store_map *map, struct store_choice *choice);

    /* May be NULL: a training step, or one of its micro-batches, begins; the pool is empty. `step`
     * counts updates of the weights: micro-batches of one have the same. */
    void (*begin)(struct store *s, uint64_t step);

    /* NULL for a policy that never answers STORE_ENCODE. encode returns the bytes it used, at most
     * `cap`: choice.bytes, or what is left of the pool. */
    size_t (*encode)(struct store *s, const struct store_map *map, const struct tensor *x,
                     const struct rng *rng, void *slot, size_t cap, void *workspace);
    void (*decode)(struct store *s, const struct store_map *map, const void *slot,
                   const struct codec_block *block, struct tensor *out, void *workspace);
    /* May be NULL. Encodes samples first .. of the map alone (x holds them); slot is the whole
     * map's and is full when all have been. Called by several threads at once, as decode is then,
     * each with a workspace of choice.workspace_bytes / n_threads. For policies that always write
     * choice.bytes. */
    void (*encode_samples)(struct store *s, const struct store_map *map, const struct tensor *x,
                           size_t first, const struct rng *rng, void *slot, void *workspace);

    /* I/O in flight (each may be NULL). `prepare`: these maps (of the largest batch) will be
     * encoded; called once, before the first step. `settle`: the map's buffer is about to be reused,
     * finish reading it. `prefetch`: the map will be decoded into `out` (alive until then) in
     * choice.lead steps. Both are called between layers. `failed`: the error, if I/O has failed;
     * asked after each decode. `cancel`: the step is given up; no buffer is touched any more. */
    int (*prepare)(struct store *s, const struct store_map *const *maps, size_t n, struct err *err);
    int (*settle)(struct store *s, const struct store_map *map, struct err *err);
    int (*prefetch)(struct store *s, const struct store_map *map, struct tensor *out,
                    struct err *err);
    int (*failed)(struct store *s, struct err *err);
    void (*cancel)(struct store *s);

    /* Adaptive policies (may be NULL): a reader of the map has gone through backward. A batch-norm
     * reports twice: first, when it has its sums, with dy and no dx, then, when dx may lie where dy
     * lay, with dx and no dy. */
    void (*observe)(struct store *s, const struct store_map *map, const struct store_gradient *g);
    /* State that a resumed run needs (may be NULL): bytes, and copying it out and in. */
    size_t (*state_bytes)(const struct store *s);
    void (*state_save)(const struct store *s, void *dst);
    int (*state_load)(struct store *s, const void *src, size_t bytes, struct err *err);
};

/* A policy with its settings, ready for one run. */
struct store {
    const struct store_policy *policy;
    struct store_params params;
    const struct kernels *kernels; /* borrowed */
    int n_threads;
    void *priv;
    struct store_rule *rules; /* exceptions; owned, closed with the store */
    size_t n_rules;
};

/* Maps whose name fits `match` (str_glob's * and ?) are kept by another policy. */
struct store_rule {
    char match[64];
    struct store store;
};

const struct store_policy *const *store_policies(size_t *n);
const struct store_policy *store_policy_find(const char *name);

/* ERR_CONFIG for an unknown name (lists the valid ones) or meaningless settings. */
int store_open(struct store *s, const char *policy, const struct store_params *params,
               const struct kernels *kernels, int n_threads, struct err *err) MUST_USE;
/* The same for a policy that is not in the table (tests). */
int store_open_policy(struct store *s, const struct store_policy *policy,
                      const struct store_params *params, const struct kernels *kernels,
                      int n_threads, struct err *err) MUST_USE;
void store_close(struct store *s);

/* Adds an exception behind those that s has: maps whose name fits `match` (at most 63 bytes) are kept
 * by this policy, with the kernels and threads of s. Before the first plan is made. ERR_CONFIG,
 * ERR_NOMEM; s is then as before. */
int store_add_rule(struct store *s, const char *match, const char *policy,
                   const struct store_params *params, struct err *err) MUST_USE;

/* The store that keeps the map of this name: that of the first rule that fits, or s. */
struct store *store_for(struct store *s, const char *map_name);

/* Codes that are made of the map in a step: with `shared_saves: off` one for every reader. */
size_t store_n_codes(const struct store *s, const struct store_map *map);

/* A training step, or one of its micro-batches, begins: tells s and its rules' policies. */
void store_begin(struct store *s, uint64_t step);
/* A training step is given up: likewise. */
void store_cancel(struct store *s);

#endif
