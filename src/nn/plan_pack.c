/* Where buffers lie: an offset for each so that no two that live at the same time overlap.
 *
 * Let the steps run from left to right and the arena upwards. A buffer is a box, as wide as its life;
 * it can only go up and down. The boxes are stacked from the ground: in the lowest stretch of the
 * skyline goes the most urgent box that fits between the walls on either side; where none fits, the
 * stretch is filled up to the lower wall.
 *
 * What is filled is lost to its steps, and a step can lose only so much until its boxes, those still
 * to come included, do not stay below the ceiling any more. Then the attempt is over. The step's boxes
 * without a place were too wide for the stretch and should have come before its walls: in the next
 * attempt they are more urgent. So steps that are nearly full come to have no holes, and those that
 * can afford some take what is left. The ceiling begins close to the peak, where a bad hole shows
 * soonest, and rises when many attempts have failed.
 *
 * The same buffers always get the same places. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "nn/plan.h"

enum {
    ATTEMPTS = 50, /* under one ceiling, in one way */
    SLACK = 256,   /* the lowest ceiling lies a 256th of the peak above it */
};

#define NO_PLACE SIZE_MAX

struct box {
    size_t first, last; /* steps */
    size_t bytes;       /* a multiple of 64 */
    size_t offset;      /* NO_PLACE: it has none yet */
    double urgency;
    struct plan_buffer *buffer;
};

/* Neighbouring steps whose boxes reach equally high. */
struct stretch {
    size_t first, last;
    size_t top;
};

struct packing {
    size_t n_boxes, n_steps;
    struct box *boxes;  /* by first step */
    double *claims;     /* [n_boxes] the urgency of those without a place, else 0 */
    size_t *begin;      /* [n_steps + 1] the first box of that step or a later one */
    size_t *live_bytes; /* [n_steps] of all boxes that live then */
    size_t *used_bytes; /* [n_steps] and of what this attempt has filled there */
    size_t peak_bytes;  /* the highest of live_bytes */
    struct stretch *skyline;
    size_t n_stretches;
};

static size_t align_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* --- the plan's lists ------------------------------------------------------------------------- */

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

/* One for each buffer. */
static void make_boxes(struct plan *p, struct packing *k)
{
    size_t n = 0, live = 0;
    for (size_t s = 0; s < p->n_steps; s++) {
        const struct plan_step *step = &p->steps[s];
        k->begin[s] = n;
        for (size_t i = 0; i < step->n_acquire; i++) {
            struct plan_buffer *b = &p->buffers[p->order[step->acquire + i]];
            k->boxes[n++] = (struct box){
                .first = b->first, .last = b->last, .bytes = align_up(b->bytes), .buffer = b};
            live += align_up(b->bytes);
        }
        k->live_bytes[s] = live;
        k->peak_bytes = live > k->peak_bytes ? live : k->peak_bytes;
        for (size_t i = 0; i < step->n_release; i++) {
            live -= align_up(p->buffers[p->order[step->release + i]].bytes);
        }
    }
    k->begin[p->n_steps] = n;
}

/* --- one attempt ------------------------------------------------------------------------------ */

static size_t lowest_stretch(const struct packing *k)
{
    size_t lowest = 0;
    for (size_t i = 1; i < k->n_stretches; i++) {
        lowest = k->skyline[i].top < k->skyline[lowest].top ? i : lowest;
    }
    return lowest;
}

/* The most urgent box without a place whose life is within the stretch; NULL if there is none. */
static struct box *fitting_box(const struct packing *k, const struct stretch *s)
{
    struct box *best = NULL;
    double most = 0;
    for (size_t i = k->begin[s->first]; i < k->begin[s->last + 1]; i++) {
        if (k->claims[i] > most && k->boxes[i].last <= s->last) {
            best = &k->boxes[i];
            most = k->claims[i];
        }
    }
    return best;
}

/* Some steps of stretch `at` now reach up to `top`. Stretches that reach equally high become one. */
static void raise_steps(struct packing *k, size_t at, size_t first, size_t last, size_t top)
{
    const struct stretch old = k->skyline[at];
    struct stretch parts[3];
    size_t n = 0, from = at, until = at + 1; /* stretches from .. until are replaced */
    if (first > old.first) {
        parts[n++] = (struct stretch){old.first, first - 1, old.top};
    } else if (at > 0 && k->skyline[at - 1].top == top) {
        from--;
        first = k->skyline[from].first;
    }
    struct stretch *raised = &parts[n++];
    if (last < old.last) {
        parts[n++] = (struct stretch){last + 1, old.last, old.top};
    } else if (until < k->n_stretches && k->skyline[until].top == top) {
        last = k->skyline[until++].last;
    }
    *raised = (struct stretch){first, last, top};
    memmove(k->skyline + from + n, k->skyline + until,
            (k->n_stretches - until) * sizeof *k->skyline);
    memcpy(k->skyline + from, parts, n * sizeof *parts);
    k->n_stretches += n - (until - from);
}

/* Fills a stretch up to the lower of its walls. Returns the step of it that has come to use most. */
static size_t fill_stretch(struct packing *k, size_t at)
{
    const struct stretch s = k->skyline[at];
    const size_t left = at > 0 ? k->skyline[at - 1].top : SIZE_MAX;
    const size_t right = at + 1 < k->n_stretches ? k->skyline[at + 1].top : SIZE_MAX;
    const size_t top = left < right ? left : right;
    size_t fullest = s.first;
    assert(top != SIZE_MAX); /* a stretch without walls has room for any box */
    for (size_t i = s.first; i <= s.last; i++) {
        k->used_bytes[i] += top - s.top;
        fullest = k->used_bytes[i] > k->used_bytes[fullest] ? i : fullest;
    }
    raise_steps(k, at, s.first, s.last, top);
    return fullest;
}

/* Gives the boxes their places. Returns the step whose boxes do not stay below the ceiling, where it
 * has stopped; n_steps if there is none. */
static size_t stack_boxes(struct packing *k, size_t ceiling)
{
    for (size_t i = 0; i < k->n_boxes; i++) {
        k->boxes[i].offset = NO_PLACE;
        k->claims[i] = k->boxes[i].urgency;
    }
    memcpy(k->used_bytes, k->live_bytes, k->n_steps * sizeof *k->used_bytes);
    k->skyline[0] = (struct stretch){.first = 0, .last = k->n_steps - 1};
    k->n_stretches = 1;
    for (size_t n_placed = 0; n_placed < k->n_boxes;) {
        const size_t at = lowest_stretch(k);
        struct box *b = fitting_box(k, &k->skyline[at]);
        if (b) {
            b->offset = k->skyline[at].top;
            k->claims[b - k->boxes] = 0;
            raise_steps(k, at, b->first, b->last, b->offset + b->bytes);
            n_placed++;
        } else {
            const size_t fullest = fill_stretch(k, at);
            if (k->used_bytes[fullest] > ceiling) {
                return fullest;
            }
        }
    }
    return k->n_steps;
}

/* --- all attempts ----------------------------------------------------------------------------- */

/* Two ways; where one leads nowhere the other nearly always gets through. */
enum way {
    BY_AREA, /* first bytes x life; more by as much as the whole peak for a step */
    BY_ROOT, /* first bytes x the root of life; more by up to PRESSURE of it, as chance will have it */
    N_WAYS,
};
#define PRESSURE 0.3

static void set_urgency(struct packing *k, enum way way)
{
    for (size_t i = 0; i < k->n_boxes; i++) {
        struct box *b = &k->boxes[i];
        const double life = (double)(b->last - b->first + 1);
        b->urgency = (double)b->bytes * (way == BY_AREA ? life : sqrt(life));
    }
}

/* The step's boxes without a place are more urgent from now on. */
static void press(struct packing *k, size_t step, enum way way, size_t attempt)
{
    const struct rng rng = rng_make(0, RNG_PLAN, attempt, 0);
    for (size_t i = 0; i < k->begin[step + 1]; i++) {
        struct box *b = &k->boxes[i];
        if (b->offset != NO_PLACE || b->last < step) {
            continue;
        }
        if (way == BY_AREA) {
            b->urgency += (double)k->peak_bytes;
        } else {
            uint32_t words[4];
            rng_block(&rng, i, words);
            b->urgency += b->urgency * (PRESSURE * (double)words[0] / (double)UINT32_MAX);
        }
    }
}

static int fits_below(struct packing *k, size_t ceiling, enum way way)
{
    set_urgency(k, way);
    for (size_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        const size_t step = stack_boxes(k, ceiling);
        if (step == k->n_steps) {
            return 1;
        }
        press(k, step, way, attempt);
    }
    return 0;
}

static void find_places(struct packing *k)
{
    size_t slack = k->peak_bytes / SLACK;
    enum way way = BY_AREA;
    while (!fits_below(k, k->peak_bytes + slack, way)) {
        way++;
        if (way == N_WAYS) {
            way = BY_AREA;
            slack = 2 * slack + 64;
        }
    }
}

int plan_pack(struct plan *p, struct err *err)
{
    const size_t n = p->n_buffers, n_steps = p->n_steps;
    struct packing k = {.n_boxes = n, .n_steps = n_steps};
    p->order = mem_calloc(MEM_OTHER, 2 * n, sizeof *p->order);
    k.boxes = mem_calloc(MEM_OTHER, n, sizeof *k.boxes);
    k.claims = mem_calloc(MEM_OTHER, n, sizeof *k.claims);
    k.begin = mem_calloc(MEM_OTHER, 3 * n_steps + 1, sizeof *k.begin);
    k.skyline = mem_calloc(MEM_OTHER, n_steps + 1, sizeof *k.skyline);
    int rc = 0;
    if (!p->order || !k.boxes || !k.claims || !k.begin || !k.skyline) {
        rc = err_nomem(err, "the memory plan", n * sizeof *k.boxes);
        goto out;
    }
    k.live_bytes = k.begin + n_steps + 1;
    k.used_bytes = k.live_bytes + n_steps;
    list_lives(p);
    find_peak(p);
    make_boxes(p, &k);
    find_places(&k);
    p->arena_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const struct box *b = &k.boxes[i];
        b->buffer->offset = b->offset;
        if (b->offset + b->bytes > p->arena_bytes) {
            p->arena_bytes = b->offset + b->bytes;
        }
    }
out:
    mem_free(k.boxes);
    mem_free(k.claims);
    mem_free(k.begin);
    mem_free(k.skyline);
    return rc;
}
