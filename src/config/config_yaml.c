/* Reads a configuration file through libyaml's events. Events rather than its document tree: a
 * config has a fixed, shallow form, so whatever does not fit is refused where it begins, with its
 * line, before anything is built from it; nothing nests deeper than this reader looks. */
#include "config/config.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "config/config_priv.h"
#include "config/reader.h"

enum { MAX_BYTES = 1024 * 1024 }; /* of a config file */

/* The keys of one section, or of one storage entry, up to the map's end; the current event must be
 * the map's begin. */
static int read_section(struct reader *r, const char *section, void *base)
{
    struct config_seen seen = {0};
    size_t except_line = 0;
    const int is_storage = strcmp(section, "storage") == 0;
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        char names[512], found[160];
        (void)err_set(r->err, ERR_CONFIG, "expected %s of keys (%s), found %s",
                      is_storage ? "a map or a list of maps" : "a map",
                      config_section_names(section, names, sizeof names),
                      reader_found(r, found, sizeof found));
        return reader_at_key(r, reader_line(r), section);
    }
    for (;;) {
        char name[CONFIG_PATH_BYTES], path[2 * CONFIG_PATH_BYTES];
        if (reader_next(r) != 0) {
            return reader_failed(r);
        }
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            return 0;
        }
        if (reader_key(r, name) != 0) {
            return reader_failed(r);
        }
        if (is_storage && strcmp(name, "except") == 0) {
            const size_t entry = (size_t)((struct config_storage *)base - r->cfg->storage);
            if (config_read_except(r, entry, &except_line) != 0) {
                return reader_failed(r);
            }
            continue;
        }
        snprintf(path, sizeof path, "%s.%s", section, name);
        const struct config_key *key = config_key_find(path);
        if (!key) {
            (void)config_unknown(section, name, r->err);
            return reader_at_key(r, reader_line(r), path);
        }
        if (reader_once(r, &seen, key, path) != 0 || reader_value(r, key, base) != 0) {
            return reader_failed(r);
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
    const size_t line = reader_line(r);
    cfg->n_storage = 1; /* and is all defaults already */
    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        return read_section(r, "storage", &cfg->storage[0]);
    }
    for (size_t n = 0;; n++) {
        if (reader_next(r) != 0) {
            return reader_failed(r);
        }
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            if (n == 0) {
                (void)err_set(r->err, ERR_CONFIG,
                              "expected at least one entry, found an empty list");
                return reader_at_key(r, line, "storage");
            }
            cfg->n_storage = n;
            return 0;
        }
        if (n == CONFIG_LIST) {
            (void)err_set(r->err, ERR_CONFIG, "expected at most %d entries, found more",
                          CONFIG_LIST);
            return reader_at_key(r, reader_line(r), "storage");
        }
        config_storage_defaults(&cfg->storage[n]);
        if (read_section(r, "storage", &cfg->storage[n]) != 0) {
            return reader_failed(r);
        }
    }
}

/* One key of the top level with its value or its section; the current event is the key. */
static int read_top(struct reader *r, struct config_seen *seen)
{
    char name[CONFIG_PATH_BYTES];
    if (reader_key(r, name) != 0) {
        return reader_failed(r);
    }
    if (strcmp(name, "sweep") == 0) {
        if (r->cfg->n_sweep > 0) {
            (void)err_set(r->err, ERR_CONFIG, "given twice");
            return reader_at_key(r, reader_line(r), name);
        }
        return reader_next(r) != 0 ? reader_failed(r) : config_read_sweep(r);
    }
    const struct config_key *key = config_key_find(name);
    const int is_key = key && config_in_section(key, "");
    if (!is_key) {
        key = name[0] ? config_section_find(name) : NULL;
    }
    if (!key) {
        (void)config_unknown("", name, r->err);
        return reader_at_key(r, reader_line(r), name);
    }
    if (reader_once(r, seen, key, name) != 0) {
        return reader_failed(r);
    }
    if (is_key) {
        return reader_value(r, key, r->cfg);
    }
    if (reader_next(r) != 0) {
        return reader_failed(r);
    }
    return key->in_storage ? read_storage(r) : read_section(r, name, r->cfg);
}

static int read_document(struct reader *r)
{
    struct config_seen seen = {0};
    char found[160];
    if (reader_next(r) != 0 /* stream start */ || reader_next(r) != 0) {
        return reader_failed(r);
    }
    const int is_empty = r->event.type == YAML_STREAM_END_EVENT;
    if (!is_empty && reader_next(r) != 0) {
        return reader_failed(r);
    }
    const char *what = reader_found(r, found, sizeof found);
    if (is_empty || strcmp(what, "nothing") == 0) {
        (void)err_set(r->err, ERR_CONFIG,
                      "the file is empty; expected keys such as model: {name: resnet20}");
        return err_add(r->err, "%s", r->name);
    }
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        (void)err_set(r->err, ERR_CONFIG, "expected a map of keys (key: value), found %s", what);
        return reader_at(r, reader_line(r));
    }
    for (;;) {
        if (reader_next(r) != 0) {
            return reader_failed(r);
        }
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            break;
        }
        if (read_top(r, &seen) != 0) {
            return reader_failed(r);
        }
    }
    if (reader_next(r) != 0 /* document end */ || reader_next(r) != 0) {
        return reader_failed(r);
    }
    if (r->event.type != YAML_STREAM_END_EVENT) {
        (void)err_set(r->err, ERR_CONFIG,
                      "a second document begins here; expected one document per file");
        return reader_at(r, reader_line(r));
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
