/* storage.except: maps that another policy keeps. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "config/reader.h"

/* The row that an exception's `match` is put by. */
static const struct config_key match_key = {.path = "storage.except.match",
                                            .type = CONFIG_STRING,
                                            .offset = offsetof(struct config_rule, match),
                                            .size = sizeof(((struct config_rule *)0)->match)};

static int unknown_in_rule(struct reader *r, const char *name)
{
    const char *match = "match";
    const char *path = "storage.except";
    if (str_nearest(name, &match, 1)) {
        (void)err_set(r->err, ERR_CONFIG, "unknown key; did you mean match?");
    } else if (strcmp(name, "label") == 0 || strcmp(name, "except") == 0) {
        (void)err_set(r->err, ERR_CONFIG, "an exception has none of its own");
    } else {
        (void)config_unknown("storage", name, r->err);
    }
    (void)err_add(r->err, "%s.%s", path, name);
    return reader_at(r, reader_line(r));
}

/* One key of an exception with its value; the current event is the key. */
static int read_rule_key(struct reader *r, struct config_rule *rule, struct config_seen *seen,
                         size_t *match_line)
{
    char name[CONFIG_PATH_BYTES], path[2 * CONFIG_PATH_BYTES];
    if (reader_key(r, name) != 0) {
        return reader_failed(r);
    }
    if (strcmp(name, "match") == 0) {
        if (*match_line != 0) {
            (void)err_set(r->err, ERR_CONFIG, "given twice; the first is in line %zu", *match_line);
            return reader_at_key(r, reader_line(r), match_key.path);
        }
        *match_line = reader_line(r);
        return reader_value(r, &match_key, rule);
    }
    snprintf(path, sizeof path, "storage.%s", name);
    const struct config_key *key = config_key_find(path);
    if (!key || strcmp(name, "label") == 0) {
        return unknown_in_rule(r, name);
    }
    snprintf(path, sizeof path, "storage.except.%s", name);
    struct config_key own = *key;
    own.path = path; /* for messages */
    if (reader_once(r, seen, key, path) != 0 || reader_value(r, &own, &rule->keep) != 0) {
        return reader_failed(r);
    }
    rule->keep.set |= config_storage_bit(key);
    return 0;
}

/* What must hold for the exception as a whole, the last one of cfg. */
static int check_rule(struct reader *r, size_t line, size_t match_line, int has_policy)
{
    const struct config *cfg = r->cfg;
    const struct config_rule *rule = &cfg->except[cfg->n_except - 1];
    if (match_line == 0 || rule->match[0] == '\0') {
        (void)err_set(r->err, ERR_CONFIG,
                      "expected match: NAME, the maps that it is about, found none");
        return reader_at_key(r, line, "storage.except");
    }
    if (!has_policy) {
        (void)err_set(r->err, ERR_CONFIG, "expected policy: NAME for match: %s, found none",
                      rule->match);
        return reader_at_key(r, line, "storage.except");
    }
    for (size_t i = 0; i + 1 < cfg->n_except; i++) {
        if (cfg->except[i].storage == rule->storage &&
            strcmp(cfg->except[i].match, rule->match) == 0) {
            (void)err_set(r->err, ERR_CONFIG, "%s: given twice; only the first would count",
                          rule->match);
            return reader_at_key(r, match_line, match_key.path);
        }
    }
    return 0;
}

/* One exception; the current event must be a map's begin. */
static int read_rule(struct reader *r, size_t entry)
{
    struct config *cfg = r->cfg;
    struct config_seen seen = {0};
    size_t match_line = 0, n;
    const size_t line = reader_line(r);
    char found[160];
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        (void)err_set(r->err, ERR_CONFIG,
                      "expected maps such as {match: conv1, policy: normal}, found %s",
                      reader_found(r, found, sizeof found));
        return reader_at_key(r, line, "storage.except");
    }
    if (cfg->n_except == CONFIG_RULES) {
        (void)err_set(r->err, ERR_CONFIG, "expected at most %d exceptions in all, found more",
                      CONFIG_RULES);
        return reader_at_key(r, line, "storage.except");
    }
    struct config_rule *rule = &cfg->except[cfg->n_except++];
    rule->storage = entry;
    config_storage_defaults(&rule->keep);
    for (;;) {
        if (reader_next(r) != 0) {
            return reader_failed(r);
        }
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            const struct config_key *policy = config_key_find("storage.policy");
            return check_rule(r, line, match_line, seen.line[policy - config_keys(&n)] != 0);
        }
        if (read_rule_key(r, rule, &seen, &match_line) != 0) {
            return reader_failed(r);
        }
    }
}

int config_read_except(struct reader *r, size_t entry, size_t *first)
{
    const size_t line = reader_line(r);
    if (*first != 0) {
        (void)err_set(r->err, ERR_CONFIG, "given twice; the first is in line %zu", *first);
        return reader_at_key(r, line, "storage.except");
    }
    *first = line;
    if (reader_next(r) != 0) {
        return reader_failed(r);
    }
    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        return read_rule(r, entry);
    }
    for (size_t n = 0;; n++) {
        if (reader_next(r) != 0) {
            return reader_failed(r);
        }
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            if (n == 0) {
                (void)err_set(r->err, ERR_CONFIG,
                              "expected at least one entry, found an empty list");
                return reader_at_key(r, line, "storage.except");
            }
            return 0;
        }
        if (read_rule(r, entry) != 0) {
            return reader_failed(r);
        }
    }
}
