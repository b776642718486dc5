/* The heap's one door: see mem.h.
 *
 * A block is [padding][struct mem_head][payload]: the header lies in the 64 bytes before the
 * payload, so that mem_free knows tag and size, and the payload is aligned to a cache line. */
#include "base/mem.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/str.h"
#include "base/sys.h"

#if defined(__SANITIZE_ADDRESS__)
#define MEM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEM_ASAN 1
#endif
#endif
#ifdef MEM_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define MEM_ALIGN ((size_t)64)
#define MEM_MAGIC UINT64_C(0x6469766d656d6f72) /* "divmemor" */

struct mem_head {
    void *base;          /* what the system gave */
    size_t bytes;        /* payload as asked for */
    size_t mapped_bytes; /* length of the mapping, 0 for a block of the C heap */
    uint64_t magic;      /* set while the block lives: catches foreign and double frees */
    enum mem_tag tag;
};
_Static_assert(sizeof(struct mem_head) <= 64, "the header must fit in front of the payload");

static _Atomic size_t now_bytes[MEM_N_TAGS];
static _Atomic size_t live_bytes;
static _Atomic size_t live_peak_bytes;
static _Atomic size_t n_allocs;
static _Atomic size_t fail_countdown; /* 0: off */

const char *mem_tag_name(enum mem_tag tag)
{
    switch (tag) {
    case MEM_PARAM: return "param";
    case MEM_OPTIMIZER: return "optimizer";
    case MEM_GRAD: return "grad";
    case MEM_ACTIVATION: return "activation";
    case MEM_SAVED: return "saved";
    case MEM_WORKSPACE: return "workspace";
    case MEM_DATA: return "data";
    case MEM_OTHER: return "other";
    case MEM_ARENA: return "arena";
    case MEM_N_TAGS: break;
    }
    return "unknown";
}

/* --- the ledger --- */

static int is_live_tag(enum mem_tag tag)
{
    return tag != MEM_ARENA && tag != MEM_OTHER;
}

void mem_acquire(enum mem_tag tag, size_t bytes)
{
    assert((unsigned)tag < MEM_N_TAGS);
    atomic_fetch_add(&now_bytes[tag], bytes);
    if (is_live_tag(tag)) {
        const size_t live = atomic_fetch_add(&live_bytes, bytes) + bytes;
        size_t peak = atomic_load(&live_peak_bytes);
        while (live > peak && !atomic_compare_exchange_weak(&live_peak_bytes, &peak, live)) {
        }
    }
}

void mem_release(enum mem_tag tag, size_t bytes)
{
    assert((unsigned)tag < MEM_N_TAGS);
    const size_t before = atomic_fetch_sub(&now_bytes[tag], bytes);
    assert(before >= bytes); /* more was released than was acquired */
    (void)before;
    if (is_live_tag(tag)) {
        atomic_fetch_sub(&live_bytes, bytes);
    }
}

void mem_count_get(struct mem_count *out)
{
    for (int t = 0; t < MEM_N_TAGS; t++) {
        out->now_bytes[t] = atomic_load(&now_bytes[t]);
    }
    out->live_bytes = atomic_load(&live_bytes);
    out->live_peak_bytes = atomic_load(&live_peak_bytes);
    out->n_allocs = atomic_load(&n_allocs);
}

void mem_peak_reset(void)
{
    atomic_store(&live_peak_bytes, atomic_load(&live_bytes));
}

void mem_fail_after(size_t n)
{
    atomic_store(&fail_countdown, n);
}

/* Is this the allocation that a test wants to fail? */
static int failure_is_due(void)
{
    size_t left = atomic_load(&fail_countdown);
    while (left > 0 && !atomic_compare_exchange_weak(&fail_countdown, &left, left - 1)) {
    }
    return left == 1;
}

/* --- blocks --- */

static struct mem_head *head_of(void *payload)
{
    struct mem_head *head = (void *)((char *)payload - MEM_ALIGN);
    assert(head->magic == MEM_MAGIC); /* not from mem_alloc, or freed already */
    return head;
}

/* Makes `base`, with room for MEM_ALIGN + payload behind the next aligned address, a block. */
static void *block_begin(enum mem_tag tag, void *base, size_t bytes, size_t mapped_bytes)
{
    const uintptr_t address = (uintptr_t)base;
    const size_t pad = (size_t)(-address & (MEM_ALIGN - 1));
    char *payload = (char *)base + pad + MEM_ALIGN;
    struct mem_head *head = (void *)(payload - MEM_ALIGN);
    head->base = base;
    head->bytes = bytes;
    head->mapped_bytes = mapped_bytes;
    head->magic = MEM_MAGIC;
    head->tag = tag;
    atomic_fetch_add(&n_allocs, 1);
    mem_acquire(tag, bytes);
    return payload;
}

void *mem_alloc(enum mem_tag tag, size_t bytes)
{
    const size_t extra = 2 * MEM_ALIGN;
    if (bytes > PTRDIFF_MAX - extra || failure_is_due()) {
        return NULL;
    }
    void *base = calloc(1, bytes + extra);
    if (base == NULL) {
        return NULL;
    }
    char *payload = block_begin(tag, base, bytes, 0);
#ifdef MEM_ASAN
    /* The slack behind the payload, or overruns shorter than it would go unseen. */
    char *end = (char *)base + bytes + extra;
    __asan_poison_memory_region(payload + bytes, (size_t)(end - (payload + bytes)));
#endif
    return payload;
}

void *mem_alloc_untouched(enum mem_tag tag, size_t bytes)
{
    if (bytes > PTRDIFF_MAX - MEM_ALIGN || failure_is_due()) {
        return NULL;
    }
    /* A mapping of its own: calloc may reuse, and then clear, memory that was freed before. */
    const size_t mapped = bytes + MEM_ALIGN;
    void *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return base == MAP_FAILED ? NULL : block_begin(tag, base, bytes, mapped);
}

void mem_free(void *ptr)
{
    if (ptr == NULL) {
        return;
    }
    struct mem_head *head = head_of(ptr);
    mem_release(head->tag, head->bytes);
    head->magic = 0;
    if (head->mapped_bytes == 0) {
        free(head->base);
        return;
    }
    void *base = head->base;
    const size_t mapped = head->mapped_bytes;
#ifdef MEM_ASAN
    /* What the owner poisoned would stay so for the next mapping at this address. */
    __asan_unpoison_memory_region(base, mapped);
#endif
    const int status = munmap(base, mapped);
    assert(status == 0);
    (void)status;
}

void *mem_calloc(enum mem_tag tag, size_t n, size_t size)
{
    int overflow = 0;
    const size_t bytes = size_mul(n, size, &overflow);
    return overflow ? NULL : mem_alloc(tag, bytes);
}

void *mem_realloc(enum mem_tag tag, void *ptr, size_t bytes)
{
    void *moved = mem_alloc(tag, bytes);
    if (moved != NULL && ptr != NULL) {
        const size_t old_bytes = head_of(ptr)->bytes;
        memcpy(moved, ptr, old_bytes < bytes ? old_bytes : bytes);
        mem_free(ptr);
    }
    return moved;
}

char *mem_strdup(const char *s)
{
    const size_t bytes = strlen(s) + 1;
    char *copy = mem_alloc(MEM_OTHER, bytes);
    if (copy != NULL) {
        memcpy(copy, s, bytes);
    }
    return copy;
}

size_t size_mul(size_t a, size_t b, int *overflow)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) {
        *overflow = 1;
        return 0;
    }
    return product;
}

int err_nomem(struct err *err, const char *what, size_t bytes)
{
    char need[32], live[32], machine[32];
    const size_t memory_bytes = sys_memory_bytes();
    str_bytes(need, (double)bytes);
    str_bytes(live, (double)atomic_load(&live_bytes));
    if (memory_bytes == 0) {
        return err_set(err, ERR_NOMEM, "out of memory: %s needs %s, with %s in use for tensors",
                       what, need, live);
    }
    return err_set(err, ERR_NOMEM,
                   "out of memory: %s needs %s, with %s in use for tensors; "
                   "this process may use %s in all",
                   what, need, live, str_bytes(machine, (double)memory_bytes));
}
