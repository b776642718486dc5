/* Reads a configuration file through libyaml's events. Events rather than its document tree: a
 * config has a fixed, shallow form, so whatever does not fit is refused where it begins, with its
 * line, before anything is built from it; nothing nests deeper than this reader looks. */
#include "config/config.h"

#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "config/config_priv.h"

enum {
    MAX_BYTES = 1024 * 1024, /* of a config file */
    PATH_BYTES = 64,         /* of a key; no valid one comes near */
};

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one; of type YAML_NO_EVENT before the first */
    const char *name;   /* of the file, for messages */
    const char *text;
    size_t size;
    struct config *cfg;
    struct err *err;
};

/* Lines, counted from 1, in which the keys of one map were given; 0: not given. Sections are
 * entered under their first key. */
struct seen {
    size_t line[CONFIG_N_KEYS];
};

/* The code of the error that a callee has set. */
static int failed(const struct reader *r)
{
    return (int)r->err->code;
}

static size_t line_of(const struct reader *r)
{
    return r->event.start_mark.line + 1;
}

/* Puts file and line in front of the message. Returns its code. */
static int at(struct reader *r, size_t line)
{
    return err_add(r->err, "%s:%zu", r->name, line);
}

/* Puts file, line and key in front of the message. Returns its code. */
static int at_key(struct reader *r, size_t line, const char *path)
{
    (void)err_add(r->err, "%s", path);
    return at(r, line);
}

/* libyaml counts no lines while it decodes characters; there its error has an offset only. */
static size_t syntax_line(const struct reader *r)
{
    if (r->parser.error != YAML_READER_ERROR) {
        return r->parser.problem_mark.line + 1;
    }
    size_t line = 1;
    for (size_t i = 0; i < r->parser.problem_offset && i < r->size; i++) {
        line += r->text[i] == '\n';
    }
    return line;
}

static int syntax_error(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        (void)err_nomem(r->err, "reading the configuration", r->size);
        return err_add(r->err, "%s", r->name);
    }
    const char *problem = p->problem ? p->problem : "unknown fault";
    if (p->context) {
        (void)err_set(r->err, ERR_CONFIG, "YAML syntax: %s %s that begins in line %zu", problem,
                      p->context, p->context_mark.line + 1);
    } else {
        (void)err_set(r->err, ERR_CONFIG, "YAML syntax: %s", problem);
    }
    return at(r, syntax_line(r));
}

/* Refuses what the event carries beyond plain YAML: one value, written once, typed by its key. */
static int check_event(struct reader *r)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (r->event.type) {
    case YAML_ALIAS_EVENT:
        (void)err_set(r->err, ERR_CONFIG,
                      "aliases (*%s) are not supported; write the value out again",
                      (const char *)r->event.data.alias.anchor);
        return at(r, line_of(r));
    case YAML_SCALAR_EVENT:
        anchor = r->event.data.scalar.anchor;
        tag = r->event.data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = r->event.data.sequence_start.anchor;
        tag = r->event.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = r->event.data.mapping_start.anchor;
        tag = r->event.data.mapping_start.tag;
        break;
    default: break;
    }
    char shown[PATH_BYTES];
    if (anchor) {
        (void)err_set(r->err, ERR_CONFIG, "anchors (&%s) are not supported; leave it out",
                      config_shown((const char *)anchor, shown, sizeof shown));
        return at(r, line_of(r));
    }
    if (tag) {
        (void)err_set(r->err, ERR_CONFIG,
                      "tags (%s) are not supported; the key decides the type, leave the tag out",
                      config_shown((const char *)tag, shown, sizeof shown));
        return at(r, line_of(r));
    }
    return 0;
}

static int next(struct reader *r)
{
    yaml_event_delete(&r->event); /* leaves an all-zero event, YAML_NO_EVENT */
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        return syntax_error(r);
    }
    return check_event(r);
}

/* What the current event is, for messages. Returns buf. */
static const char *event_found(const struct reader *r, char *buf, size_t cap)
{
    switch (r->event.type) {
    case YAML_SEQUENCE_START_EVENT: return "a list";
    case YAML_MAPPING_START_EVENT: return "a map";
    case YAML_SCALAR_EVENT: {
        const struct config_scalar v = {
            .text = (const char *)r->event.data.scalar.value,
            .len = r->event.data.scalar.length,
            .quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE,
        };
        return config_found(&v, buf, cap);
    }
    default: return "nothing";
    }
}

/* The current event is a scalar: put it. */
static int put_scalar(struct reader *r, const struct config_key *key, void *base)
{
    const struct config_scalar v = {
        .text = (const char *)r->event.data.scalar.value,
        .len = r->event.data.scalar.length,
        .quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE,
    };
    if (config_put(base, key, &v, r->err) != 0) {
        return at_key(r, line_of(r), key->path);
    }
    return 0;
}

static int is_none(const struct reader *r, const struct config_key *key)
{
    return key->type == CONFIG_STRINGS &&
           strcmp((const char *)r->event.data.scalar.value, "none") == 0;
}

/* The entries of a list, up to its end. */
static int read_list(struct reader *r, const struct config_key *key, void *base)
{
    const size_t line = line_of(r);
    for (;;) {
        if (next(r) != 0) {
            return failed(r);
        }
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            return config_list_check(base, key, r->err) == 0 ? 0 : at_key(r, line, key->path);
        }
        if (r->event.type != YAML_SCALAR_EVENT) {
            (void)err_set(r->err, ERR_CONFIG, "expected %s as entry of the list, found %s",
                          key->type == CONFIG_INTS ? "a whole number" : "a text",
                          event_found(r, NULL, 0));
            return at_key(r, line_of(r), key->path);
        }
        if (put_scalar(r, key, base) != 0) {
            return failed(r);
        }
    }
}

/* The value of a key, which follows. */
static int read_value(struct reader *r, const struct config_key *key, void *base)
{
    if (next(r) != 0) {
        return failed(r);
    }
    if (config_is_list(key)) {
        config_list_clear(base, key);
        if (r->event.type == YAML_SEQUENCE_START_EVENT) {
            return read_list(r, key, base);
        }
        if (r->event.type == YAML_SCALAR_EVENT && is_none(r, key)) {
            return 0;
        }
    }
    if (r->event.type != YAML_SCALAR_EVENT) {
        char expected[160];
        (void)err_set(r->err, ERR_CONFIG, "expected %s, found %s",
                      config_expected(key, expected, sizeof expected), event_found(r, NULL, 0));
        return at_key(r, line_of(r), key->path);
    }
    return put_scalar(r, key, base);
}

/* The current event is a key: copies its name. */
static int read_key(struct reader *r, char name[PATH_BYTES])
{
    if (r->event.type != YAML_SCALAR_EVENT) {
        (void)err_set(r->err, ERR_CONFIG, "expected the name of a key, found %s",
                      event_found(r, NULL, 0));
        return at(r, line_of(r));
    }
    const char *text = (const char *)r->event.data.scalar.value;
    config_shown(text, name, PATH_BYTES); /* a name that needs changes here is unknown anyway */
    if (strlen(text) != r->event.data.scalar.length) {
        config_append(name, PATH_BYTES, "?"); /* for the zero byte, which must not end it */
    }
    return 0;
}

/* Notes that `key` (or the section that begins with it) is given in the current line. */
static int check_once(struct reader *r, struct seen *seen, const struct config_key *key,
                      const char *path)
{
    size_t n;
    size_t *line = &seen->line[key - config_keys(&n)];
    if (*line != 0) {
        (void)err_set(r->err, ERR_CONFIG, "given twice; the first is in line %zu", *line);
        return at_key(r, line_of(r), path);
    }
    *line = line_of(r);
    return 0;
}

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
    return at(r, line_of(r));
}

/* One key of an exception with its value; the current event is the key. */
static int read_rule_key(struct reader *r, struct config_rule *rule, struct seen *seen,
                         size_t *match_line)
{
    char name[PATH_BYTES], path[2 * PATH_BYTES];
    if (read_key(r, name) != 0) {
        return failed(r);
    }
    if (strcmp(name, "match") == 0) {
        if (*match_line != 0) {
            (void)err_set(r->err, ERR_CONFIG, "given twice; the first is in line %zu", *match_line);
            return at_key(r, line_of(r), match_key.path);
        }
        *match_line = line_of(r);
        return read_value(r, &match_key, rule);
    }
    snprintf(path, sizeof path, "storage.%s", name);
    const struct config_key *key = config_key_find(path);
    if (!key || strcmp(name, "label") == 0) {
        return unknown_in_rule(r, name);
    }
    snprintf(path, sizeof path, "storage.except.%s", name);
    struct config_key own = *key;
    own.path = path; /* for messages */
    if (check_once(r, seen, key, path) != 0 || read_value(r, &own, &rule->keep) != 0) {
        return failed(r);
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
        return at_key(r, line, "storage.except");
    }
    if (!has_policy) {
        (void)err_set(r->err, ERR_CONFIG, "expected policy: NAME for match: %s, found none",
                      rule->match);
        return at_key(r, line, "storage.except");
    }
    for (size_t i = 0; i + 1 < cfg->n_except; i++) {
        if (cfg->except[i].storage == rule->storage &&
            strcmp(cfg->except[i].match, rule->match) == 0) {
            (void)err_set(r->err, ERR_CONFIG, "%s: given twice; only the first would count",
                          rule->match);
            return at_key(r, match_line, match_key.path);
        }
    }
    return 0;
}

/* One exception; the current event must be a map's begin. */
static int read_rule(struct reader *r, size_t entry)
{
    struct config *cfg = r->cfg;
    struct seen seen = {0};
    size_t match_line = 0, n;
    const size_t line = line_of(r);
    char found[160];
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        (void)err_set(r->err, ERR_CONFIG,
                      "expected maps such as {match: conv1, policy: normal}, found %s",
                      event_found(r, found, sizeof found));
        return at_key(r, line, "storage.except");
    }
    if (cfg->n_except == CONFIG_RULES) {
        (void)err_set(r->err, ERR_CONFIG, "expected at most %d exceptions in all, found more",
                      CONFIG_RULES);
        return at_key(r, line, "storage.except");
    }
    struct config_rule *rule = &cfg->except[cfg->n_except++];
    rule->storage = entry;
    config_storage_defaults(&rule->keep);
    for (;;) {
        if (next(r) != 0) {
            return failed(r);
        }
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            const struct config_key *policy = config_key_find("storage.policy");
            return check_rule(r, line, match_line, seen.line[policy - config_keys(&n)] != 0);
        }
        if (read_rule_key(r, rule, &seen, &match_line) != 0) {
            return failed(r);
        }
    }
}

/* storage.except: one map or a list of them; the current event is the key. *first: the line in
 * which this entry had it before. */
static int read_except(struct reader *r, size_t entry, size_t *first)
{
    const size_t line = line_of(r);
    if (*first != 0) {
        (void)err_set(r->err, ERR_CONFIG, "given twice; the first is in line %zu", *first);
        return at_key(r, line, "storage.except");
    }
    *first = line;
    if (next(r) != 0) {
        return failed(r);
    }
    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        return read_rule(r, entry);
    }
    for (size_t n = 0;; n++) {
        if (next(r) != 0) {
            return failed(r);
        }
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            if (n == 0) {
                (void)err_set(r->err, ERR_CONFIG,
                              "expected at least one entry, found an empty list");
                return at_key(r, line, "storage.except");
            }
            return 0;
        }
        if (read_rule(r, entry) != 0) {
            return failed(r);
        }
    }
}

/* The keys of one section, or of one storage entry, up to the map's end; the current event must be
 * the map's begin. */
static int read_section(struct reader *r, const char *section, void *base)
{
    struct seen seen = {0};
    size_t except_line = 0;
    const int is_storage = strcmp(section, "storage") == 0;
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        char names[512], found[160];
        (void)err_set(r->err, ERR_CONFIG, "expected %s of keys (%s), found %s",
                      is_storage ? "a map or a list of maps" : "a map",
                      config_section_names(section, names, sizeof names),
                      event_found(r, found, sizeof found));
        return at_key(r, line_of(r), section);
    }
    for (;;) {
        char name[PATH_BYTES], path[2 * PATH_BYTES];
        if (next(r) != 0) {
            return failed(r);
        }
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            return 0;
        }
        if (read_key(r, name) != 0) {
            return failed(r);
        }
        if (is_storage && strcmp(name, "except") == 0) {
            const size_t entry = (size_t)((struct config_storage *)base - r->cfg->storage);
            if (read_except(r, entry, &except_line) != 0) {
                return failed(r);
            }
            continue;
        }
        snprintf(path, sizeof path, "%s.%s", section, name);
        const struct config_key *key = config_key_find(path);
        if (!key) {
            (void)config_unknown(section, name, r->err);
            return at_key(r, line_of(r), path);
        }
        if (check_once(r, &seen, key, path) != 0 || read_value(r, key, base) != 0) {
            return failed(r);
        }
        if (key->in_storage) {
            struct config_storage *entry = base;
            entry->set |= config_storage_bit(key);
        }
    }
}

static int read_storage(struct reader *r)
{
    struct config *cfg = r->cfg;
    const size_t line = line_of(r);
    cfg->n_storage = 1; /* and is all defaults already */
    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        return read_section(r, "storage", &cfg->storage[0]);
    }
    for (size_t n = 0;; n++) {
        if (next(r) != 0) {
            return failed(r);
        }
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            if (n == 0) {
                (void)err_set(r->err, ERR_CONFIG,
                              "expected at least one entry, found an empty list");
                return at_key(r, line, "storage");
            }
            cfg->n_storage = n;
            return 0;
        }
        if (n == CONFIG_LIST) {
            (void)err_set(r->err, ERR_CONFIG, "expected at most %d entries, found more",
                          CONFIG_LIST);
            return at_key(r, line_of(r), "storage");
        }
        config_storage_defaults(&cfg->storage[n]);
        if (read_section(r, "storage", &cfg->storage[n]) != 0) {
            return failed(r);
        }
    }
}

/* The key that a sweep's entry names; the current event is its name. */
static int read_axis_key(struct reader *r, const struct config_key **key, char name[PATH_BYTES])
{
    if (read_key(r, name) != 0) {
        return failed(r);
    }
    *key = config_key_find(name);
    if (!*key) {
        const char *dot = strrchr(name, '.');
        (void)config_unknown("", dot ? dot + 1 : name, r->err);
    } else if (config_is_list(*key)) {
        (void)err_set(r->err, ERR_CONFIG, "this key is a list itself; it cannot be swept over");
    } else if (config_in_section(*key, "output") || strcmp((*key)->path, "name") == 0 ||
               strcmp((*key)->path, "storage.policy") == 0 ||
               strcmp((*key)->path, "storage.label") == 0) {
        (void)err_set(r->err, ERR_CONFIG,
                      "this key cannot be swept over; storage may be a list of policies");
    } else {
        return 0;
    }
    char path[2 * PATH_BYTES];
    snprintf(path, sizeof path, "sweep.%s", name);
    return at_key(r, line_of(r), path);
}

/* The values of one axis: a list, each a valid value of the key. */
static int read_axis(struct reader *r, const struct config_key *key, struct config_axis *axis)
{
    const size_t line = line_of(r);
    struct config scratch = *r->cfg; /* values are put here to be checked */
    void *base = key->in_storage ? (void *)&scratch.storage[0] : (void *)&scratch;
    if (next(r) != 0) {
        return failed(r);
    }
    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        (void)err_set(r->err, ERR_CONFIG, "expected a list of values, found %s",
                      event_found(r, (char[160]){0}, 160));
        return at_key(r, line_of(r), key->path);
    }
    for (;;) {
        if (next(r) != 0) {
            return failed(r);
        }
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            if (axis->n > 0) {
                return 0;
            }
            (void)err_set(r->err, ERR_CONFIG, "expected at least one value, found an empty list");
            return at_key(r, line, key->path);
        }
        if (r->event.type != YAML_SCALAR_EVENT || axis->n == CONFIG_LIST) {
            (void)err_set(r->err, ERR_CONFIG, "expected at most %d single values, found %s",
                          CONFIG_LIST, axis->n == CONFIG_LIST ? "more" : event_found(r, NULL, 0));
            return at_key(r, line_of(r), key->path);
        }
        if (put_scalar(r, key, base) != 0) {
            return failed(r);
        }
        const char *text = (const char *)r->event.data.scalar.value;
        if (r->event.data.scalar.length >= sizeof axis->item[0]) {
            (void)err_set(r->err, ERR_CONFIG, "expected at most %zu bytes per value, found %zu",
                          sizeof axis->item[0] - 1, r->event.data.scalar.length);
            return at_key(r, line_of(r), key->path);
        }
        str_copy(axis->item[axis->n++], sizeof axis->item[0], text);
    }
}

/* sweep: KEY: [value, ...]; the current event is what follows the name. */
static int read_sweep(struct reader *r)
{
    struct config *cfg = r->cfg;
    struct seen seen = {0};
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        (void)err_set(r->err, ERR_CONFIG,
                      "expected keys with lists of values, as in {train.batch_size: [64, 128]}, "
                      "found %s",
                      event_found(r, (char[160]){0}, 160));
        return at_key(r, line_of(r), "sweep");
    }
    for (;;) {
        char name[PATH_BYTES];
        const struct config_key *key = NULL;
        if (next(r) != 0) {
            return failed(r);
        }
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            return 0;
        }
        if (read_axis_key(r, &key, name) != 0 || check_once(r, &seen, key, name) != 0) {
            return failed(r);
        }
        if (cfg->n_sweep == CONFIG_AXES) {
            (void)err_set(r->err, ERR_CONFIG, "expected at most %d keys, found more", CONFIG_AXES);
            return at_key(r, line_of(r), "sweep");
        }
        struct config_axis *axis = &cfg->sweep[cfg->n_sweep++];
        size_t n;
        axis->key = (size_t)(key - config_keys(&n));
        if (read_axis(r, key, axis) != 0) {
            return failed(r);
        }
    }
}

/* One key of the top level with its value or its section; the current event is the key. */
static int read_top(struct reader *r, struct seen *seen)
{
    char name[PATH_BYTES];
    if (read_key(r, name) != 0) {
        return failed(r);
    }
    if (strcmp(name, "sweep") == 0) {
        if (r->cfg->n_sweep > 0) {
            (void)err_set(r->err, ERR_CONFIG, "given twice");
            return at_key(r, line_of(r), name);
        }
        return next(r) != 0 ? failed(r) : read_sweep(r);
    }
    const struct config_key *key = config_key_find(name);
    const int is_key = key && config_in_section(key, "");
    if (!is_key) {
        key = name[0] ? config_section_find(name) : NULL;
    }
    if (!key) {
        (void)config_unknown("", name, r->err);
        return at_key(r, line_of(r), name);
    }
    if (check_once(r, seen, key, name) != 0) {
        return failed(r);
    }
    if (is_key) {
        return read_value(r, key, r->cfg);
    }
    if (next(r) != 0) {
        return failed(r);
    }
    return key->in_storage ? read_storage(r) : read_section(r, name, r->cfg);
}

static int read_document(struct reader *r)
{
    struct seen seen = {0};
    char found[160];
    if (next(r) != 0 /* stream start */ || next(r) != 0) {
        return failed(r);
    }
    const int is_empty = r->event.type == YAML_STREAM_END_EVENT;
    if (!is_empty && next(r) != 0) {
        return failed(r);
    }
    const char *what = event_found(r, found, sizeof found);
    if (is_empty || strcmp(what, "nothing") == 0) {
        (void)err_set(r->err, ERR_CONFIG,
                      "the file is empty; expected keys such as model: {name: resnet20}");
        return err_add(r->err, "%s", r->name);
    }
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        (void)err_set(r->err, ERR_CONFIG, "expected a map of keys (key: value), found %s", what);
        return at(r, line_of(r));
    }
    for (;;) {
        if (next(r) != 0) {
            return failed(r);
        }
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            break;
        }
        if (read_top(r, &seen) != 0) {
            return failed(r);
        }
    }
    if (next(r) != 0 /* document end */ || next(r) != 0) {
        return failed(r);
    }
    if (r->event.type != YAML_STREAM_END_EVENT) {
        (void)err_set(r->err, ERR_CONFIG,
                      "a second document begins here; expected one document per file");
        return at(r, line_of(r));
    }
    return 0;
}

int config_parse(const char *name, const char *text, size_t size, struct config *cfg,
                 struct err *err)
{
    struct config copy;
    struct err own = {0};
    struct reader r = {.name = name, .text = text, .size = size, .cfg = &copy, .err = &own};
    int rc;
    if (size > MAX_BYTES) {
        return err_set(err, ERR_CONFIG, "%s: larger than %d MiB, which no config file is", name,
                       MAX_BYTES / (1024 * 1024));
    }
    if (!yaml_parser_initialize(&r.parser)) {
        (void)err_nomem(err, "the YAML parser", sizeof r.parser);
        return err_add(err, "%s", name);
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    config_defaults(&copy);
    rc = read_document(&r);
    if (rc == 0) {
        *cfg = copy;
    } else if (err) {
        *err = own;
    }
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return rc;
}

int config_read(const char *path, struct config *cfg, struct err *err)
{
    char *text = NULL;
    size_t size = 0;
    int rc = file_read_all(path, MAX_BYTES, &text, &size, err);
    if (rc == ERR_MISSING) {
        return err_set(err, ERR_MISSING, "%s: there is no such config file", path);
    }
    if (rc == ERR_RANGE) {
        return err_set(err, ERR_CONFIG, "%s: larger than %d MiB, which no config file is", path,
                       MAX_BYTES / (1024 * 1024));
    }
    if (rc != 0) {
        return err_add(err, "reading the configuration");
    }
    rc = config_parse(path, text, size, cfg, err);
    mem_free(text);
    return rc;
}
