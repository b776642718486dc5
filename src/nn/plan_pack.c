/* Where buffers lie: an offset for each so that no two that live at the same time overlap.
 *
 * Greedy by size: the largest buffer first, each at the lowest gap between the already placed
 * buffers whose lives touch its own. */
#include <stdlib.h>
#include <string.h>

#include "nn/plan.h"

static size_t align_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

struct item {
    size_t bytes, index;
};

static int by_size(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Places buffer b; placed[] holds the n_placed earlier ones sorted by offset. */
static void place(struct plan *p, size_t b, uint32_t *placed, size_t n_placed)
{
    struct plan_buffer *buf = &p->buffers[b];
    size_t bytes = align_up(buf->bytes), offset = 0;
    for (size_t i = 0; i < n_placed; i++) {
        const struct plan_buffer *o = &p->buffers[placed[i]];
        if (o->last < buf->first || o->first > buf->last) {
            continue;
        }
        if (offset + bytes <= o->offset) {
            break;
        }
        size_t end = o->offset + align_up(o->bytes);
        offset = end > offset ? end : offset;
    }
    buf->offset = offset;
    if (offset + bytes > p->arena_bytes) {
        p->arena_bytes = offset + bytes;
    }
    size_t at = n_placed;
    while (at > 0 && p->buffers[placed[at - 1]].offset > offset) {
        placed[at] = placed[at - 1];
        at--;
    }
    placed[at] = (uint32_t)b;
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

int plan_pack(struct plan *p, struct err *err)
{
    size_t n = p->n_buffers;
    p->order = mem_calloc(MEM_OTHER, 2 * n, sizeof *p->order);
    struct item *items = mem_calloc(MEM_OTHER, n, sizeof *items);
    uint32_t *placed = mem_calloc(MEM_OTHER, n, sizeof *placed);
    int rc = 0;
    if (!p->order || !items || !placed) {
        rc = err_nomem(err, "the memory plan", n * sizeof *items);
        goto out;
    }
    list_lives(p);
    find_peak(p);
    for (size_t i = 0; i < n; i++) {
        items[i] = (struct item){.bytes = p->buffers[i].bytes, .index = i};
    }
    qsort(items, n, sizeof *items, by_size);
    p->arena_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        place(p, items[i].index, placed, i);
    }
out:
    mem_free(items);
    mem_free(placed);
    return rc;
}
