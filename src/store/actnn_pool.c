/* Policy actnn's bits: what each layer's average is, and that all codes of a step fit into the pool
 * that was planned. */
#include "store/actnn_priv.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/tasks.h"

int actnn_open(struct store *s, struct err *err)
{
    s->params.group = ACTNN_GROUP;
    s->priv = mem_alloc(MEM_OTHER, sizeof(struct actnn));
    return s->priv == NULL ? err_nomem(err, "policy actnn", sizeof(struct actnn)) : 0;
}

void actnn_close(struct store *s)
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

struct actnn_entry *actnn_add_entry(const struct store *s, const struct store_map *map)
{
    struct actnn *a = actnn_of(s);
    size_t n_rows = a->n_entries;
    if (!grow(&a->rows, &n_rows, (size_t)map->id + 1, sizeof(*a->rows)) ||
        !grow(&a->entries, &a->n_entries, (size_t)map->id + 1, sizeof(*a->entries)) ||
        !grow(&a->norms, &a->cap, map->shape.n, sizeof(*a->norms))) {
        return NULL;
    }
    struct actnn_entry *e = &a->entries[map->id];
    if (!grow(&e->cost, &e->cap, map->shape.n, sizeof(*e->cost))) {
        return NULL;
    }
    if (!e->is_used) {
        e->bits = (double)s->params.bits;
    }
    e->is_used = 1;
    e->uses = map->uses;
    e->n_codes = store_n_codes(s, map);
    e->sizes = actnn_sizes_of(&s->params, &map->shape);
    e->pixels = (double)(map->shape.h * map->shape.w);
    return e;
}

struct actnn_entry *actnn_find_entry(const struct store *s, const struct store_map *map)
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
        const struct actnn_entry *e = &a->entries[i];
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
        const struct actnn_entry *e = &a->entries[i];
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
        struct actnn_entry *e = &a->entries[i];
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

void actnn_begin(struct store *s, uint64_t step)
{
    (void)step;
    if (actnn_is_adaptive(&s->params)) {
        settle_layers(s);
        actnn_of(s)->is_round_begun = 0;
    }
}

/* Samples in their order: the same for any number of threads. */
static double mean_square_norm(const struct store *s, const struct tensor *dy)
{
    struct actnn *a = actnn_of(s);
    const size_t n = dy->shape.n;
    struct tasks tasks;
    tasks_share(&tasks, n, actnn_threads(s, &dy->shape));
#pragma omp parallel num_threads(s->n_threads) if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        a->norms[i] = actnn_square_norm(dy, i);
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a->norms[i];
    }
    return sum / (double)n;
}

void actnn_observe(struct store *s, const struct store_map *map, const struct store_gradient *g)
{
    if (!actnn_is_adaptive(&s->params) || s->params.adapt != STORE_ADAPT_LAYER ||
        g->use != STORE_USE_CONV) {
        return;
    }
    struct actnn_entry *e = actnn_find_entry(s, map);
    if (e != NULL && g->dy->shape.n <= actnn_of(s)->cap) {
        e->sensitivity += (double)(g->r * g->s) / 4 * mean_square_norm(s, g->dy);
        actnn_of(s)->is_observed = 1;
    }
}

/* --- the pool ------------------------------------------------------------------------------ */

/* The first map of a step. One that has all its codes already begins a step of its own. */
static void begin_round(const struct store *s, size_t n)
{
    struct actnn *a = actnn_of(s);
    a->is_round_begun = 1;
    a->n = n;
    a->left = a->reserved = 0;
    for (size_t i = 0; i < a->n_entries; i++) {
        struct actnn_entry *e = &a->entries[i];
        e->n_done = 0;
        if (e->is_used) {
            a->left += e->n_codes * actnn_share_bytes(&s->params, &e->sizes, n);
            a->reserved += e->n_codes * actnn_least_bytes(&e->sizes, n);
        }
    }
}

/* Bits for all samples of the map together: its layer's average, or what the pool still allows. */
static size_t allowed_bits(const struct store *s, const struct actnn_entry *e, size_t n, size_t cap)
{
    const struct actnn *a = actnn_of(s);
    const size_t own = actnn_least_bytes(&e->sizes, n), others = a->reserved - own;
    const size_t left = a->left < cap ? a->left : cap;
    const size_t limit = left > others + own ? left - others : own;
    const size_t wanted = (size_t)(e->bits * (double)n + 1e-6); /* a sum / n * n */
    const size_t fitting = (limit - actnn_code_bytes(&e->sizes, n, 0)) / e->sizes.per_bit;
    return wanted < fitting ? wanted : fitting;
}

size_t actnn_pool_ask(const struct store *s, struct actnn_entry *e, size_t n, size_t cap)
{
    const struct actnn *a = actnn_of(s);
    if (!a->is_round_begun || a->n != n || e->n_done == e->n_codes) {
        begin_round(s, n);
    }
    return allowed_bits(s, e, n, cap);
}

void actnn_pool_take(const struct store *s, struct actnn_entry *e, size_t bytes)
{
    struct actnn *a = actnn_of(s);
    assert(actnn_in_pool(bytes) <= a->left);
    a->left -= actnn_in_pool(bytes);
    a->reserved -= actnn_least_bytes(&e->sizes, a->n);
    e->n_done++;
}

/* --- a resumed run ---------------------------------------------------------------------------- */

/* Of each map: its id and its layer's average. */
struct saved_entry {
    uint64_t id;
    double bits;
};

size_t actnn_state_bytes(const struct store *s)
{
    const struct actnn *a = actnn_of(s);
    size_t n = 0;
    for (size_t i = 0; i < a->n_entries; i++) {
        n += a->entries[i].is_used ? 1 : 0;
    }
    return n * sizeof(struct saved_entry);
}

void actnn_state_save(const struct store *s, void *dst)
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

int actnn_state_load(struct store *s, const void *src, size_t bytes, struct err *err)
{
    struct actnn *a = actnn_of(s);
    const size_t n = bytes / sizeof(struct saved_entry), expected = actnn_state_bytes(s);
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
