/* The parts of policy acgc: the pool and the bits of each channel (acgc.c), what it remembers of the
 * gradients (acgc_stats.c), and one map's code with given bits (acgc_code.c). */
#ifndef STORE_ACGC_PRIV_H
#define STORE_ACGC_PRIV_H

#include "store/store.h"

enum { ACGC_MIN_BITS = 2, ACGC_MAX_BITS = 16 };

/* A map's code: for each channel its step (float32) and its bits (one byte), whether it is signed
 * (one byte), zeros up to a multiple of 64 bytes; then bit planes (struct codec_planes). */
size_t acgc_header_bytes(size_t c);
size_t acgc_code_bytes(const struct shape *shape, size_t sum_bits /* of all channels */);

size_t acgc_workspace_bytes(size_t c, int n_threads);

/* max [c]: largest |x| of each channel, NaN where not all are finite. Returns whether one value at
 * least is negative. */
int acgc_measure(const struct kernels *k, const struct tensor *x, float *max, void *workspace,
                 int n_threads);

/* Step max / 2^(bits - 1) if signed, else max / 2^bits, of max + 1e-6; rounded to nearest. */
void acgc_write(const struct kernels *k, const struct tensor *x, const float *max,
                const uint8_t *bits, int is_signed, unsigned char *slot, void *workspace,
                int n_threads);
void acgc_read(const struct kernels *k, const struct shape *shape, const unsigned char *slot,
               const struct codec_block *block, struct tensor *out, int n_threads);

enum { ACGC_N_SAMPLES = 10 };

/* What is remembered of a batch-norm's gradients, per channel. */
enum { ACGC_INVSTD2, ACGC_GAMMA2, ACGC_DGAMMA2, ACGC_N_DY2, ACGC_MAX_DY2, ACGC_N_ROWS };

/* A ring of the last samples; `now` is being taken. */
struct acgc_ring {
    uint32_t n, at;
    uint32_t touched; /* something has been put into `at` */
    uint32_t reserved;
};

/* What is saved of a map, apart from its arrays. */
struct acgc_saved {
    uint32_t id, c;
    uint32_t copies; /* codes of it in the last step */
    uint32_t calls;  /* and so far in this one */
    struct acgc_ring conv, bn;
    double conv_dw[ACGC_N_SAMPLES], conv_dy[ACGC_N_SAMPLES];
    double bn_dx[ACGC_N_SAMPLES];
};

struct acgc_map {
    struct acgc_saved saved;
    size_t n_pixels; /* of one sample */
    float *max;      /* [c], of the last code */
    float *bn;       /* [ACGC_N_SAMPLES][ACGC_N_ROWS][c]; NULL if no batch-norm reads the map */
    uint8_t *bits;   /* [c], scratch */
    size_t foreseen; /* bytes of a code in this step */
};

/* NULL if there is no memory. uses: STORE_USE_ bits. */
struct acgc_map *acgc_map_new(uint32_t id, const struct shape *shape, unsigned uses);
void acgc_map_free(struct acgc_map *m);

/* A reader of the map has gone through backward, in a step whose gradients count. */
void acgc_map_observe(struct acgc_map *m, const struct store_gradient *g);
/* The next step begins: what was observed is a sample. */
void acgc_map_next(struct acgc_map *m);

/* Squared error that a value of channel ch may have in a batch of n, with the largest value `max`.
 * INFINITY where nothing has been observed. */
double acgc_map_error2(const struct acgc_map *m, double budget, size_t n, size_t ch, double max);

#endif
