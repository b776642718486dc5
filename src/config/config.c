#include "config/config.h"

#include <assert.h>
#include <string.h>

#include "base/str.h"
#include "config/config_priv.h"

/* The type that belongs to a field, so that a row cannot claim another. */
#define FIELD_TYPE(field) \
    _Generic((field),                                                                              \
        int: CONFIG_BOOL,                                                                          \
        int64_t: CONFIG_INT,                                                                       \
        double: CONFIG_REAL,                                                                       \
        char *: CONFIG_STRING,                                                                     \
        struct config_texts: CONFIG_STRINGS,                                                       \
        struct config_ints: CONFIG_INTS)

#define X(path, type, fallback, min, max, choices, help) \
    _Static_assert(FIELD_TYPE(((struct config *)0)->path) == CONFIG_##type, "type of " #path);
#define S(key, type, fallback, min, max, choices, help)                            \
    _Static_assert(FIELD_TYPE(((struct config_storage *)0)->key) == CONFIG_##type, \
                   "type of storage." #key);
#include "config/config.def"
#undef X
#undef S

static const struct config_key keys[CONFIG_N_KEYS] = {
#define X(path, type, fallback, min, max, choices, help) \
    {#path,                                              \
     CONFIG_##type,                                      \
     fallback,                                           \
     min,                                                \
     max,                                                \
     choices,                                            \
     help,                                               \
     offsetof(struct config, path),                      \
     sizeof(((struct config *)0)->path),                 \
     0},
#define S(key, type, fallback, min, max, choices, help) \
    {"storage." #key,                                   \
     CONFIG_##type,                                     \
     fallback,                                          \
     min,                                               \
     max,                                               \
     choices,                                           \
     help,                                              \
     offsetof(struct config_storage, key),              \
     sizeof(((struct config_storage *)0)->key),         \
     1},
#include "config/config.def"
#undef X
#undef S
};

const struct config_key *config_keys(size_t *n)
{
    *n = CONFIG_N_KEYS;
    return keys;
}

const struct config_key *config_key_find(const char *path)
{
    for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
        if (strcmp(keys[i].path, path) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

uint64_t config_storage_bit(const struct config_key *key)
{
    unsigned bit = 0;
    for (size_t i = 0; &keys[i] != key; i++) {
        bit += keys[i].in_storage != 0;
    }
    return UINT64_C(1) << bit;
}

/* Puts the defaults of the storage keys, or of all others. */
static void put_defaults(void *base, int in_storage)
{
    for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
        if (keys[i].in_storage == in_storage) {
            struct err err = {0};
            const int rc = config_put_text(base, &keys[i], keys[i].fallback, &err);
            assert(rc == 0); /* a row's default contradicts its own type or range */
            (void)rc;
        }
    }
}

void config_storage_defaults(struct config_storage *s)
{
    memset(s, 0, sizeof *s);
    put_defaults(s, 1);
    /* An entry has a policy, named or not; counting it as given keeps what config_write writes and
     * config_read reads equal. */
    s->set = config_storage_bit(config_key_find("storage.policy"));
}

void config_defaults(struct config *cfg)
{
    memset(cfg, 0, sizeof *cfg);
    put_defaults(cfg, 0);
    config_storage_defaults(&cfg->storage[0]);
    cfg->n_storage = 1;
}

const char *config_key_name(const struct config_key *key)
{
    const char *dot = strrchr(key->path, '.');
    return dot ? dot + 1 : key->path;
}

int config_in_section(const struct config_key *key, const char *section)
{
    const size_t len = (size_t)(config_key_name(key) - key->path); /* with the dot */
    return len == 0 ? section[0] == '\0'
                    : strlen(section) == len - 1 && memcmp(key->path, section, len - 1) == 0;
}

const struct config_key *config_section_find(const char *section)
{
    for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
        if (config_in_section(&keys[i], section)) {
            return &keys[i];
        }
    }
    return NULL;
}

/* Name number `i` among what may stand in the section; sections themselves stand at the top level.
 * Copied to buf, or NULL behind the last. */
static const char *member(const char *section, size_t i, char *buf, size_t cap)
{
    for (size_t k = 0; k < CONFIG_N_KEYS; k++) {
        const struct config_key *key = &keys[k];
        const size_t len = (size_t)(config_key_name(key) - key->path);
        const int is_first = k == 0 || strncmp(keys[k - 1].path, key->path, len) != 0;
        if (config_in_section(key, section)) {
            if (i-- == 0) {
                (void)str_copy(buf, cap, config_key_name(key));
                return buf;
            }
        } else if (section[0] == '\0' && is_first) {
            if (i-- == 0) {
                (void)str_copy(buf, cap, key->path);
                buf[len - 1] = '\0';
                return buf;
            }
        }
    }
    return NULL;
}

const char *config_section_names(const char *section, char *buf, size_t cap)
{
    char name[64];
    buf[0] = '\0';
    for (size_t i = 0; member(section, i, name, sizeof name); i++) {
        config_append(buf, cap, i ? ", " : "");
        config_append(buf, cap, name);
    }
    return buf;
}

int config_unknown(const char *section, const char *name, struct err *err)
{
    char copy[CONFIG_N_KEYS][64];
    const char *names[CONFIG_N_KEYS];
    size_t n = 0;
    while (member(section, n, copy[n], sizeof copy[n])) {
        names[n] = copy[n];
        n++;
    }
    const char *near = str_nearest(name, names, n);
    for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
        const struct config_key *key = &keys[i];
        /* A key that forgot its section ("lr") or whose section is another ("train.bits"). At the
         * top level that beats any near name: "lr" is no misspelt "log". */
        if ((section[0] == '\0' || !near) && strcmp(config_key_name(key), name) == 0) {
            return err_set(err, ERR_CONFIG, "unknown key; did you mean %s?", key->path);
        }
        if (section[0] == '\0' && strcmp(key->path, name) == 0) {
            return err_set(err, ERR_CONFIG, "unknown key; keys are nested, write %.*s: {%s: ...}",
                           (int)(config_key_name(key) - key->path) - 1, key->path,
                           config_key_name(key));
        }
    }
    if (near) {
        return err_set(err, ERR_CONFIG, "unknown key; did you mean %s%s%s?", section,
                       section[0] ? "." : "", near);
    }
    char list[512];
    return err_set(err, ERR_CONFIG, "unknown key; expected one of %s",
                   config_section_names(section, list, sizeof list));
}
