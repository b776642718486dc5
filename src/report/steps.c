#include "report/steps.h"

#include "report/csv_write.h"

static const struct column columns[] = {
#define X(name, kind, deterministic, help) \
    {#name, COLUMN_##kind, deterministic, help, offsetof(struct step_row, name)},
#include "report/steps.def"
#undef X
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

const struct column *step_columns(size_t *n)
{
    *n = N_COLUMNS;
    return columns;
}

void step_row_clear(struct step_row *row)
{
    csv_clear(columns, N_COLUMNS, row);
}

int steps_write_header(FILE *fp, struct err *err)
{
    return csv_write_header(fp, columns, N_COLUMNS, "steps.csv", err);
}

int steps_write_row(FILE *fp, const struct step_row *row, struct err *err)
{
    return csv_write_row(fp, columns, N_COLUMNS, row, "steps.csv", err);
}
