#include "report/plan_row.h"

#include "report/csv_write.h"

static const struct column columns[] = {
#define X(name, kind, deterministic, help) \
    {#name, COLUMN_##kind, deterministic, help, offsetof(struct plan_row, name)},
#include "report/plan.def"
#undef X
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

const struct column *plan_columns(size_t *n)
{
    *n = N_COLUMNS;
    return columns;
}

void plan_row_clear(struct plan_row *row)
{
    csv_clear(columns, N_COLUMNS, row);
}

int plan_write_header(FILE *fp, struct err *err)
{
    return csv_write_header(fp, columns, N_COLUMNS, "the plan", err);
}

int plan_write_row(FILE *fp, const struct plan_row *row, struct err *err)
{
    return csv_write_row(fp, columns, N_COLUMNS, row, "the plan", err);
}
