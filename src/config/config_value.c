/* One value: from its text to the field, by the row of the key table. Every value of the
 * configuration, be it from a file, from --set, from --policy or a default, passes config_put. */
#include "config/config_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "config/quote.h"

enum {
    SHOWN = 48,    /* bytes of a foreign text that a message shows */
    EXPECTED = 160 /* room for what was expected */
};

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_sign(const char *s)
{
    return *s == '-' || *s == '+' ? s + 1 : s;
}

static const char *skip_digits(const char *s)
{
    while (is_digit(*s)) {
        s++;
    }
    return s;
}

/* A number as YAML's core schema writes it: 1, -0.5, 5.0e-4; neither hexadecimal nor nan or inf. */
static int is_number(const char *s)
{
    s = skip_sign(s);
    const char *end = skip_digits(s);
    size_t n_digits = (size_t)(end - s);
    if (*end == '.') {
        s = end + 1;
        end = skip_digits(s);
        n_digits += (size_t)(end - s);
    }
    if (n_digits == 0) {
        return 0;
    }
    if (*end == 'e' || *end == 'E') {
        s = skip_sign(end + 1);
        end = skip_digits(s);
        if (end == s) {
            return 0;
        }
    }
    return *end == '\0';
}

static int is_nothing(const struct config_scalar *v)
{
    return !v->quoted &&
           (v->len == 0 || strcmp(v->text, "~") == 0 || strcasecmp(v->text, "null") == 0);
}

void config_append(char *buf, size_t cap, const char *text)
{
    const size_t len = strlen(buf);
    (void)str_copy(buf + len, cap - len, text);
}

const char *config_shown(const char *text, char *buf, size_t cap)
{
    const size_t size = strlen(text);
    size_t most = cap - 1 < SHOWN ? cap - 1 : SHOWN, n = 0;
    if (size > most) {
        most -= 3; /* for the dots */
    }
    for (size_t i = 0; i < size;) {
        unsigned code = 0;
        const size_t len = quote_utf8(text + i, size - i, &code);
        const int clean = len > 0 && quote_is_printable(code);
        if (n + (clean ? len : 1) > most) {
            config_append(buf, cap, "...");
            return buf;
        }
        if (clean) {
            memcpy(buf + n, text + i, len);
            n += len;
        } else {
            buf[n++] = '?';
        }
        buf[n] = '\0';
        i += len ? len : 1;
    }
    buf[n] = '\0';
    return buf;
}

const char *config_found(const struct config_scalar *v, char *buf, size_t cap)
{
    char shown[SHOWN + 1];
    config_shown(v->text, shown, sizeof shown);
    if (is_nothing(v)) {
        (void)str_copy(buf, cap, "nothing");
    } else if (!v->quoted && is_number(v->text)) {
        (void)str_copy(buf, cap, shown);
    } else {
        (void)str_copy(buf, cap, "the text \"");
        config_append(buf, cap, shown);
        config_append(buf, cap, "\"");
    }
    return buf;
}

/* Copies choice `i` of "a|b|c"; 0 if there is none. */
static int choice_get(const char *choices, size_t i, char *buf, size_t cap)
{
    for (; i > 0; i--) {
        choices = strchr(choices, '|');
        if (!choices) {
            return 0;
        }
        choices++;
    }
    (void)str_copy(buf, cap, choices);
    buf[strcspn(buf, "|")] = '\0';
    return 1;
}

static size_t choice_count(const char *choices)
{
    size_t n = 1;
    for (; *choices; choices++) {
        n += *choices == '|';
    }
    return n;
}

static void append_choices(const char *choices, char *buf, size_t cap)
{
    const size_t n = choice_count(choices);
    for (size_t i = 0; i < n; i++) {
        char choice[32];
        (void)choice_get(choices, i, choice, sizeof choice);
        config_append(buf, cap, i == 0 ? "" : i + 1 < n ? ", " : " or ");
        config_append(buf, cap, choice[0] ? choice : "\"\"");
    }
}

const char *config_expected(const struct config_key *key, char *buf, size_t cap)
{
    buf[0] = '\0';
    switch (key->type) {
    case CONFIG_BOOL: config_append(buf, cap, "true or false"); break;
    case CONFIG_INT: config_append(buf, cap, "a whole number"); break;
    case CONFIG_REAL: config_append(buf, cap, "a number"); break;
    case CONFIG_STRINGS: config_append(buf, cap, "a text or a list of texts"); break;
    case CONFIG_INTS: config_append(buf, cap, "a whole number or a list of them"); break;
    case CONFIG_STRING:
        if (key->choices) {
            append_choices(key->choices, buf, cap);
        } else {
            config_append(buf, cap, "a text");
        }
        break;
    }
    return buf;
}

int config_is_list(const struct config_key *key)
{
    return key->type == CONFIG_STRINGS || key->type == CONFIG_INTS;
}

static int wrong_type(const struct config_key *key, const struct config_scalar *v, struct err *err)
{
    char expected[EXPECTED], found[EXPECTED];
    return err_set(err, ERR_CONFIG, "expected %s, found %s",
                   config_expected(key, expected, sizeof expected),
                   config_found(v, found, sizeof found));
}

static int out_of_range(const struct config_key *key, const struct config_scalar *v,
                        struct err *err)
{
    char shown[SHOWN + 1], min[32], max[32];
    const int whole = key->type == CONFIG_INT || key->type == CONFIG_INTS;
    snprintf(min, sizeof min, whole ? "%.0f" : "%.15g", key->min);
    snprintf(max, sizeof max, whole ? "%.0f" : "%.15g", key->max);
    return err_set(err, ERR_CONFIG, "%s is out of range; expected a %snumber from %s to %s",
                   config_shown(v->text, shown, sizeof shown), whole ? "whole " : "", min, max);
}

static int put_bool(int *field, const struct config_key *key, const struct config_scalar *v,
                    struct err *err)
{
    static const char *const names[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; !v->quoted && i < sizeof names / sizeof *names; i++) {
        if (strcasecmp(v->text, names[i]) == 0) {
            *field = i % 2 == 1;
            return 0;
        }
    }
    return wrong_type(key, v, err);
}

/* Decimal digits, an exponent that keeps them whole (1e3) allowed; -1 if it is something else. A
 * value beyond int64_t becomes its nearest end, which no row's range includes. Leading zeros are
 * refused: some YAML readers take 010 for eight. */
static int parse_whole(const char *s, int64_t *out)
{
    const int negative = *s == '-';
    int64_t v = 0;
    s = skip_sign(s);
    if (!is_digit(*s) || (*s == '0' && is_digit(s[1]))) {
        return -1;
    }
    for (; is_digit(*s); s++) {
        const int digit = *s - '0';
        v = v > (INT64_MAX - digit) / 10 ? INT64_MAX : v * 10 + digit;
    }
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '+';
        if (!is_digit(*s)) {
            return -1;
        }
        int zeros = 0;
        for (; is_digit(*s); s++) {
            zeros = zeros < 100 ? zeros * 10 + (*s - '0') : 100; /* 100 overflows anyway */
        }
        for (; zeros > 0 && v > 0; zeros--) {
            v = v > INT64_MAX / 10 ? INT64_MAX : v * 10;
        }
    }
    *out = negative ? -v : v;
    return *s == '\0' ? 0 : -1;
}

static int put_whole(int64_t *field, const struct config_key *key, const struct config_scalar *v,
                     struct err *err)
{
    int64_t value = 0;
    if (v->quoted || parse_whole(v->text, &value) != 0) {
        return wrong_type(key, v, err);
    }
    /* Compared as integers: as a double, 2^53 + 1 would pass for 2^53. */
    if (value < (int64_t)key->min || value > (int64_t)key->max) {
        return out_of_range(key, v, err);
    }
    *field = value;
    return 0;
}

static int put_real(double *field, const struct config_key *key, const struct config_scalar *v,
                    struct err *err)
{
    if (v->quoted || !is_number(v->text)) {
        return wrong_type(key, v, err);
    }
    const double value = strtod(v->text, NULL);
    if (!(value >= key->min && value <= key->max)) { /* 1e999 is infinite and lands here */
        return out_of_range(key, v, err);
    }
    *field = value + 0.0; /* -0 becomes 0 */
    return 0;
}

/* Fits, is UTF-8 and one printable line: it goes into paths, CSV files and terminals. */
static int check_text(const struct config_scalar *v, size_t cap, struct err *err)
{
    for (size_t i = 0; i < v->len;) {
        unsigned code = 0;
        const size_t len = quote_utf8(v->text + i, v->len - i, &code);
        if (len == 0) {
            return err_set(err, ERR_CONFIG, "expected UTF-8 text, found byte 0x%02X at byte %zu",
                           (unsigned)(unsigned char)v->text[i], i + 1);
        }
        if (!quote_is_printable(code)) {
            return err_set(err, ERR_CONFIG,
                           "expected printable text on one line, found the control character "
                           "U+%04X at byte %zu",
                           code, i + 1);
        }
        i += len;
    }
    if (v->len >= cap) {
        return err_set(err, ERR_CONFIG, "expected a text of at most %zu bytes, found one of %zu",
                       cap - 1, v->len);
    }
    return 0;
}

static int check_choice(const struct config_key *key, const struct config_scalar *v,
                        struct err *err)
{
    char choice[16][32];
    const char *names[16];
    const size_t n = choice_count(key->choices);
    for (size_t i = 0; i < n && i < 16; i++) {
        (void)choice_get(key->choices, i, choice[i], sizeof choice[i]);
        names[i] = choice[i];
        if (strcmp(v->text, choice[i]) == 0) {
            return 0;
        }
    }
    (void)wrong_type(key, v, err);
    const char *near = str_nearest(v->text, names, n < 16 ? n : 16);
    if (near && near[0] && err) {
        config_append(err->msg, sizeof err->msg, "; did you mean ");
        config_append(err->msg, sizeof err->msg, near);
        config_append(err->msg, sizeof err->msg, "?");
    }
    return ERR_CONFIG;
}

static int put_string(char *field, const struct config_key *key, const struct config_scalar *v,
                      struct err *err)
{
    if (key->choices && check_choice(key, v, err) != 0) {
        return ERR_CONFIG;
    }
    /* These become the name of a folder. */
    const int is_folder = strcmp(key->path, "name") == 0 || strcmp(key->path, "storage.label") == 0;
    const int is_missing = v->len == 0 && key->fallback[0] != '\0';
    if (is_folder && (strchr(v->text, '/') || v->text[0] == '.' || is_missing)) {
        char found[EXPECTED];
        return err_set(err, ERR_CONFIG,
                       "expected a name for a folder (no '/', no '.' in front), found %s",
                       config_found(v, found, sizeof found));
    }
    memset(field, 0, key->size); /* structs of equal configurations are equal bytes */
    memcpy(field, v->text, v->len);
    return 0;
}

static int list_full(struct err *err)
{
    return err_set(err, ERR_CONFIG, "expected at most %d entries, found more", CONFIG_LIST);
}

static int put_ints(struct config_ints *list, const struct config_key *key,
                    const struct config_scalar *v, struct err *err)
{
    int64_t value = 0;
    if (put_whole(&value, key, v, err) != 0) {
        return ERR_CONFIG;
    }
    for (size_t i = 0; i < list->n; i++) {
        if (list->item[i] == value) {
            return err_set(err, ERR_CONFIG, "expected different entries, found %lld twice",
                           (long long)value);
        }
    }
    if (list->n == CONFIG_LIST) {
        return list_full(err);
    }
    list->item[list->n++] = value;
    return 0;
}

static int put_strings(struct config_texts *list, const struct config_scalar *v, struct err *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->item[i], v->text) == 0) {
            return err_set(err, ERR_CONFIG, "expected different entries, found %s twice", v->text);
        }
    }
    if (list->n == CONFIG_LIST) {
        return list_full(err);
    }
    memcpy(list->item[list->n++], v->text, v->len);
    return 0;
}

int config_put(void *base, const struct config_key *key, const struct config_scalar *v,
               struct err *err)
{
    void *field = (char *)base + key->offset;
    const int is_string = key->type == CONFIG_STRING;
    const size_t cap = is_string                     ? key->size
                       : key->type == CONFIG_STRINGS ? sizeof((struct config_texts *)0)->item[0]
                                                     : CONFIG_TEXT;
    if (is_nothing(v)) {
        return wrong_type(key, v, err);
    }
    if (check_text(v, cap, err) != 0) {
        return ERR_CONFIG;
    }
    switch (key->type) {
    case CONFIG_BOOL: return put_bool(field, key, v, err);
    case CONFIG_INT: return put_whole(field, key, v, err);
    case CONFIG_REAL: return put_real(field, key, v, err);
    case CONFIG_STRING: return put_string(field, key, v, err);
    case CONFIG_STRINGS: return put_strings(field, v, err);
    case CONFIG_INTS: return put_ints(field, key, v, err);
    }
    return err_set(err, ERR_CONFIG, "internal: row %s has no type", key->path);
}

void config_list_clear(void *base, const struct config_key *key)
{
    memset((char *)base + key->offset, 0, key->size);
}

int config_list_check(const void *base, const struct config_key *key, struct err *err)
{
    /* A list of numbers that has a default needs an entry (seed). An empty list of texts is the
     * way to switch a default off (augment). */
    if (key->type == CONFIG_INTS && strcmp(key->fallback, "[]") != 0) {
        const void *field = (const char *)base + key->offset;
        const struct config_ints *list = field;
        if (list->n == 0) {
            return err_set(err, ERR_CONFIG, "expected at least one entry, found an empty list");
        }
    }
    return 0;
}

/* Cuts [from, to) to what lies between surrounding blanks. */
static void trim(const char **from, const char **to)
{
    while (*from < *to && (**from == ' ' || **from == '\t')) {
        ++*from;
    }
    while (*from < *to && ((*to)[-1] == ' ' || (*to)[-1] == '\t')) {
        --*to;
    }
}

static int put_range(void *base, const struct config_key *key, const char *from, const char *to,
                     struct err *err)
{
    char text[2 * CONFIG_TEXT];
    trim(&from, &to);
    const size_t len = (size_t)(to - from);
    if (len >= sizeof text) {
        return err_set(err, ERR_CONFIG, "expected a text of at most %d bytes, found one of %zu",
                       CONFIG_TEXT - 1, len);
    }
    memcpy(text, from, len);
    text[len] = '\0';
    return config_put(base, key, &(struct config_scalar){.text = text, .len = len}, err);
}

static int put_list_text(void *base, const struct config_key *key, const char *from, const char *to,
                         struct err *err)
{
    const size_t len = (size_t)(to - from);
    config_list_clear(base, key);
    if (len == 0 || from[0] != '[') {
        const int none = key->type == CONFIG_STRINGS && len == 4 && memcmp(from, "none", 4) == 0;
        return none ? 0 : put_range(base, key, from, to, err);
    }
    if (to[-1] != ']' || len < 2) {
        return err_set(err, ERR_CONFIG, "expected a list [a, b], found no ']' at its end");
    }
    from++;
    to--;
    trim(&from, &to);
    while (from < to) {
        const char *comma = memchr(from, ',', (size_t)(to - from));
        const char *end = comma ? comma : to;
        if (put_range(base, key, from, end, err) != 0) {
            return ERR_CONFIG;
        }
        if (comma && comma + 1 == to) {
            return err_set(err, ERR_CONFIG, "expected an entry behind the last ','");
        }
        from = comma ? comma + 1 : to;
    }
    return config_list_check(base, key, err);
}

int config_put_text(void *base, const struct config_key *key, const char *text, struct err *err)
{
    const char *from = text, *to = text + strlen(text);
    if (key->type == CONFIG_STRING) { /* as it stands, also if empty or like nothing */
        return config_put(base, key,
                          &(struct config_scalar){.text = text, .len = strlen(text), .quoted = 1},
                          err);
    }
    trim(&from, &to);
    return config_is_list(key) ? put_list_text(base, key, from, to, err)
                               : put_range(base, key, from, to, err);
}
