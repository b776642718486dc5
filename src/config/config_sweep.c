/* sweep: keys with lists of values. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "config/reader.h"

/* The key that a sweep's entry names; the current event is its name. */
static int read_axis_key(struct reader *r, const struct config_key **key,
                         char name[CONFIG_PATH_BYTES])
{
    if (reader_key(r, name) != 0) {
        return reader_failed(r);
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
    char path[2 * CONFIG_PATH_BYTES];
    snprintf(path, sizeof path, "sweep.%s", name);
    return reader_at_key(r, reader_line(r), path);
}

/* The values of one axis: a list, each a valid value of the key. */
static int read_axis(struct reader *r, const struct config_key *key, struct config_axis *axis)
{
    const size_t line = reader_line(r);
    struct config scratch = *r->cfg; /* values are put here to be checked */
    void *base = key->in_storage ? (void *)&scratch.storage[0] : (void *)&scratch;
    if (reader_next(r) != 0) {
        return reader_failed(r);
    }
    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        (void)err_set(r->err, ERR_CONFIG, "expected a list of values, found %s",
                      reader_found(r, (char[160]){0}, 160));
        return reader_at_key(r, reader_line(r), key->path);
    }
    for (;;) {
        if (reader_next(r) != 0) {
            return reader_failed(r);
        }
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            if (axis->n > 0) {
                return 0;
            }
            (void)err_set(r->err, ERR_CONFIG, "expected at least one value, found an empty list");
            return reader_at_key(r, line, key->path);
        }
        if (r->event.type != YAML_SCALAR_EVENT || axis->n == CONFIG_LIST) {
            (void)err_set(r->err, ERR_CONFIG, "expected at most %d single values, found %s",
                          CONFIG_LIST, axis->n == CONFIG_LIST ? "more" : reader_found(r, NULL, 0));
            return reader_at_key(r, reader_line(r), key->path);
        }
        if (reader_put(r, key, base) != 0) {
            return reader_failed(r);
        }
        const char *text = (const char *)r->event.data.scalar.value;
        if (r->event.data.scalar.length >= sizeof axis->item[0]) {
            (void)err_set(r->err, ERR_CONFIG, "expected at most %zu bytes per value, found %zu",
                          sizeof axis->item[0] - 1, r->event.data.scalar.length);
            return reader_at_key(r, reader_line(r), key->path);
        }
        str_copy(axis->item[axis->n++], sizeof axis->item[0], text);
    }
}

int config_read_sweep(struct reader *r)
{
    struct config *cfg = r->cfg;
    struct config_seen seen = {0};
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        (void)err_set(r->err, ERR_CONFIG,
                      "expected keys with lists of values, as in {train.batch_size: [64, 128]}, "
                      "found %s",
                      reader_found(r, (char[160]){0}, 160));
        return reader_at_key(r, reader_line(r), "sweep");
    }
    for (;;) {
        char name[CONFIG_PATH_BYTES];
        const struct config_key *key = NULL;
        if (reader_next(r) != 0) {
            return reader_failed(r);
        }
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            return 0;
        }
        if (read_axis_key(r, &key, name) != 0 || reader_once(r, &seen, key, name) != 0) {
            return reader_failed(r);
        }
        if (cfg->n_sweep == CONFIG_AXES) {
            (void)err_set(r->err, ERR_CONFIG, "expected at most %d keys, found more", CONFIG_AXES);
            return reader_at_key(r, reader_line(r), "sweep");
        }
        struct config_axis *axis = &cfg->sweep[cfg->n_sweep++];
        size_t n;
        axis->key = (size_t)(key - config_keys(&n));
        if (read_axis(r, key, axis) != 0) {
            return reader_failed(r);
        }
    }
}
