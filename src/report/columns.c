#include "report/columns.h"

#include "report/csv_write.h"

static const struct column columns[] = {
#define X(name, kind, deterministic, help) \
    {#name, COLUMN_##kind, deterministic, help, offsetof(struct epoch_row, name)},
#include "report/epochs.def"
#undef X
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

const struct column *epoch_columns(size_t *n)
{
    *n = N_COLUMNS;
    return columns;
}

void epoch_row_clear(struct epoch_row *row)
{
    csv_clear(columns, N_COLUMNS, row);
}

int epochs_write_header(FILE *fp, struct err *err)
{
    return csv_write_header(fp, columns, N_COLUMNS, "epochs.csv", err);
}

int epochs_write_row(FILE *fp, const struct epoch_row *row, struct err *err)
{
    return csv_write_row(fp, columns, N_COLUMNS, row, "epochs.csv", err);
}
