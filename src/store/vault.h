/* The vault: counts what is kept between forward and backward, whatever the policy.
 *
 * Nothing that backward reads again is kept but through these calls, so `bytes` is the activation
 * memory of the step, as measured: encoders report what they wrote, callers what they hold by
 * reference. The vault owns no memory; slots belong to the caller. One thread at a time. */
#ifndef STORE_VAULT_H
#define STORE_VAULT_H

#include <stddef.h>

#include "base/rng.h"
#include "kernels/codec.h"
#include "store/store.h"
#include "tensor/tensor.h"

struct vault {
    size_t bytes;                  /* kept now = sum of pieces */
    size_t pieces[STORE_N_PIECES]; /* kept now, by kind */
    size_t spilled_bytes;          /* in files, beside `bytes`, since the step began */
    double encode_s, decode_s;     /* time in the policy's encode and decode since the reset */
};

/* Empties the count and the times. */
void vault_reset(struct vault *v);

/* Something of that kind is kept from now on, or no longer. */
void vault_keep(struct vault *v, enum store_piece piece, size_t bytes);
void vault_drop(struct vault *v, enum store_piece piece, size_t bytes);

/* Encodes a map whose choice is STORE_ENCODE into slot [cap] and counts the bytes that the policy
 * wrote, which it returns. Where that is not choice->bytes, the difference is one of codes. */
size_t vault_encode(struct vault *v, struct store *s, const struct store_map *map,
                    const struct store_choice *choice, const struct tensor *x,
                    const struct rng *rng, void *slot, size_t cap, void *workspace);

/* A map whose choice is STORE_ENCODE has been encoded, into so many bytes. */
void vault_keep_map(struct vault *v, const struct store_choice *choice, size_t bytes);

/* Decodes the block of the map (its shape is out's) from the slot. */
void vault_decode(struct vault *v, struct store *s, const struct store_map *map, const void *slot,
                  const struct codec_block *block, struct tensor *out, void *workspace);

/* The map's slot is free again; `bytes` is what vault_encode returned for it. */
void vault_drop_map(struct vault *v, const struct store_choice *choice, size_t bytes);

#endif
