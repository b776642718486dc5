#include "report/timeline.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "report/csv_write.h"

static const struct column columns[] = {
#define X(name, kind, deterministic, help) \
    {#name, COLUMN_##kind, deterministic, help, offsetof(struct timeline_row, name)},
#include "report/timeline.def"
#undef X
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

const struct column *timeline_columns(size_t *n)
{
    *n = N_COLUMNS;
    return columns;
}

int timeline_write_header(FILE *fp, struct err *err)
{
    return csv_write_header(fp, columns, N_COLUMNS, "timeline.csv", err);
}

int timeline_write_row(FILE *fp, const struct timeline_row *row, struct err *err)
{
    return csv_write_row(fp, columns, N_COLUMNS, row, "timeline.csv", err);
}

/* --- the picture ----------------------------------------------------------------------------- */

/* Colours that colour-blind readers can tell apart (Okabe and Ito); lines differ in their dashes
 * too. */
static const char *const line_colours[] = {"#000000", "#D55E00", "#0072B2", "#009E73",
                                           "#CC79A7", "#E69F00", "#56B4E9", "#999999"};

static const struct {
    const char *column, *name, *colour;
} tags[] = {
    /* from the bottom */
    {"weights_bytes", "weights, momentum", "#999999"}, {"images_bytes", "images", "#DDDDDD"},
    {"saved_bytes", "saved activations", "#0072B2"},   {"values_bytes", "live values", "#56B4E9"},
    {"gradients_bytes", "gradients", "#E69F00"},       {"workspace_bytes", "workspace", "#D55E00"},
};

enum {
    N_TAGS = sizeof tags / sizeof *tags,
    N_COLOURS = sizeof line_colours / sizeof *line_colours,
    MAX_PANELS = 6,
    WIDTH = 1280,
    HEAD = 60, /* pixels of the title, the upper part, and each row of panels */
    UPPER = 420,
    ROW = 290,
};

static int column_number(const char *name)
{
    for (int i = 0; i < N_COLUMNS; i++) {
        if (strcmp(columns[i].name, name) == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* A string of gnuplot's: in single quotes, which stand doubled inside. */
static void write_text(FILE *fp, const char *s)
{
    putc('\'', fp);
    for (; *s; s++) {
        if (*s == '\'') {
            putc('\'', fp);
        }
        putc(*s == '\n' ? ' ' : *s, fp);
    }
    putc('\'', fp);
}

/* "plot" of a column, or of the sum of tags 0 .. last, of one series. */
static void write_using(FILE *fp, const char *csv, size_t series, const char *column, int last)
{
    write_text(fp, csv);
    fprintf(fp, " using (column(%d)==%zu ? column(%d) : NaN):((", column_number("series"), series,
            column_number("position"));
    if (column) {
        fprintf(fp, "column(%d)", column_number(column));
    }
    for (int i = 0; !column && i <= last; i++) {
        fprintf(fp, "%scolumn(%d)", i ? "+" : "", column_number(tags[i].column));
    }
    fprintf(fp, ")/unit)");
}

static void write_overlay(FILE *fp, const char *csv, const struct timeline_series *series, size_t n,
                          int is_gib)
{
    fprintf(fp, "\n# the sums of all\n"
                "set title 'all that is alive: highest sums in the legend'\n"
                "set key at screen 0.795, graph 1 left top Left reverse samplen 3\n"
                "plot ");
    for (size_t i = 0; i < n; i++) {
        write_using(fp, csv, i + 1, "live_bytes", 0);
        fprintf(fp, " with steps linewidth 2.5 dashtype %zu linecolor rgb '%s' title ", i % 5 + 1,
                line_colours[i % N_COLOURS]);
        char name[192];
        (void)snprintf(name, sizeof name, "%s: %.*f %s", series[i].name, is_gib ? 2 : 0,
                       ldexp(series[i].peak_bytes, is_gib ? -30 : -20), is_gib ? "GiB" : "MiB");
        write_text(fp, name);
        fprintf(fp, "%s\n", i + 1 < n ? ", \\" : "");
    }
}

static void write_panel(FILE *fp, const char *csv, const struct timeline_series *series, size_t i,
                        int has_key)
{
    fprintf(fp, "set title ");
    write_text(fp, series[i].name);
    fprintf(fp, has_key ? "\nset key at screen 0.795, graph 1 left top Left reverse samplen 1.5\n"
                        : "\nunset key\n");
    fprintf(fp, "plot ");
    for (int t = N_TAGS - 1; t >= 0; t--) { /* the highest first: lower ones are drawn over it */
        write_using(fp, csv, i + 1, NULL, t);
        fprintf(fp,
                " with fillsteps fillstyle solid 1.0 noborder linecolor rgb '%s' title '%s'%s\n",
                tags[t].colour, tags[t].name, t ? ", \\" : "");
    }
}

/* Up to three; four make two rows of two. */
static size_t panels_in_row(size_t n)
{
    return n == 4 ? 2 : n < 3 ? n : 3;
}

static void write_panels(FILE *fp, const char *csv, const struct timeline_series *series, size_t n,
                         double height)
{
    const double left = 0.07, right = 0.775, gap = 0.03;
    const size_t in_row = panels_in_row(n);
    const double width = (right - left - gap * (double)(in_row - 1)) / (double)in_row;
    fprintf(fp, "\n# what they are made of\n");
    for (size_t i = 0; i < n; i++) {
        const size_t row = i / in_row, column = i % in_row;
        const double x = left + (double)column * (width + gap);
        const double top = HEAD + UPPER + (double)row * ROW + 40, bottom = top + ROW - 80;
        fprintf(fp,
                "set lmargin at screen %.4f\nset rmargin at screen %.4f\n"
                "set tmargin at screen %.4f\nset bmargin at screen %.4f\n",
                x, x + width, 1 - top / height, 1 - bottom / height);
        fprintf(fp, column ? "unset ylabel\nset format y ''\n"
                           : "set ylabel 'live memory (' . name . ')'\nset format y '%%g'\n");
        write_panel(fp, csv, series, i, i + 1 == in_row);
    }
}

int timeline_write_script(FILE *fp, const char *csv, const char *png, const char *title,
                          const struct timeline_series *series, size_t n, struct err *err)
{
    const size_t n_panels = n < MAX_PANELS ? n : MAX_PANELS;
    const size_t n_rows = (n_panels + panels_in_row(n_panels) - 1) / panels_in_row(n_panels);
    const double height = HEAD + UPPER + (double)n_rows * ROW;
    double highest = 0;
    for (size_t i = 0; i < n; i++) {
        highest = series[i].peak_bytes > highest ? series[i].peak_bytes : highest;
    }
    const int is_gib = highest >= 4.0 * 1024 * 1024 * 1024;
    errno = 0;
    fprintf(fp,
            "# Live memory of one training iteration; draw again with: gnuplot timeline.gp\n"
            "set terminal pngcairo noenhanced size %d, %.0f font 'sans,11'\n"
            "set output ",
            WIDTH, height);
    write_text(fp, png);
    fprintf(fp, "\nset datafile separator ','\nunit = %s\nname = '%s'\n",
            is_gib ? "1024.0**3" : "1024.0**2", is_gib ? "GiB" : "MiB");
    fprintf(fp, "set multiplot title ");
    write_text(fp, title);
    fprintf(fp,
            " font 'sans,14'\n"
            "set xrange [0:2]\nset yrange [0:%.6g/unit]\n"
            "set xtics ('forward' 0.5, 'loss' 1, 'backward' 1.5) nomirror\nset ytics nomirror\n"
            "set border 3\nset grid ytics linecolor rgb '#CCCCCC'\n"
            "set arrow from 1, graph 0 to 1, graph 1 nohead linecolor rgb '#666666' dashtype 3 "
            "front\n"
            "set xlabel 'one training iteration (every layer has the same width)'\n"
            "set ylabel 'live memory (' . name . ')'\n",
            highest * 1.05);
    fprintf(fp,
            "set lmargin at screen 0.07\nset rmargin at screen 0.775\n"
            "set tmargin at screen %.4f\nset bmargin at screen %.4f\n",
            1 - (HEAD + 30) / height, 1 - (HEAD + UPPER - 60) / height);
    write_overlay(fp, csv, series, n, is_gib);
    fprintf(fp, "unset xlabel\n");
    write_panels(fp, csv, series, n_panels, height);
    fprintf(fp, "unset multiplot\n");
    if (fflush(fp) != 0 || ferror(fp)) {
        return err_sys(err, ERR_IO, errno ? errno : EIO, "writing timeline.gp");
    }
    return 0;
}
