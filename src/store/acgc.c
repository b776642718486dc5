/* AC-GC (Evans and Aamodt, NeurIPS 2021): for each channel of a map as few bits, 2 to 16, as an error
 * budget e of the gradients allows, from measured gradients and the channel's largest value.
 *
 * As published, with x of (N, C, H, W):
 *   conv         dx^2 = e sum |dw|^2 / (2 N C H W sum (R S / stride^2) |dy|^2), for the whole map;
 *                both sums over all convolutions that read it, each at least 1e-16
 *   batch-norm   dx^2 = e |dx|^2 N H W / (C gamma^2 invstd^4 (dgamma^2 + E)), for each channel, at
 *                least 2^-16; E = invstd^2 n^2 max(dy^2) (max|x| / 2)^2, n the non-zero dy
 *   bits         1 + F, F = trunc(-log2(dx) + log2(max|x| + 1e-6) - 1), 1 to 15
 *   codes        to nearest, in units of max|x| + 1e-6 over 2^F (signed) or 2^(F + 1) (not); signed
 *                if one value of the map is negative, for all of it
 * dw, dy, dx, dgamma, gamma and invstd are means of the last 10 samples, one taken every 100 steps
 * (of the step's first micro-batch where there are several).
 *
 * The published code is a simulation that stores nothing. Ours: the codes (its signed ones have a
 * bit more than it counts; these have as many as it counts); `bits` per value until the first sample
 * has been taken, which is in the first step; the smaller dx where convolutions and a batch-norm
 * read a map; with batch-norm groups the mean of their invstd^2.
 *
 * Ours too is the pool: it has room for `bits` per value on average. When the maps' bits, for the
 * last step's largest values, come to more, all channels get the same number of bits less, though
 * never less than 2, until they fit; a map whose values have grown since may use what is left, and
 * no more than leaves the others theirs. So nothing depends on luck, and the pool never overflows. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "store/acgc_priv.h"

enum { SAMPLE_EVERY = 100 };

struct acgc {
    struct acgc_map **maps; /* by rising id */
    size_t n_maps;
    uint64_t next_sample;
    int is_sampling, is_new;    /* is_new: nothing has been encoded since the step began */
    unsigned cut;               /* bits less for every channel in this step */
    size_t pool, used, pending; /* bytes: in all, handed out, foreseen for what is yet to come */
};

/* --- bits ------------------------------------------------------------------------------------- */

static size_t round_64(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static unsigned channel_bits(const struct store *s, const struct acgc_map *m, size_t n, size_t ch,
                             float max, unsigned cut)
{
    if (m->saved.conv.n == 0 && m->saved.bn.n == 0) {
        return s->params.bits;
    }
    const double dx2 = acgc_map_error2(m, s->params.error_budget, n, ch, (double)max);
    const double f = trunc(-0.5 * log2(dx2) + log2((double)max + 1e-6) - 1);
    const int fraction = f > 1 ? (f < 15 ? (int)f : 15) : 1; /* NaN: 1 */
    const int bits = fraction + 1 - (int)cut;
    return bits > ACGC_MIN_BITS ? (unsigned)bits : ACGC_MIN_BITS;
}

/* Fills m->bits for these largest values; returns the bytes that a code then takes. */
static size_t assign_bits(const struct store *s, struct acgc_map *m, const struct shape *shape,
                          const float *max, unsigned cut)
{
    size_t sum = 0;
    for (size_t ch = 0; ch < m->saved.c; ch++) {
        m->bits[ch] = (uint8_t)channel_bits(s, m, shape->n, ch, max[ch], cut);
        sum += m->bits[ch];
    }
    return acgc_code_bytes(shape, sum);
}

static size_t share_bytes(const struct store_params *p, const struct shape *shape)
{
    return round_64(acgc_code_bytes(shape, p->bits * shape->c));
}

/* --- the pool --------------------------------------------------------------------------------- */

static struct shape shape_of(const struct acgc_map *m, size_t n)
{
    return (struct shape){.n = n, .h = m->n_pixels, .w = 1, .c = m->saved.c};
}

/* Bytes of all codes of this step if every channel gets `cut` bits less than it should. */
static size_t foresee(const struct store *s, struct acgc *a, size_t n, unsigned cut)
{
    size_t sum = 0;
    for (size_t i = 0; i < a->n_maps; i++) {
        struct acgc_map *m = a->maps[i];
        const struct shape shape = shape_of(m, n);
        m->foreseen = m->saved.copies == 0 ? 0 : round_64(assign_bits(s, m, &shape, m->max, cut));
        sum += m->saved.copies * m->foreseen;
    }
    return sum;
}

/* The first map of the step is about to be encoded: all have its number of samples. */
static void open_pool(const struct store *s, struct acgc *a, size_t n)
{
    a->pool = a->used = 0;
    for (size_t i = 0; i < a->n_maps; i++) {
        const struct shape shape = shape_of(a->maps[i], n);
        a->pool += a->maps[i]->saved.copies * share_bytes(&s->params, &shape);
    }
    a->cut = 0;
    while ((a->pending = foresee(s, a, n, a->cut)) > a->pool) {
        a->cut++;
        assert(a->cut < ACGC_MAX_BITS);
    }
    a->is_new = 0;
}

/* What a code of this map may take. One that the last step had not brings its share with it. */
static size_t take_allowance(const struct store *s, struct acgc *a, struct acgc_map *m,
                             const struct shape *shape)
{
    if (m->saved.calls++ < m->saved.copies) {
        a->pending -= m->foreseen;
    } else {
        a->pool += share_bytes(&s->params, shape);
    }
    return a->pool - a->used - a->pending;
}

/* --- the policy's hooks ----------------------------------------------------------------------- */

static int check(const struct store_params *p, struct err *err)
{
    if (p->bits < ACGC_MIN_BITS || p->bits > ACGC_MAX_BITS) {
        return err_set(err, ERR_CONFIG, "policy acgc: bits is %u; it must be %d to %d", p->bits,
                       ACGC_MIN_BITS, ACGC_MAX_BITS);
    }
    if (!(p->error_budget > 0)) {
        return err_set(err, ERR_CONFIG, "policy acgc: error_budget is %g; it must be positive",
                       p->error_budget);
    }
    return 0;
}

enum { DEFAULT_BITS = 8 };

static void label(const struct store_params *p, char *buf, size_t cap)
{
    char bits[16] = "", budget[24] = "";
    if (p->bits != DEFAULT_BITS) {
        (void)snprintf(bits, sizeof(bits), "-b%u", p->bits);
    }
    if (p->error_budget < 1 || p->error_budget > 1) {
        (void)snprintf(budget, sizeof(budget), "-e%g", p->error_budget);
    }
    (void)snprintf(buf, cap, "acgc%s%s", bits, budget);
}

/* Before the first sample. The largest value may be off by a step; 1e-6 is for 1e-3 and up. */
static double worst_error(const struct store_params *p, const struct shape *shape)
{
    (void)shape;
    return ldexp(1.002, 1 - (int)p->bits) + 0x1p-21;
}

static int is_worth_it(const struct store_params *p, const struct shape *shape)
{
    return share_bytes(p, shape) < shape_bytes(shape);
}

static double bits_per_value(const struct store_params *p, const struct shape *shape)
{
    const size_t n = shape_elements(shape);
    if (n == 0) {
        return 0.0;
    }
    return is_worth_it(p, shape) ? 8.0 * (double)share_bytes(p, shape) / (double)n
                                 : 8.0 * sizeof(real);
}

static int open(struct store *s, struct err *err)
{
    struct acgc *a = mem_alloc(MEM_OTHER, sizeof(*a));
    if (a == NULL) {
        return err_nomem(err, "policy acgc", sizeof(*a));
    }
    a->is_new = 1;
    s->priv = a;
    return 0;
}

static void close(struct store *s)
{
    struct acgc *a = s->priv;
    for (size_t i = 0; i < a->n_maps; i++) {
        acgc_map_free(a->maps[i]);
    }
    mem_free(a->maps);
    mem_free(a);
}

static struct acgc_map *map_find(const struct acgc *a, uint32_t id)
{
    for (size_t i = 0; i < a->n_maps; i++) {
        if (a->maps[i]->saved.id == id) {
            return a->maps[i];
        }
    }
    return NULL;
}

static int map_renew(struct acgc_map *m, const struct store_map *map)
{
    struct acgc_map *other = acgc_map_new(map->id, &map->shape, map->uses);
    if (other == NULL) {
        return 0;
    }
    const struct acgc_map old = *m;
    *m = *other;
    *other = old;
    acgc_map_free(other);
    return 1;
}

static int is_of_shape(const struct acgc_map *m, const struct store_map *map)
{
    return m->saved.c == map->shape.c && m->n_pixels == map->shape.h * map->shape.w &&
           (m->bn != NULL) == ((map->uses & STORE_USE_BN) != 0);
}

/* Unless it is there; what is known of a map of another shape is forgotten. Returns 0 if there is
 * no memory. */
static int map_add(struct acgc *a, const struct store_map *map)
{
    struct acgc_map *known = map_find(a, map->id);
    if (known != NULL) {
        return is_of_shape(known, map) || map_renew(known, map);
    }
    struct acgc_map **maps = mem_realloc(MEM_OTHER, a->maps, (a->n_maps + 1) * sizeof(*maps));
    if (maps == NULL) {
        return 0;
    }
    a->maps = maps;
    struct acgc_map *m = acgc_map_new(map->id, &map->shape, map->uses);
    if (m == NULL) {
        return 0;
    }
    size_t i = a->n_maps++;
    for (; i > 0 && maps[i - 1]->saved.id > map->id; i--) {
        maps[i] = maps[i - 1];
    }
    maps[i] = m;
    return 1;
}

/* Without memory for a map's statistics the map itself is kept. */
static void plan(const struct store *s, const struct store_map *map, struct store_choice *choice)
{
    struct acgc *a = s->priv;
    *choice = (struct store_choice){.action = STORE_REFERENCE};
    if (map->producer == NULL || !is_worth_it(&s->params, &map->shape)) {
        return;
    }
    if (!map_add(a, map)) {
        return;
    }
    choice->action = STORE_ENCODE;
    choice->bytes = share_bytes(&s->params, &map->shape);
    choice->pieces[STORE_PIECE_RANGES] = acgc_header_bytes(map->shape.c);
    choice->pieces[STORE_PIECE_CODES] = choice->bytes - choice->pieces[STORE_PIECE_RANGES];
    choice->workspace_bytes = acgc_workspace_bytes(map->shape.c, s->n_threads);
    choice->pooled = 1;
}

static void begin(struct store *s, uint64_t step)
{
    struct acgc *a = s->priv;
    for (size_t i = 0; i < a->n_maps; i++) {
        struct acgc_map *m = a->maps[i];
        acgc_map_next(m);
        m->saved.copies = m->saved.calls;
        m->saved.calls = 0;
    }
    a->is_sampling = step >= a->next_sample;
    a->next_sample = a->is_sampling ? step + SAMPLE_EVERY : a->next_sample;
    a->is_new = 1;
}

static size_t encode(struct store *s, const struct store_map *map, const struct tensor *x,
                     const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    (void)rng;
    struct acgc *a = s->priv;
    struct acgc_map *m = map_find(a, map->id);
    assert(m != NULL); /* planned */
    if (a->is_new) {
        open_pool(s, a, x->shape.n);
    }
    const size_t allowed = take_allowance(s, a, m, &x->shape);
    const int is_signed = acgc_measure(s->kernels, x, m->max, workspace, s->n_threads);
    unsigned cut = a->cut;
    size_t bytes;
    while ((bytes = assign_bits(s, m, &x->shape, m->max, cut)) > allowed) {
        cut++;
        assert(cut <= ACGC_MAX_BITS);
    }
    assert(bytes <= cap);
    (void)cap;
    acgc_write(s->kernels, x, m->max, m->bits, is_signed, slot, workspace, s->n_threads);
    a->used += round_64(bytes);
    return bytes;
}

static void decode(struct store *s, const struct store_map *map, const void *slot,
                   const struct codec_block *block, struct tensor *out, void *workspace)
{
    (void)workspace;
    acgc_read(s->kernels, &map->shape, slot, block, out, s->n_threads);
}

static void observe(struct store *s, const struct store_map *map, const struct store_gradient *g)
{
    struct acgc *a = s->priv;
    struct acgc_map *m = map_find(a, map->id);
    if (m != NULL && a->is_sampling) {
        acgc_map_observe(m, g);
    }
}

/* --- state ------------------------------------------------------------------------------------ */

/* next_sample, then map by map: what is saved, max, and the batch-norm's samples. */
static size_t bn_floats(const struct acgc_map *m)
{
    return m->bn == NULL ? 0 : (size_t)ACGC_N_SAMPLES * ACGC_N_ROWS * m->saved.c;
}

static size_t state_bytes(const struct store *s)
{
    const struct acgc *a = s->priv;
    size_t bytes = sizeof(a->next_sample);
    for (size_t i = 0; i < a->n_maps; i++) {
        const struct acgc_map *m = a->maps[i];
        bytes += sizeof(m->saved) + (m->saved.c + bn_floats(m)) * sizeof(float);
    }
    return bytes;
}

static void put(unsigned char **to, const void *from, size_t bytes)
{
    if (bytes > 0) {
        memcpy(*to, from, bytes);
        *to += bytes;
    }
}

static void state_save(const struct store *s, void *dst)
{
    const struct acgc *a = s->priv;
    unsigned char *to = dst;
    put(&to, &a->next_sample, sizeof(a->next_sample));
    for (size_t i = 0; i < a->n_maps; i++) {
        const struct acgc_map *m = a->maps[i];
        put(&to, &m->saved, sizeof(m->saved));
        put(&to, m->max, m->saved.c * sizeof(float));
        put(&to, m->bn, bn_floats(m) * sizeof(float));
    }
}

static void get(const unsigned char **from, void *to, size_t bytes)
{
    if (bytes > 0) {
        memcpy(to, *from, bytes);
        *from += bytes;
    }
}

/* Does the state hold these maps? `from` is behind next_sample. */
static int is_ours(const struct acgc *a, const unsigned char *from)
{
    for (size_t i = 0; i < a->n_maps; i++) {
        const struct acgc_map *m = a->maps[i];
        struct acgc_saved saved;
        get(&from, &saved, sizeof(saved));
        if (saved.id != m->saved.id || saved.c != m->saved.c || saved.conv.n > ACGC_N_SAMPLES ||
            saved.conv.at >= ACGC_N_SAMPLES || saved.bn.n > ACGC_N_SAMPLES ||
            saved.bn.at >= ACGC_N_SAMPLES) {
            return 0;
        }
        from += (m->saved.c + bn_floats(m)) * sizeof(float);
    }
    return 1;
}

/* After the plan has named the maps. */
static int state_load(struct store *s, const void *src, size_t bytes, struct err *err)
{
    struct acgc *a = s->priv;
    const unsigned char *from = src;
    if (bytes != state_bytes(s) || !is_ours(a, from + sizeof(a->next_sample))) {
        return err_set(err, ERR_FORMAT,
                       "policy acgc: the saved statistics (%zu bytes, %zu expected) belong to "
                       "another network",
                       bytes, state_bytes(s));
    }
    get(&from, &a->next_sample, sizeof(a->next_sample));
    for (size_t i = 0; i < a->n_maps; i++) {
        struct acgc_map *m = a->maps[i];
        get(&from, &m->saved, sizeof(m->saved));
        get(&from, m->max, m->saved.c * sizeof(float));
        get(&from, m->bn, bn_floats(m) * sizeof(float));
    }
    return 0;
}

static const char *const keys[] = {"bits", "error_budget", NULL};

extern const struct store_policy store_acgc;
const struct store_policy store_acgc = {
    .name = "acgc",
    .summary = "2 to 16 bits per channel from an error budget, in a pool of `bits` per value",
    .keys = keys,
    .batch_ranges = 1,
    .default_bits = DEFAULT_BITS,
    .check = check,
    .label = label,
    .worst_error = worst_error,
    .bits_per_value = bits_per_value,
    .open = open,
    .close = close,
    .plan = plan,
    .begin = begin,
    .encode = encode,
    .decode = decode,
    .observe = observe,
    .state_bytes = state_bytes,
    .state_save = state_save,
    .state_load = state_load,
};
