/* What the passes of plan_make share. For src/nn/plan*.c only.
 *
 *   plan_decide    what is kept of each value
 *   plan_rules     is every exception of the policy used?
 *   plan_fuse      which ReLUs are part of a batch-norm's steps
 *   plan_forward   one step per layer, its sums before it, an ENCODE after each value that the
 *                  policy encodes
 *   plan_backward  in reverse, with the DECODE and RECOMPUTE steps that restore what a layer needs
 *   plan_chain     which steps go over the batch together, run of samples by run of samples
 *   plan_pack      where the buffers lie */
#ifndef NN_PLAN_PRIV_H
#define NN_PLAN_PRIV_H

#include "nn/plan.h"

struct plan_builder {
    struct plan *p;
    const struct graph *g;
    struct store *store;
    const struct layer_context *ctx;
    struct layer_needs *needs; /* [layers] */
    int *last_reader;          /* [values] highest layer that reads it in forward, -1: none */
    int *value_buffer;         /* [values] forward buffer */
    int *grad;                 /* [values] */
    int *code;                 /* [values] the code that readers share */
    int *restored;             /* [values] restored map that is kept for later readers */
    int *own_code;             /* [layers] this reader's own code of its input */
    int *side, *signs;         /* [layers] */
    int *relu, *norm;   /* [layers] the ReLU in a batch-norm's steps; the batch-norm of a ReLU */
    uint8_t *grad_read; /* [values] its producer has taken its gradient */
    int unchained;
    struct err *err;
};

static inline const struct layer *plan_layer(const struct plan_builder *b, size_t i)
{
    return b->g->layers[i];
}

/* A value's shape for the plan's batch. */
static inline struct shape plan_shape(const struct plan_builder *b, uint32_t value)
{
    struct shape s = b->g->values[value].shape;
    s.n = b->p->n;
    return s;
}

/* Is the value kept in its forward buffer? */
int plan_is_reference(const struct plan_builder *b, uint32_t value);

/* A new step without buffers; NULL on failure (then err is set). */
struct plan_step *plan_add_step(struct plan_builder *b, enum plan_step_kind kind);

/* A buffer that lives from the last added step on. PLAN_NONE for 0 bytes or on failure (then err
 * is set). */
int plan_add_buffer(struct plan_builder *b, enum plan_buffer_kind kind, enum mem_tag tag,
                    uint32_t owner, size_t bytes);
int plan_add_workspace(struct plan_builder *b, size_t bytes);

/* The last added step touches this buffer. Returns it. */
int plan_use(struct plan_builder *b, int buffer);

/* Does backward take the ReLU's mask from its rebuilt output? */
int plan_is_derived_mask(const struct plan_builder *b, const struct layer *l);

/* Are the ReLU's sign bits kept? And the ReLU whose bits tell where the output of the batch-norm is
 * positive that reads the value (NULL: none). Of values behind it, `kept` must be decided. */
int plan_has_signs(const struct plan_builder *b, const struct layer *l);
const struct layer *plan_sign_keeper(const struct plan_builder *b, uint32_t value);

/* What the layer's steps make: its output, or that of the ReLU in them. */
static inline uint32_t plan_output(const struct plan_builder *b, const struct layer *l)
{
    return b->relu[l->index] == PLAN_NONE ? l->out : plan_layer(b, (size_t)b->relu[l->index])->out;
}

/* The ReLU in its steps, else the layer itself. */
static inline uint32_t plan_last(const struct plan_builder *b, const struct layer *l)
{
    return b->relu[l->index] == PLAN_NONE ? l->index : (uint32_t)b->relu[l->index];
}

/* Is the map decoded by samples, in runs that keep all threads busy? Then it is cheaper to decode it
 * for each of its readers, run by run into cache, than to read it from memory again. */
int plan_decodes_by_run(const struct plan_builder *b, uint32_t value);

/* Scratch of a layer's step. */
size_t plan_layer_workspace(const struct plan_builder *b, const struct layer *l,
                            enum layer_phase phase, int want_dx);

/* The passes. Errors are left in b->err. */
void plan_decide(struct plan_builder *b);
void plan_rules(struct plan_builder *b);
void plan_fuse(struct plan_builder *b);
void plan_forward(struct plan_builder *b);
void plan_backward(struct plan_builder *b);
void plan_chain(struct plan_builder *b);

#endif
