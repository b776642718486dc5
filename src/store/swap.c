/* Swapping to disk: every map goes to a spill file while forward goes on, and is read back shortly
 * before backward needs it (vDNN, Rhu et al. 2016, with a disk for the host's memory; "swap" in the
 * levels of ActNN). Nothing of a map stays in memory; losses and gradients equal normal's bit for
 * bit. ReLU's signs, pooling's indices, batch-norm's statistics and the images stay.
 *
 * Read-ahead and the delay before a written map's buffer is used again (lead, lag) cost a map or two
 * of memory and hide the transfers behind the steps that lie between. */
#include "store/store.h"

#include <assert.h>
#include <stdio.h>

#include "base/mem.h"
#include "store/spill_priv.h"

enum { LEAD_STEPS = 4, LAG_STEPS = 5 };

/* A map's place in the file. */
struct swap_map {
    uint32_t id;
    size_t region;
    const void *arriving; /* what a read-ahead is filling, or has filled; NULL: nothing */
};

struct swap {
    struct spill *spill; /* NULL until there are maps */
    struct swap_map *maps;
    size_t n, cap;
    struct err err; /* of a map for which there was no room when it came */
};

static int check(const struct store_params *p, struct err *err)
{
    return p->spill_dir[0] == '\0' ? 0 : spill_check_dir(p->spill_dir, err);
}

static void label(const struct store_params *p, char *buf, size_t cap)
{
    (void)p;
    (void)snprintf(buf, cap, "swap");
}

static double worst_error(const struct store_params *p, const struct shape *shape)
{
    (void)p, (void)shape;
    return 0.0;
}

/* In memory. */
static double bits_per_value(const struct store_params *p, const struct shape *shape)
{
    (void)p, (void)shape;
    return 0.0;
}

static int open_swap(struct store *s, struct err *err)
{
    s->priv = mem_alloc(MEM_OTHER, sizeof(struct swap));
    return s->priv == NULL ? err_nomem(err, "policy swap", sizeof(struct swap)) : 0;
}

static void close_swap(struct store *s)
{
    struct swap *w = s->priv;
    spill_close(w->spill);
    mem_free(w->maps);
    mem_free(w);
}

static void plan(const struct store *s, const struct store_map *map, struct store_choice *choice)
{
    (void)s;
    *choice = (struct store_choice){.action = STORE_REFERENCE};
    if (map->producer != NULL && shape_elements(&map->shape) > 0) {
        *choice = (struct store_choice){
            .action = STORE_ENCODE,
            .spilled_bytes = shape_bytes(&map->shape),
            .lead = LEAD_STEPS,
            .lag = LAG_STEPS,
        };
    }
}

/* --- the file's table ----------------------------------------------------------------------- */

static struct swap_map *find(const struct swap *w, const struct store_map *map)
{
    for (size_t i = 0; i < w->n; i++) {
        if (w->maps[i].id == map->id) {
            return &w->maps[i];
        }
    }
    return NULL;
}

/* Sees that the map has a region, without taking its room. */
static int add(struct swap *w, const struct store_map *map, struct err *err)
{
    struct swap_map *m = find(w, map);
    if (m != NULL && shape_bytes(&map->shape) <= spill_bytes(w->spill, m->region)) {
        return 0;
    }
    if (m == NULL && w->n == w->cap) {
        const size_t cap = w->cap == 0 ? 64 : 2 * w->cap;
        struct swap_map *grown = mem_realloc(MEM_OTHER, w->maps, cap * sizeof *grown);
        if (grown == NULL) {
            return err_nomem(err, "policy swap", cap * sizeof *grown);
        }
        w->maps = grown;
        w->cap = cap;
    }
    size_t region;
    if (spill_add(w->spill, shape_bytes(&map->shape), &region, err)) {
        return (int)err->code;
    }
    m = m == NULL ? &w->maps[w->n++] : m;
    *m = (struct swap_map){.id = map->id, .region = region};
    return 0;
}

static int prepare(struct store *s, const struct store_map *const *maps, size_t n, struct err *err)
{
    struct swap *w = s->priv;
    if (w->spill == NULL && spill_open(s->params.spill_dir, &w->spill, err)) {
        return (int)err->code;
    }
    for (size_t i = 0; i < n; i++) {
        if (add(w, maps[i], err)) {
            return (int)err->code;
        }
    }
    return spill_reserve(w->spill, err);
}

/* The map's place; where it was not prepared for, it gets one now. NULL: there is none. */
static struct swap_map *place(struct store *s, const struct store_map *map)
{
    struct swap *w = s->priv;
    struct swap_map *m = find(w, map);
    if (m != NULL && shape_bytes(&map->shape) <= spill_bytes(w->spill, m->region)) {
        return m;
    }
    return w->err.code == 0 && prepare(s, &map, 1, &w->err) == 0 ? find(w, map) : NULL;
}

static int failed(struct store *s, struct err *err)
{
    struct swap *w = s->priv;
    if (w->err.code != 0) {
        return err_set(err, w->err.code, "%s", w->err.msg);
    }
    return w->spill == NULL ? 0 : spill_failed(w->spill, err);
}

static void cancel(struct store *s)
{
    struct swap *w = s->priv;
    if (w->spill != NULL) {
        spill_wait_all(w->spill);
    }
}

/* --- out and back --------------------------------------------------------------------------- */

static size_t encode(struct store *s, const struct store_map *map, const struct tensor *x,
                     const struct rng *rng, void *slot, size_t cap, void *workspace)
{
    (void)rng, (void)slot, (void)cap, (void)workspace;
    struct swap *w = s->priv;
    struct swap_map *m = place(s, map);
    assert(x->pixel_stride == x->shape.c);
    if (m != NULL) {
        m->arriving = NULL;
        spill_write(w->spill, m->region, x->data, shape_bytes(&map->shape));
    }
    return 0;
}

static int settle(struct store *s, const struct store_map *map, struct err *err)
{
    struct swap *w = s->priv;
    const struct swap_map *m = find(w, map);
    if (m != NULL) {
        spill_wait(w->spill, m->region);
    }
    return failed(s, err);
}

static int prefetch(struct store *s, const struct store_map *map, struct tensor *out,
                    struct err *err)
{
    struct swap *w = s->priv;
    struct swap_map *m = find(w, map);
    if (m != NULL) {
        spill_read(w->spill, m->region, 0, out->data, shape_bytes(&map->shape));
        m->arriving = out->data;
    }
    return failed(s, err);
}

static int is_whole(const struct codec_block *b, const struct shape *s)
{
    return b->n0 == 0 && b->n1 == s->n && b->h0 == 0 && b->h1 == s->h && b->c0 == 0 &&
           b->c1 == s->c;
}

/* Part of a map, pixel by pixel: for whom it may concern, the executor asks for whole maps. */
static void read_block(struct spill *spill, size_t region, const struct shape *s,
                       const struct codec_block *b, const struct tensor *out)
{
    real *to = out->data;
    for (size_t n = b->n0; n < b->n1; n++) {
        for (size_t p = b->h0 * s->w; p < b->h1 * s->w; p++) {
            const size_t from = (n * s->h * s->w + p) * s->c + b->c0;
            spill_read(spill, region, from * sizeof(real), to, (b->c1 - b->c0) * sizeof(real));
            to += out->pixel_stride;
        }
    }
    spill_wait(spill, region);
}

static void decode(struct store *s, const struct store_map *map, const void *slot,
                   const struct codec_block *block, struct tensor *out, void *workspace)
{
    (void)slot, (void)workspace;
    struct swap *w = s->priv;
    struct swap_map *m = find(w, map);
    if (m == NULL) {
        return; /* `failed` says why */
    }
    if (!is_whole(block, &map->shape) || out->pixel_stride != map->shape.c) {
        read_block(w->spill, m->region, &map->shape, block, out);
        return;
    }
    if (m->arriving != out->data) {
        spill_read(w->spill, m->region, 0, out->data, shape_bytes(&map->shape));
    }
    spill_wait(w->spill, m->region);
    m->arriving = NULL;
}

static const char *const keys[] = {"spill_dir", NULL};

extern const struct store_policy store_swap;
const struct store_policy store_swap = {
    .name = "swap",
    .summary = "write every map exactly to a file on disk, read it back ahead of its use",
    .keys = keys,
    .unbiased = 1,
    .exact = 1,
    .check = check,
    .label = label,
    .worst_error = worst_error,
    .bits_per_value = bits_per_value,
    .open = open_swap,
    .close = close_swap,
    .plan = plan,
    .prepare = prepare,
    .encode = encode,
    .decode = decode,
    .settle = settle,
    .prefetch = prefetch,
    .failed = failed,
    .cancel = cancel,
};
