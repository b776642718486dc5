/* What the files of policy actnn share: the sizes of an adaptive map's code, and the ledger of who may
 * have how many bits. For src/store/actnn*.c alone. */
#ifndef STORE_ACTNN_PRIV_H
#define STORE_ACTNN_PRIV_H

#include "store/actnn_stats.h"
#include "store/bit_budget.h"
#include "store/store.h"

static inline int actnn_is_adaptive(const struct store_params *p)
{
    return p->level == STORE_LEVEL_L3;
}

struct codec_spec actnn_spec(const struct store_params *p, unsigned bits);

/* Among how many threads it is worth it to split this. */
int actnn_threads(const struct store *s, const struct shape *shape);

/* --- sizes of an adaptive map's code (actnn.c) ------------------------------------------------ */

/* What every sample of such a map takes, and how far its bits may go. */
struct actnn_sizes {
    size_t head;    /* bytes that say how many bits it has */
    size_t ranges;  /* bytes of minima and steps */
    size_t per_bit; /* bytes of codes for each bit */
    unsigned most;  /* widest code that is smaller than the values; 0: none is */
};

struct actnn_sizes actnn_sizes_of(const struct store_params *p, const struct shape *shape);

/* Bytes of n samples with so many bits in all; as a whole number of the pool's units of 64; at the
 * planned bits; with one bit each. */
size_t actnn_code_bytes(const struct actnn_sizes *s, size_t n, size_t bits);
size_t actnn_in_pool(size_t bytes);
size_t actnn_share_bytes(const struct store_params *p, const struct actnn_sizes *s, size_t n);
size_t actnn_least_bytes(const struct actnn_sizes *s, size_t n);

/* --- bits of layers, and the pool (actnn_pool.c) ---------------------------------------------- */

struct actnn_entry {
    int is_used; /* there is such a map */
    unsigned uses;
    size_t n_codes; /* of it in one step */
    struct actnn_sizes sizes;
    double pixels;
    double bits;        /* average of its samples, planned for the coming encoding */
    double sensitivity; /* of this step, while its backward pass goes on */
    size_t n_done;      /* codes of this round */
    double *cost;       /* [cap] of its samples, without the sensitivity */
    size_t cap;
};

/* A round is the encoding of all maps, each as often as it has codes. */
struct actnn {
    struct actnn_entry *entries; /* [n_entries], by the map's id */
    size_t n_entries;
    struct bit_row *rows; /* [n_entries] */
    double *norms;        /* [cap] of one gradient's samples */
    size_t cap;
    size_t n;           /* samples in this round */
    size_t left;        /* of the pool */
    size_t reserved;    /* of that: for one bit in all codes that are still to come */
    int is_round_begun; /* since the step began */
    int is_observed;    /* gradients have been seen since the layers were last shared out */
};

static inline struct actnn *actnn_of(const struct store *s)
{
    return s->priv;
}

int actnn_open(struct store *s, struct err *err) MUST_USE;
void actnn_close(struct store *s);

/* The map's entry; all that it will need is allocated here, while plans are made. NULL: no memory. */
struct actnn_entry *actnn_add_entry(const struct store *s, const struct store_map *map);
struct actnn_entry *actnn_find_entry(const struct store *s, const struct store_map *map);

/* Before a map of n samples is encoded, in at most cap bytes: bits for all of them together, its
 * layer's average or what the pool still allows. And afterwards: it has taken so many bytes. */
size_t actnn_pool_ask(const struct store *s, struct actnn_entry *e, size_t n, size_t cap);
void actnn_pool_take(const struct store *s, struct actnn_entry *e, size_t bytes);

/* Hooks of the policy. */
void actnn_begin(struct store *s, uint64_t step);
void actnn_observe(struct store *s, const struct store_map *map, const struct store_gradient *g);
size_t actnn_state_bytes(const struct store *s);
void actnn_state_save(const struct store *s, void *dst);
int actnn_state_load(struct store *s, const void *src, size_t bytes, struct err *err) MUST_USE;

#endif
