/* The executor: runs a plan's steps on real data and keeps an account of its own.
 *
 * The ledger (base/mem.h) is told what becomes alive and what dies, in bytes worked out here from
 * shapes, layers and what encoders return, not read from the plan's tables. Agreement of plan and
 * ledger is therefore evidence. Between forward and backward nothing is kept but through the vault.
 * After exec_init nothing is allocated. */
#ifndef NN_EXEC_H
#define NN_EXEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/loss.h"
#include "nn/graph.h"
#include "nn/layer.h"
#include "nn/plan.h"
#include "store/store.h"
#include "store/vault.h"

/* Seconds since exec_times_clear, without the policy's work: that is in vault.encode_s and
 * vault.decode_s (recomputing included). */
struct exec_times {
    double forward_s, backward_s, update_s;
};

struct exec_hooks {
    void *ctx;
    /* The gradient of one parameter is complete; called in backward, right after its layer. The
     * hook may change p->w. */
    void (*gradient)(void *ctx, struct param *p, const real *dw);
    /* A step of a training plan is done and took that long; its dead buffers are still alive. */
    void (*step_done)(void *ctx, const struct plan_step *s, double seconds);
};

/* A part of a training batch, or all of it. */
struct exec_part {
    const struct tensor *images; /* (n, h, w, c), n <= batch_size */
    const uint32_t *labels;      /* [n] */
    size_t n_batch;              /* images of the whole batch: the loss is the mean over them */
    uint64_t step;               /* of the run, from 0: which update of the weights it is for */
    uint64_t draw;               /* of the run's parts, from 0: which random numbers it gets */
};

struct exec_config {
    struct graph *graph;           /* with allocated parameters; borrowed */
    struct store *store;           /* NULL: evaluation only; borrowed */
    const struct kernels *kernels; /* borrowed */
    int n_threads;
    size_t batch_size;      /* most images of a training step; unused without store */
    size_t eval_batch_size; /* largest evaluation batch; 0: no evaluation */
    size_t bn_group;        /* 0: the whole batch */
    uint64_t seed;
    double label_smoothing;
    int unchained; /* no chains, nothing fused (nn/plan.h): slower, same bits */
    int poison;    /* overwrite every dead buffer with NaN bits (debugging, tests); always on in
                   AddressSanitizer builds, where dead buffers are also marked as such */
};

struct exec {
    struct exec_config cfg;
    struct exec_hooks hooks;
    struct layer_context context;
    struct plan train, eval;
    char *arena;
    size_t arena_bytes;
    struct vault vault;
    struct exec_times times;
    size_t saved_bytes; /* vault's count at the end of the last forward pass */
    size_t saved_pieces[STORE_N_PIECES];
    size_t spilled_bytes;        /* of that pass */
    struct plan_value *values;   /* maps and choices for the batch at hand */
    size_t *code_bytes;          /* [codes] what encode returned */
    size_t *code_at;             /* [codes] place in the pool */
    size_t pool_used;            /* of this step */
    int *unsettled;              /* [codes] buffer that the policy may still read, or PLAN_NONE */
    size_t n;                    /* batch size that `values` is for */
    const struct tensor *images; /* of the running step */
};

/* Makes both plans and allocates one arena for them. ERR_NOMEM, ERR_CONFIG; ERR_IO where the policy
 * cannot have what it needs of a disk. */
int exec_init(struct exec *e, const struct exec_config *cfg, struct err *err) MUST_USE;
void exec_fini(struct exec *e);

/* One training step on images (n, h, w, c), n <= batch_size: forward, loss (mean over n), backward;
 * every gradient goes to hooks.gradient. `step` counts from 0 over the whole run. A non-finite loss
 * is reported in *result, not an error. */
int exec_train(struct exec *e, const struct tensor *images, const uint32_t *labels, uint64_t step,
               struct loss_result *result, struct err *err) MUST_USE;

/* The same for a part of a batch (gradient accumulation). Its gradients are that part's share of the
 * gradient of the batch's mean loss: the hook is to add them up. Batch-norm sees the part alone. */
int exec_train_part(struct exec *e, const struct exec_part *part, struct loss_result *result,
                    struct err *err) MUST_USE;

/* Forward in evaluation mode, n <= eval_batch_size. Plain cross-entropy, no label smoothing.
 * logits [n][classes] or NULL. */
int exec_evaluate(struct exec *e, const struct tensor *images, const uint32_t *labels, real *logits,
                  struct loss_result *result, struct err *err) MUST_USE;

void exec_times_clear(struct exec *e);

/* Highest sum of bytes that the two plans foresee in the arena. */
size_t exec_planned_peak_bytes(const struct exec *e);

#endif
