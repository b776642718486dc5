/* DIVISION (Wang et al., arXiv 2208.04187): block means in bf16, and low-bit codes of what they
 * leave. */
#include "store/codec_policy_priv.h"

#include <stdio.h>

#define MAX_BLOCK 64

static struct codec_spec spec_of(const struct store_params *p)
{
    return (struct codec_spec){
        .kind = p->official ? CODEC_OFFICIAL : CODEC_MAP,
        .keep = p->keep,
        .bits = p->bits,
        .block = p->block,
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
    const int code = codec_policy_check_bits("division", p, err);
    if (code != 0) {
        return code;
    }
    if (p->block < 1 || p->block > MAX_BLOCK) {
        return err_set(err, ERR_CONFIG, "policy division: block is %zu; it must be 1 to %d",
                       p->block, MAX_BLOCK);
    }
    if (p->official && p->keep != CODEC_KEEP_BOTH) {
        return err_set(err, ERR_CONFIG,
                       "policy division: compat is official, which keeps both parts; keep must be "
                       "'both' with it");
    }
    return 0;
}

static void label(const struct store_params *p, char *buf, size_t cap)
{
    static const char *const keep[] = {
        [CODEC_KEEP_BOTH] = "", [CODEC_KEEP_LOW] = "-low", [CODEC_KEEP_HIGH] = "-high"};
    const struct store_params normal = store_params_default();
    char sizes[48] = "";
    if (p->block != normal.block || p->bits != normal.bits) {
        (void)snprintf(sizes, sizeof(sizes), "-B%zu-Q%u", p->block, p->bits);
    }
    (void)snprintf(buf, cap, "division%s%s%s%s", sizes, keep[p->keep],
                   p->stochastic ? "" : "-nearest", p->official ? "-official" : "");
}

/* L lies among the map's values, but for its rounding to bf16, 2^-9 of it. So r spans up to two
 * ranges (one block of high, one of low outliers) and twice that rounding. */
static double worst_error(const struct store_params *p, const struct shape *shape)
{
    (void)shape;
    const struct codec_spec spec = spec_of(p);
    const double mean_rounding = 0x1p-8, low = 1.0 + mean_rounding;
    const double codes = codec_policy_code_error(&spec, 2.0 + 2 * mean_rounding);
    if (p->official) {
        return codes + 4 * 0x1p-8; /* m and 1/s in bf16 after the fact, each of up to 2 ranges */
    }
    switch (p->keep) {
    case CODEC_KEEP_LOW: return low;
    case CODEC_KEEP_HIGH: return low + codes; /* L is lost */
    default: return codes;
    }
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

static const char *const keys[] = {"block", "bits", "keep", "rounding", "compat", NULL};

extern const struct store_policy store_division;
const struct store_policy store_division = {
    .name = "division",
    .summary = "block means in bf16 and codes of 1, 2, 4 or 8 bits for the rest (arXiv 2208.04187)",
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
