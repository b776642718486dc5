/* Backprop with approximate activations (Chakrabarti and Moseley, NeurIPS 2019), in 4 or 8 bits.
 *
 * Of a batch-norm, a ReLU and the convolution behind them one tensor is kept: the normalised value,
 * in bins of fixed width about 0 (CODEC_BINS in kernels/codec.h), written when the batch-norm has
 * its statistics. From it come the batch-norm's backward, the ReLU's mask and the convolution's
 * input: this policy always works as `recompute: bn` and `relu_mask: derived` do, and the bins lie
 * so that the derived mask is the exact one (but beyond 3 deviations; see there). Exact are, as in
 * the published code, the map that a pooling reads, before batch-norm and ReLU, and what
 * max-pooling makes.
 *
 * The published networks know no other maps. Ours, for a convolution's input that no batch-norm
 * alone has made (the ReLU behind an addition in ResNets): codes of as many bits, rounded to
 * nearest, with a range per (sample, channel), and the mask in exact sign bits. */
#include <stdio.h>
#include <string.h>

#include "store/codec_policy_priv.h"

static struct codec_spec bins_of(const struct store_params *p, const struct codec_norm *norm)
{
    return (struct codec_spec){.kind = CODEC_BINS, .bits = p->bits, .norm = norm};
}

static struct codec_spec ranges_of(const struct store_params *p)
{
    return (struct codec_spec){.kind = CODEC_MAP, .bits = p->bits};
}

/* Does a batch-norm normalise the map before anything else needs it? */
static int is_binned(const struct store_map *map)
{
    return (map->uses & STORE_USE_BN) && !(map->uses & STORE_USE_CONV);
}

static struct codec_spec spec_of(const struct store *s, const struct store_map *map)
{
    return is_binned(map) ? bins_of(&s->params, &map->norm) : ranges_of(&s->params);
}

static int check(const struct store_params *p, struct err *err)
{
    if (p->bits == 4 || p->bits == 8) {
        return 0;
    }
    return err_set(err, ERR_CONFIG, "policy blpa: bits is %u; it must be 4 or 8", p->bits);
}

static void label(const struct store_params *p, char *buf, size_t cap)
{
    (void)snprintf(buf, cap, "blpa%s", p->bits == 8 ? "-b8" : "");
}

/* Of maps with a range of their own. */
static double worst_error(const struct store_params *p, const struct shape *shape)
{
    (void)shape;
    const struct codec_spec spec = ranges_of(p);
    return codec_policy_code_error(&spec, 1.0);
}

static double bits_per_value(const struct store_params *p, const struct shape *shape)
{
    const struct codec_spec spec = ranges_of(p);
    return codec_policy_bits(&spec, shape);
}

static int open(struct store *s, struct err *err)
{
    (void)err;
    s->params.rebuild_bn = 1;
    s->params.derived_mask = 1;
    return 0;
}

static void plan(const struct store *s, const struct store_map *map, struct store_choice *choice)
{
    *choice = (struct store_choice){.action = STORE_REFERENCE};
    const int is_max_pool = map->producer != NULL && strcmp(map->producer, "max_pool") == 0;
    if ((map->marks & STORE_MARK_POOLED) || is_max_pool) {
        return;
    }
    const struct codec_spec spec = spec_of(s, map);
    codec_policy_plan(s, &spec, map, choice);
    choice->normalised = choice->action == STORE_ENCODE && is_binned(map);
}

static size_t encode(struct store *s, const struct store_map *map, const struct tensor *x,
                     const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    (void)cap;
    const struct codec_spec spec = spec_of(s, map);
    return codec_policy_encode(s, &spec, x, rng, slot, workspace);
}

static void encode_samples(struct store *s, const struct store_map *map, const struct tensor *x,
                           size_t first, const struct rng *rng, void *slot, void *workspace)
{
    const struct codec_spec spec = spec_of(s, map);
    codec_encode_samples(s->kernels, &spec, x, first, rng, slot, workspace);
}

static void decode(struct store *s, const struct store_map *map, const void *slot,
                   const struct codec_block *block, struct tensor *out, void *workspace)
{
    (void)workspace;
    const struct codec_spec spec = spec_of(s, map);
    codec_decode(s->kernels, &spec, &map->shape, slot, block, out, s->n_threads);
}

static const char *const keys[] = {"bits", NULL};

extern const struct store_policy store_blpa;
const struct store_policy store_blpa = {
    .name = "blpa",
    .summary = "4 or 8 bits of the normalised value, from which ReLU mask and input are rebuilt",
    .keys = keys,
    .default_bits = 4,
    .check = check,
    .label = label,
    .worst_error = worst_error,
    .bits_per_value = bits_per_value,
    .open = open,
    .plan = plan,
    .encode = encode,
    .encode_samples = encode_samples,
    .decode = decode,
};
