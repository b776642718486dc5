/* Values from the command line: --set KEY=VALUE and --policy NAME:KEY=VALUE,… */
#include "config/config.h"

#include <string.h>

#include "base/str.h"
#include "config/config_priv.h"

/* Longest key or policy name worth copying; no valid one comes near. */
enum { NAME_MAX_BYTES = 64 };

/* Finds the row that "section.key" or a bare top-level key means. */
static int find_key(const char *path, const struct config_key **out, struct err *err)
{
    char names[512];
    *out = config_key_find(path);
    if (*out) {
        return 0;
    }
    if (strcmp(path, "storage") == 0) {
        return err_set(err, ERR_CONFIG,
                       "this is a section; set one of its keys (%s) or choose a policy with "
                       "--policy",
                       config_section_names(path, names, sizeof names));
    }
    if (strcmp(path, "storage.except") == 0) {
        return err_set(err, ERR_CONFIG,
                       "exceptions are lists of maps: write them in a config file");
    }
    if (path[0] && config_section_find(path)) {
        return err_set(err, ERR_CONFIG, "this is a section; expected one of its keys: %s",
                       config_section_names(path, names, sizeof names));
    }
    char section[NAME_MAX_BYTES] = "";
    const char *dot = strchr(path, '.');
    if (dot && (size_t)(dot - path) < sizeof section) {
        memcpy(section, path, (size_t)(dot - path));
        if (section[0] && config_section_find(section)) {
            return config_unknown(section, dot + 1, err);
        }
    }
    return config_unknown("", path, err);
}

static int set_one(struct config *cfg, const char *assignment, struct err *err)
{
    char path[NAME_MAX_BYTES];
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment) {
        return err_set(err, ERR_CONFIG, "expected KEY=VALUE, as in train.lr=0.05");
    }
    const size_t len = (size_t)(equals - assignment);
    if (len >= sizeof path) {
        return err_set(err, ERR_CONFIG, "expected a key before '=', found %zu bytes", len);
    }
    memcpy(path, assignment, len);
    path[len] = '\0';

    char shown[NAME_MAX_BYTES];
    config_shown(path, shown, sizeof shown);
    const struct config_key *key;
    if (find_key(path, &key, err) != 0) {
        return err_add(err, "%s", shown);
    }
    if (!key->in_storage) {
        return config_put_text(cfg, key, equals + 1, err) == 0 ? 0 : err_add(err, "%s", shown);
    }
    for (size_t i = 0; i < cfg->n_storage; i++) {
        if (config_put_text(&cfg->storage[i], key, equals + 1, err) != 0) {
            return err_add(err, "%s", shown);
        }
        cfg->storage[i].set |= config_storage_bit(key);
    }
    return 0;
}

/* A value from the command line becomes the only one of a sweep over the same key: the run keeps the
 * name it has in the whole sweep. The value has been put already and is valid. */
static int narrow_axis(struct config *cfg, const char *assignment, struct err *err)
{
    size_t n;
    const struct config_key *keys = config_keys(&n);
    const size_t len = strcspn(assignment, "=");
    for (size_t i = 0; i < cfg->n_sweep; i++) {
        struct config_axis *axis = &cfg->sweep[i];
        const char *path = keys[axis->key].path;
        const char *value = assignment + len + 1;
        if (strlen(path) != len || memcmp(path, assignment, len) != 0) {
            continue;
        }
        if (strlen(value) >= sizeof axis->item[0]) {
            return err_set(err, ERR_CONFIG, "a swept value has at most %zu bytes, this one has %zu",
                           sizeof axis->item[0] - 1, strlen(value));
        }
        memset(axis->item, 0, sizeof axis->item);
        str_copy(axis->item[0], sizeof axis->item[0], value);
        axis->n = 1;
    }
    return 0;
}

int config_sweeps(const struct config *cfg, const char *path)
{
    size_t n;
    const struct config_key *keys = config_keys(&n);
    for (size_t i = 0; i < cfg->n_sweep; i++) {
        if (strcmp(keys[cfg->sweep[i].key].path, path) == 0) {
            return 1;
        }
    }
    return 0;
}

int config_set_axis(struct config *cfg, const struct config_axis *axis, size_t i, struct err *err)
{
    size_t n;
    char assignment[2 * NAME_MAX_BYTES];
    (void)snprintf(assignment, sizeof assignment, "%s=%s", config_keys(&n)[axis->key].path,
                   axis->item[i]);
    return set_one(cfg, assignment, err) == 0 ? 0 : err_add(err, "sweep");
}

int config_set(struct config *cfg, const char *assignment, struct err *err)
{
    char shown[CONFIG_TEXT];
    struct config copy = *cfg;
    if (set_one(&copy, assignment, err) != 0 || narrow_axis(&copy, assignment, err) != 0) {
        return err_add(err, "--set %s", config_shown(assignment, shown, sizeof shown));
    }
    *cfg = copy;
    return 0;
}

/* Where the setting that begins at s ends: at the next comma outside brackets. */
static const char *setting_end(const char *s)
{
    int depth = 0;
    for (; *s && (*s != ',' || depth > 0); s++) {
        depth += *s == '[' || *s == '{';
        depth -= (*s == ']' || *s == '}') && depth > 0;
    }
    return s;
}

/* One "key=value" at s[0..len) of a --policy. */
static int put_setting(struct config_storage *entry, const char *s, size_t len, struct err *err)
{
    char setting[2 * CONFIG_TEXT], shown[NAME_MAX_BYTES];
    if (len >= sizeof setting) {
        return err_set(err, ERR_CONFIG, "expected key=value, found %zu bytes", len);
    }
    memcpy(setting, s, len);
    setting[len] = '\0';
    char *equals = strchr(setting, '=');
    if (!equals || equals == setting) {
        return err_set(err, ERR_CONFIG, "expected key=value after ':' and ',', found \"%s\"",
                       config_shown(setting, shown, sizeof shown));
    }
    *equals = '\0';
    config_shown(setting, shown, sizeof shown);

    char path[NAME_MAX_BYTES] = "storage.";
    config_append(path, sizeof path, setting);
    const struct config_key *key = config_key_find(path);
    if (!key) {
        (void)config_unknown("storage", setting, err);
        return err_add(err, "%s", shown);
    }
    if (entry->set & config_storage_bit(key)) {
        return err_set(err, ERR_CONFIG, "%s: given twice", shown);
    }
    if (config_put_text(entry, key, equals + 1, err) != 0) {
        return err_add(err, "%s", shown);
    }
    entry->set |= config_storage_bit(key);
    return 0;
}

static int parse_policy(const char *spec, struct config_storage *entry, struct err *err)
{
    char name[NAME_MAX_BYTES];
    const size_t len = strcspn(spec, ":");
    if (len == 0 || len >= sizeof name) {
        return err_set(err, ERR_CONFIG, "expected NAME or NAME:key=value,..., as in fixed:bits=4");
    }
    memcpy(name, spec, len);
    name[len] = '\0';
    config_storage_defaults(entry);
    if (config_put_text(entry, config_key_find("storage.policy"), name, err) != 0) {
        return ERR_CONFIG;
    }
    const char *s = spec + len;
    while (*s) { /* at the ':' or a ',' */
        s++;
        const char *end = setting_end(s);
        if (put_setting(entry, s, (size_t)(end - s), err) != 0) {
            return ERR_CONFIG;
        }
        s = end;
    }
    return 0;
}

int config_set_policy(struct config *cfg, const char *spec, int append, struct err *err)
{
    char shown[CONFIG_TEXT];
    struct config_storage entry;
    const size_t at = append ? cfg->n_storage : 0;
    int rc = parse_policy(spec, &entry, err);
    if (rc == 0 && at == CONFIG_LIST) {
        rc = err_set(err, ERR_CONFIG, "expected at most %d policies, found more", CONFIG_LIST);
    }
    if (rc != 0) {
        return err_add(err, "--policy %s", config_shown(spec, shown, sizeof shown));
    }
    if (!append) {
        memset(cfg->except, 0, sizeof cfg->except);
        cfg->n_except = 0;
    }
    memset(&cfg->storage[at], 0, (CONFIG_LIST - at) * sizeof cfg->storage[0]);
    cfg->storage[at] = entry;
    cfg->n_storage = at + 1;
    return 0;
}
