#include "store/codec_policy_priv.h"

int codec_policy_check_bits(const char *policy, const struct store_params *p, struct err *err)
{
    if (p->bits == 1 || p->bits == 2 || p->bits == 4 || p->bits == 8) {
        return 0;
    }
    return err_set(err, ERR_CONFIG, "policy %s: bits is %u; it must be 1, 2, 4 or 8", policy,
                   p->bits);
}

void codec_policy_plan(const struct store *s, const struct codec_spec *spec,
                       const struct store_map *map, struct store_choice *choice)
{
    *choice = (struct store_choice){.action = STORE_REFERENCE};
    struct codec_bytes parts;
    const size_t bytes = codec_bytes(spec, &map->shape, &parts);
    if (map->producer == NULL || bytes >= shape_bytes(&map->shape)) {
        return;
    }
    choice->action = STORE_ENCODE;
    choice->bytes = bytes;
    choice->pieces[STORE_PIECE_MEANS] = parts.means;
    choice->pieces[STORE_PIECE_CODES] = parts.codes;
    choice->pieces[STORE_PIECE_RANGES] = parts.ranges;
    choice->workspace_bytes = codec_workspace_bytes(spec, &map->shape, s->n_threads);
    choice->normalised = spec->kind == CODEC_SIDES;
}

struct codec_spec codec_policy_sided(const struct codec_spec *spec, const struct store_map *map)
{
    struct codec_spec sided = *spec;
    if ((map->marks & STORE_MARK_SIGNED) && spec->kind == CODEC_MAP &&
        spec->keep == CODEC_KEEP_BOTH) {
        sided.kind = CODEC_SIDES;
        sided.norm = &map->norm;
    }
    return sided;
}

size_t codec_policy_encode(const struct store *s, const struct codec_spec *spec,
                           const struct tensor *x, const struct rng *rng, void *slot,
                           void *workspace)
{
    return codec_encode(s->kernels, spec, x, rng, slot, workspace, s->n_threads);
}

double codec_policy_bits(const struct codec_spec *spec, const struct shape *shape)
{
    const size_t n = shape_elements(shape);
    return n == 0 ? 0.0 : 8.0 * (double)codec_bytes(spec, shape, NULL) / (double)n;
}

double codec_policy_code_error(const struct codec_spec *spec, double span)
{
    /* min r is rounded down to bf16: the codes span up to 2^-7 |min r| more. The step is rounded up
     * to bf16 (2^-7) and may go up by one more. */
    const double levels = (double)((1u << spec->bits) - 1u);
    const double step = span * (1 + 0x1p-7) * (1 + 0x1p-6) / levels;
    const double float_rounding = span * 0x1p-21;
    return (spec->stochastic ? step : step * (0.5 + 0x1p-16)) + float_rounding;
}
