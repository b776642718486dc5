/* The loader's thread and its two batches: see loader.h. With `accumulate` everything here is about
 * micro-batches: what is delivered at a time.
 *
 * Batch k lives in slot k % 2. While the caller works on batch k - 1 the thread fills batch k; the
 * call of loader_next that hands out batch k gives slot (k - 1) % 2 back. All counters are guarded
 * by the mutex; a slot's contents belong to the thread from the time it is free until it is counted
 * in `n_made`, and to the caller after that. The order of the epoch belongs to the thread. */
#include "data/loader.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "data/augment_priv.h"
#include "data/micro_batch.h"

enum { N_SLOTS = 2, N_LEVELS = 256, MAX_CHANNELS = 4, ALIGN = 64 };

struct slot_range {
    size_t order, n;       /* from this place in the epoch's order on, so many samples */
    size_t first, n_batch; /* as in struct batch */
};

struct slot {
    real *x;          /* [batch][h][w][c] */
    uint32_t *labels; /* [batch] */
    size_t *indices;  /* [batch] */
    struct slot_range range;
};

struct loader {
    struct loader_config cfg;
    struct dataset_info info;
    size_t n_samples;
    size_t n_whole;   /* whole batches of an epoch */
    size_t n_batches; /* what an epoch delivers: those, or their micro-batches */

    void *block; /* holds all buffers below */
    struct slot slots[N_SLOTS];
    uint32_t *order; /* [n_samples] sample indices of the epoch in their order; the thread's */
    uint8_t *raw;    /* [h][w][c] as read; the thread's */
    uint8_t *cut;    /* [h][w][c] augmented; the thread's */
    real levels[MAX_CHANNELS][N_LEVELS]; /* normalised value of each byte */

    pthread_t thread;
    bool has_thread;
    pthread_mutex_t mutex;
    pthread_cond_t to_thread, to_caller;
    atomic_bool cancel; /* asks the thread to leave its batch unfinished */

    /* Guarded by mutex. */
    bool stop;        /* the thread shall end */
    bool is_running;  /* loader_start was called */
    bool is_busy;     /* the thread is filling a slot */
    bool needs_order; /* the epoch is new */
    size_t epoch;
    size_t n_made;      /* batches of this epoch that are complete */
    size_t n_taken;     /* handed to the caller */
    size_t n_released;  /* given back by the caller */
    struct err failure; /* of the thread; code ERR_OK: none */
};

/* --- buffers
 * ------------------------------------------------------------------------------------- */

/* Where the buffers lie in the block. */
struct layout {
    size_t x[N_SLOTS], labels[N_SLOTS], indices[N_SLOTS], order, raw, cut;
    size_t bytes;
};

/* Takes n * size bytes from the block's end, aligned; returns their offset. */
static size_t layout_take(struct layout *l, size_t n, size_t size, int *overflow)
{
    const size_t at = l->bytes;
    const size_t bytes = size_mul(n, size, overflow);
    if (*overflow || bytes > SIZE_MAX - ALIGN - at) {
        *overflow = 1;
        return 0;
    }
    l->bytes = (at + bytes + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

static int layout_make(struct layout *l, const struct dataset_info *info, size_t batch,
                       size_t n_samples)
{
    int overflow = 0;
    const size_t image = size_mul(size_mul(info->height, info->width, &overflow), info->channels,
                                  &overflow);
    const size_t values = size_mul(image, batch, &overflow);
    if (overflow) {
        return -1; /* size_mul has given 0, which layout_take would accept */
    }
    *l = (struct layout){0};
    for (int i = 0; i < N_SLOTS; ++i) {
        l->x[i] = layout_take(l, values, sizeof(real), &overflow);
        l->labels[i] = layout_take(l, batch, sizeof(uint32_t), &overflow);
        l->indices[i] = layout_take(l, batch, sizeof(size_t), &overflow);
    }
    l->order = layout_take(l, n_samples, sizeof(uint32_t), &overflow);
    l->raw = layout_take(l, image, 1, &overflow);
    l->cut = layout_take(l, image, 1, &overflow);
    return overflow ? -1 : 0;
}

size_t loader_bytes(const struct dataset_info *info, size_t n, size_t n_samples)
{
    struct layout l;
    return layout_make(&l, info, n, n_samples) == 0 ? l.bytes : SIZE_MAX;
}

static int buffers_make(struct loader *l, struct err *err)
{
    struct layout at;
    const size_t largest = micro_batch_largest(l->cfg.batch_size, l->cfg.accumulate);
    if (layout_make(&at, &l->info, largest, l->n_samples) != 0) {
        return err_nomem(err, "two batches of images", SIZE_MAX);
    }
    char *block = mem_alloc(MEM_DATA, at.bytes);
    if (block == NULL) {
        return err_nomem(err, "two batches of images", at.bytes);
    }
    l->block = block;
    for (int i = 0; i < N_SLOTS; ++i) {
        l->slots[i].x = (void *)(block + at.x[i]);
        l->slots[i].labels = (void *)(block + at.labels[i]);
        l->slots[i].indices = (void *)(block + at.indices[i]);
    }
    l->order = (void *)(block + at.order);
    l->raw = (void *)(block + at.raw);
    l->cut = (void *)(block + at.cut);
    return 0;
}

/* In the tensors' own precision and this order of operations, as torchvision's ToTensor and
 * Normalize, so that both give the same bits. */
static void levels_make(struct loader *l)
{
    for (size_t c = 0; c < l->info.channels; ++c) {
        for (size_t i = 0; i < N_LEVELS; ++i) {
            l->levels[c][i] = ((real)i / 255 - (real)l->info.mean[c]) / (real)l->info.std[c];
        }
    }
}

/* --- the thread
 * ---------------------------------------------------------------------------------- */

/* Fisher-Yates: swap number i uses word i of the epoch's stream. */
static void order_make(struct loader *l, size_t epoch)
{
    const uint32_t n = (uint32_t)l->n_samples;
    for (uint32_t i = 0; i < n; ++i) {
        l->order[i] = i;
    }
    if (!l->cfg.shuffle) {
        return;
    }
    const struct rng rng = rng_make(l->cfg.seed, RNG_SHUFFLE, epoch, 0);
    for (uint32_t i = n - 1; i > 0; --i) {
        const uint32_t j = rng_below(&rng, i, i + 1);
        const uint32_t t = l->order[i];
        l->order[i] = l->order[j];
        l->order[j] = t;
    }
}

static void normalise(const struct loader *l, const uint8_t *bytes, real *x)
{
    const size_t n_pixels = l->info.height * l->info.width, n_channels = l->info.channels;
    for (size_t p = 0; p < n_pixels; ++p) {
        for (size_t c = 0; c < n_channels; ++c) {
            *x++ = l->levels[c][*bytes++];
        }
    }
}

/* Which samples of the epoch's order batch k holds. */
static struct slot_range range_of(const struct loader *l, size_t k)
{
    const size_t size = l->cfg.batch_size, first = k / l->cfg.accumulate * size;
    const size_t left = l->n_samples - first;
    const size_t n = left < size ? left : size; /* of the whole batch */
    const size_t count = micro_batch_count(n, size, l->cfg.accumulate);
    const size_t i = k % l->cfg.accumulate;
    const size_t begin = micro_batch_first(n, count, i);
    return (struct slot_range){.order = first + begin,
                               .n = micro_batch_first(n, count, i + 1) - begin,
                               .first = begin,
                               .n_batch = n};
}

/* Fills slot k % 2 with batch k; leaves early, with an unfinished slot, when cancelled. */
static int batch_make(struct loader *l, size_t epoch, size_t k, struct err *err)
{
    const struct dataset_info *info = &l->info;
    const struct augment_size size = {info->height, info->width, info->channels};
    const size_t image = size.h * size.w * size.c;
    const struct rng rng = rng_make(l->cfg.seed, RNG_AUGMENT, epoch, 0);
    struct slot *slot = &l->slots[k % N_SLOTS];
    slot->range = range_of(l, k);
    for (size_t i = 0; i < slot->range.n && !atomic_load(&l->cancel); ++i) {
        const size_t index = l->order[slot->range.order + i];
        const uint8_t *bytes = l->raw;
        const int rc = dataset_read(l->cfg.dataset, l->cfg.split, index, l->raw, &slot->labels[i],
                                    err);
        if (rc != 0) {
            return rc;
        }
        if (l->cfg.augment != AUGMENT_NONE) {
            augment_apply(l->cfg.augment, augment_draw_make(&rng, index), size, l->raw, l->cut);
            bytes = l->cut;
        }
        normalise(l, bytes, slot->x + i * image);
        slot->indices[i] = index;
    }
    return 0;
}

/* Whether there is a batch to make and a slot to put it into. */
static bool has_work(const struct loader *l)
{
    return l->is_running && l->failure.code == ERR_OK && !atomic_load(&l->cancel) &&
           l->n_made < l->n_batches && l->n_made < l->n_released + N_SLOTS;
}

static void *thread_main(void *arg)
{
    struct loader *l = arg;
    pthread_mutex_lock(&l->mutex);
    for (;;) {
        while (!l->stop && !has_work(l)) {
            pthread_cond_wait(&l->to_thread, &l->mutex);
        }
        if (l->stop) {
            break;
        }
        const size_t epoch = l->epoch, k = l->n_made;
        const bool needs_order = l->needs_order;
        l->needs_order = false;
        l->is_busy = true;
        pthread_mutex_unlock(&l->mutex);

        struct err failure = {.code = ERR_OK};
        if (needs_order) {
            order_make(l, epoch);
        }
        const int rc = batch_make(l, epoch, k, &failure);

        pthread_mutex_lock(&l->mutex);
        l->is_busy = false;
        if (rc != 0) {
            l->failure = failure;
        } else if (!atomic_load(&l->cancel)) {
            ++l->n_made;
        }
        pthread_cond_broadcast(&l->to_caller);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* With all signals blocked: they are for the thread that handles them. */
static int thread_start(struct loader *l, struct err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int errnum = pthread_create(&l->thread, NULL, thread_main, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum != 0) {
        return err_sys(err, ERR_NOMEM, errnum, "cannot start the thread that reads the data");
    }
    l->has_thread = true;
    return 0;
}

/* --- the caller's side
 * --------------------------------------------------------------------------- */

static int config_check(const struct loader_config *cfg, const struct dataset_info *info,
                        struct err *err)
{
    const size_t n = dataset_size(cfg->dataset, cfg->split);
    const char *split = cfg->split == DATA_TRAIN ? "training" : "test";
    const unsigned both = AUGMENT_CROP4 | AUGMENT_CROP4_REFLECT;
    assert(info->channels <= MAX_CHANNELS);
    assert((cfg->augment & ~(both | AUGMENT_FLIP)) == 0);
    assert(cfg->batch_size == 0 || cfg->accumulate <= cfg->batch_size);
    if (cfg->batch_size == 0 || cfg->batch_size > n) {
        return err_set(err, ERR_CONFIG,
                       "the batch size is %zu, but the %s split has %zu images: expected 1 to %zu",
                       cfg->batch_size, split, n, n);
    }
    if (n > UINT32_MAX) {
        return err_set(err, ERR_CONFIG,
                       "the %s split has %zu images, at most %u can be put in order", split, n,
                       UINT32_MAX);
    }
    if ((cfg->augment & both) == both) {
        return err_set(err, ERR_CONFIG,
                       "data.augment has both crop4 and crop4_reflect: choose one");
    }
    if ((cfg->augment & AUGMENT_CROP4_REFLECT) &&
        (info->height <= AUGMENT_PAD || info->width <= AUGMENT_PAD)) {
        return err_set(
            err, ERR_CONFIG,
            "crop4_reflect needs images of at least %d x %d pixels, these have %zu x %zu",
            AUGMENT_PAD + 1, AUGMENT_PAD + 1, info->height, info->width);
    }
    return 0;
}

int loader_new(const struct loader_config *cfg, struct loader **out, struct err *err)
{
    int rc = config_check(cfg, &cfg->dataset->info, err);
    if (rc != 0) {
        return rc;
    }
    struct loader *l = mem_alloc(MEM_OTHER, sizeof *l);
    if (l == NULL) {
        return err_nomem(err, "the data loader", sizeof *l);
    }
    l->cfg = *cfg;
    l->info = cfg->dataset->info;
    l->n_samples = dataset_size(cfg->dataset, cfg->split);
    l->cfg.accumulate = cfg->accumulate ? cfg->accumulate : 1;
    l->n_whole = l->n_samples / cfg->batch_size;
    l->n_batches = l->n_whole * l->cfg.accumulate;
    const size_t last = l->n_samples % cfg->batch_size;
    if (!cfg->drop_last && last != 0) {
        ++l->n_whole;
        l->n_batches += micro_batch_count(last, cfg->batch_size, l->cfg.accumulate);
    }
    levels_make(l);
    /* These three cannot fail here: default attributes take no resources. */
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->to_thread, NULL);
    pthread_cond_init(&l->to_caller, NULL);
    atomic_init(&l->cancel, false);
    rc = buffers_make(l, err);
    if (rc == 0) {
        rc = thread_start(l, err);
    }
    if (rc != 0) {
        loader_free(l);
        return rc;
    }
    *out = l;
    return 0;
}

/* Makes the thread idle; the mutex is held. */
static void thread_interrupt(struct loader *l)
{
    atomic_store(&l->cancel, true);
    while (l->is_busy) {
        pthread_cond_wait(&l->to_caller, &l->mutex);
    }
}

int loader_start(struct loader *l, size_t epoch, struct err *err)
{
    (void)err; /* reading begins on the thread; its errors come from loader_next */
    pthread_mutex_lock(&l->mutex);
    thread_interrupt(l);
    l->is_running = true;
    l->needs_order = true;
    l->epoch = epoch;
    l->n_made = l->n_taken = l->n_released = 0;
    l->failure = (struct err){.code = ERR_OK};
    atomic_store(&l->cancel, false);
    pthread_cond_signal(&l->to_thread);
    pthread_mutex_unlock(&l->mutex);
    return 0;
}

/* Hands out the next batch, which is complete; the mutex is held. */
static void batch_take(struct loader *l, struct batch *batch)
{
    const struct slot *slot = &l->slots[l->n_taken++ % N_SLOTS];
    const struct shape shape = {
        .n = slot->range.n, .h = l->info.height, .w = l->info.width, .c = l->info.channels};
    *batch = (struct batch){
        .x = tensor_view(slot->x, shape),
        .labels = slot->labels,
        .indices = slot->indices,
        .n = slot->range.n,
        .first = slot->range.first,
        .n_batch = slot->range.n_batch,
    };
}

int loader_next(struct loader *l, struct batch *batch, struct err *err)
{
    int rc = 0;
    const double begin_s = sys_now_s();
    pthread_mutex_lock(&l->mutex);
    l->n_released = l->n_taken;
    pthread_cond_signal(&l->to_thread);
    const bool is_over = !l->is_running || l->n_taken == l->n_batches;
    while (!is_over && l->n_made == l->n_taken && l->failure.code == ERR_OK) {
        pthread_cond_wait(&l->to_caller, &l->mutex);
    }
    if (is_over) {
        *batch = (struct batch){.n = 0};
    } else if (l->n_made > l->n_taken) {
        batch_take(l, batch);
        batch->wait_s = sys_now_s() - begin_s;
    } else {
        rc = err_set(err, l->failure.code, "%s", l->failure.msg);
    }
    pthread_mutex_unlock(&l->mutex);
    return rc;
}

size_t loader_n_batches(const struct loader *l)
{
    return l->n_whole;
}

void loader_free(struct loader *l)
{
    if (l == NULL) {
        return;
    }
    if (l->has_thread) {
        pthread_mutex_lock(&l->mutex);
        l->stop = true;
        atomic_store(&l->cancel, true);
        pthread_cond_signal(&l->to_thread);
        pthread_mutex_unlock(&l->mutex);
        pthread_join(l->thread, NULL);
    }
    pthread_cond_destroy(&l->to_caller);
    pthread_cond_destroy(&l->to_thread);
    pthread_mutex_destroy(&l->mutex);
    mem_free(l->block);
    mem_free(l);
}
