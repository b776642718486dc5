/* Reading YAML events one by one, with the place of each for messages: what config_yaml.c,
 * config_except.c and config_sweep.c share. Functions that can fail return the error's code, and the
 * message begins with file, line and key. */
#ifndef CONFIG_READER_H
#define CONFIG_READER_H

#include <stddef.h>
#include <yaml.h>

#include "base/err.h"
#include "config/config.h"
#include "config/config_priv.h"

enum { CONFIG_PATH_BYTES = 64 }; /* of a key; no valid one comes near */

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
struct config_seen {
    size_t line[CONFIG_N_KEYS];
};

/* The code of the error that a callee has set. */
int reader_failed(const struct reader *r);

/* Line of the current event. */
size_t reader_line(const struct reader *r);

/* Puts file and line, and the key, in front of the message. Returns its code. */
int reader_at(struct reader *r, size_t line);
int reader_at_key(struct reader *r, size_t line, const char *path);

/* The next event becomes the current one. Refuses what is beyond plain YAML. */
int reader_next(struct reader *r) MUST_USE;

/* What the current event is, for messages. Returns buf, or a constant text. */
const char *reader_found(const struct reader *r, char *buf, size_t cap);

/* The current event is a scalar: puts it into the key's field of base. */
int reader_put(struct reader *r, const struct config_key *key, void *base) MUST_USE;

/* Reads the value of a key, which follows. */
int reader_value(struct reader *r, const struct config_key *key, void *base) MUST_USE;

/* The current event is a key: copies its name. */
int reader_key(struct reader *r, char name[CONFIG_PATH_BYTES]) MUST_USE;

/* Notes that `key` (or the section that begins with it) is given in the current line; an error if
 * it was before. */
int reader_once(struct reader *r, struct config_seen *seen, const struct config_key *key,
                const char *path) MUST_USE;

/* storage.except of the entry: one map or a list of them; the current event is the key. *first: the
 * line in which this entry had it before, 0 for none. */
int config_read_except(struct reader *r, size_t entry, size_t *first) MUST_USE;

/* sweep: KEY: [value, ...]; the current event is what follows the name. */
int config_read_sweep(struct reader *r) MUST_USE;

#endif
