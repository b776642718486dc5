/* Plain fixed-point codes: b bits per value, with a range per (sample, channel) map or per run of
 * `group` consecutive values. What the paper's predecessors do; the baseline for DIVISION. */
#include "store/codec_policy_priv.h"

#include <stdio.h>

#define MAX_GROUP 65536

static struct codec_spec spec_of(const struct store_params *p)
{
    return (struct codec_spec){
        .kind = p->group == 0 ? CODEC_MAP : CODEC_GROUP,
        .keep = CODEC_KEEP_BOTH,
        .bits = p->bits,
        .group = p->group,
        .stochastic = p->stochastic,
    };
}

static struct codec_spec spec_for(const struct store *s, const struct store_map *map)
{
    const struct codec_spec spec = spec_of(&s->params);
    return codec_policy_sided(&spec, map);
}

static int check(const struct store_params *p, struct err *err)
{
    const int code = codec_policy_check_bits("fixed", p, err);
    if (code != 0) {
        return code;
    }
    if (p->group % CODEC_TILE != 0 || p->group > MAX_GROUP) {
        return err_set(err, ERR_CONFIG,
                       "policy fixed: group is %zu; it must be 'map' or a multiple of %d up to %d",
                       p->group, CODEC_TILE, MAX_GROUP);
    }
    return 0;
}

static void label(const struct store_params *p, char *buf, size_t cap)
{
    char bits[16] = "", group[32] = "";
    if (p->bits != store_params_default().bits) {
        (void)snprintf(bits, sizeof(bits), "-b%u", p->bits);
    }
    if (p->group != 0) {
        (void)snprintf(group, sizeof(group), "-g%zu", p->group);
    }
    (void)snprintf(buf, cap, "fixed%s%s%s", bits, group, p->stochastic ? "" : "-nearest");
}

static double worst_error(const struct store_params *p, const struct shape *shape)
{
    (void)shape;
    const struct codec_spec spec = spec_of(p);
    return codec_policy_code_error(&spec, 1.0);
}

static double bits_per_value(const struct store_params *p, const struct shape *shape)
{
    const struct codec_spec spec = spec_of(p);
    return codec_policy_bits(&spec, shape);
}

static void plan(const struct store *s, const struct store_map *map, struct store_choice *choice)
{
    const struct codec_spec spec = spec_for(s, map);
    codec_policy_plan(s, &spec, map, choice);
}

static size_t encode(struct store *s, const struct store_map *map, const struct tensor *x,
                     const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    (void)cap;
    const struct codec_spec spec = spec_for(s, map);
    return codec_policy_encode(s, &spec, x, rng, slot, workspace);
}

static void encode_samples(struct store *s, const struct store_map *map, const struct tensor *x,
                           size_t first, const struct rng *rng, void *slot, void *workspace)
{
    const struct codec_spec spec = spec_for(s, map);
    codec_encode_samples(s->kernels, &spec, x, first, rng, slot, workspace);
}

static void decode(struct store *s, const struct store_map *map, const void *slot,
                   const struct codec_block *block, struct tensor *out, void *workspace)
{
    (void)workspace;
    const struct codec_spec spec = spec_for(s, map);
    codec_decode(s->kernels, &spec, &map->shape, slot, block, out, s->n_threads);
}

static const char *const keys[] = {"bits", "group", "rounding", NULL};

extern const struct store_policy store_fixed;
const struct store_policy store_fixed = {
    .name = "fixed",
    .summary = "fixed-point codes of 1, 2, 4 or 8 bits, a range per map or per group of values",
    .keys = keys,
    .unbiased = 1,
    .check = check,
    .label = label,
    .worst_error = worst_error,
    .bits_per_value = bits_per_value,
    .plan = plan,
    .encode = encode,
    .encode_samples = encode_samples,
    .decode = decode,
};
