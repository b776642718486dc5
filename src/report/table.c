#include "report/table.h"

#include <errno.h>
#include <string.h>

enum { GAP = 2 }; /* blanks between columns */

/* Characters, as far as UTF-8 tells: bytes that do not continue one. */
static size_t width_of(const char *s)
{
    size_t n = 0;
    for (; s && *s; s++) {
        n += ((unsigned char)*s & 0xC0) != 0x80;
    }
    return n;
}

static size_t column_width(const struct table_column *columns, size_t n_columns,
                           const char *const *cells, size_t n_rows, size_t c)
{
    size_t width = width_of(columns[c].head);
    const size_t unit = width_of(columns[c].unit);
    width = unit > width ? unit : width;
    for (size_t r = 0; r < n_rows; r++) {
        const size_t cell = width_of(cells[r * n_columns + c]);
        width = cell > width ? cell : width;
    }
    return width;
}

/* Writes a cell in its column. Blanks are owed until something follows them. */
static void write_cell(FILE *fp, const char *s, size_t width, int is_right, size_t *owed)
{
    const size_t own = width_of(s), fill = width - own;
    if (own == 0) {
        *owed += width;
        return;
    }
    for (size_t i = *owed + (is_right ? fill : 0); i > 0; i--) {
        putc(' ', fp);
    }
    fputs(s, fp);
    *owed = is_right ? 0 : fill;
}

int table_write(FILE *fp, const struct table_column *columns, size_t n_columns,
                const char *const *cells, size_t n_rows, struct err *err)
{
    int has_units = 0;
    errno = 0;
    for (size_t c = 0; c < n_columns; c++) {
        has_units |= columns[c].unit && columns[c].unit[0] != '\0';
    }
    const size_t n_head = has_units ? 2 : 1;
    for (size_t line = 0; line < n_head + n_rows; line++) {
        size_t owed = 0;
        for (size_t c = 0; c < n_columns; c++) {
            const char *s = line == 0       ? columns[c].head
                            : line < n_head ? columns[c].unit
                                            : cells[(line - n_head) * n_columns + c];
            owed += c > 0 ? GAP : 0;
            write_cell(fp, s, column_width(columns, n_columns, cells, n_rows, c),
                       columns[c].is_number, &owed);
        }
        putc('\n', fp);
    }
    if (fflush(fp) != 0 || ferror(fp)) {
        return err_sys(err, ERR_IO, errno ? errno : EIO, "writing a table");
    }
    return 0;
}
