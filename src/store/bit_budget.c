#include "store/bit_budget.h"

#include <math.h>
#include <string.h>

const unsigned bit_budget_widths[BIT_BUDGET_N_WIDTHS] = {1, 2, 4, 8};

/* Units of no cost are lowered first, but from 8 to 4 before any of them from 4 to 2. */
#define LEAST_COST 1e-280

static double unit_cost(const struct bit_row *row, size_t i)
{
    const double cost = row->cost[i] * row->factor;
    return isfinite(cost) && cost > LEAST_COST ? cost : LEAST_COST;
}

/* Variance that a unit of cost 1 gains per bit saved, from each width down to the one before. */
#define VARIANCE(bits) (1.0 / (((1 << (bits)) - 1) * ((1 << (bits)) - 1)))
static const double loss_per_bit[BIT_BUDGET_N_WIDTHS] = {
    0, /* 1 bit is the least */
    VARIANCE(1) - VARIANCE(2),
    (VARIANCE(2) - VARIANCE(4)) / 2,
    (VARIANCE(4) - VARIANCE(8)) / 4,
};

/* The width of unit i when everything is lowered whose loss is below, or at, `price`. *tied: it
 * would be one wider were it below alone. The losses of a unit rise from width to width. */
static size_t width_at(const struct bit_row *row, size_t i, double price, int *tied)
{
    const double cost = unit_cost(row, i) / (double)row->weight;
    size_t w = BIT_BUDGET_N_WIDTHS - 1;
    while (bit_budget_widths[w] > row->most) {
        w--;
    }
    *tied = 0;
    while (w > 0) {
        const double loss = cost * loss_per_bit[w];
        if (loss > price) {
            break;
        }
        *tied = loss == price;
        w--;
    }
    return w;
}

/* Weighted bits of all units at that price. */
static size_t spent_at(const struct bit_row *rows, size_t n_rows, size_t n, double price)
{
    size_t sum = 0;
    for (size_t r = 0; r < n_rows; r++) {
        size_t bits = 0;
        for (size_t i = 0; i < n; i++) {
            int tied;
            bits += bit_budget_widths[width_at(&rows[r], i, price, &tied)];
        }
        sum += bits * rows[r].weight;
    }
    return sum;
}

static double from_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* The least price at which the budget holds, or the highest there is. Doubles that are not negative
 * are in the order of their bits. */
static double find_price(const struct bit_row *rows, size_t n_rows, size_t n, size_t budget)
{
    uint64_t low = 0, high = 0x7FEFFFFFFFFFFFFF; /* the largest finite double */
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (spent_at(rows, n_rows, n, from_bits(middle)) <= budget) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return from_bits(high);
}

void bit_budget_share(struct bit_row *rows, size_t n_rows, size_t n, size_t budget, uint8_t *bits)
{
    const double price = find_price(rows, n_rows, n, budget);
    const size_t spent = spent_at(rows, n_rows, n, price);
    size_t left = spent < budget ? budget - spent : 0;
    for (size_t r = 0; r < n_rows; r++) {
        rows[r].bits = 0;
        for (size_t i = 0; i < n; i++) {
            int tied;
            size_t w = width_at(&rows[r], i, price, &tied);
            if (tied) { /* those that come first need not have been lowered */
                const size_t back = (bit_budget_widths[w + 1] - bit_budget_widths[w]) *
                                    rows[r].weight;
                if (back <= left) {
                    left -= back;
                    w++;
                }
            }
            rows[r].bits += bit_budget_widths[w];
            if (bits != NULL) {
                bits[r * n + i] = (uint8_t)bit_budget_widths[w];
            }
        }
    }
}
