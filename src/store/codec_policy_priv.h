/* What the policies have in common that keep maps through the codec: a policy says which
 * codec_spec its settings mean, the rest is here. */
#ifndef STORE_CODEC_POLICY_PRIV_H
#define STORE_CODEC_POLICY_PRIV_H

#include "store/store.h"

/* Settings that several policies share. */
int codec_policy_check_bits(const char *policy, const struct store_params *p, struct err *err);

/* Encode, unless the map is the input image or its code would not be smaller. */
void codec_policy_plan(const struct store *s, const struct codec_spec *spec,
                       const struct store_map *map, struct store_choice *choice);

/* A code with a range per map, with that range on either side of the batch-norm's threshold where the
 * map's marks allow it. */
struct codec_spec codec_policy_sided(const struct codec_spec *spec, const struct store_map *map);

size_t codec_policy_encode(const struct store *s, const struct codec_spec *spec,
                           const struct tensor *x, const struct rng *rng, void *slot,
                           void *workspace);

/* Bits per value of what the policy keeps of a map of this shape; raw maps count in full. */
double codec_policy_bits(const struct codec_spec *spec, const struct shape *shape);

/* Largest |decoded - x|, as a multiple of the map's range with 0 in it (store.h), where codes span
 * `span` ranges. */
double codec_policy_code_error(const struct codec_spec *spec, double span);

#endif
