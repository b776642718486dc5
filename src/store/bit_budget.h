/* Sharing out a budget of bits: which samples get wide codes and which narrow ones.
 *
 * A row holds n units that cost the same per bit (samples of one map); unit i of row r with b bits
 * has the variance cost[i] / (2^b - 1)^2. The sum of variances is made small under
 *     sum over all units of weight * bits <= budget
 * by ActNN's greedy rule: all units begin at the most bits and, while the budget is exceeded, the
 * one is lowered that loses least per weight and bit saved. Among equals the last one goes first.
 *
 * No queue is kept: what is lowered before what is a number for each unit and width, so the point
 * where the rule ends is found by bisection, with no memory of its own. Costs are not negative; zero,
 * NaN and infinity (a damaged map) count as next to nothing. Widths are those that the codec has: 1,
 * 2, 4 and 8. For store/ alone. */
#ifndef STORE_BIT_BUDGET_H
#define STORE_BIT_BUDGET_H

#include <stddef.h>
#include <stdint.h>

struct bit_row {
    const double *cost; /* [n] */
    double factor;      /* of all its costs */
    size_t weight;      /* of one bit of one unit, > 0 */
    unsigned most;      /* bits of a unit, one of the widths */
    size_t bits;        /* out: sum over its units */
};

/* Widths in rising order. */
#define BIT_BUDGET_N_WIDTHS 4
extern const unsigned bit_budget_widths[BIT_BUDGET_N_WIDTHS];

/* Fills rows[].bits, and bits [n_rows][n] unless it is NULL. At least 1 bit each, budget or not. */
void bit_budget_share(struct bit_row *rows, size_t n_rows, size_t n, size_t budget, uint8_t *bits);

#endif
