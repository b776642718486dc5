/* Gradient checkpointing (Chen et al. 2016): the ends of segments stay, what lies between them is
 * computed again in backward, once per segment, from the end of the one before.
 *
 * segments: stage keeps the stem's maps and the input of every stage; segments: block keeps the
 * output of every block and of the shortcuts' projections. These are the two readings of the
 * paper's Checkpoint rows (its code is not published); both are inferences from its numbers.
 *
 * Batch-norm's statistics are those of the first forward pass, kept exactly; running statistics move
 * once. Dropout draws the same mask again. ReLU's masks come from the maps made again: nothing else
 * is saved inside a segment. Losses and gradients equal normal's bit for bit. */
#include "store/store.h"

#include <stdio.h>

static void label(const struct store_params *p, char *buf, size_t cap)
{
    (void)snprintf(buf, cap, "checkpoint%s%s", p->segments == STORE_SEGMENTS_BLOCK ? "-block" : "",
                   p->official ? "-official" : "");
}

static double worst_error(const struct store_params *p, const struct shape *shape)
{
    (void)p, (void)shape;
    return 0.0;
}

/* Of what is kept; most maps are not. */
static double bits_per_value(const struct store_params *p, const struct shape *shape)
{
    (void)p, (void)shape;
    return 8.0 * sizeof(real);
}

static void plan(const struct store *s, const struct store_map *map, struct store_choice *choice)
{
    const unsigned kept = s->params.segments == STORE_SEGMENTS_BLOCK
                              ? STORE_MARK_STEM | STORE_MARK_BLOCK_END | STORE_MARK_SHORTCUT
                              : STORE_MARK_STEM | STORE_MARK_STAGE_END;
    *choice = (struct store_choice){.action = STORE_REFERENCE};
    if (map->can_recompute && !(map->marks & kept)) {
        choice->action = STORE_RECOMPUTE;
        /* What is wanted only to compute the next map is not kept beyond that. */
        choice->keep_restored = map->uses != STORE_USE_RECOMPUTE;
    }
}

static const char *const keys[] = {"segments", "compat", NULL};

extern const struct store_policy store_checkpoint;
const struct store_policy store_checkpoint = {
    .name = "checkpoint",
    .summary = "keep the ends of stages or blocks exactly, compute the maps between them again",
    .keys = keys,
    .unbiased = 1,
    .exact = 1,
    .label = label,
    .worst_error = worst_error,
    .bits_per_value = bits_per_value,
    .plan = plan,
};
