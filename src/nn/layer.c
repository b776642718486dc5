#include "nn/layer.h"

#define X(symbol) extern const struct layer_type layer_##symbol;
#include "nn/layers.def"
#undef X

static const struct layer_type *const types[] = {
#define X(symbol) &layer_##symbol,
#include "nn/layers.def"
#undef X
};

const struct layer_type *const *layer_types(size_t *n)
{
    *n = sizeof types / sizeof *types;
    return types;
}

struct layer_needs layer_needs(const struct layer *l, const struct shape *x, size_t bn_group,
                               const struct store *store)
{
    struct layer_needs needs = {0};
    if (l->type->needs) {
        l->type->needs(l, x, bn_group, &needs);
    }
    if (store && store->params.official && store->policy->exact &&
        needs.side_piece == STORE_PIECE_INDICES) {
        needs.side_bytes *= sizeof(int64_t);
    }
    return needs;
}
