/* The memory plan: what one training or evaluation step does, and where every buffer lies.
 *
 * plan_make turns graph, policy and batch size into a list of steps over numbered buffers. The life
 * of each buffer (first to last step) is known, so all of them get an offset in one arena before the
 * first step, and the training loop allocates nothing. A smaller batch runs the same plan: its
 * buffers are shorter, their places stay. The plan is only read by the executor, which keeps its
 * own account of what is alive (nn/exec.h); the two must agree. */
#ifndef NN_PLAN_H
#define NN_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "nn/graph.h"
#include "nn/layer.h"
#include "store/store.h"

#define PLAN_NONE (-1)
#define PLAN_IMAGE (-2) /* the batch's images: outside the arena */

enum plan_buffer_kind {
    PLAN_VALUE,     /* a forward value; owner: value */
    PLAN_RESTORED,  /* a map decoded or recomputed for backward; owner: value */
    PLAN_SLOT,      /* an encoded map; owner: code */
    PLAN_POOL,      /* all maps that share the pool; owner: 0 */
    PLAN_SIDE,      /* exact side data; owner: layer */
    PLAN_SIGNS,     /* ReLU sign bits; owner: layer */
    PLAN_GRAD,      /* gradient of a value; owner: value */
    PLAN_DPARAM,    /* gradient of a parameter; owner: parameter */
    PLAN_WORKSPACE, /* scratch of one step; owner: step */
};

struct plan_buffer {
    enum plan_buffer_kind kind;
    enum mem_tag tag;
    uint32_t owner;
    size_t bytes;       /* for the plan's batch size */
    size_t local;       /* of a map that lives in one chain alone: not the whole batch is there but,
                           for each thread, the run it is at, in so many bytes; else 0 */
    size_t first, last; /* steps, both included */
    size_t offset;      /* in the arena, a multiple of 64 */
};

enum plan_step_kind {
    PLAN_SUMS, /* what forward, or backward where there is a dy, needs of the whole batch */
    PLAN_FORWARD,
    PLAN_ENCODE,    /* value -> code */
    PLAN_LOSS,      /* logits -> loss, and their gradient in place when training */
    PLAN_DECODE,    /* code -> restored map */
    PLAN_RECOMPUTE, /* a layer's forward again, into a restored map */
    PLAN_GRADIENTS, /* a layer's parameters' gradients, where they are a step of their own */
    PLAN_BACKWARD,
    PLAN_UPDATE, /* hand the layer's parameter gradients on */
};

/* Buffers by number, or PLAN_NONE / PLAN_IMAGE. */
struct plan_step {
    enum plan_step_kind kind;
    uint32_t layer; /* but ENCODE, DECODE: only the batch-norm of a normalised code */
    int relu;       /* the layer behind that is part of the step, or PLAN_NONE */
    uint32_t value; /* ENCODE, DECODE */
    uint32_t code;
    int x[GRAPH_MAX_INPUTS], y, side, signs, workspace;
    int slot; /* of the code; the pool's buffer for a pooled map */
    int dy, dx[GRAPH_MAX_INPUTS];
    int accumulate[GRAPH_MAX_INPUTS];
    int dparam[LAYER_MAX_PARAMS];
    /* Buffers that begin, and end, to live here: plan.order[acquire .. acquire+n_acquire). */
    size_t acquire, n_acquire, release, n_release;
    /* Steps of the chain that begins here (1: this one alone); 0 within a chain. */
    size_t n_chain;
    int is_local; /* buffers of the chain that begins here are local: its steps go by runs only */
};

/* Longest chain of steps that go over the batch together. */
enum { PLAN_MAX_CHAIN = 8 };

/* One code of a map. Readers share it, but for `shared_saves: off`. */
struct plan_code {
    uint32_t value, layer; /* layer: the batch-norm of a normalised code */
    int slot;              /* buffer */
};

/* What becomes of a value between forward and backward. */
struct plan_value {
    int kept;                   /* needed again in backward */
    struct store *store;        /* whose policy it is */
    int chosen;                 /* by that policy: neither exact nor rebuilt whatever it says */
    struct store_choice choice; /* meaningful if kept */
    size_t n_copies;            /* codes of it */
    struct store_map map;       /* as the policy was asked, n = the plan's batch */
};

struct plan {
    size_t n;     /* batch size */
    int training; /* else: forward only */
    struct plan_step *steps;
    size_t n_steps, cap_steps;
    struct plan_buffer *buffers;
    size_t n_buffers, cap_buffers;
    uint32_t *order;           /* of buffers; see plan_step */
    struct plan_value *values; /* [graph.n_values]; NULL in evaluation */
    struct plan_code *codes;
    size_t n_codes;
    int pool; /* buffer, or PLAN_NONE */
    size_t loss_step;
    size_t peak_bytes;  /* highest sum of live buffers */
    size_t peak_step;   /* the first step at which it occurs */
    size_t arena_bytes; /* extent of the packing, at least peak_bytes */
    size_t saved_bytes; /* kept at the end of forward, the image included */
    size_t saved_pieces[STORE_N_PIECES];
    size_t spilled_bytes; /* written to files in a step, beside saved_bytes */
};

struct plan_config {
    const struct graph *graph;
    struct store *store;                 /* NULL: evaluation */
    const struct layer_context *context; /* kernels, n_threads, bn_group */
    size_t n;
    int unchained; /* every layer and step by itself: the slow, obvious twin of the rest */
};

/* The value that the step's y, and dy, are of. */
uint32_t plan_step_output(const struct plan_step *s, const struct graph *g);

/* ERR_NOMEM, ERR_CONFIG where the policy asks for something impossible or has an exception
 * (store_rule) that no saved map takes. */
int plan_make(const struct plan_config *cfg, struct plan *out, struct err *err) MUST_USE;
void plan_fini(struct plan *p);

/* Saved bytes that belong to one layer: its output's map and its side data. For reports. */
void plan_layer_saved(const struct plan *p, const struct graph *g, const struct layer *l,
                      size_t pieces[STORE_N_PIECES]);

/* The same for the images, and for a code of them beside. */
void plan_image_saved(const struct plan *p, const struct graph *g, size_t pieces[STORE_N_PIECES]);

/* Assigns offsets to all buffers and fills the peak, the extent and the steps' lists of buffers.
 * Called by plan_make. ERR_NOMEM. */
int plan_pack(struct plan *p, struct err *err) MUST_USE;

#endif
