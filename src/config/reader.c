#include "config/reader.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

int reader_failed(const struct reader *r)
{
    return (int)r->err->code;
}

size_t reader_line(const struct reader *r)
{
    return r->event.start_mark.line + 1;
}

int reader_at(struct reader *r, size_t line)
{
    return err_add(r->err, "%s:%zu", r->name, line);
}

int reader_at_key(struct reader *r, size_t line, const char *path)
{
    (void)err_add(r->err, "%s", path);
    return reader_at(r, line);
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
    return reader_at(r, syntax_line(r));
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
        return reader_at(r, reader_line(r));
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
    char shown[CONFIG_PATH_BYTES];
    if (anchor) {
        (void)err_set(r->err, ERR_CONFIG, "anchors (&%s) are not supported; leave it out",
                      config_shown((const char *)anchor, shown, sizeof shown));
        return reader_at(r, reader_line(r));
    }
    if (tag) {
        (void)err_set(r->err, ERR_CONFIG,
                      "tags (%s) are not supported; the key decides the type, leave the tag out",
                      config_shown((const char *)tag, shown, sizeof shown));
        return reader_at(r, reader_line(r));
    }
    return 0;
}

int reader_next(struct reader *r)
{
    yaml_event_delete(&r->event); /* leaves an all-zero event, YAML_NO_EVENT */
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        return syntax_error(r);
    }
    return check_event(r);
}

const char *reader_found(const struct reader *r, char *buf, size_t cap)
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

int reader_put(struct reader *r, const struct config_key *key, void *base)
{
    const struct config_scalar v = {
        .text = (const char *)r->event.data.scalar.value,
        .len = r->event.data.scalar.length,
        .quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE,
    };
    if (config_put(base, key, &v, r->err) != 0) {
        return reader_at_key(r, reader_line(r), key->path);
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
    const size_t line = reader_line(r);
    for (;;) {
        if (reader_next(r) != 0) {
            return reader_failed(r);
        }
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            return config_list_check(base, key, r->err) == 0 ? 0
                                                             : reader_at_key(r, line, key->path);
        }
        if (r->event.type != YAML_SCALAR_EVENT) {
            (void)err_set(r->err, ERR_CONFIG, "expected %s as entry of the list, found %s",
                          key->type == CONFIG_INTS ? "a whole number" : "a text",
                          reader_found(r, NULL, 0));
            return reader_at_key(r, reader_line(r), key->path);
        }
        if (reader_put(r, key, base) != 0) {
            return reader_failed(r);
        }
    }
}

int reader_value(struct reader *r, const struct config_key *key, void *base)
{
    if (reader_next(r) != 0) {
        return reader_failed(r);
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
                      config_expected(key, expected, sizeof expected), reader_found(r, NULL, 0));
        return reader_at_key(r, reader_line(r), key->path);
    }
    return reader_put(r, key, base);
}

int reader_key(struct reader *r, char name[CONFIG_PATH_BYTES])
{
    if (r->event.type != YAML_SCALAR_EVENT) {
        (void)err_set(r->err, ERR_CONFIG, "expected the name of a key, found %s",
                      reader_found(r, NULL, 0));
        return reader_at(r, reader_line(r));
    }
    const char *text = (const char *)r->event.data.scalar.value;
    config_shown(text, name,
                 CONFIG_PATH_BYTES); /* a name that needs changes here is unknown anyway */
    if (strlen(text) != r->event.data.scalar.length) {
        config_append(name, CONFIG_PATH_BYTES, "?"); /* for the zero byte, which must not end it */
    }
    return 0;
}

int reader_once(struct reader *r, struct config_seen *seen, const struct config_key *key,
                const char *path)
{
    size_t n;
    size_t *line = &seen->line[key - config_keys(&n)];
    if (*line != 0) {
        (void)err_set(r->err, ERR_CONFIG, "given twice; the first is in line %zu", *line);
        return reader_at_key(r, reader_line(r), path);
    }
    *line = reader_line(r);
    return 0;
}
