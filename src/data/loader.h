/* The loader: batches of augmented, normalised images, made one batch ahead on a thread of its own.
 *
 * Everything random comes from (seed, epoch, sample index): the batches of an epoch are the same
 * bits whatever ran before and however many threads there are. */
#ifndef DATA_LOADER_H
#define DATA_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "data/dataset.h"
#include "tensor/tensor.h"

enum augment_flag {
    AUGMENT_NONE = 0,
    AUGMENT_CROP4 = 1,         /* random crop after zero padding by 4 (black, before normalising) */
    AUGMENT_FLIP = 2,          /* mirror left-right with probability 1/2 */
    AUGMENT_CROP4_REFLECT = 4, /* random crop after reflection padding by 4 (edge not repeated) */
};

/* "crop4" -> AUGMENT_CROP4 …; 0 and *ok = 0 if unknown. */
unsigned augment_find(const char *name, int *ok);
/* Names for messages, in bit order, "none" first; *n entries. */
const char *const *augment_names(size_t *n);

struct loader_config {
    const struct dataset *dataset; /* borrowed; must outlive the loader */
    enum data_split split;
    size_t batch_size;
    size_t accumulate; /* micro-batches of a full batch (data/micro_batch.h), each delivered by
                          itself; 0: whole batches */
    int shuffle;
    int drop_last;    /* leave out the smaller last batch */
    unsigned augment; /* AUGMENT_ flags */
    uint64_t seed;
};

/* One batch, or one micro-batch of it. Valid until the next call of loader_next, loader_start or loader_free. */
struct batch {
    struct tensor x;        /* (n, h, w, c), (pixel/255 - mean) / std */
    const uint32_t *labels; /* [n] */
    const size_t *indices;  /* [n] index of each sample in its split */
    size_t n;               /* 0: the epoch is over */
    size_t first, n_batch;  /* its place in the batch, and the whole batch's images */
    double wait_s;          /* how long loader_next waited for it */
};

struct loader;

/* Allocates all buffers (two batches or micro-batches, MEM_DATA) and the thread. ERR_CONFIG if the batch is 0 or
 * larger than the split (with both numbers) or the augmentation does not fit the images,
 * ERR_NOMEM. */
int loader_new(const struct loader_config *cfg, struct loader **out, struct err *err) MUST_USE;

/* Bytes that loader_new will allocate under MEM_DATA for these images and a split of n_samples;
 * SIZE_MAX if they cannot be counted. n: images delivered at a time, at most. */
size_t loader_bytes(const struct dataset_info *info, size_t n, size_t n_samples);

/* Begins epoch `epoch` (counted from 0) at its first batch; may be called at any time, also in the
 * middle of an epoch or after an error. */
int loader_start(struct loader *l, size_t epoch, struct err *err) MUST_USE;

/* The next batch; batch->n == 0 at the end and before the first loader_start. Read errors of the
 * thread arrive here, behind the whole batches made before, and again until the next
 * loader_start. */
int loader_next(struct loader *l, struct batch *batch, struct err *err) MUST_USE;

/* Batches per epoch, each counted once. */
size_t loader_n_batches(const struct loader *l);

void loader_free(struct loader *l);

#endif
