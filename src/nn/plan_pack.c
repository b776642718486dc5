/* Where buffers lie: an offset for each so that no two that live at the same time overlap.
 *
 * Greedy: one buffer after the other, each at the lowest gap between the already placed buffers
 * whose lives touch its own. What that comes to depends on the order, so several are tried: the
 * largest first, the longest-lived first, and so on. As long as there is room to gain, the best one,
 * and then the others, are changed step by step: what ended up on top of the arena goes to the front,
 * or some buffer that chance picks goes forward. Every plan of the same buffers is the same. */
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "nn/plan.h"

static size_t align_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* An order costs a look at every pair of buffers: as many are tried as that allows, but a few. */
#define PAIRS 10000000u
enum {
    MIN_TRIES = 8,
    MAX_TRIES = 200,
    LARGE = 64,            /* a 64th of the peak is a large buffer */
    LONG = 2,              /* half of all steps are a long life */
    WALK = 24,             /* changes of one order before another is begun with */
    GOOD_PER_MILLE = 1010, /* of the peak: not worth another try */
};

/* Which gap: the lowest; the narrowest that is wide enough; or the lowest for a buffer that lives
 * long and the highest, below what the arena is to come to, for one that does not. */
enum fit { FIT_LOWEST, FIT_TWO_ENDS, FIT_NARROWEST, N_FITS };

/* Larger keys are placed first. */
struct item {
    double key, second;
    size_t index;
};

static int by_key(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? 1 : -1;
    }
    if (x->second != y->second) {
        return x->second < y->second ? 1 : -1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

/* BY_SPAN, BY_START, BY_END: the large ones by length of life, as they come, or as they go; then the
 * small ones by size. */
enum order { BY_SIZE, BY_AREA, BY_LIFE, BY_SPAN, BY_START, BY_END, N_ORDERS };

static void sort_items(const struct plan *p, struct item *items, enum order order)
{
    for (size_t i = 0; i < p->n_buffers; i++) {
        const struct plan_buffer *b = &p->buffers[i];
        const double size = (double)b->bytes, life = (double)(b->last - b->first + 1);
        items[i] = (struct item){.index = i, .key = size, .second = life};
        if (order == BY_AREA) {
            items[i].key = size * life;
        } else if (order == BY_LIFE) {
            items[i].key = life;
            items[i].second = size;
        } else if (order >= BY_SPAN && b->bytes > p->peak_bytes / LARGE) {
            const double n_steps = (double)p->n_steps, first = (double)b->first;
            items[i].key = (double)p->peak_bytes + (order == BY_SPAN    ? life
                                                    : order == BY_START ? n_steps - first
                                                                        : (double)b->last);
            items[i].second = size;
        }
    }
    qsort(items, p->n_buffers, sizeof *items, by_key);
}

/* A placed buffer. */
struct spot {
    uint32_t first, last; /* steps */
    size_t offset, end;
};

/* The gap that a buffer of so many bytes is to go to, whose life is first .. last. */
static size_t find_gap(const struct spot *spots, size_t n, size_t bytes, uint32_t first,
                       uint32_t last, enum fit fit)
{
    size_t end = 0, best = SIZE_MAX, width = SIZE_MAX; /* end: of the spots so far */
    for (size_t i = 0; i < n; i++) { /* without branches but one that is rarely taken */
        const int is_alive = (spots[i].last >= first) & (spots[i].first <= last);
        if (is_alive & (end + bytes <= spots[i].offset) & (spots[i].offset - end < width)) {
            best = end;
            width = spots[i].offset - end;
            if (fit == FIT_LOWEST || width == bytes) {
                break;
            }
        }
        const size_t own_end = is_alive ? spots[i].end : 0;
        end = own_end > end ? own_end : end;
    }
    return best == SIZE_MAX ? end : best;
}

/* Likewise the highest place below `top`; SIZE_MAX if there is none. */
static size_t find_high(const struct spot *spots, size_t n, size_t bytes, uint32_t first,
                        uint32_t last, size_t top)
{
    size_t end = 0, best = SIZE_MAX;
    for (size_t i = 0; i < n && spots[i].offset < top; i++) {
        const int is_alive = (spots[i].last >= first) & (spots[i].first <= last);
        if (is_alive & (end + bytes <= spots[i].offset)) {
            best = spots[i].offset - bytes;
        }
        const size_t own_end = is_alive ? spots[i].end : 0;
        end = own_end > end ? own_end : end;
    }
    return end + bytes <= top ? top - bytes : best;
}

/* Places a buffer; spots[] holds the n placed ones sorted by offset. */
static void place(struct plan *p, size_t index, enum fit fit, struct spot *spots, size_t n)
{
    struct plan_buffer *buf = &p->buffers[index];
    const size_t bytes = align_up(buf->bytes);
    const uint32_t first = (uint32_t)buf->first, last = (uint32_t)buf->last;
    size_t offset = SIZE_MAX;
    if (fit == FIT_TWO_ENDS && (last - first) < p->n_steps / LONG) {
        offset = find_high(spots, n, bytes, first, last, align_up(p->peak_bytes / 1000 * 1015));
    }
    if (offset == SIZE_MAX) {
        offset = find_gap(spots, n, bytes, first, last, fit);
    }
    buf->offset = offset;
    if (offset + bytes > p->arena_bytes) {
        p->arena_bytes = offset + bytes;
    }
    size_t at = 0, behind = n; /* the spots that lie higher begin in at .. behind */
    while (at < behind) {
        const size_t middle = (at + behind) / 2;
        if (spots[middle].offset > offset) {
            behind = middle;
        } else {
            at = middle + 1;
        }
    }
    memmove(spots + at + 1, spots + at, (n - at) * sizeof *spots);
    spots[at] = (struct spot){first, last, offset, offset + bytes};
}

static void find_peak(struct plan *p)
{
    size_t live = 0;
    p->peak_bytes = 0;
    for (size_t s = 0; s < p->n_steps; s++) {
        const struct plan_step *step = &p->steps[s];
        for (size_t i = 0; i < step->n_acquire; i++) {
            live += p->buffers[p->order[step->acquire + i]].bytes;
        }
        if (live > p->peak_bytes) {
            p->peak_bytes = live;
            p->peak_step = s;
        }
        for (size_t i = 0; i < step->n_release; i++) {
            live -= p->buffers[p->order[step->release + i]].bytes;
        }
    }
}

/* Lists, for each step, the buffers that begin and end there. */
static void list_lives(struct plan *p)
{
    for (size_t s = 0; s < p->n_steps; s++) {
        p->steps[s].n_acquire = p->steps[s].n_release = 0;
    }
    for (size_t b = 0; b < p->n_buffers; b++) {
        p->steps[p->buffers[b].first].n_acquire++;
        p->steps[p->buffers[b].last].n_release++;
    }
    size_t at = 0;
    for (size_t s = 0; s < p->n_steps; s++) {
        struct plan_step *step = &p->steps[s];
        step->acquire = at;
        step->release = at + step->n_acquire;
        at += step->n_acquire + step->n_release;
        step->n_acquire = step->n_release = 0;
    }
    for (size_t b = 0; b < p->n_buffers; b++) {
        struct plan_step *first = &p->steps[p->buffers[b].first];
        struct plan_step *last = &p->steps[p->buffers[b].last];
        p->order[first->acquire + first->n_acquire++] = (uint32_t)b;
        p->order[last->release + last->n_release++] = (uint32_t)b;
    }
}

/* Places all buffers in the order of the items. Returns the extent. */
static size_t place_all(struct plan *p, const struct item *items, enum fit fit, struct spot *spots)
{
    p->arena_bytes = 0;
    for (size_t i = 0; i < p->n_buffers; i++) {
        place(p, items[i].index, fit, spots, i);
    }
    return p->arena_bytes;
}

/* The buffers that end at the arena's end go to the front. */
static void raise_top(const struct plan *p, struct item *items, struct item *scratch)
{
    size_t n_top = 0, n_rest = 0;
    for (size_t i = 0; i < p->n_buffers; i++) {
        const struct plan_buffer *b = &p->buffers[items[i].index];
        if (b->offset + align_up(b->bytes) == p->arena_bytes) {
            items[n_top++] = items[i];
        } else {
            scratch[n_rest++] = items[i];
        }
    }
    memcpy(items + n_top, scratch, n_rest * sizeof *items);
}

/* One to three buffers, every other time of the first ones alone, go forward by as much as chance
 * will have it. `draw` counts. */
static void shuffle(struct item *items, size_t n, uint64_t draw)
{
    enum { FIRST_ONES = 64 };
    const struct rng rng = rng_make(0, RNG_PLAN, 0, 0);
    uint32_t words[4];
    rng_block(&rng, draw, words);
    for (size_t k = 0; k <= words[3] % 3; k++) {
        const size_t among = (words[3] >> 8 >> k & 1) && n > FIRST_ONES ? FIRST_ONES : n;
        const size_t from = words[k] % among, to = (words[k] >> 16) % (from + 1);
        const struct item moved = items[from];
        memmove(items + to + 1, items + to, (from - to) * sizeof moved);
        items[to] = moved;
    }
}

static size_t tries_for(size_t n)
{
    const size_t tries = PAIRS / (n * n + 1);
    return tries < MIN_TRIES ? MIN_TRIES : tries > MAX_TRIES ? MAX_TRIES : tries;
}

/* The search: what has been tried, and the best order of all and of this walk. */
struct search {
    struct plan *p;
    struct item *items, *best, *of_walk, *scratch;
    struct spot *spots;
    size_t tries, max_tries, good;
    size_t least, least_of_walk;
    enum fit fit, fit_of_walk;
};

/* Places the items; a better order than the best is the best from now on. */
static size_t try_order(struct search *s, enum fit fit)
{
    const size_t extent = place_all(s->p, s->items, fit, s->spots);
    s->tries++;
    if (extent < s->least) {
        s->least = extent;
        s->fit = fit;
        memcpy(s->best, s->items, s->p->n_buffers * sizeof *s->items);
    }
    return extent;
}

static int is_over(const struct search *s)
{
    return s->tries >= s->max_tries || s->least <= s->good;
}

static void begin_walk(struct search *s, enum fit fit)
{
    s->fit_of_walk = fit;
    s->least_of_walk = try_order(s, fit);
    memcpy(s->of_walk, s->items, s->p->n_buffers * sizeof *s->items);
}

/* Changes the walk's order and keeps the change unless it is worse: sideways is a step too. */
static void walk_on(struct search *s)
{
    const size_t bytes = s->p->n_buffers * sizeof *s->items;
    enum fit fit = s->fit_of_walk;
    memcpy(s->items, s->of_walk, bytes);
    if (s->tries % 8 == 0) {
        (void)place_all(s->p, s->items, fit, s->spots);
        raise_top(s->p, s->items, s->scratch);
    } else {
        shuffle(s->items, s->p->n_buffers, s->tries);
        fit = (enum fit)(s->tries % N_FITS);
    }
    const size_t extent = try_order(s, fit);
    if (extent <= s->least_of_walk) {
        s->least_of_walk = extent;
        s->fit_of_walk = fit;
        memcpy(s->of_walk, s->items, bytes);
    }
}

/* Leaves the best places that it has found. */
static void find_places(struct search *s)
{
    const size_t bytes = s->p->n_buffers * sizeof *s->items;
    for (enum fit fit = FIT_LOWEST; fit < N_FITS; fit++) {
        for (enum order order = BY_SIZE; order < N_ORDERS && !is_over(s); order++) {
            sort_items(s->p, s->items, order);
            (void)try_order(s, fit);
        }
    }
    for (size_t walk = 0; !is_over(s); walk++) {
        enum fit fit = s->fit;
        if (walk == 0) {
            memcpy(s->items, s->best, bytes);
        } else {
            sort_items(s->p, s->items, (enum order)(walk % N_ORDERS));
            fit = FIT_TWO_ENDS;
        }
        begin_walk(s, fit);
        for (size_t i = 0; i < WALK && !is_over(s); i++) {
            walk_on(s);
        }
    }
    (void)place_all(s->p, s->best, s->fit, s->spots);
}

int plan_pack(struct plan *p, struct err *err)
{
    size_t n = p->n_buffers;
    p->order = mem_calloc(MEM_OTHER, 2 * n, sizeof *p->order);
    struct item *items = mem_calloc(MEM_OTHER, 4 * n, sizeof *items);
    struct spot *spots = mem_calloc(MEM_OTHER, n, sizeof *spots);
    int rc = 0;
    if (!p->order || !items || !spots) {
        rc = err_nomem(err, "the memory plan", n * sizeof *items);
        goto out;
    }
    list_lives(p);
    find_peak(p);
    find_places(&(struct search){.p = p,
                                 .items = items,
                                 .best = items + n,
                                 .of_walk = items + 2 * n,
                                 .scratch = items + 3 * n,
                                 .spots = spots,
                                 .max_tries = tries_for(n),
                                 .good = p->peak_bytes / 1000 * GOOD_PER_MILLE,
                                 .least = SIZE_MAX});
out:
    mem_free(items);
    mem_free(spots);
    return rc;
}
