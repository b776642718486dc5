#include "run/budget.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"

/* What the process takes beyond its plan: page tables' rounding, the C library's heap. Measured on
 * ResNet-18, ResNet-50 and WRN-28-10: 0.4 to 1.1 MiB. */
static size_t with_reserve(const struct session_memory *m)
{
    return session_memory_expected(m) + ((size_t)2 << 20);
}

/* What is chosen keeps 1 % more, and the base that is measured, which differs by some 100 KiB from
 * process to process, is rounded up: two of them shall not choose differently, and what one has
 * chosen shall fit in the other. */
static size_t with_room(const struct session_memory *m)
{
    const size_t grain = (size_t)4 << 20;
    struct session_memory rounded = *m;
    rounded.base += with_reserve(m) - session_memory_expected(m);
    rounded.base = (rounded.base + grain - 1) / grain * grain;
    const size_t expected = session_memory_expected(&rounded);
    return expected + expected / 100;
}

/* What is made to fit leaves an eighth of the machine's memory to the system and to others. */
static size_t available(size_t budget)
{
    const size_t have = sys_memory_bytes(), most = have - have / 8;
    return have && most < budget ? most : budget;
}

/* --- the largest batch ----------------------------------------------------------------------- */

/* Of training steps, or of evaluation's. */
static void set_batch(struct session *s, int training, size_t batch)
{
    if (training) {
        session_set_batch(s, batch);
    } else {
        s->eval_batch_size = batch;
    }
}

/* 1: it fits, 0: it does not, -1: err is set. */
static int fits(struct session *s, int training, size_t batch, struct err *err)
{
    struct forecast f;
    set_batch(s, training, batch);
    if (forecast_make(s, training, &f, err)) {
        return -1;
    }
    const int fit = with_room(&f.memory) <= available(s->job.budget_bytes);
    forecast_fini(&f);
    return fit;
}

/* The largest batch of at most `limit` images that fits; 0: none. The session is left with some
 * batch. */
static int largest_batch(struct session *s, int training, size_t limit, size_t *out,
                         struct err *err)
{
    const size_t least = training ? s->accumulate : 1;
    size_t low = least, high = limit + 1; /* low fits, high does not */
    int fit = limit < low ? 0 : fits(s, training, low, err);
    *out = 0;
    if (fit <= 0) {
        return fit;
    }
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if ((fit = fits(s, training, middle, err)) < 0) {
            return -1;
        }
        *(fit ? &low : &high) = middle;
    }
    /* One that leaves batch-norm a single value is no batch. */
    for (; training && low > least; low--) {
        struct err why = {0};
        session_set_batch(s, low);
        if (session_check_batch(s, &why) == 0) {
            break;
        }
    }
    *out = low;
    return 0;
}

/* Images that a batch may have: those that there are, as far as that is known, and what the key
 * allows. */
static size_t most_images(const struct session *s)
{
    const size_t most = (size_t)config_key_find("train.batch_size")->max;
    return s->info.n_train && s->info.n_train < most ? s->info.n_train : most;
}

int budget_fit_batch(struct session *s, struct err *err)
{
    const size_t limit = most_images(s);
    size_t batch = s->job.batch;
    if (limit < s->accumulate) {
        return err_set(err, ERR_CONFIG,
                       "train.accumulate: %zu parts of a batch, but there are only %zu training "
                       "images: lower it",
                       s->accumulate, limit);
    }
    s->job.budget_bytes = available(s->job.budget_bytes);
    if (batch == 0 && largest_batch(s, 1, limit, &batch, err)) {
        return (int)err->code;
    }
    if (batch == 0) {
        char text[32];
        return err_set(err, ERR_NOMEM, "policy %s: not even a batch of %zu fits into %s",
                       s->job.label, s->accumulate, str_bytes(text, (double)s->job.budget_bytes));
    }
    session_set_batch(s, batch);
    s->cfg.train.batch_size = (int64_t)batch;
    return session_check_batch(s, err);
}

/* --- refusing -------------------------------------------------------------------------------- */

struct part {
    const char *name;
    size_t bytes;
};

/* The three largest items of the expected process peak: "saved activations 1.20 GiB, …". */
static void name_largest(const struct forecast *f, char *buf, size_t cap)
{
    const struct session_memory *m = &f->memory;
    const struct plan_moment *peak = forecast_peak(f);
    struct part parts[] = {
        {"saved activations", peak->live[MEM_SAVED]},
        {"live values", peak->live[MEM_ACTIVATION]},
        {"gradients", peak->live[MEM_GRAD] + m->gradients},
        {"workspace", peak->live[MEM_WORKSPACE]},
        {"weights", m->params},
        {"momentum", m->momentum},
        {"images", m->data},
        {"the process before the run", m->base},
    };
    size_t len = 0;
    for (int k = 0; k < 3 && len < cap; k++) {
        struct part *largest = &parts[0];
        char text[32];
        for (size_t i = 1; i < sizeof parts / sizeof *parts; i++) {
            largest = parts[i].bytes > largest->bytes ? &parts[i] : largest;
        }
        const int n = snprintf(buf + len, cap - len, "%s%s %s", k ? ", " : "", largest->name,
                               str_bytes(text, (double)largest->bytes));
        len += n > 0 ? (size_t)n : 0;
        largest->bytes = 0;
    }
}

/* What would fit: "the largest batch that fits is 96 (now 256; --fit batch), or …". */
static int advise(struct session *s, int training, char *buf, size_t cap, struct err *err)
{
    const size_t now = training ? s->batch_size : session_eval_batch(s);
    const char *other = training ? ", or let --fit policy choose another policy" : "";
    size_t batch;
    const int rc = largest_batch(s, training, now - 1, &batch, err);
    set_batch(s, training, now);
    if (rc) {
        return (int)err->code;
    }
    if (batch == 0) {
        (void)snprintf(buf, cap, "no batch fits, not even one of %zu%s",
                       training ? s->accumulate : 1, other);
    } else if (training) {
        (void)snprintf(buf, cap, "the largest batch that fits is %zu (now %zu; --fit batch)%s",
                       batch, now, other);
    } else {
        (void)snprintf(buf, cap, "the largest train.eval_batch_size that fits is %zu (now %zu)",
                       batch, now);
    }
    return 0;
}

/* Linux gives memory out before it has it; a run that cannot fit must not end by the kernel's
 * hand. */
static int check_machine(const struct session *s, int training, size_t need, struct err *err)
{
    const size_t have = sys_memory_bytes();
    char a[32], b[32], remedy[160];
    if (!have || need <= have) {
        return 0;
    }
    if (training) {
        (void)snprintf(remedy, sizeof remedy,
                       "lower train.batch_size (now %zu), raise train.accumulate (now %zu) or "
                       "choose a smaller storage policy or network",
                       s->batch_size, s->accumulate);
    } else {
        (void)snprintf(remedy, sizeof remedy, "lower train.eval_batch_size (now %zu)",
                       session_eval_batch(s));
    }
    return err_set(err, ERR_NOMEM, "this run needs %s of memory and the machine has %s: %s",
                   str_bytes(a, (double)need), str_bytes(b, (double)have), remedy);
}

int budget_check(struct session *s, const struct forecast *f, struct err *err)
{
    const int training = f->train.n_steps > 0;
    const size_t need = with_reserve(&f->memory), budget = s->job.budget_bytes;
    char a[32], b[32], largest[256], advice[128];
    if (!budget || need <= budget) {
        return check_machine(s, training, session_memory_expected(&f->memory), err);
    }
    name_largest(f, largest, sizeof largest);
    if (advise(s, training, advice, sizeof advice, err)) {
        return (int)err->code;
    }
    return err_set(
        err, ERR_NOMEM,
        "policy %s: this run needs %s of memory with its reserve, over the budget of %s; "
        "its largest parts: %s; %s",
        s->job.label, str_bytes(a, (double)need), str_bytes(b, (double)budget), largest, advice);
}

int budget_check_job(const struct config *cfg, const struct job *job, size_t *batch,
                     struct err *err)
{
    struct config own;
    struct job single;
    struct session s;
    struct forecast f;
    job_config(cfg, job, &own, &single);
    if (session_init(&s, &own, &single, err)) {
        return (int)err->code;
    }
    *batch = s.batch_size;
    if (forecast_make(&s, 1, &f, err) == 0) {
        (void)!budget_check(&s, &f, err);
        forecast_fini(&f);
    }
    session_fini(&s);
    return (int)err->code;
}

/* --- watching -------------------------------------------------------------------------------- */

int budget_watch(const struct session *s, size_t n_steps, struct err *err)
{
    const size_t budget = s->job.budget_bytes;
    if (!budget) {
        return 0;
    }
    struct mem_count count;
    mem_count_get(&count);
    const size_t process = sys_peak_bytes();
    const size_t most = process > count.live_peak_bytes ? process : count.live_peak_bytes;
    if (most <= budget) {
        return 0;
    }
    char a[32], b[32], c[32];
    return err_set(err, ERR_NOMEM,
                   "after step %zu the process has taken %s of memory, over the budget of %s; the "
                   "plan expected %s",
                   n_steps, str_bytes(a, (double)most), str_bytes(b, (double)budget),
                   str_bytes(c, (double)session_memory_expected(&s->memory)));
}

/* --- the least lossy policy ------------------------------------------------------------------ */

enum { MAX_CANDIDATES = 64 };

struct candidate {
    char spec[64]; /* as after --policy */
    int exact;
    double bits; /* per value */
};

static int takes_bits(const struct store_policy *p)
{
    for (const char *const *key = p->keys; *key; key++) {
        if (strcmp(*key, "bits") == 0) {
            return 1;
        }
    }
    return 0;
}

/* Settings that the policy refuses are no candidate. */
static void add_candidate(struct candidate *list, size_t *n, const struct store_policy *p,
                          const char *spec)
{
    const struct shape map = {.n = 1, .h = 32, .w = 32, .c = 64};
    struct config cfg;
    struct err err = {0};
    const struct store_policy *policy;
    struct store_params params;
    config_defaults(&cfg);
    if (*n == MAX_CANDIDATES || config_set_policy(&cfg, spec, 0, &err) ||
        job_store_params(&cfg.storage[0], &policy, &params, &err)) {
        return;
    }
    struct candidate *c = &list[(*n)++];
    *c = (struct candidate){.exact = p->exact, .bits = p->bits_per_value(&params, &map)};
    (void)snprintf(c->spec, sizeof c->spec, "%s", spec);
}

static int is_before(const struct candidate *a, const struct candidate *b)
{
    return a->exact != b->exact ? a->exact > b->exact : !a->exact && a->bits > b->bits;
}

/* Stable: what is equal stays in the table's order. */
static size_t list_candidates(const struct config *cfg, struct candidate list[MAX_CANDIDATES])
{
    size_t n_policies, n = 0;
    const struct store_policy *const *policies = store_policies(&n_policies);
    for (size_t i = 0; i < n_policies; i++) {
        char spec[64];
        if (!takes_bits(policies[i]) || config_sweeps(cfg, "storage.bits")) {
            add_candidate(list, &n, policies[i], policies[i]->name);
            continue;
        }
        for (int bits = 8; bits >= 1; bits /= 2) {
            (void)snprintf(spec, sizeof spec, "%s:bits=%d", policies[i]->name, bits);
            add_candidate(list, &n, policies[i], spec);
        }
    }
    for (size_t i = 1; i < n; i++) {
        const struct candidate c = list[i];
        size_t at = i;
        for (; at > 0 && is_before(&c, &list[at - 1]); at--) {
            list[at] = list[at - 1];
        }
        list[at] = c;
    }
    return n;
}

/* The highest need of the config's runs, with its reserve. */
static int most_needed(const struct config *cfg, const struct job_list *jobs, size_t *bytes,
                       struct err *err)
{
    *bytes = 0;
    for (size_t i = 0; i < jobs->n && !err->code; i += cfg->seed.n) { /* seeds are innermost */
        struct config own;
        struct job single;
        struct session s;
        struct forecast f;
        job_config(cfg, &jobs->jobs[i], &own, &single);
        if (session_init(&s, &own, &single, err)) {
            break;
        }
        if (forecast_make(&s, 1, &f, err) == 0) {
            const size_t need = with_room(&f.memory);
            *bytes = need > *bytes ? need : *bytes;
            forecast_fini(&f);
        }
        session_fini(&s);
    }
    return (int)err->code;
}

/* The same under that policy. *refused is set, and *bytes is 0, if the policy cannot be: it does
 * not take a setting that the config sweeps over. */
static int candidate_need(struct config *cfg, const char *spec, size_t *bytes, struct err *refused,
                          struct err *err)
{
    struct job_list jobs;
    struct err why = {0};
    *bytes = 0;
    if (config_set_policy(cfg, spec, 0, err)) {
        return (int)err->code;
    }
    if (job_list_make(cfg, &jobs, &why)) {
        *(why.code == ERR_CONFIG ? refused : err) = why;
        return (int)err->code;
    }
    (void)!most_needed(cfg, &jobs, bytes, err);
    job_list_fini(&jobs);
    return (int)err->code;
}

int budget_fit_policy(struct config *cfg, size_t budget_bytes, struct budget_choice *choice,
                      struct err *err)
{
    struct candidate list[MAX_CANDIDATES];
    struct str left_out = {0};
    struct err refused = {0};
    char text[32], budget[32];
    const size_t n = list_candidates(cfg, list);
    budget_bytes = available(budget_bytes);
    str_bytes(budget, (double)budget_bytes);
    for (size_t i = 0; i < n; i++) {
        struct config trial = *cfg;
        size_t need;
        if (candidate_need(&trial, list[i].spec, &need, &refused, err)) {
            break;
        }
        if (need == 0) {
            continue;
        }
        if (need <= budget_bytes) {
            memcpy(choice->policy, list[i].spec, sizeof choice->policy);
            (void)snprintf(choice->why, sizeof choice->why,
                           "%s: policy %s is the least lossy that fits into %s (%s with a "
                           "reserve)%s%s",
                           cfg->name, choice->policy, budget, str_bytes(text, (double)need),
                           left_out.len ? "; too large: " : "", left_out.len ? left_out.s : "");
            *cfg = trial;
            str_fini(&left_out);
            return 0;
        }
        str_addf(&left_out, "%s%s %s", left_out.len ? ", " : "", list[i].spec,
                 str_bytes(text, (double)need));
    }
    if (!err->code && !left_out.len && refused.code) {
        *err = refused; /* whatever the policy */
    } else if (!err->code) {
        (void)!err_set(err, ERR_NOMEM,
                       "%s: no policy fits into %s: %s; lower train.batch_size or raise "
                       "train.accumulate",
                       cfg->name, budget, left_out.s ? left_out.s : "(out of memory)");
    }
    str_fini(&left_out);
    return (int)err->code;
}
