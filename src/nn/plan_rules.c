/* Exceptions of a policy (store_rule) name maps of a network, so a misspelt one is found here: one that
 * keeps no map is refused, with the names that come nearest. */
#include <string.h>

#include "base/str.h"
#include "nn/plan_priv.h"

enum { N_NEAR = 3, MAX_NAMES = 4096 };

static int is_used(const struct plan_builder *b, const struct store_rule *rule)
{
    for (size_t v = 0; v < b->g->n_values; v++) {
        const struct plan_value *pv = &b->p->values[v];
        if (pv->kept && pv->chosen && pv->store == &rule->store) {
            return 1;
        }
    }
    return 0;
}

/* Why an exception is not used. */
static const char *fault(const struct plan_builder *b, const struct store_rule *rule)
{
    int fits = 0, fits_given = 0;
    for (size_t v = 0; v < b->g->n_values; v++) {
        const struct plan_value *pv = &b->p->values[v];
        if (!str_glob(rule->match, b->g->values[v].name)) {
            continue;
        }
        if (pv->kept && pv->store != &rule->store) {
            return "earlier exceptions take every map that it fits";
        }
        fits = 1;
        fits_given |= pv->kept;
    }
    return fits_given ? "fits only maps that are exact, or rebuilt, whatever the policy"
           : fits     ? "fits only layers whose output is not saved"
                      : "no saved map has such a name";
}

/* Leading characters that both have. */
static size_t common(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] != '\0' && a[n] == b[n]) {
        n++;
    }
    return n;
}

/* The name that begins most like the pattern; of several, the first. */
static const char *same_beginning(const char *pattern, const char *const *names, size_t n)
{
    const char *best = names[0];
    for (size_t i = 1; i < n; i++) {
        if (common(names[i], pattern) > common(best, pattern)) {
            best = names[i];
        }
    }
    return best;
}

/* "conv1, relu, layer1.0.conv1": the nearest names of maps that a policy can keep. */
static void list_near(const struct plan_builder *b, const char *pattern, struct str *list)
{
    const char *names[MAX_NAMES];
    size_t n = 0;
    for (size_t v = 0; v < b->g->n_values && n < MAX_NAMES; v++) {
        if (b->p->values[v].kept && b->p->values[v].chosen) {
            names[n++] = b->g->values[v].name;
        }
    }
    for (size_t found = 0; found < N_NEAR && n > 0; found++) {
        const char *near = str_nearest(pattern, names, n);
        near = near ? near : same_beginning(pattern, names, n);
        str_addf(list, "%s%s", found ? ", " : "", near);
        size_t kept = 0;
        for (size_t i = 0; i < n; i++) {
            names[kept] = names[i];
            kept += names[i] != near;
        }
        n = kept;
    }
}

static void refuse(struct plan_builder *b, const struct store_rule *rule)
{
    struct str list = {0};
    list_near(b, rule->match, &list);
    (void)err_set(b->err, ERR_CONFIG, "storage.except \"%s\": %s; nearest: %s (--plan lists all)",
                  rule->match, fault(b, rule), list.s ? list.s : "none");
    str_fini(&list);
}

void plan_rules(struct plan_builder *b)
{
    for (size_t i = 0; i < b->store->n_rules && !b->err->code; i++) {
        if (!is_used(b, &b->store->rules[i])) {
            refuse(b, &b->store->rules[i]);
        }
    }
}
