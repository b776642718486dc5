/* The table of policies, and opening one. */
#include "store/store.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define X(symbol) extern const struct store_policy store_##symbol;
#include "store/store.def"
#undef X

static const struct store_policy *const policies[] = {
#define X(symbol) &store_##symbol,
#include "store/store.def"
#undef X
};
#define N_POLICIES (sizeof(policies) / sizeof(policies[0]))

struct store_params store_params_default(void)
{
    return (struct store_params){
        .block = 8, .bits = 2, .keep = CODEC_KEEP_BOTH, .stochastic = 1, .error_budget = 1};
}

struct store_params store_params_of(const struct store_policy *policy)
{
    struct store_params p = store_params_default();
    p.bits = policy->default_bits != 0 ? policy->default_bits : p.bits;
    return p;
}

const char *store_piece_name(enum store_piece piece)
{
    static const char *const names[STORE_N_PIECES] = {
        [STORE_PIECE_MEANS] = "means",     [STORE_PIECE_CODES] = "codes",
        [STORE_PIECE_RANGES] = "ranges",   [STORE_PIECE_MAPS] = "maps",
        [STORE_PIECE_IMAGE] = "image",     [STORE_PIECE_SIGNS] = "signs",
        [STORE_PIECE_INDICES] = "indices", [STORE_PIECE_STATS] = "stats",
    };
    assert(piece < STORE_N_PIECES);
    return names[piece];
}

const struct store_policy *const *store_policies(size_t *n)
{
    *n = N_POLICIES;
    return policies;
}

const struct store_policy *store_policy_find(const char *name)
{
    for (size_t i = 0; i < N_POLICIES; i++) {
        if (strcmp(policies[i]->name, name) == 0) {
            return policies[i];
        }
    }
    return NULL;
}

size_t store_n_codes(const struct store *s, const struct store_map *map)
{
    return s->params.unshared && map->n_readers > 0 ? map->n_readers : 1;
}

static int err_unknown(const char *name, struct err *err)
{
    const char *names[N_POLICIES];
    struct str list = {0};
    for (size_t i = 0; i < N_POLICIES; i++) {
        names[i] = policies[i]->name;
        str_addf(&list, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    const char *nearest = str_nearest(name, names, N_POLICIES);
    (void)err_set(err, ERR_CONFIG, "unknown storage policy '%s'%s%s%s; there are %s", name,
                  nearest == NULL ? "" : " (did you mean '", nearest == NULL ? "" : nearest,
                  nearest == NULL ? "" : "'?)", list.s == NULL ? "none" : list.s);
    str_fini(&list);
    return ERR_CONFIG;
}

int store_open(struct store *s, const char *policy, const struct store_params *params,
               const struct kernels *kernels, int n_threads, struct err *err)
{
    const struct store_policy *found = store_policy_find(policy);
    if (found == NULL) {
        return err_unknown(policy, err);
    }
    return store_open_policy(s, found, params, kernels, n_threads, err);
}

int store_open_policy(struct store *s, const struct store_policy *policy,
                      const struct store_params *params, const struct kernels *kernels,
                      int n_threads, struct err *err)
{
    int code = policy->check == NULL ? 0 : policy->check(params, err);
    if (code != 0) {
        return code;
    }
    struct store opened = {
        .policy = policy,
        .params = *params,
        .kernels = kernels,
        .n_threads = n_threads,
    };
    if (policy->open != NULL && (code = policy->open(&opened, err)) != 0) {
        return code;
    }
    *s = opened;
    return 0;
}

int store_add_rule(struct store *s, const char *match, const char *policy,
                   const struct store_params *params, struct err *err)
{
    const size_t bytes = (s->n_rules + 1) * sizeof *s->rules;
    struct store_rule *grown = mem_realloc(MEM_OTHER, s->rules, bytes);
    if (grown == NULL) {
        return err_nomem(err, "the exceptions of a storage policy", bytes);
    }
    s->rules = grown;
    struct store_rule *rule = &s->rules[s->n_rules];
    *rule = (struct store_rule){0};
    if (str_copy(rule->match, sizeof rule->match, match) != 0) {
        return err_set(err, ERR_CONFIG, "%s: longer than %zu bytes", match, sizeof rule->match - 1);
    }
    const int code = store_open(&rule->store, policy, params, s->kernels, s->n_threads, err);
    s->n_rules += code == 0;
    return code;
}

struct store *store_for(struct store *s, const char *map_name)
{
    for (size_t i = 0; i < s->n_rules; i++) {
        if (str_glob(s->rules[i].match, map_name)) {
            return &s->rules[i].store;
        }
    }
    return s;
}

void store_begin(struct store *s, uint64_t step)
{
    for (size_t i = 0; i < s->n_rules; i++) {
        store_begin(&s->rules[i].store, step);
    }
    if (s->policy->begin != NULL) {
        s->policy->begin(s, step);
    }
}

void store_cancel(struct store *s)
{
    for (size_t i = 0; i < s->n_rules; i++) {
        store_cancel(&s->rules[i].store);
    }
    if (s->policy->cancel != NULL) {
        s->policy->cancel(s);
    }
}

void store_close(struct store *s)
{
    for (size_t i = 0; s != NULL && i < s->n_rules; i++) {
        store_close(&s->rules[i].store);
    }
    if (s != NULL) {
        mem_free(s->rules);
    }
    if (s != NULL && s->policy != NULL && s->policy->close != NULL) {
        s->policy->close(s);
    }
    if (s != NULL) {
        *s = (struct store){0};
    }
}
