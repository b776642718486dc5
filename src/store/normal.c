/* Every map stays as it is until backward has read it for the last time. */
#include "store/store.h"

#include <stdio.h>

static void label(const struct store_params *p, char *buf, size_t cap)
{
    (void)snprintf(buf, cap, "normal%s", p->official ? "-official" : "");
}

static double worst_error(const struct store_params *p, const struct shape *shape)
{
    (void)p;
    (void)shape;
    return 0.0;
}

static double bits_per_value(const struct store_params *p, const struct shape *shape)
{
    (void)p;
    (void)shape;
    return 8.0 * sizeof(real);
}

static void plan(const struct store *s, const struct store_map *map, struct store_choice *choice)
{
    (void)s;
    (void)map;
    *choice = (struct store_choice){.action = STORE_REFERENCE};
}

static const char *const keys[] = {"compat", NULL};

extern const struct store_policy store_normal;
const struct store_policy store_normal = {
    .name = "normal",
    .summary = "keep every map exactly, by reference",
    .keys = keys,
    .unbiased = 1,
    .exact = 1,
    .label = label,
    .worst_error = worst_error,
    .bits_per_value = bits_per_value,
    .plan = plan,
};
