/* What the executor's files share. For src/nn/exec*.c only. */
#ifndef NN_EXEC_PRIV_H
#define NN_EXEC_PRIV_H

#include "nn/exec.h"

#if defined(__SANITIZE_ADDRESS__)
#define EXEC_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXEC_ASAN 1
#endif
#endif
#ifdef EXEC_ASAN
#include <sanitizer/asan_interface.h>
#endif

/* What the loss step of the running pass is to do. */
struct loss_call {
    const uint32_t *labels;
    real *logits;   /* NULL: not wanted */
    size_t n_batch; /* training: images over which the loss is averaged */
    struct loss_result *result;
};

/* --- exec_account.c: places from the plan, sizes and account from the executor ---------------- */

static inline const struct layer *exec_layer(const struct exec *e, const struct plan_step *s)
{
    return e->cfg.graph->layers[s->layer];
}

struct shape exec_shape(const struct exec *e, uint32_t value); /* for the batch at hand */
void *exec_address(const struct exec *e, const struct plan *p, int buffer);
struct tensor exec_tensor(const struct exec *e, const struct plan *p, int buffer, uint32_t value);

/* The buffer begins, and ceases, to live. */
void exec_acquire(struct exec *e, const struct plan *p, const struct plan_buffer *b);
void exec_release(struct exec *e, const struct plan *p, const struct plan_buffer *b);

/* A step is done: what it leaves for backward is counted in the vault. */
void exec_keep(struct exec *e, const struct plan *p, const struct plan_step *s);
/* So many bytes were written for this step's code. */
void exec_keep_code(struct exec *e, const struct plan_step *s, size_t bytes);

/* Where this step's code lies, and how many bytes may be there. */
void *exec_code(const struct exec *e, const struct plan *p, const struct plan_step *s, size_t *cap);

/* --- exec_step.c ------------------------------------------------------------------------------ */

/* The steps of the chain that begins at step i: all buffers are alive. */
void exec_run_chain(struct exec *e, const struct plan *p, size_t i, const struct loss_call *call);

#endif
