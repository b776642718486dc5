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
#include "store/codec_policy_priv.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "store/actnn_stats.h"
#include "store/bit_budget.h"

#define POOL_ALIGN 64

/* Below this many values starting threads costs more than it saves. */
#define MIN_PARALLEL 32768

static int want_threads(const struct store *s, const struct shape *shape)
{
    return s->n_threads > 1 && shape->n > 1 && shape_elements(shape) > MIN_PARALLEL;
}

static int is_adaptive(const struct store_params *p)
{
    return p->level == STORE_LEVEL_L3;
}

static struct codec_spec spec_of(const struct store_params *p, unsigned bits)
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

/* What every sample of such a map takes, and how far its bits may go. */
struct sizes {
    size_t head;    /* bytes that say how many bits it has */
    size_t ranges;  /* bytes of minima and steps */
    size_t per_bit; /* bytes of codes for each bit */
    unsigned most;  /* widest code that is smaller than the values; 0: none is */
};

static struct sizes sizes_of(const struct store_params *p, const struct shape *shape)
{
    struct shape one = *shape;
    one.n = 1;
    struct sizes s = {.head = p->official ? 4 : 1};
    for (size_t w = 0; w < BIT_BUDGET_N_WIDTHS; w++) {
        struct codec_bytes parts;
        const struct codec_spec spec = spec_of(p, bit_budget_widths[w]);
        (void)codec_bytes(&spec, &one, &parts);
        if (parts.raw == 0 && parts.codes > 0) {
            s.ranges = parts.ranges;
            s.per_bit = parts.codes / spec.bits;
            s.most = spec.bits;
        }
    }
    return s;
}

/* Of n samples with so many bits in all. */
static size_t code_bytes(const struct sizes *s, size_t n, size_t bits)
{
    return n * (s->head + s->ranges) + bits * s->per_bit;
}

static size_t in_pool(size_t bytes)
{
    return (bytes + POOL_ALIGN - 1) / POOL_ALIGN * POOL_ALIGN;
}

/* Bits per value that the plan counts with. */
static unsigned planned_bits(const struct store_params *p, const struct sizes *s)
{
    return p->bits < s->most ? p->bits : s->most;
}

static size_t share_bytes(const struct store_params *p, const struct sizes *s, size_t n)
{
    return in_pool(code_bytes(s, n, n * planned_bits(p, s)));
}

static size_t least_bytes(const struct sizes *s, size_t n)
{
    return in_pool(code_bytes(s, n, n));
}

/* Decided for one sample, so that it does not depend on the batch. */
static int is_worth_it(const struct store_params *p, const struct shape *shape)
{
    struct shape one = *shape;
    one.n = 1;
    const struct sizes s = sizes_of(p, shape);
    return s.most > 0 && share_bytes(p, &s, 1) < shape_bytes(&one);
}

/* --- state ------------------------------------------------------------------------------------ */

struct entry {
    int is_used; /* there is such a map */
    unsigned uses;
    size_t n_codes; /* of it in one step */
    struct sizes sizes;
    double pixels;
    double bits;        /* average of its samples, planned for the coming encoding */
    double sensitivity; /* of this step, while its backward pass goes on */
    size_t n_done;      /* codes of this round */
    double *cost;       /* [cap] of its samples, without the sensitivity */
    size_t cap;
};

/* A round is the encoding of all maps, each as often as it has codes. */
struct actnn {
    struct entry *entries; /* [n_entries], by the map's id */
    size_t n_entries;
    struct bit_row *rows; /* [n_entries] */
    double *norms;        /* [cap] of one gradient's samples */
    size_t cap;
    size_t n;           /* samples in this round */
    size_t left;        /* of the pool */
    size_t reserved;    /* of that: for one bit in all codes that are still to come */
    int is_round_begun; /* since the step began */
    int is_observed;    /* gradients have been seen since the layers were last shared out */
};

static struct actnn *actnn_of(const struct store *s)
{
    return s->priv;
}

static int open_state(struct store *s, struct err *err)
{
    s->params.group = ACTNN_GROUP;
    s->priv = mem_alloc(MEM_OTHER, sizeof(struct actnn));
    return s->priv == NULL ? err_nomem(err, "policy actnn", sizeof(struct actnn)) : 0;
}

static void close_state(struct store *s)
{
    struct actnn *a = actnn_of(s);
    for (size_t i = 0; a != NULL && i < a->n_entries; i++) {
        mem_free(a->entries[i].cost);
    }
    if (a != NULL) {
        mem_free(a->entries);
        mem_free(a->rows);
        mem_free(a->norms);
    }
    mem_free(a);
}

/* Grows *array, of `size` bytes per item, to n items. */
static int grow(void *array, size_t *cap, size_t n, size_t size)
{
    void *old;
    memcpy(&old, array, sizeof(old));
    if (n <= *cap) {
        return 1;
    }
    void *grown = mem_realloc(MEM_OTHER, old, n * size);
    if (grown == NULL) {
        return 0;
    }
    memcpy(array, &grown, sizeof(grown));
    *cap = n;
    return 1;
}

/* The map's entry; all that it will need is allocated here, while plans are made. NULL: no memory. */
static struct entry *add_entry(const struct store *s, const struct store_map *map)
{
    struct actnn *a = actnn_of(s);
    size_t n_rows = a->n_entries;
    if (!grow(&a->rows, &n_rows, (size_t)map->id + 1, sizeof(*a->rows)) ||
        !grow(&a->entries, &a->n_entries, (size_t)map->id + 1, sizeof(*a->entries)) ||
        !grow(&a->norms, &a->cap, map->shape.n, sizeof(*a->norms))) {
        return NULL;
    }
    struct entry *e = &a->entries[map->id];
    if (!grow(&e->cost, &e->cap, map->shape.n, sizeof(*e->cost))) {
        return NULL;
    }
    if (!e->is_used) {
        e->bits = (double)s->params.bits;
    }
    e->is_used = 1;
    e->uses = map->uses;
    e->n_codes = store_n_codes(s, map);
    e->sizes = sizes_of(&s->params, &map->shape);
    e->pixels = (double)(map->shape.h * map->shape.w);
    return e;
}

static struct entry *find_entry(const struct store *s, const struct store_map *map)
{
    struct actnn *a = actnn_of(s);
    return map->id < a->n_entries && a->entries[map->id].is_used ? &a->entries[map->id] : NULL;
}

/* --- sharing out among layers ----------------------------------------------------------------- */

/* Bytes per bit and sample of the map and of the batch-norm inputs that follow it. *most: bits that
 * all of them can have. */
static size_t weigh(const struct actnn *a, size_t leader, unsigned *most)
{
    size_t sum = 0;
    for (size_t i = leader; i < a->n_entries; i++) {
        const struct entry *e = &a->entries[i];
        if (i > leader && e->uses & STORE_USE_CONV) {
            break;
        }
        if (e->is_used) {
            sum += e->n_codes * e->sizes.per_bit;
            *most = e->sizes.most < *most ? e->sizes.most : *most;
        }
    }
    return sum;
}

/* Every convolution input leads the batch-norm inputs up to the next one. */
static void share_out_layers(const struct store *s)
{
    struct actnn *a = actnn_of(s);
    size_t n_rows = 0, weight = 0;
    for (size_t i = 0; i < a->n_entries; i++) {
        const struct entry *e = &a->entries[i];
        if (!e->is_used || !(e->uses & STORE_USE_CONV)) {
            continue;
        }
        struct bit_row *row = &a->rows[n_rows++];
        *row = (struct bit_row){.cost = e->cost, .factor = e->sensitivity, .most = 8};
        row->weight = weigh(a, i, &row->most);
        weight += row->weight;
    }
    bit_budget_share(a->rows, n_rows, a->n, a->n * s->params.bits * weight, NULL);
    double bits = (double)s->params.bits;
    for (size_t i = 0, r = 0; i < a->n_entries; i++) {
        struct entry *e = &a->entries[i];
        if (e->is_used && e->uses & STORE_USE_CONV) {
            bits = (double)a->rows[r++].bits / (double)a->n;
        }
        e->bits = bits;
        e->sensitivity = 0;
    }
}

/* The last step's statistics become the coming step's averages. */
static void settle_layers(const struct store *s)
{
    struct actnn *a = actnn_of(s);
    if (a->is_observed && a->n > 0) {
        share_out_layers(s);
    }
    a->is_observed = 0;
}

static void begin(struct store *s, uint64_t step)
{
    (void)step;
    if (is_adaptive(&s->params)) {
        settle_layers(s);
        actnn_of(s)->is_round_begun = 0;
    }
}

/* Samples in their order: the same for any number of threads. */
static double mean_square_norm(const struct store *s, const struct tensor *dy)
{
    struct actnn *a = actnn_of(s);
    const size_t n = dy->shape.n;
    const int threads = want_threads(s, &dy->shape);
#pragma omp parallel for num_threads(s->n_threads) schedule(static) if (threads)
    for (size_t i = 0; i < n; i++) {
        a->norms[i] = actnn_square_norm(dy, i);
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a->norms[i];
    }
    return sum / (double)n;
}

static void observe(struct store *s, const struct store_map *map, const struct store_gradient *g)
{
    if (!is_adaptive(&s->params) || s->params.adapt != STORE_ADAPT_LAYER ||
        g->use != STORE_USE_CONV) {
        return;
    }
    struct entry *e = find_entry(s, map);
    if (e != NULL && g->dy->shape.n <= actnn_of(s)->cap) {
        e->sensitivity += (double)(g->r * g->s) / 4 * mean_square_norm(s, g->dy);
        actnn_of(s)->is_observed = 1;
    }
}

/* --- encoding --------------------------------------------------------------------------------- */

static void find_costs(const struct store *s, struct entry *e, const struct tensor *x)
{
    const double factor = ACTNN_GROUP / e->pixels;
    const int threads = want_threads(s, &x->shape);
#pragma omp parallel for num_threads(s->n_threads) schedule(static) if (threads)
    for (size_t i = 0; i < x->shape.n; i++) {
        e->cost[i] = factor * actnn_square_ranges(x, i);
    }
}

/* The first map of a step. One that has all its codes already begins a step of its own. */
static void begin_round(const struct store *s, size_t n)
{
    struct actnn *a = actnn_of(s);
    a->is_round_begun = 1;
    a->n = n;
    a->left = a->reserved = 0;
    for (size_t i = 0; i < a->n_entries; i++) {
        struct entry *e = &a->entries[i];
        e->n_done = 0;
        if (e->is_used) {
            a->left += e->n_codes * share_bytes(&s->params, &e->sizes, n);
            a->reserved += e->n_codes * least_bytes(&e->sizes, n);
        }
    }
}

/* Bits for all samples of the map together: its layer's average, or what the pool still allows. */
static size_t allowed_bits(const struct store *s, const struct entry *e, size_t n, size_t cap)
{
    const struct actnn *a = actnn_of(s);
    const size_t own = least_bytes(&e->sizes, n), others = a->reserved - own;
    const size_t left = a->left < cap ? a->left : cap;
    const size_t limit = left > others + own ? left - others : own;
    const size_t wanted = (size_t)(e->bits * (double)n);
    const size_t fitting = (limit - code_bytes(&e->sizes, n, 0)) / e->sizes.per_bit;
    return wanted < fitting ? wanted : fitting;
}

/* How many bits sample i has stands at its place in the head. */
static unsigned sample_bits(const struct sizes *sizes, const unsigned char *slot, size_t i)
{
    return slot[i * sizes->head];
}

/* offset[i]: of sample i's code. Returns the end of all. */
static size_t find_offsets(const struct sizes *sizes, const unsigned char *slot, size_t n,
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
    struct actnn *a = actnn_of(s);
    struct entry *e = find_entry(s, map);
    const size_t n = x->shape.n, pixels = x->shape.h * x->shape.w;
    assert(e != NULL && n <= e->cap);
    if (!a->is_round_begun || a->n != n || e->n_done == e->n_codes) {
        begin_round(s, n);
    }
    find_costs(s, e, x);
    uint8_t *bits = (uint8_t *)(offset + n);
    struct bit_row row = {.cost = e->cost, .factor = 1, .weight = 1, .most = e->sizes.most};
    bit_budget_share(&row, 1, n, allowed_bits(s, e, n, cap), bits);
    memset(slot, 0, n * e->sizes.head);
    for (size_t i = 0; i < n; i++) {
        slot[i * e->sizes.head] = bits[i];
    }
    const size_t bytes = find_offsets(&e->sizes, slot, n, offset);
    assert(bytes <= cap && in_pool(bytes) <= a->left);
    a->left -= in_pool(bytes);
    a->reserved -= least_bytes(&e->sizes, n);
    e->n_done++;

    const int threads = want_threads(s, &x->shape);
#pragma omp parallel for num_threads(s->n_threads) schedule(static) if (threads)
    for (size_t i = 0; i < n; i++) {
        struct tensor sample = *x;
        sample.data += i * pixels * x->pixel_stride;
        sample.shape.n = 1;
        const struct codec_spec spec = spec_of(&s->params, bits[i]);
        (void)codec_encode_one(s->kernels, &spec, &sample, i, rng, slot + offset[i], NULL,
                               s->n_threads);
    }
    return bytes;
}

static void decode_adaptive(struct store *s, const struct store_map *map, const unsigned char *slot,
                            const struct codec_block *block, struct tensor *out, size_t *offset)
{
    const struct sizes sizes = sizes_of(&s->params, &map->shape);
    const size_t n = block->n1 - block->n0, out_pixels = out->shape.h * out->shape.w;
    struct shape one = map->shape;
    one.n = 1;
    (void)find_offsets(&sizes, slot, block->n1, offset);
    const int threads = want_threads(s, &out->shape);
#pragma omp parallel for num_threads(s->n_threads) schedule(static) if (threads)
    for (size_t i = 0; i < n; i++) {
        struct tensor sample = *out;
        sample.data += i * out_pixels * out->pixel_stride;
        sample.shape.n = 1;
        struct codec_block part = *block;
        part.n0 = 0;
        part.n1 = 1;
        const struct codec_spec spec = spec_of(&s->params,
                                               sample_bits(&sizes, slot, block->n0 + i));
        codec_decode(s->kernels, &spec, &one, slot + offset[block->n0 + i], &part, &sample,
                     s->n_threads);
    }
}

/* --- a resumed run ---------------------------------------------------------------------------- */

/* Of each map: its id and its layer's average. */
struct saved_entry {
    uint64_t id;
    double bits;
};

static size_t state_bytes(const struct store *s)
{
    const struct actnn *a = actnn_of(s);
    size_t n = 0;
    for (size_t i = 0; i < a->n_entries; i++) {
        n += a->entries[i].is_used ? 1 : 0;
    }
    return n * sizeof(struct saved_entry);
}

static void state_save(const struct store *s, void *dst)
{
    const struct actnn *a = actnn_of(s);
    unsigned char *to = dst;
    settle_layers(s); /* what the coming step would do first */
    for (size_t i = 0; i < a->n_entries; i++) {
        if (a->entries[i].is_used) {
            const struct saved_entry saved = {.id = i, .bits = a->entries[i].bits};
            memcpy(to, &saved, sizeof(saved));
            to += sizeof(saved);
        }
    }
}

static int state_load(struct store *s, const void *src, size_t bytes, struct err *err)
{
    struct actnn *a = actnn_of(s);
    const size_t n = bytes / sizeof(struct saved_entry), expected = state_bytes(s);
    if (bytes != expected) {
        return err_set(err, ERR_FORMAT,
                       "policy actnn: a state of %zu bytes where this network has one of %zu: it "
                       "is another network's",
                       bytes, expected);
    }
    for (int pass = 0; pass < 2; pass++) { /* nothing is changed before all is known to be right */
        for (size_t i = 0; i < n; i++) {
            struct saved_entry saved;
            memcpy(&saved, (const unsigned char *)src + i * sizeof(saved), sizeof(saved));
            if (saved.id >= a->n_entries || !a->entries[saved.id].is_used || !(saved.bits >= 1) ||
                !(saved.bits <= 8)) {
                return err_set(err, ERR_FORMAT,
                               "policy actnn: entry %zu of the state gives map %llu %g bits; "
                               "expected 1 to 8 for one of the network's maps",
                               i, (unsigned long long)saved.id, saved.bits);
            }
            if (pass == 1) {
                a->entries[saved.id].bits = saved.bits;
            }
        }
    }
    a->is_observed = 0;
    return 0;
}

/* --- the row ---------------------------------------------------------------------------------- */

static int check(const struct store_params *p, struct err *err)
{
    if (!is_adaptive(p)) {
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
    const struct codec_spec spec = spec_of(p, is_adaptive(p) ? 1 : p->bits);
    return codec_policy_code_error(&spec, 1.0);
}

static double bits_per_value(const struct store_params *p, const struct shape *shape)
{
    const struct codec_spec spec = spec_of(p, p->bits);
    const size_t n = shape_elements(shape);
    if (!is_adaptive(p)) {
        return codec_policy_bits(&spec, shape);
    }
    if (!is_worth_it(p, shape)) {
        return 8.0 * sizeof(real);
    }
    const struct sizes sizes = sizes_of(p, shape);
    return n == 0 ? 0.0 : 8.0 * (double)share_bytes(p, &sizes, shape->n) / (double)n;
}

static void plan(const struct store *s, const struct store_map *map, struct store_choice *choice)
{
    const struct store_params *p = &s->params;
    *choice = (struct store_choice){.action = STORE_REFERENCE};
    if (p->level == STORE_LEVEL_L1 && !(map->uses & STORE_USE_CONV)) {
        return;
    }
    if (!is_adaptive(p)) {
        const struct codec_spec spec = spec_of(p, p->bits);
        codec_policy_plan(s, &spec, map, choice);
        return;
    }
    /* A map whose sign alone is wanted is offered, but never encoded. */
    const size_t n = map->shape.n;
    if (map->producer == NULL || map->uses == 0 || n == 0 || !is_worth_it(p, &map->shape) ||
        add_entry(s, map) == NULL) {
        return;
    }
    const struct sizes sizes = sizes_of(p, &map->shape);
    choice->action = STORE_ENCODE;
    choice->pooled = 1;
    choice->bytes = share_bytes(p, &sizes, n);
    choice->pieces[STORE_PIECE_RANGES] = n * (sizes.head + sizes.ranges);
    choice->pieces[STORE_PIECE_CODES] = choice->bytes - choice->pieces[STORE_PIECE_RANGES];
    choice->workspace_bytes = n * (sizeof(size_t) + 1); /* offsets; bits */
}

static size_t encode(struct store *s, const struct store_map *map, const struct tensor *x,
                     const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    const struct codec_spec spec = spec_of(&s->params, s->params.bits);
    return is_adaptive(&s->params) ? encode_adaptive(s, map, x, rng, slot, cap, workspace)
                                   : codec_policy_encode(s, &spec, x, rng, slot, workspace);
}

static void encode_samples(struct store *s, const struct store_map *map, const struct tensor *x,
                           size_t first, const struct rng *rng, void *slot, void *workspace)
{
    (void)map;
    assert(!is_adaptive(&s->params)); /* a pooled map is encoded as a whole */
    const struct codec_spec spec = spec_of(&s->params, s->params.bits);
    codec_encode_samples(s->kernels, &spec, x, first, rng, slot, workspace);
}

static void decode(struct store *s, const struct store_map *map, const void *slot,
                   const struct codec_block *block, struct tensor *out, void *workspace)
{
    if (is_adaptive(&s->params)) {
        decode_adaptive(s, map, slot, block, out, workspace);
        return;
    }
    const struct codec_spec spec = spec_of(&s->params, s->params.bits);
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
    .open = open_state,
    .close = close_state,
    .plan = plan,
    .begin = begin,
    .encode = encode,
    .encode_samples = encode_samples,
    .decode = decode,
    .observe = observe,
    .state_bytes = state_bytes,
    .state_save = state_save,
    .state_load = state_load,
};
