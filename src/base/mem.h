/* The one door to the heap: every allocation carries a tag and is counted in a ledger.
 *
 * Two kinds of entry: mem_alloc/mem_free count real blocks; mem_acquire/mem_release count tensors
 * that live inside a block allocated with MEM_ARENA (the block itself is not counted as live, the
 * tensors in it are). "Live bytes" are therefore the bytes of the tensors alive now, whatever block
 * holds them. Counters are atomic; peaks are exact as long as one thread at a time changes them
 * (the data thread allocates nothing while training). */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

#include "base/err.h"

enum mem_tag {
    MEM_PARAM,      /* weights and running statistics */
    MEM_OPTIMIZER,  /* momentum */
    MEM_GRAD,       /* gradients of weights and of activations */
    MEM_ACTIVATION, /* forward values that are not saved for backward, and decoded copies */
    MEM_SAVED,      /* what forward keeps for backward */
    MEM_WORKSPACE,  /* scratch of one step */
    MEM_DATA,       /* batches and data sets held in memory */
    MEM_OTHER,      /* graph, plan, tables, strings */
    MEM_ARENA,      /* the arena block; never part of live bytes */
    MEM_N_TAGS
};

/* Name for reports: "param", "optimizer", … */
const char *mem_tag_name(enum mem_tag tag);

/* Zeroed memory, aligned to 64 bytes. Returns NULL if the system has none (or a test's injected
 * failure is due). bytes == 0 gives a valid, freeable pointer. */
void *mem_alloc(enum mem_tag tag, size_t bytes);

/* n * size with overflow check; otherwise as mem_alloc. */
void *mem_calloc(enum mem_tag tag, size_t n, size_t size);

/* Grows or shrinks; contents kept, new bytes zeroed. On failure NULL, and the old block stays. */
void *mem_realloc(enum mem_tag tag, void *ptr, size_t bytes);

/* NULL is allowed. */
void mem_free(void *ptr);

/* As mem_alloc, but not touched: the pages stay with the system until they are written. For the
 * arena and large buffers. */
void *mem_alloc_untouched(enum mem_tag tag, size_t bytes);

char *mem_strdup(const char *s);

/* A tensor inside an arena begins or ends to live. */
void mem_acquire(enum mem_tag tag, size_t bytes);
void mem_release(enum mem_tag tag, size_t bytes);

struct mem_count {
    size_t now_bytes[MEM_N_TAGS];
    size_t live_bytes;      /* sum of now_bytes over all tags but MEM_ARENA and MEM_OTHER */
    size_t live_peak_bytes; /* its highest value since the start or the last mem_peak_reset */
    size_t n_allocs;        /* calls that took memory from the system, since the start */
};
void mem_count_get(struct mem_count *out);
void mem_peak_reset(void);

/* a * b, or 0 with *overflow = true. */
size_t size_mul(size_t a, size_t b, int *overflow);

/* Tests: the n-th allocation from now fails (1 = the next); 0 switches it off. */
void mem_fail_after(size_t n);

/* Fills err with ERR_NOMEM: "out of memory: <what> needs <bytes>, …". Returns ERR_NOMEM. */
int err_nomem(struct err *err, const char *what, size_t bytes);

#endif
