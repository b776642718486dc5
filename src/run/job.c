#include "run/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { MAX_JOBS = 2000 };

static int unknown_policy(const char *name, struct err *err)
{
    size_t n;
    const struct store_policy *const *policies = store_policies(&n);
    struct str list = {0};
    for (size_t i = 0; i < n; i++) {
        str_addf(&list, "%s%s", i ? ", " : "", policies[i]->name);
    }
    err_set(err, ERR_CONFIG, "storage.policy: unknown policy \"%s\"; valid ones: %s", name,
            list.s ? list.s : "");
    str_fini(&list);
    return (int)err->code;
}

/* Keys of the storage section that are the plan's, whatever the policy. */
static int is_common(const char *key)
{
    static const char *const common[] = {"policy", "label", "recompute", "relu_mask",
                                         "shared_saves"};
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        if (strcmp(key, common[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

static int policy_takes(const struct store_policy *p, const char *key)
{
    for (const char *const *k = p->keys; *k; k++) {
        if (strcmp(*k, key) == 0) {
            return 1;
        }
    }
    return 0;
}

static int is_given(const struct config_storage *s, const char *wanted)
{
    size_t n, bit = 0;
    const struct config_key *keys = config_keys(&n);
    for (size_t i = 0; i < n; i++) {
        if (keys[i].in_storage && strcmp(strchr(keys[i].path, '.') + 1, wanted) == 0) {
            return s->set >> bit & 1;
        }
        bit += keys[i].in_storage ? 1 : 0;
    }
    return 0;
}

/* Every storage key that was given must be one of the policy's. */
static int check_keys(const struct config_storage *s, const struct store_policy *policy,
                      struct err *err)
{
    size_t n, bit = 0;
    const struct config_key *keys = config_keys(&n);
    for (size_t i = 0; i < n; i++) {
        if (!keys[i].in_storage) {
            continue;
        }
        const char *key = strchr(keys[i].path, '.') + 1;
        int given = s->set >> bit++ & 1;
        if (!given || is_common(key) || policy_takes(policy, key)) {
            continue;
        }
        struct str list = {0};
        for (const char *const *k = policy->keys; *k; k++) {
            str_addf(&list, "%s%s", k == policy->keys ? "" : ", ", *k);
        }
        err_set(err, ERR_CONFIG, "storage.%s: the policy %s does not take it; it takes: %s", key,
                policy->name, list.len ? list.s : "no settings");
        str_fini(&list);
        return (int)err->code;
    }
    return 0;
}

static int parse_group(const char *text, size_t *group, struct err *err)
{
    char *end;
    if (strcmp(text, "map") == 0) {
        *group = 0;
        return 0;
    }
    unsigned long long v = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    if (v == 0 || *end || v > 1U << 20) {
        return err_set(err, ERR_CONFIG,
                       "storage.group: \"%s\" is neither \"map\" nor a number of values from 1 to "
                       "1048576",
                       text);
    }
    *group = (size_t)v;
    return 0;
}

int job_store_params(const struct config_storage *s, const struct store_policy **policy,
                     struct store_params *params, struct err *err)
{
    const struct store_policy *p = store_policy_find(s->policy);
    if (!p) {
        return unknown_policy(s->policy, err);
    }
    if (check_keys(s, p, err)) {
        return (int)err->code;
    }
    struct store_params out = store_params_of(p);
    out.block = (size_t)s->block;
    if (is_given(s, "bits")) {
        out.bits = (unsigned)s->bits;
    }
    if (parse_group(s->group, &out.group, err)) {
        return (int)err->code;
    }
    out.keep = strcmp(s->keep, "low") == 0    ? CODEC_KEEP_LOW
               : strcmp(s->keep, "high") == 0 ? CODEC_KEEP_HIGH
                                              : CODEC_KEEP_BOTH;
    out.stochastic = strcmp(s->rounding, "stochastic") == 0;
    out.official = strcmp(s->compat, "official") == 0;
    out.segments = strcmp(s->segments, "block") == 0 ? STORE_SEGMENTS_BLOCK : STORE_SEGMENTS_STAGE;
    out.level = strcmp(s->level, "L1") == 0   ? STORE_LEVEL_L1
                : strcmp(s->level, "L2") == 0 ? STORE_LEVEL_L2
                                              : STORE_LEVEL_L3;
    out.adapt = strcmp(s->adapt, "sample") == 0 ? STORE_ADAPT_SAMPLE : STORE_ADAPT_LAYER;
    out.rebuild_bn = strcmp(s->recompute, "bn") == 0;
    out.derived_mask = strcmp(s->relu_mask, "derived") == 0;
    (void)str_copy(out.spill_dir, sizeof out.spill_dir, s->spill_dir); /* fits: CONFIG_TEXT */
    out.error_budget = s->error_budget;
    out.unshared = strcmp(s->shared_saves, "off") == 0;
    if (out.derived_mask && !out.rebuild_bn) {
        return err_set(err, ERR_CONFIG,
                       "storage.relu_mask: derived takes the mask from rebuilt values, which needs "
                       "storage.recompute: bn");
    }
    if (p->check && p->check(&out, err)) {
        return err_add(err, "policy %s", p->name);
    }
    *policy = p;
    *params = out;
    return 0;
}

/* --- exceptions ----------------------------------------------------------------------------- */

/* Translates an exception of a storage entry. */
static int rule_params(const struct config_storage *entry, const struct config_rule *rule,
                       const struct store_policy **policy, struct store_params *params,
                       struct err *err)
{
    struct config_storage s = rule->keep;
    if (!is_given(&s, "recompute")) {
        memcpy(s.recompute, entry->recompute, sizeof s.recompute);
    }
    if (!is_given(&s, "relu_mask") && strcmp(s.recompute, "bn") == 0) {
        memcpy(s.relu_mask, entry->relu_mask, sizeof s.relu_mask);
    }
    if (!is_given(&s, "shared_saves")) {
        memcpy(s.shared_saves, entry->shared_saves, sizeof s.shared_saves);
    }
    return job_store_params(&s, policy, params, err)
               ? err_add(err, "storage.except \"%s\"", rule->match)
               : 0;
}

/* Are all exceptions of the entry possible? How many are there? */
static int check_rules(const struct config *cfg, size_t storage, size_t *n_rules, struct err *err)
{
    const struct store_policy *policy;
    struct store_params params;
    *n_rules = 0;
    for (size_t i = 0; i < cfg->n_except; i++) {
        const struct config_rule *rule = &cfg->except[i];
        if (rule->storage != storage) {
            continue;
        }
        if (rule_params(&cfg->storage[storage], rule, &policy, &params, err)) {
            return (int)err->code;
        }
        (*n_rules)++;
    }
    return 0;
}

int job_open_store(const struct config *cfg, size_t storage, const struct kernels *kernels,
                   int n_threads, struct store *out, struct err *err)
{
    const struct config_storage *entry = &cfg->storage[storage];
    const struct store_policy *policy;
    struct store_params params;
    if (job_store_params(entry, &policy, &params, err) ||
        store_open(out, policy->name, &params, kernels, n_threads, err)) {
        return (int)err->code;
    }
    for (size_t i = 0; i < cfg->n_except; i++) {
        const struct config_rule *rule = &cfg->except[i];
        if (rule->storage != storage) {
            continue;
        }
        if (rule_params(entry, rule, &policy, &params, err) ||
            store_add_rule(out, rule->match, policy->name, &params, err)) {
            store_close(out);
            return (int)err->code;
        }
    }
    return 0;
}

/* --- jobs ----------------------------------------------------------------------------------- */

/* Puts the job's value of every axis into cfg, whose axes they are. */
static int put_axes(struct config *cfg, const struct job *job, struct err *err)
{
    for (size_t a = 0; a < cfg->n_sweep; a++) {
        if (config_set_axis(cfg, &cfg->sweep[a], job->sweep[a], err)) {
            return (int)err->code;
        }
    }
    return 0;
}

/* Puts the swept values behind the label: texts as they are, numbers with the name of their key.
 * Storage keys and train.accumulate are in the policy's own label already. */
static int label_axes(const struct config *cfg, struct job *job, struct err *err)
{
    size_t n;
    const struct config_key *keys = config_keys(&n);
    for (size_t a = 0; a < cfg->n_sweep; a++) {
        const struct config_key *key = &keys[cfg->sweep[a].key];
        const char *name = strrchr(key->path, '.');
        const size_t at = strlen(job->label);
        const int is_in_label = key->in_storage || strcmp(key->path, "train.accumulate") == 0;
        if (is_in_label && !cfg->storage[job->storage].label[0]) {
            continue;
        }
        int len = snprintf(job->label + at, sizeof job->label - at, "-%s%s",
                           key->type == CONFIG_STRING ? ""
                           : name                     ? name + 1
                                                      : key->path,
                           cfg->sweep[a].item[job->sweep[a]]);
        if (len < 0 || (size_t)len >= sizeof job->label - at) {
            return err_set(
                err, ERR_CONFIG,
                "sweep: the run's label \"%s...\" gets too long; give the policies short "
                "storage.labels",
                job->label);
        }
        for (char *c = job->label + at; *c; c++) {
            *c = *c == '/' ? '_' : *c; /* of a path */
        }
    }
    return 0;
}

/* Fills in label and folder of a job that has its storage index, seed and swept values. */
static int make_job(const struct config *unswept, struct job *job, struct err *err)
{
    struct config own = *unswept;
    const struct config *cfg = &own;
    const struct config_storage *s = &cfg->storage[job->storage];
    const uint64_t seed = job->seed;
    const struct store_policy *policy;
    struct store_params params;
    size_t n_rules;
    if (put_axes(&own, job, err) || job_store_params(s, &policy, &params, err) ||
        check_rules(cfg, job->storage, &n_rules, err)) {
        return (int)err->code;
    }
    if (s->label[0]) {
        str_copy(job->label, sizeof job->label, s->label);
    } else {
        char name[32], rules[32] = "", parts[32] = "";
        policy->label(&params, name, sizeof name);
        if (n_rules) {
            (void)snprintf(rules, sizeof rules, "-except%zu", n_rules);
        }
        if (cfg->train.accumulate > 1) {
            (void)snprintf(parts, sizeof parts, "-a%lld", (long long)cfg->train.accumulate);
        }
        int len = snprintf(job->label, sizeof job->label, "%s%s%s%s%s%s", name,
                           params.rebuild_bn ? "-bn" : "", params.derived_mask ? "-derived" : "",
                           params.unshared ? "-unshared" : "", rules, parts);
        if (len < 0 || (size_t)len >= sizeof job->label) {
            return err_set(err, ERR_CONFIG,
                           "storage: the run's label \"%s...\" gets too long; give the policy a "
                           "short storage.label",
                           job->label);
        }
    }
    if (strchr(job->label, '/') || job->label[0] == '.') {
        return err_set(
            err, ERR_CONFIG,
            "storage.label: \"%s\" names a folder and must have no / and no dot in front",
            job->label);
    }
    if (label_axes(cfg, job, err)) {
        return (int)err->code;
    }
    const char *dir = cfg->output.dir[0] ? cfg->output.dir : "runs/";
    int len = snprintf(job->dir, sizeof job->dir, "%s%s/%s-seed%llu", dir,
                       cfg->output.dir[0] ? "" : cfg->name, job->label, (unsigned long long)seed);
    if (len < 0 || (size_t)len >= sizeof job->dir) {
        return err_set(err, ERR_CONFIG, "output.dir: the path is longer than %d bytes", JOB_PATH);
    }
    return 0;
}

/* The i-th combination: the first axis outermost, policies inside the last one, then seeds. */
static void place_job(const struct config *cfg, size_t i, struct job *job)
{
    *job = (struct job){.seed = (uint64_t)cfg->seed.item[i % cfg->seed.n]};
    i /= cfg->seed.n;
    job->storage = i % cfg->n_storage;
    i /= cfg->n_storage;
    for (size_t a = cfg->n_sweep; a-- > 0; i /= cfg->sweep[a].n) {
        job->sweep[a] = i % cfg->sweep[a].n;
    }
}

int job_list_make(const struct config *cfg, struct job_list *out, struct err *err)
{
    size_t n = cfg->n_storage * cfg->seed.n;
    for (size_t a = 0; a < cfg->n_sweep; a++) {
        n *= cfg->sweep[a].n;
    }
    if (n > MAX_JOBS) {
        return err_set(err, ERR_CONFIG, "sweep, storage and seed make %zu runs; at most %d", n,
                       MAX_JOBS);
    }
    *out = (struct job_list){.jobs = mem_calloc(MEM_OTHER, n, sizeof *out->jobs)};
    if (!out->jobs) {
        return err_nomem(err, "the list of runs", n * sizeof *out->jobs);
    }
    for (size_t i = 0; i < n; i++) {
        struct job *job = &out->jobs[i];
        place_job(cfg, i, job);
        if (make_job(cfg, job, err)) {
            job_list_fini(out);
            return (int)err->code;
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(job->dir, out->jobs[j].dir) == 0) {
                err_set(err, ERR_CONFIG,
                        "two runs would write to %s: give one of them a storage.label of its own, "
                        "or remove the repeated policy or seed",
                        job->dir);
                job_list_fini(out);
                return (int)err->code;
            }
        }
        out->n++;
    }
    return 0;
}

void job_list_fini(struct job_list *l)
{
    if (l) {
        mem_free(l->jobs);
        *l = (struct job_list){0};
    }
}

void job_config(const struct config *cfg, const struct job *job, struct config *own,
                struct job *single)
{
    struct err err = {0};
    *own = *cfg;
    (void)!put_axes(own, job, &err); /* was done once when the job was made */
    memset(own->sweep, 0, sizeof own->sweep);
    own->n_sweep = 0;
    own->storage[0] = own->storage[job->storage];
    own->n_storage = 1;
    memset(own->except, 0, sizeof own->except);
    own->n_except = 0;
    for (size_t i = 0; i < cfg->n_except; i++) {
        if (cfg->except[i].storage == job->storage) {
            own->except[own->n_except] = cfg->except[i];
            own->except[own->n_except++].storage = 0;
        }
    }
    own->seed.item[0] = (int64_t)job->seed;
    own->seed.n = 1;
    *single = *job;
    single->storage = 0;
    memset(single->sweep, 0, sizeof single->sweep);
}
