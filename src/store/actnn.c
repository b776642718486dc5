/* ActNN (Chen et al., ICML 2021): codes with a range for every 256 values of a sample, and more bits
 * for samples and layers whose rounding noise harms gradients more.
 *
 * After the published code:
 *   level L1   `bits` bits in inputs of convolutions; batch-norm's stay exact (theirs: bits 4)
 *   level L2   `bits` bits everywhere (theirs: bits 4)
 *   level L3   `bits` bits on average (theirs: 2)
 * A unit of level L3 is one sample n of one map; with b bits it has the variance C_n / (2^b - 1)^2,
 *   C_n = sum over groups of (max - min)^2 * 256 / pixels * sensitivity
 *   sensitivity = sum over the convolutions that read it of r*s/4 * mean over samples of |dy|^2
 * All begin at 8 bits and a greedy rule lowers the cheapest until the average fits, first over the
 * samples of all maps at once, which gives each layer its average, then, as each map is encoded,
 * over its own samples. A batch-norm's input takes the average of the preceding convolution's, and
 * is shared out by its ranges alone. Layers' averages move after every step.
 *
 * Ours:
 *   - Widths are 1, 2, 4 and 8 (theirs: 1 to 8), which is what the codec has.
 *   - Codes and ranges are those of policy fixed with group 256 (kernels/codec.h): nothing clamps,
 *     and the last group of a sample is not padded with zeros.
 *   - The average holds over convolutions' and batch-norms' maps together: an input of a convolution
 *     weighs as much as it and the batch-norm inputs behind it. (Theirs counts convolutions alone,
 *     so that its total may drift.) Sizes are planned as one pool of the average size, never
 *     exceeded: a map that would leave too little for those behind it gets fewer bits.
 *   - Layers' averages come from the ranges and gradients of the same step, the last one. Before the
 *     first step all layers have `bits`, and so have batch-norm inputs that no saved convolution
 *     input precedes (behind the image).
 *   - A map read by several layers is coded once; their sensitivities add up.
 *   - `adapt: sample` leaves every layer's average at `bits`: level L3 without its second half.
 *   - compat: official counts the bits of a sample in 4 bytes, as theirs does, instead of one. */
#include "store/actnn_priv.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/tasks.h"
#include "store/codec_policy_priv.h"

#define POOL_ALIGN 64

/* Below this many values starting threads costs more than it saves. */
#define MIN_PARALLEL 32768

int actnn_threads(const struct store *s, const struct shape *shape)
{
    return shape_elements(shape) > MIN_PARALLEL ? s->n_threads : 1;
}

struct codec_spec actnn_spec(const struct store_params *p, unsigned bits)
{
    return (struct codec_spec){
        .kind = CODEC_GROUP,
        .keep = CODEC_KEEP_BOTH,
        .bits = bits,
        .group = ACTNN_GROUP,
        .stochastic = p->stochastic,
    };
}

/* --- sizes of an adaptive map ----------------------------------------------------------------- */

struct actnn_sizes actnn_sizes_of(const struct store_params *p, const struct shape *shape)
{
    struct shape one = *shape;
    one.n = 1;
    struct actnn_sizes s = {.head = p->official ? 4 : 1};
    for (size_t w = 0; w < BIT_BUDGET_N_WIDTHS; w++) {
        struct codec_bytes parts;
        const struct codec_spec spec = actnn_spec(p, bit_budget_widths[w]);
        (void)codec_bytes(&spec, &one, &parts);
        if (parts.raw == 0 && parts.codes > 0) {
            s.ranges = parts.ranges;
            s.per_bit = parts.codes / spec.bits;
            s.most = spec.bits;
        }
    }
    return s;
}

size_t actnn_code_bytes(const struct actnn_sizes *s, size_t n, size_t bits)
{
    return n * (s->head + s->ranges) + bits * s->per_bit;
}

size_t actnn_in_pool(size_t bytes)
{
    return (bytes + POOL_ALIGN - 1) / POOL_ALIGN * POOL_ALIGN;
}

/* Bits per value that the plan counts with. */
static unsigned planned_bits(const struct store_params *p, const struct actnn_sizes *s)
{
    return p->bits < s->most ? p->bits : s->most;
}

size_t actnn_share_bytes(const struct store_params *p, const struct actnn_sizes *s, size_t n)
{
    return actnn_in_pool(actnn_code_bytes(s, n, n * planned_bits(p, s)));
}

size_t actnn_least_bytes(const struct actnn_sizes *s, size_t n)
{
    return actnn_in_pool(actnn_code_bytes(s, n, n));
}

/* Decided for one sample, so that it does not depend on the batch. */
static int is_worth_it(const struct store_params *p, const struct shape *shape)
{
    struct shape one = *shape;
    one.n = 1;
    const struct actnn_sizes s = actnn_sizes_of(p, shape);
    return s.most > 0 && actnn_share_bytes(p, &s, 1) < shape_bytes(&one);
}

/* --- encoding -------------------------------------------------------------------------------- */

static void find_costs(const struct store *s, struct actnn_entry *e, const struct tensor *x)
{
    const double factor = ACTNN_GROUP / e->pixels;
    struct tasks tasks;
    tasks_share(&tasks, x->shape.n, actnn_threads(s, &x->shape));
#pragma omp parallel num_threads(s->n_threads) if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        e->cost[i] = factor * actnn_square_ranges(x, i);
    }
}

/* How many bits sample i has stands at its place in the head. */
static unsigned sample_bits(const struct actnn_sizes *sizes, const unsigned char *slot, size_t i)
{
    return slot[i * sizes->head];
}

/* offset[i]: of sample i's code. Returns the end of all. */
static size_t find_offsets(const struct actnn_sizes *sizes, const unsigned char *slot, size_t n,
                           size_t *offset)
{
    size_t at = n * sizes->head;
    for (size_t i = 0; i < n; i++) {
        offset[i] = at;
        at += sizes->ranges + sample_bits(sizes, slot, i) * sizes->per_bit;
    }
    return at;
}

static size_t encode_adaptive(struct store *s, const struct store_map *map, const struct tensor *x,
                              const struct rng *rng, unsigned char *slot, size_t cap,
                              size_t *offset)
{
    struct actnn_entry *e = actnn_find_entry(s, map);
    const size_t n = x->shape.n, pixels = x->shape.h * x->shape.w;
    assert(e != NULL && n <= e->cap);
    const size_t allowed = actnn_pool_ask(s, e, n, cap);
    find_costs(s, e, x);
    uint8_t *bits = (uint8_t *)(offset + n);
    struct bit_row row = {.cost = e->cost, .factor = 1, .weight = 1, .most = e->sizes.most};
    bit_budget_share(&row, 1, n, allowed, bits);
    memset(slot, 0, n * e->sizes.head);
    for (size_t i = 0; i < n; i++) {
        slot[i * e->sizes.head] = bits[i];
    }
    const size_t bytes = find_offsets(&e->sizes, slot, n, offset);
    assert(bytes <= cap);
    actnn_pool_take(s, e, bytes);

    struct tasks tasks;
    tasks_share(&tasks, n, actnn_threads(s, &x->shape));
#pragma omp parallel num_threads(s->n_threads) if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        struct tensor sample = *x;
        sample.data += i * pixels * x->pixel_stride;
        sample.shape.n = 1;
        const struct codec_spec spec = actnn_spec(&s->params, bits[i]);
        (void)codec_encode_one(s->kernels, &spec, &sample, i, rng, slot + offset[i], NULL,
                               s->n_threads);
    }
    return bytes;
}

static void decode_adaptive(struct store *s, const struct store_map *map, const unsigned char *slot,
                            const struct codec_block *block, struct tensor *out, size_t *offset)
{
    const struct actnn_sizes sizes = actnn_sizes_of(&s->params, &map->shape);
    const size_t n = block->n1 - block->n0, out_pixels = out->shape.h * out->shape.w;
    struct shape one = map->shape;
    one.n = 1;
    (void)find_offsets(&sizes, slot, block->n1, offset);
    struct tasks tasks;
    tasks_share(&tasks, n, actnn_threads(s, &out->shape));
#pragma omp parallel num_threads(s->n_threads) if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        struct tensor sample = *out;
        sample.data += i * out_pixels * out->pixel_stride;
        sample.shape.n = 1;
        struct codec_block part = *block;
        part.n0 = 0;
        part.n1 = 1;
        const struct codec_spec spec = actnn_spec(&s->params,
                                                  sample_bits(&sizes, slot, block->n0 + i));
        codec_decode(s->kernels, &spec, &one, slot + offset[block->n0 + i], &part, &sample,
                     s->n_threads);
    }
}

/* --- the row ---------------------------------------------------------------------------------- */

static int check(const struct store_params *p, struct err *err)
{
    if (!actnn_is_adaptive(p)) {
        return p->adapt == STORE_ADAPT_LAYER
                   ? codec_policy_check_bits("actnn", p, err)
                   : err_set(err, ERR_CONFIG,
                             "policy actnn: adapt is sample, but levels L1 and L2 have the same "
                             "bits everywhere; leave it out, or take level L3");
    }
    if (p->bits < 1 || p->bits > 8) {
        return err_set(err, ERR_CONFIG, "policy actnn: bits is %u; at level L3 it must be 1 to 8",
                       p->bits);
    }
    return 0;
}

static void label(const struct store_params *p, char *buf, size_t cap)
{
    static const char *const levels[] = {
        [STORE_LEVEL_L3] = "", [STORE_LEVEL_L2] = "-L2", [STORE_LEVEL_L1] = "-L1"};
    char bits[16] = "";
    if (p->bits != store_params_default().bits) {
        (void)snprintf(bits, sizeof(bits), "-b%u", p->bits);
    }
    (void)snprintf(buf, cap, "actnn%s%s%s%s%s", levels[p->level],
                   p->adapt == STORE_ADAPT_SAMPLE ? "-sample" : "", bits,
                   p->stochastic ? "" : "-nearest", p->official ? "-official" : "");
}

static double worst_error(const struct store_params *p, const struct shape *shape)
{
    (void)shape;
    const struct codec_spec spec = actnn_spec(p, actnn_is_adaptive(p) ? 1 : p->bits);
    return codec_policy_code_error(&spec, 1.0);
}

static double bits_per_value(const struct store_params *p, const struct shape *shape)
{
    const struct codec_spec spec = actnn_spec(p, p->bits);
    const size_t n = shape_elements(shape);
    if (!actnn_is_adaptive(p)) {
        return codec_policy_bits(&spec, shape);
    }
    if (!is_worth_it(p, shape)) {
        return 8.0 * sizeof(real);
    }
    const struct actnn_sizes sizes = actnn_sizes_of(p, shape);
    return n == 0 ? 0.0 : 8.0 * (double)actnn_share_bytes(p, &sizes, shape->n) / (double)n;
}

static void plan(const struct store *s, const struct store_map *map, struct store_choice *choice)
{
    const struct store_params *p = &s->params;
    *choice = (struct store_choice){.action = STORE_REFERENCE};
    if (p->level == STORE_LEVEL_L1 && !(map->uses & STORE_USE_CONV)) {
        return;
    }
    if (!actnn_is_adaptive(p)) {
        const struct codec_spec spec = actnn_spec(p, p->bits);
        codec_policy_plan(s, &spec, map, choice);
        return;
    }
    /* A map whose sign alone is wanted is offered, but never encoded. */
    const size_t n = map->shape.n;
    if (map->producer == NULL || map->uses == 0 || n == 0 || !is_worth_it(p, &map->shape) ||
        actnn_add_entry(s, map) == NULL) {
        return;
    }
    const struct actnn_sizes sizes = actnn_sizes_of(p, &map->shape);
    choice->action = STORE_ENCODE;
    choice->pooled = 1;
    choice->bytes = actnn_share_bytes(p, &sizes, n);
    choice->pieces[STORE_PIECE_RANGES] = n * (sizes.head + sizes.ranges);
    choice->pieces[STORE_PIECE_CODES] = choice->bytes - choice->pieces[STORE_PIECE_RANGES];
    choice->workspace_bytes = n * (sizeof(size_t) + 1); /* offsets; bits */
}

static size_t encode(struct store *s, const struct store_map *map, const struct tensor *x,
                     const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    const struct codec_spec spec = actnn_spec(&s->params, s->params.bits);
    return actnn_is_adaptive(&s->params) ? encode_adaptive(s, map, x, rng, slot, cap, workspace)
                                         : codec_policy_encode(s, &spec, x, rng, slot, workspace);
}

static void encode_samples(struct store *s, const struct store_map *map, const struct tensor *x,
                           size_t first, const struct rng *rng, void *slot, void *workspace)
{
    (void)map;
    assert(!actnn_is_adaptive(&s->params)); /* a pooled map is encoded as a whole */
    const struct codec_spec spec = actnn_spec(&s->params, s->params.bits);
    codec_encode_samples(s->kernels, &spec, x, first, rng, slot, workspace);
}

static void decode(struct store *s, const struct store_map *map, const void *slot,
                   const struct codec_block *block, struct tensor *out, void *workspace)
{
    if (actnn_is_adaptive(&s->params)) {
        decode_adaptive(s, map, slot, block, out, workspace);
        return;
    }
    const struct codec_spec spec = actnn_spec(&s->params, s->params.bits);
    codec_decode(s->kernels, &spec, &map->shape, slot, block, out, s->n_threads);
}

static const char *const keys[] = {"level", "adapt", "bits", "rounding", "compat", NULL};

extern const struct store_policy store_actnn;
const struct store_policy store_actnn = {
    .name = "actnn",
    .summary = "ranges per 256 values, and bits shared out by sensitivity (Chen et al., ICML 2021)",
    .keys = keys,
    .unbiased = 1,
    .check = check,
    .label = label,
    .worst_error = worst_error,
    .bits_per_value = bits_per_value,
    .open = actnn_open,
    .close = actnn_close,
    .plan = plan,
    .begin = actnn_begin,
    .encode = encode,
    .encode_samples = encode_samples,
    .decode = decode,
    .observe = actnn_observe,
    .state_bytes = actnn_state_bytes,
    .state_save = actnn_state_save,
    .state_load = actnn_state_load,
};
