#include "store/vault.h"

#include <assert.h>

#include "base/sys.h"

void vault_reset(struct vault *v)
{
    *v = (struct vault){0};
}

void vault_keep(struct vault *v, enum store_piece piece, size_t bytes)
{
    v->bytes += bytes;
    v->pieces[piece] += bytes;
}

void vault_drop(struct vault *v, enum store_piece piece, size_t bytes)
{
    assert(v->pieces[piece] >= bytes);
    v->bytes -= bytes;
    v->pieces[piece] -= bytes;
}

/* The pieces of an encoded map that takes `bytes`. */
static size_t piece_bytes(const struct store_choice *choice, enum store_piece piece, size_t bytes)
{
    const size_t planned = choice->pieces[piece];
    if (piece != STORE_PIECE_CODES) {
        return planned;
    }
    assert(planned + bytes >= choice->bytes);
    return planned + bytes - choice->bytes;
}

void vault_keep_map(struct vault *v, const struct store_choice *choice, size_t bytes)
{
    for (int i = 0; i < STORE_N_PIECES; i++) {
        vault_keep(v, (enum store_piece)i, piece_bytes(choice, (enum store_piece)i, bytes));
    }
    v->spilled_bytes += choice->spilled_bytes;
}

size_t vault_encode(struct vault *v, struct store *s, const struct store_map *map,
                    const struct store_choice *choice, const struct tensor *x,
                    const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    assert(choice->action == STORE_ENCODE);
    const double start_s = sys_now_s();
    const size_t bytes = s->policy->encode(s, map, x, rng, slot, cap, workspace);
    v->encode_s += sys_now_s() - start_s;
    assert(bytes <= cap);
    vault_keep_map(v, choice, bytes);
    return bytes;
}

void vault_decode(struct vault *v, struct store *s, const struct store_map *map, const void *slot,
                  const struct codec_block *block, struct tensor *out, void *workspace)
{
    const double start_s = sys_now_s();
    s->policy->decode(s, map, slot, block, out, workspace);
    v->decode_s += sys_now_s() - start_s;
}

void vault_drop_map(struct vault *v, const struct store_choice *choice, size_t bytes)
{
    for (int i = 0; i < STORE_N_PIECES; i++) {
        vault_drop(v, (enum store_piece)i, piece_bytes(choice, (enum store_piece)i, bytes));
    }
}
