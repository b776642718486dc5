/* The experiment's configuration: one struct, filled through one key table (config.def).
 *
 * Every key has a row with path, type, default, range and help; the YAML reader, --set, --list keys,
 * the resolved config.yaml and division-config(5) all go by those rows. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define CONFIG_TEXT 256
#define CONFIG_LIST 32

struct config_texts { /* a list of short strings */
    char item[CONFIG_LIST][64];
    size_t n;
};
struct config_ints {
    int64_t item[CONFIG_LIST];
    size_t n;
};

/* One storage policy's settings. Which keys a policy knows is for store/ to say. */
struct config_storage {
    char policy[64];
    char label[64]; /* run folder's name; "": made from the policy and its non-default keys */
    int64_t block, bits;
    char group[16], keep[16], rounding[16], compat[16];
    char segments[16], recompute[16], relu_mask[16], shared_saves[16];
    char spill_dir[CONFIG_TEXT];
    char level[16], adapt[16];
    double error_budget;
    uint64_t set; /* bit i: the storage key i (order of rows in config.def) was given explicitly */
};

/* An exception of a storage entry (storage.except): maps whose name fits `match` (with * and ?) are
 * kept by another policy. The first that fits a map counts. */
enum { CONFIG_RULES = 64 };
struct config_rule {
    size_t storage; /* index of the entry */
    char match[64];
    struct config_storage keep; /* without a label */
};

/* One key that a config sweeps over: every value is run in turn, with all others as they are. */
enum { CONFIG_AXES = 4 };
struct config_axis {
    size_t key; /* index in config_keys() */
    char item[CONFIG_LIST][64];
    size_t n;
};

struct config {
    char name[CONFIG_TEXT];
    struct config_ints seed; /* at least one; several are run in turn */
    char expect[16];         /* "" or "diverge" */
    struct {
        char name[64], form[16], init[CONFIG_TEXT];
        int64_t classes; /* 0: the data set's */
        double dropout;
    } model;
    struct {
        char name[64], path[CONFIG_TEXT];
        struct config_texts augment;
        int64_t limit, test_limit, size, channels; /* size, channels: synthetic only */
        int shuffle, allow_partial;
    } data;
    struct {
        int64_t epochs, batch_size, accumulate, eval_batch_size, max_steps, eval_every, bn_group;
        char optimizer[16], schedule[16];
        double lr, momentum, weight_decay, gamma, warmup_epochs, label_smoothing;
        struct config_ints milestones;
        int nesterov, drop_last;
    } train;
    struct config_storage storage[CONFIG_LIST]; /* run in turn */
    size_t n_storage;
    struct config_rule except[CONFIG_RULES]; /* of all entries, in their order */
    size_t n_except;
    struct config_axis sweep[CONFIG_AXES]; /* every combination is run, the last axis fastest */
    size_t n_sweep;
    struct {
        int steps, phases;
    } log;
    struct {
        int64_t threads; /* 0: all processors this process may use */
    } run;
    struct {
        char isa[16], algorithm[16];
    } kernels;
    struct {
        char dir[CONFIG_TEXT]; /* "": runs/NAME */
    } output;
};

enum config_type {
    CONFIG_BOOL,
    CONFIG_INT,
    CONFIG_REAL,
    CONFIG_STRING, /* a short text; with `choices`, one of them */
    CONFIG_STRINGS,
    CONFIG_INTS, /* one integer or a list of them */
};

struct config_key {
    const char *path; /* "train.lr" */
    enum config_type type;
    const char *fallback; /* the default as it would be written in YAML */
    double min, max;      /* numbers: allowed range, ends included */
    const char *choices;  /* "sgd|adam", or NULL */
    const char *help;     /* one line */
    size_t offset, size;  /* of the field in struct config, or in struct config_storage */
    int in_storage;
};

/* All rows in table order. */
const struct config_key *config_keys(size_t *n);
const struct config_key *config_key_find(const char *path);

/* All defaults: seed [0], one storage entry with policy "normal". */
void config_defaults(struct config *cfg);

/* Reads a YAML file over the defaults. Errors name file, line and key: ERR_MISSING, ERR_IO,
 * ERR_CONFIG (syntax, unknown key with the nearest valid one, wrong type, out of range, key twice,
 * empty file, more than one document). */
int config_read(const char *path, struct config *cfg, struct err *err) MUST_USE;

/* As config_read, from memory; `name` stands for the file in messages. (fuzzing, tests) */
int config_parse(const char *name, const char *text, size_t size, struct config *cfg,
                 struct err *err) MUST_USE;

/* "--set train.lr=0.05": typed by the key table; lists as [a, b]. storage.* keys apply to every
 * storage entry, not to its exceptions. A sweep over the key keeps this value alone, and with it the
 * names that its runs have in the whole sweep. */
int config_set(struct config *cfg, const char *assignment, struct err *err) MUST_USE;

/* Is the key of that path one of the sweep's? */
int config_sweeps(const struct config *cfg, const char *path);

/* Puts value item[i] of the axis into its key. The values were checked when they were read, each by
 * itself: ERR_CONFIG only for a config that was put together by hand. */
int config_set_axis(struct config *cfg, const struct config_axis *axis, size_t i, struct err *err)
    MUST_USE;

/* "--policy fixed:bits=4,group=map": replaces the storage list with its exceptions (first call) or
 * appends to it (append != 0). */
int config_set_policy(struct config *cfg, const char *spec, int append, struct err *err) MUST_USE;

/* Writes the resolved config as YAML that config_read reads back to the same struct. */
int config_write(const struct config *cfg, FILE *fp, struct err *err) MUST_USE;

/* The same as text for storage entry `i` only, e.g. "policy: fixed, bits: 4" (explicit keys). */
void config_storage_text(const struct config_storage *s, char *buf, size_t cap);

#endif
