#include "report/csv_read.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "report/columns.h"

enum { MAX_BYTES = 256 * 1024 * 1024 };

void csv_free(struct csv *csv)
{
    mem_free(csv->field);
    mem_free(csv->line);
    mem_free(csv->text);
    *csv = (struct csv){0};
}

/* Takes the quotes off the field at *p in place and ends it with a zero byte. Moves *p behind the
 * field's separator, which is returned: ',' or '\n'; 0 if the text ends before one. */
static char cut_field(char **p, const char *end, size_t *line)
{
    char *from = *p, *to = *p;
    int quoted = 0;
    while (from < end && (quoted || (*from != ',' && *from != '\n'))) {
        *line += *from == '\n';
        if (*from == '"' && quoted && from + 1 < end && from[1] == '"') {
            from++; /* a doubled quote is one */
            *to++ = *from++;
        } else if (*from == '"' && (quoted || from == *p)) {
            quoted = !quoted;
            from++;
        } else {
            *to++ = *from++;
        }
    }
    if (from >= end) {
        return 0;
    }
    const char separator = *from;
    if (separator == '\n') {
        ++*line;
        if (to > *p && to[-1] == '\r') {
            to--;
        }
    }
    *to = '\0';
    *p = from + 1;
    return separator;
}

/* Upper bounds: separators within quotes are counted too. */
static void count_separators(const char *text, size_t size, size_t *n_fields, size_t *n_lines)
{
    *n_fields = 1;
    *n_lines = 1;
    for (size_t i = 0; i < size; i++) {
        *n_fields += text[i] == ',' || text[i] == '\n';
        *n_lines += text[i] == '\n';
    }
}

/* Cuts csv->text into csv->field. */
static int cut_rows(struct csv *csv, size_t size, struct err *err)
{
    char *p = csv->text;
    const char *end = csv->text + size;
    size_t n_fields = 0, line = 1;
    while (p < end) {
        const size_t row_line = line, row_begin = n_fields;
        char separator;
        do {
            const char *field = p;
            separator = cut_field(&p, end, &line);
            csv->field[n_fields++] = field;
        } while (separator == ',');
        if (separator == 0) {
            break; /* cut off: the run died while it wrote this row */
        }
        const size_t n = n_fields - row_begin;
        if (row_begin == 0) {
            csv->n_columns = n;
        } else if (n != csv->n_columns) {
            return err_set(err, ERR_FORMAT,
                           "line %zu: expected %zu fields as in the header, found "
                           "%zu",
                           row_line, csv->n_columns, n);
        }
        csv->line[csv->n_rows++] = row_line;
    }
    if (csv->n_rows == 0) {
        return err_set(err, ERR_FORMAT, "expected a header line, found %s",
                       size == 0 ? "an empty file" : "one that is cut off");
    }
    csv->n_rows--; /* the header */
    return 0;
}

int csv_read(const char *path, struct csv *csv, struct err *err)
{
    struct csv own = {0};
    size_t size = 0, n_fields, n_lines;
    int rc = file_read_all(path, MAX_BYTES, &own.text, &size, err);
    if (rc != 0) {
        return rc;
    }
    if (memchr(own.text, '\0', size)) {
        rc = err_set(err, ERR_FORMAT, "%s: holds zero bytes, this is no CSV file", path);
        goto out;
    }
    count_separators(own.text, size, &n_fields, &n_lines);
    own.field = mem_calloc(MEM_OTHER, n_fields, sizeof *own.field);
    own.line = mem_calloc(MEM_OTHER, n_lines, sizeof *own.line);
    if (!own.field || !own.line) {
        rc = err_nomem(err, path, n_fields * sizeof *own.field);
        goto out;
    }
    if (cut_rows(&own, size, err) != 0) {
        rc = err_add(err, "%s", path);
        goto out;
    }
    *csv = own;
    own = (struct csv){0};
out:
    csv_free(&own);
    return rc;
}

size_t csv_column(const struct csv *csv, const char *name)
{
    size_t c = 0;
    while (c < csv->n_columns && strcmp(csv->field[c], name) != 0) {
        c++;
    }
    return c;
}

int csv_number(const struct csv *csv, size_t row, size_t column, double *out, struct err *err)
{
    const char *s = csv->field[(row + 1) * csv->n_columns + column];
    char *end;
    if (s[0] == '\0') {
        *out = (double)NAN;
        return 0;
    }
    const double v = strtod(s, &end);
    if (end == s || *end != '\0') {
        return err_set(err, ERR_FORMAT, "line %zu, column %s: expected a number, found \"%.40s\"",
                       csv->line[row + 1], csv->field[column], s);
    }
    *out = v;
    return 0;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the values that are there; NaN if none is. Sorts v. */
static double median(double *v, size_t n)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isnan(v[i])) {
            v[m++] = v[i];
        }
    }
    if (m == 0) {
        return (double)NAN;
    }
    qsort(v, m, sizeof *v, compare_doubles);
    return m % 2 ? v[m / 2] : (v[m / 2 - 1] + v[m / 2]) / 2;
}

/* One column's values in v; a missing column is an error. */
static int read_column(const struct csv *csv, const char *name, double *v, struct err *err)
{
    const size_t column = csv_column(csv, name);
    for (size_t r = 0; r < csv->n_rows; r++) {
        if (csv_number(csv, r, column, &v[r], err) != 0) {
            return ERR_FORMAT;
        }
    }
    return 0;
}

static double last_of(const double *v, size_t n)
{
    while (n > 0 && isnan(v[n - 1])) {
        n--;
    }
    return n > 0 ? v[n - 1] : (double)NAN;
}

/* Index of the first highest value; n if there is none. */
static size_t highest_of(const double *v, size_t n)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        if (!isnan(v[i]) && (best == n || v[i] > v[best])) {
            best = i;
        }
    }
    return best;
}

/* The columns that every epochs.csv has ever had; those behind them in the table came later. */
enum { N_FIRST_COLUMNS = 26 };

/* They must be there; else it is another program's table. */
static int check_header(const struct csv *csv, struct err *err)
{
    size_t n;
    const struct column *columns = epoch_columns(&n);
    for (size_t i = 0; i < n && i < N_FIRST_COLUMNS; i++) {
        if (csv_column(csv, columns[i].name) == csv->n_columns) {
            return err_set(err, ERR_FORMAT,
                           "line 1: expected the header of epochs.csv, found none with column %s",
                           columns[i].name);
        }
    }
    return 0;
}

/* How a column's values over the epochs become one figure. */
enum fold { FOLD_LAST, FOLD_HIGHEST, FOLD_MEDIAN };

static const struct {
    const char *column;
    enum fold fold;
    size_t offset;
} figures[] = {
    {"epoch", FOLD_LAST, offsetof(struct summary_row, epochs)},
    {"test_top1", FOLD_LAST, offsetof(struct summary_row, last_top1)},
    {"test_top1", FOLD_HIGHEST, offsetof(struct summary_row, best_top1)},
    {"saved_bytes", FOLD_LAST, offsetof(struct summary_row, saved_bytes)},
    {"saved_ratio", FOLD_LAST, offsetof(struct summary_row, saved_ratio)},
    {"planned_peak_bytes", FOLD_HIGHEST, offsetof(struct summary_row, planned_peak_bytes)},
    {"live_peak_bytes", FOLD_HIGHEST, offsetof(struct summary_row, live_peak_bytes)},
    {"process_peak_bytes", FOLD_HIGHEST, offsetof(struct summary_row, process_peak_bytes)},
    {"epoch_s", FOLD_MEDIAN, offsetof(struct summary_row, epoch_s)},
    {"images_per_s", FOLD_MEDIAN, offsetof(struct summary_row, images_per_s)},
};

/* The texts and the seed, which are the same in every row; csv has at least one. */
static int fill_texts(const struct csv *csv, struct summary_row *row, struct err *err)
{
    const char *const *first = csv->field + csv->n_columns;
    double version, seed;
    if (csv_number(csv, 0, csv_column(csv, "csv_version"), &version, err) != 0 ||
        csv_number(csv, 0, csv_column(csv, "seed"), &seed, err) != 0) {
        return ERR_FORMAT;
    }
    if (version != CSV_VERSION) {
        return err_set(err, ERR_FORMAT, "line %zu: expected csv_version %d, found \"%.40s\"",
                       csv->line[1], CSV_VERSION, first[csv_column(csv, "csv_version")]);
    }
    if (!(seed >= 0 && seed <= 9007199254740992.0)) {
        return err_set(err, ERR_FORMAT,
                       "line %zu, column seed: expected a whole number, found "
                       "\"%.40s\"",
                       csv->line[1], first[csv_column(csv, "seed")]);
    }
    (void)str_copy(row->run, sizeof row->run, first[csv_column(csv, "run")]);
    (void)str_copy(row->policy, sizeof row->policy, first[csv_column(csv, "policy")]);
    row->seed = (int64_t)seed;
    return 0;
}

/* v and epochs: room for one value per row. */
static int fill_figures(const struct csv *csv, struct summary_row *row, double *v, double *epochs,
                        struct err *err)
{
    const size_t n = csv->n_rows;
    if (read_column(csv, "epoch", epochs, err) != 0) {
        return ERR_FORMAT;
    }
    for (size_t f = 0; f < sizeof figures / sizeof *figures; f++) {
        void *field = (char *)row + figures[f].offset;
        double figure;
        if (read_column(csv, figures[f].column, v, err) != 0) {
            return ERR_FORMAT;
        }
        if (figures[f].fold == FOLD_MEDIAN) {
            figure = median(v, n);
        } else if (figures[f].fold == FOLD_LAST) {
            figure = last_of(v, n);
        } else {
            const size_t best = highest_of(v, n);
            figure = best < n ? v[best] : (double)NAN;
            if (strcmp(figures[f].column, "test_top1") == 0) {
                row->best_epoch = best < n ? epochs[best] : (double)NAN;
            }
        }
        *(double *)field = figure;
    }
    return 0;
}

int summary_from_csv(const char *path, struct summary_row *row, struct err *err)
{
    struct csv csv;
    struct summary_row own = *row;
    double *v = NULL;
    int rc = csv_read(path, &csv, err);
    if (rc != 0) {
        return rc;
    }
    v = mem_calloc(MEM_OTHER, 2 * csv.n_rows, sizeof *v);
    if (!v) {
        rc = err_nomem(err, path, 2 * csv.n_rows * sizeof *v);
        goto out;
    }
    rc = check_header(&csv, err);
    if (rc == 0 && csv.n_rows > 0) {
        rc = fill_texts(&csv, &own, err);
    }
    if (rc == 0) {
        rc = fill_figures(&csv, &own, v, v + csv.n_rows, err);
    }
    if (rc != 0) {
        (void)err_add(err, "%s", path);
        goto out;
    }
    if (csv.n_rows == 0) {
        own.epochs = 0;
    }
    *row = own;
out:
    mem_free(v);
    csv_free(&csv);
    return rc;
}
