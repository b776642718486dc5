/* What the files of config/ share: typing one value by its row, and messages about keys. */
#ifndef CONFIG_CONFIG_PRIV_H
#define CONFIG_CONFIG_PRIV_H

#include <stddef.h>

#include "base/err.h"
#include "config/config.h"

/* Number of rows, for arrays. */
enum {
#define X(path, type, fallback, min, max, choices, help) +1
#define S X
    CONFIG_N_KEYS = 0
#include "config/config.def"
#undef X
#undef S
};

/* One value as it was written. `text` ends with a zero byte at text[len]; one before it (a YAML
 * escape can make one) is refused like any control character. */
struct config_scalar {
    const char *text;
    size_t len;
    int quoted; /* certainly a text: never a number, a truth value or nothing */
};

/* Types `v` by the row and stores it in base (struct config, or struct config_storage for storage
 * keys); list keys get it appended. The message starts with "expected …" or the like: the caller
 * puts the key and the place in front. */
int config_put(void *base, const struct config_key *key, const struct config_scalar *v,
               struct err *err) MUST_USE;

/* Empties a list key before its entries are put; and what holds for the list as a whole. */
void config_list_clear(void *base, const struct config_key *key);
int config_list_check(const void *base, const struct config_key *key, struct err *err) MUST_USE;

/* A whole value as the command line and the table's defaults write it: the bare text, lists as
 * [a, b] or one entry alone. */
int config_put_text(void *base, const struct config_key *key, const char *text, struct err *err)
    MUST_USE;

int config_is_list(const struct config_key *key);

/* "a number", "true or false", "constant, multistep or cosine": for messages. Returns buf. */
const char *config_expected(const struct config_key *key, char *buf, size_t cap);

/* What was found, for messages: `the text "fast"`, `1.5`, `nothing`. Long texts are cut, control
 * characters shown as '?'. Returns buf. */
const char *config_found(const struct config_scalar *v, char *buf, size_t cap);

/* As much of a foreign text as a message should hold, control characters shown as '?'. */
const char *config_shown(const char *text, char *buf, size_t cap);

/* Appends to a message part that is cut where `cap` ends. */
void config_append(char *buf, size_t cap, const char *text);

/* Name behind the section: "lr" of "train.lr"; the whole path at the top level. */
const char *config_key_name(const struct config_key *key);

/* 1 if `key` is in `section` ("" is the top level). */
int config_in_section(const struct config_key *key, const char *section);

/* First row of the section, or NULL if there is no such section. */
const struct config_key *config_section_find(const char *section);

/* The names of a section's keys, "epochs, batch_size, …"; "" lists sections too. Returns buf. */
const char *config_section_names(const char *section, char *buf, size_t cap);

/* Fills err with "unknown key; did you mean train.lr?" or the like. Returns ERR_CONFIG. */
int config_unknown(const char *section, const char *name, struct err *err);

/* One storage entry with all defaults. */
void config_storage_defaults(struct config_storage *s);

/* The bit of config_storage.set that belongs to a storage key. */
uint64_t config_storage_bit(const struct config_key *key);

#endif
