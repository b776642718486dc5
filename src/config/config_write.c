/* Writes the resolved configuration: every key in the table's order, sections as block maps. */
#include "config/config.h"

#include <errno.h>
#include <string.h>

#include "config/config_priv.h"
#include "config/quote.h"

static void write_ints(FILE *fp, const struct config_ints *list)
{
    if (list->n == 1) {
        fprintf(fp, "%lld", (long long)list->item[0]);
        return;
    }
    fputs("[", fp);
    for (size_t i = 0; i < list->n; i++) {
        fprintf(fp, "%s%lld", i ? ", " : "", (long long)list->item[i]);
    }
    fputs("]", fp);
}

static void write_texts(FILE *fp, const struct config_texts *list)
{
    fputs("[", fp);
    for (size_t i = 0; i < list->n; i++) {
        fputs(i ? ", " : "", fp);
        quote_text(fp, list->item[i]);
    }
    fputs("]", fp);
}

static void write_value(FILE *fp, const struct config_key *key, const void *base)
{
    const void *field = (const char *)base + key->offset;
    char number[32];
    switch (key->type) {
    case CONFIG_BOOL: fputs(*(const int *)field ? "true" : "false", fp); break;
    case CONFIG_INT: fprintf(fp, "%lld", (long long)*(const int64_t *)field); break;
    case CONFIG_REAL: fputs(quote_real(number, *(const double *)field), fp); break;
    case CONFIG_STRING: quote_text(fp, field); break;
    case CONFIG_STRINGS: write_texts(fp, field); break;
    case CONFIG_INTS: write_ints(fp, field); break;
    }
}

static void write_given(FILE *fp, const struct config_storage *s, const char *first,
                        const char *others)
{
    size_t n, n_given = 0;
    const struct config_key *keys = config_keys(&n);
    for (size_t i = 0; i < n; i++) {
        if (keys[i].in_storage && (s->set & config_storage_bit(&keys[i]))) {
            fprintf(fp, "%s%s: ", n_given++ ? others : first, config_key_name(&keys[i]));
            write_value(fp, &keys[i], s);
            fputs("\n", fp);
        }
    }
}

static void write_rules(FILE *fp, const struct config *cfg, size_t entry)
{
    int is_first = 1;
    for (size_t i = 0; i < cfg->n_except; i++) {
        const struct config_rule *rule = &cfg->except[i];
        if (rule->storage == entry) {
            fputs(is_first ? "    except:\n      - match: " : "      - match: ", fp);
            quote_text(fp, rule->match);
            fputs("\n", fp);
            write_given(fp, &rule->keep, "        ", "        ");
            is_first = 0;
        }
    }
}

/* A storage entry holds the keys that were given; the others stand in a comment, since a policy
 * refuses keys that it does not know, and reading back must not make them given. */
static void write_entry(FILE *fp, const struct config *cfg, size_t entry)
{
    const struct config_storage *s = &cfg->storage[entry];
    size_t n;
    const struct config_key *keys = config_keys(&n);
    write_given(fp, s, "  - ", "    ");
    write_rules(fp, cfg, entry);
    const char *before = "    # by default, where the policy has them and no default of its own: ";
    for (size_t i = 0; i < n; i++) {
        if (keys[i].in_storage && !(s->set & config_storage_bit(&keys[i]))) {
            fprintf(fp, "%s%s ", before, config_key_name(&keys[i]));
            write_value(fp, &keys[i], s);
            before = ", ";
        }
    }
    fputs(before[0] == ',' ? "\n" : "", fp);
}

static void write_sweep(FILE *fp, const struct config *cfg)
{
    size_t n;
    const struct config_key *keys = config_keys(&n);
    fputs(cfg->n_sweep ? "sweep:\n" : "", fp);
    for (size_t a = 0; a < cfg->n_sweep; a++) {
        const struct config_axis *axis = &cfg->sweep[a];
        fprintf(fp, "  %s: [", keys[axis->key].path);
        for (size_t i = 0; i < axis->n; i++) {
            fputs(i ? ", " : "", fp);
            if (keys[axis->key].type == CONFIG_STRING) {
                quote_text(fp, axis->item[i]);
            } else {
                fputs(axis->item[i], fp);
            }
        }
        fputs("]\n", fp);
    }
}

int config_write(const struct config *cfg, FILE *fp, struct err *err)
{
    size_t n;
    const struct config_key *keys = config_keys(&n);
    const char *section = "";
    size_t section_len = 0;
    errno = 0;
    fputs(
        "# The configuration as it was run: every key, given or not. division-config(5) says what\n"
        "# each means; division-run takes this file as it takes the original.\n",
        fp);
    for (size_t i = 0; i < n; i++) {
        const size_t len = (size_t)(config_key_name(&keys[i]) - keys[i].path); /* with the dot */
        const int is_first = len != section_len || memcmp(keys[i].path, section, len) != 0;
        if (is_first && len > 0) {
            fprintf(fp, "%.*s:\n", (int)len - 1, keys[i].path);
        }
        section = keys[i].path;
        section_len = len;
        if (!keys[i].in_storage) {
            fprintf(fp, "%s%s: ", len ? "  " : "", config_key_name(&keys[i]));
            write_value(fp, &keys[i], cfg);
            fputs("\n", fp);
        }
        for (size_t s = 0; keys[i].in_storage && is_first && s < cfg->n_storage; s++) {
            write_entry(fp, cfg, s);
        }
    }
    write_sweep(fp, cfg);
    if (fflush(fp) != 0 || ferror(fp)) {
        return err_sys(err, ERR_IO, errno, "writing the resolved configuration");
    }
    return 0;
}

void config_storage_text(const struct config_storage *s, char *buf, size_t cap)
{
    size_t n;
    const struct config_key *keys = config_keys(&n);
    const char *before = "";
    if (cap == 0) {
        return;
    }
    buf[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (!keys[i].in_storage || !(s->set & config_storage_bit(&keys[i]))) {
            continue;
        }
        const void *field = (const char *)s + keys[i].offset;
        char number[32];
        snprintf(number, sizeof number, "%lld",
                 keys[i].type == CONFIG_INT ? (long long)*(const int64_t *)field : 0LL);
        config_append(buf, cap, before);
        config_append(buf, cap, config_key_name(&keys[i]));
        config_append(buf, cap, ": ");
        config_append(buf, cap, keys[i].type == CONFIG_INT ? number : field);
        before = ", ";
    }
}
