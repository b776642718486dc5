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
