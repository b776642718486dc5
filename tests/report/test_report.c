/* CSV writers and reader, text tables, the summary and run.yaml. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "report/columns.h"
#include "report/csv_read.h"
#include "report/record.h"
#include "report/steps.h"
#include "report/summary.h"
#include "report/table.h"
#include "scratch.h"

/* Each test has a folder with one file, whose name this is. */
static struct scratch folder;
static const char *scratch;

static void setup(void)
{
    scratch_make(&folder);
    scratch = scratch_write(&folder, "table", "", 0);
}

static void teardown(void)
{
    scratch_remove(&folder);
}

static void put(const char *text, size_t size)
{
    FILE *fp = fopen(scratch, "w");
    ck_assert_ptr_nonnull(fp);
    ck_assert_uint_eq(fwrite(text, 1, size, fp), size);
    fclose(fp);
}

/* The scratch file's text; the caller frees it. */
static char *got(void)
{
    char *text = NULL;
    size_t size = 0;
    struct err err = {0};
    ck_assert_msg(file_read_all(scratch, 1 << 20, &text, &size, &err) == 0, "%s", err.msg);
    return text;
}

static void must_be(const char *expected)
{
    char *text = got();
    ck_assert_str_eq(text, expected);
    mem_free(text);
}

/* The columns of the first files, which stay readable, and those added since. */
#define FIRST_COLUMNS                                                                             \
    "csv_version,run,policy,seed,epoch,lr,train_loss,train_top1,test_loss,test_top1,test_top5,"   \
    "best_top1,epoch_s,data_wait_s,forward_s,backward_s,encode_s,decode_s,update_s,images_per_s," \
    "saved_bytes,saved_ratio,planned_peak_bytes,live_peak_bytes,arena_bytes,process_peak_bytes"
#define HEADER FIRST_COLUMNS "\n"
#define HEADER_NOW FIRST_COLUMNS ",spilled_bytes\n"

/* ---- writing CSV ---- */

/* The header is what files in the world have: columns may be appended, never changed. */
START_TEST(epochs_golden)
{
    struct err err = {0};
    struct epoch_row row;
    FILE *fp = fopen(scratch, "w");
    ck_assert_int_eq(epochs_write_header(fp, &err), 0);
    epoch_row_clear(&row);
    ck_assert_int_eq(epochs_write_row(fp, &row, &err), 0);
    row.csv_version = CSV_VERSION;
    row.run = "a,b";
    row.policy = "he said \"hi\"\n";
    row.seed = 9007199254740992.0;
    row.epoch = 1;
    row.lr = 0.1;
    row.train_loss = 1.0 / 3;
    row.train_top1 = 12.34567;
    row.epoch_s = 1.00004;
    row.test_loss = INFINITY;
    row.images_per_s = 679.123456789;
    row.saved_bytes = 0;
    row.saved_ratio = 1;
    ck_assert_int_eq(epochs_write_row(fp, &row, &err), 0);
    /* Flushed: another reader sees it while the file is open. */
    must_be(HEADER_NOW
            ",,,,,,,,,,,,,,,,,,,,,,,,,,\n"
            "1,\"a,b\",\"he said \"\"hi\"\"\n\",9007199254740992,1,0.1,0.333333333,12.3457,"
            "inf,,,,1.0000,,,,,,,679.123457,0,1,,,,,\n");
    fclose(fp);
}
END_TEST

START_TEST(steps_golden)
{
    struct err err = {0};
    struct step_row row;
    FILE *fp = fopen(scratch, "w");
    ck_assert_int_eq(steps_write_header(fp, &err), 0);
    step_row_clear(&row);
    row.csv_version = CSV_VERSION;
    row.run = "r";
    row.policy = "normal";
    row.seed = 0;
    row.step = 391;
    row.epoch = 1;
    row.lr = 1e-5;
    row.loss = 2.302585093;
    ck_assert_int_eq(steps_write_row(fp, &row, &err), 0);
    fclose(fp);
    must_be(
        "csv_version,run,policy,seed,step,epoch,lr,loss\n1,r,normal,0,391,1,1e-05,2.30258509\n");
}
END_TEST

START_TEST(columns_tables)
{
    size_t n[2];
    const struct column *tables[2] = {epoch_columns(&n[0]), step_columns(&n[1])};
    for (size_t t = 0; t < 2; t++) {
        ck_assert_uint_ge(n[t], 8);
        for (size_t i = 0; i < n[t]; i++) {
            ck_assert_msg(tables[t][i].help[0] != '\0', "%s", tables[t][i].name);
            ck_assert_uint_eq(tables[t][i].offset, i * sizeof(double)); /* a pointer is as large */
            for (size_t j = 0; j < i; j++) {
                ck_assert_str_ne(tables[t][i].name, tables[t][j].name);
            }
        }
    }
}
END_TEST

START_TEST(full_disk)
{
    struct err err = {0};
    struct epoch_row row;
    FILE *fp = fopen("/dev/full", "w");
    if (!fp) {
        return; /* only Linux has it */
    }
    epoch_row_clear(&row);
    ck_assert_int_eq(epochs_write_row(fp, &row, &err), ERR_IO);
    ck_assert_str_eq(err.msg, "writing epochs.csv: No space left on device");
    ck_assert_int_eq(steps_write_header(fp, &err), ERR_IO);
    ck_assert_int_eq(table_write(fp, &(struct table_column){"a", "", 0}, 1, NULL, 0, &err), ERR_IO);
    struct record r = {.fp = fp};
    record_text(&r, "a", "b");
    ck_assert_int_eq(record_finish(&r, &err), ERR_IO);
    fclose(fp);
}
END_TEST

/* ---- reading CSV ---- */

#define ROW(epoch, top1, best, seconds, peak)                                \
    "1,exp,division-B4,3," epoch ",0.1,2,30,2," top1 ",90," best "," seconds \
    ",0,1,1,0,0,0,100,4096,10.5,2000,2000,2048," peak "\n"

START_TEST(summary_values)
{
    static const char text[] = HEADER ROW("1", "50.5", "50.5", "9", "3000")
        ROW("2", "70.25", "70.25", "2", "5000") ROW("3", "70.25", "70.25", "3", "5000")
            ROW("4", "60", "70.25", "4", "5000") ROW("5", "", "70.25", "", "4000");
    struct summary_row row;
    struct err err = {0};
    put(text, sizeof text - 1);
    summary_row_clear(&row);
    snprintf(row.status, sizeof row.status, "%s", "done");
    ck_assert_msg(summary_from_csv(scratch, &row, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(row.run, "exp");
    ck_assert_str_eq(row.policy, "division-B4");
    ck_assert_str_eq(row.status, "done");
    ck_assert_int_eq(row.seed, 3);
    ck_assert_double_eq(row.epochs, 5);
    ck_assert_double_eq(row.last_top1, 60); /* epoch 5 was not evaluated */
    ck_assert_double_eq(row.best_top1, 70.25);
    ck_assert_double_eq(row.best_epoch, 2);
    ck_assert_double_eq(row.epoch_s, 3.5);
    ck_assert_double_eq(row.images_per_s, 100);
    ck_assert_double_eq(row.saved_bytes, 4096);
    ck_assert_double_eq(row.saved_ratio, 10.5);
    ck_assert_double_eq(row.planned_peak_bytes, 2000);
    ck_assert_double_eq(row.live_peak_bytes, 2000);
    ck_assert_double_eq(row.process_peak_bytes, 5000);
}
END_TEST

/* The run died while it wrote: at every byte of the last row, the rows before count. */
START_TEST(summary_cut_off)
{
    static const char whole[] = HEADER ROW("1", "50", "50", "9", "3000");
    static const char text[] = HEADER ROW("1", "50", "50", "9", "3000")
        ROW("2", "70", "70", "2", "5");
    for (size_t size = sizeof whole - 1; size < sizeof text - 1; size++) {
        struct summary_row row;
        struct err err = {0};
        put(text, size);
        summary_row_clear(&row);
        ck_assert_msg(summary_from_csv(scratch, &row, &err) == 0, "%s", err.msg);
        ck_assert_double_eq(row.epochs, 1);
        ck_assert_double_eq(row.last_top1, 50);
    }
}
END_TEST

START_TEST(summary_header_only)
{
    struct summary_row row;
    struct err err = {0};
    put(HEADER, strlen(HEADER));
    summary_row_clear(&row);
    snprintf(row.policy, sizeof row.policy, "%s", "fixed");
    ck_assert_msg(summary_from_csv(scratch, &row, &err) == 0, "%s", err.msg);
    ck_assert_double_eq(row.epochs, 0);
    ck_assert(isnan(row.best_top1) && isnan(row.best_epoch) && isnan(row.epoch_s));
    ck_assert_str_eq(row.policy, "fixed");
}
END_TEST

/* Columns of later versions, other orders, quoted names and \r\n are no obstacle. */
START_TEST(csv_by_name)
{
    struct csv csv;
    struct err err = {0};
    double v;
    static const char text[] = "b,\"new\"\"er\",a\r\n1,\"x,\ny\",2\r\n,\"\",-1e3\r\n3,,z\r\n";
    put(text, sizeof text - 1);
    ck_assert_msg(csv_read(scratch, &csv, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(csv.n_columns, 3);
    ck_assert_uint_eq(csv.n_rows, 3);
    ck_assert_uint_eq(csv_column(&csv, "a"), 2);
    ck_assert_uint_eq(csv_column(&csv, "new\"er"), 1);
    ck_assert_uint_eq(csv_column(&csv, "c"), 3);
    ck_assert_str_eq(csv.field[4], "x,\ny");
    ck_assert_int_eq(csv_number(&csv, 1, 2, &v, &err), 0);
    ck_assert_double_eq(v, -1000);
    ck_assert_int_eq(csv_number(&csv, 1, 0, &v, &err), 0);
    ck_assert(isnan(v));
    ck_assert_int_eq(csv_number(&csv, 2, 2, &v, &err), ERR_FORMAT);
    ck_assert_str_eq(err.msg, "line 5, column a: expected a number, found \"z\"");
    csv_free(&csv);
}
END_TEST

START_TEST(summary_extra_column)
{
    static const char text[] = "future," HEADER "?," ROW("1", "50", "50", "9", "3000");
    struct summary_row row;
    struct err err = {0};
    put(text, sizeof text - 1);
    summary_row_clear(&row);
    ck_assert_msg(summary_from_csv(scratch, &row, &err) == 0, "%s", err.msg);
    ck_assert_double_eq(row.best_top1, 50);
}
END_TEST

static const struct {
    const char *text, *message;
} faults[] = {
    {"", "expected a header line, found an empty file"},
    {"csv_version,run", "expected a header line, found one that is cut off"},
    {"\n", "line 1: expected the header of epochs.csv, found none with column csv_version"},
    {"step,loss\n1,2\n", "line 1: expected the header of epochs.csv"},
    {HEADER "1,2,3\n", "line 2: expected 26 fields as in the header, found 3"},
    {HEADER ROW("1", "50", "50", "9", "3") ROW("2", "50", "50,1", "9", "3"),
     "line 3: expected 26 fields as in the header, found 27"},
    {HEADER ROW("1", "fifty", "50", "9", "3"),
     "line 2, column test_top1: expected a number, found \"fifty\""},
    {HEADER "2,a,b,0,1,,,,,,,,,,,,,,,,,,,,,\n", "line 2: expected csv_version 1, found \"2\""},
    {HEADER ",a,b,0,1,,,,,,,,,,,,,,,,,,,,,\n", "line 2: expected csv_version 1, found \"\""},
    {HEADER "1,a,b,,1,,,,,,,,,,,,,,,,,,,,,\n", "line 2, column seed: expected a whole number"},
    {HEADER "1,a,b,-1,1,,,,,,,,,,,,,,,,,,,,,\n", "line 2, column seed: expected a whole number"},
};

START_TEST(summary_fault)
{
    struct summary_row row, before;
    struct err err = {0};
    put(faults[_i].text, strlen(faults[_i].text));
    summary_row_clear(&row);
    before = row;
    ck_assert_int_eq(summary_from_csv(scratch, &row, &err), ERR_FORMAT);
    ck_assert_msg(strstr(err.msg, faults[_i].message) != NULL, "%s", err.msg);
    ck_assert_ptr_nonnull(strstr(err.msg, scratch));
    ck_assert_int_eq(memcmp(&row, &before, sizeof row), 0);
}
END_TEST

START_TEST(summary_missing)
{
    struct summary_row row;
    struct err err = {0};
    summary_row_clear(&row);
    ck_assert_int_eq(summary_from_csv("no/such.csv", &row, &err), ERR_MISSING);
    put(HEADER "1\0", strlen(HEADER) + 2);
    ck_assert_int_eq(summary_from_csv(scratch, &row, &err), ERR_FORMAT);
}
END_TEST

START_TEST(csv_mutated)
{
    static const char text[] = HEADER ROW("1", "50", "50", "9", "3000")
        ROW("2", "70", "70", "2", "5000") "1,\"a,b\",\"c\"\"d\",0,3,,,,,,,,,,,,,,,,,,,,,\n";
    static const char likely[] = ",\"\n\r.-e0";
    const struct rng rng = rng_make(2, RNG_TEST, 0, 0);
    char changed[sizeof text];
    for (uint32_t i = 0; i < 3000; i++) {
        struct summary_row row;
        struct err err = {0};
        memcpy(changed, text, sizeof text);
        const uint32_t at = rng_below(&rng, 3 * i, sizeof text - 1);
        const uint32_t any = rng_below(&rng, 3 * i + 1, 256);
        const uint32_t one = rng_below(&rng, 3 * i + 2, sizeof likely - 1);
        changed[at] = i % 2 ? (char)any : likely[one];
        put(changed, i % 3 ? sizeof text - 1 : at + 1);
        summary_row_clear(&row);
        const int rc = summary_from_csv(scratch, &row, &err);
        ck_assert(rc == 0 || (rc == ERR_FORMAT && err.msg[0] != '\0'));
    }
}
END_TEST

/* No allocation that fails is forgotten. */
START_TEST(summary_no_memory)
{
    static const char text[] = HEADER ROW("1", "50", "50", "9", "3000");
    struct mem_count before, after;
    put(text, sizeof text - 1);
    mem_count_get(&before);
    int rc = ERR_NOMEM;
    for (size_t n = 1; rc != 0; n++) {
        struct summary_row row;
        struct err err = {0};
        summary_row_clear(&row);
        mem_fail_after(n);
        rc = summary_from_csv(scratch, &row, &err);
        mem_fail_after(0);
        ck_assert(rc == 0 || rc == ERR_NOMEM);
        ck_assert_uint_lt(n, 20);
    }
    mem_count_get(&after);
    ck_assert_uint_eq(before.now_bytes[MEM_OTHER], after.now_bytes[MEM_OTHER]);
}
END_TEST

/* ---- tables ---- */

START_TEST(table_layout)
{
    static const struct table_column columns[] = {
        {"name", "", 0}, {"size", "MiB", 1}, {"note", "", 0}};
    static const char *const cells[] = {"a",    "1.5",    "x",  "long \xC3\xA4\xC3\xB6", NULL, "",
                                        "last", "1234.0", "end"};
    struct err err = {0};
    FILE *fp = fopen(scratch, "w");
    ck_assert_int_eq(table_write(fp, columns, 3, cells, 3, &err), 0);
    fputs("--\n", fp);
    ck_assert_int_eq(table_write(fp, columns, 1, cells, 1, &err), 0);
    fclose(fp);
    must_be("name       size  note\n"
            "            MiB\n"
            "a           1.5  x\n"
            "long \xC3\xA4\xC3\xB6\n"
            "last     1234.0  end\n"
            "--\n"
            "name\n"
            "a\n");
}
END_TEST

START_TEST(summary_layout)
{
    struct summary_row rows[2];
    struct err err = {0};
    for (int i = 0; i < 2; i++) {
        summary_row_clear(&rows[i]);
        snprintf(rows[i].run, sizeof rows[i].run, "%s", "r");
        snprintf(rows[i].policy, sizeof rows[i].policy, "%s", i ? "division" : "normal");
        snprintf(rows[i].status, sizeof rows[i].status, "%s", i ? "diverged" : "done");
        rows[i].seed = i;
        rows[i].epochs = i ? 0 : 10;
    }
    rows[0].last_top1 = 77.125;
    rows[0].best_top1 = 78;
    rows[0].best_epoch = 9;
    rows[0].saved_bytes = 4.5 * 1024 * 1024;
    rows[0].saved_ratio = 1;
    rows[0].planned_peak_bytes = rows[0].live_peak_bytes = 600.0 * 1024 * 1024;
    rows[0].process_peak_bytes = 700.0 * 1024 * 1024;
    rows[0].epoch_s = 12.34;
    rows[0].images_per_s = 4051.26;
    FILE *fp = fopen(scratch, "w");
    ck_assert_int_eq(summary_write(fp, rows, 2, &err), 0);
    snprintf(rows[1].run, sizeof rows[1].run, "%s", "other");
    ck_assert_int_eq(summary_write(fp, rows, 0, &err), 0);
    fclose(fp);
    char *text = got();
    static const char expected[] =
        "policy    seed  status    epochs     last     best     in  saved  ratio  planned   live  "
        "process  epoch  images\n"
        "                                  top-1 %  top-1 %  epoch    MiB             MiB    MiB  "
        "    MiB      s   per s\n"
        "normal       0  done          10    77.12    78.00      9    4.5   1.00    600.0  600.0  "
        "  700.0   12.3  4051.3\n"
        "division     1  diverged       0\n";
    ck_assert_msg(strncmp(text, expected, sizeof expected - 1) == 0, "\n%s", text);
    mem_free(text);
    fp = fopen(scratch, "w");
    ck_assert_int_eq(summary_write(fp, rows, 2, &err), 0);
    fclose(fp);
    text = got();
    ck_assert_int_eq(strncmp(text, "run    policy    seed", 21), 0);
    mem_free(text);
}
END_TEST

/* ---- run.yaml ---- */

static const char *const texts[] = {
    "plain",
    "",
    "Intel(R) Xeon(R) CPU @ 2.20GHz: 2 cores, #1",
    "/home/a b/\"c\"/it's: here\\there",
    "true",
    "null",
    "~",
    "1.0",
    "00123",
    "1e5",
    "- a",
    "a: b",
    "a #b",
    "  both  ",
    "two\nlines\n",
    "tab\tand\rreturn",
    "bell\x07 and escape \x1b[31m",
    "\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x8E\x82",
    "\xC2\x85 \xE2\x80\xA8 \xEF\xBB\xBF \xC2\x9F",
    "[x]",
    "{x: y}",
    "*a &b !c %d @e `f |g >h ?i",
    "...",
    "---",
};
enum { N_TEXTS = sizeof texts / sizeof *texts };

/* Checks the next event to be a scalar of that text. */
static void must_read(yaml_parser_t *parser, const char *expected)
{
    yaml_event_t e;
    ck_assert_msg(yaml_parser_parse(parser, &e) == 1, "line %zu: %s", parser->problem_mark.line + 1,
                  parser->problem);
    ck_assert_int_eq(e.type, YAML_SCALAR_EVENT);
    ck_assert_str_eq((const char *)e.data.scalar.value, expected);
    ck_assert_uint_eq(e.data.scalar.length, strlen(expected));
    yaml_event_delete(&e);
}

static void must_see(yaml_parser_t *parser, yaml_event_type_t type)
{
    yaml_event_t e;
    ck_assert_int_eq(yaml_parser_parse(parser, &e), 1);
    ck_assert_int_eq(e.type, type);
    yaml_event_delete(&e);
}

START_TEST(record_reads_back)
{
    struct err err = {0};
    char key[16];
    FILE *fp = fopen(scratch, "w");
    struct record r = {.fp = fp};
    for (int i = 0; i < N_TEXTS; i++) {
        snprintf(key, sizeof key, "t%d", i);
        record_text(&r, key, texts[i]);
    }
    record_section(&r, "nested");
    for (int i = 0; i < N_TEXTS; i++) {
        snprintf(key, sizeof key, "t%d", i);
        record_text(&r, key, texts[i]);
    }
    record_section_end(&r);
    record_text(&r, "nothing", NULL);
    record_text(&r, "bytes", "a\xFF\xC3");
    record_real(&r, "real", 0.1);
    record_real(&r, "nan", NAN);
    record_count(&r, "count", UINT64_MAX);
    record_bool(&r, "bool", 1);
    ck_assert_msg(record_finish(&r, &err) == 0, "%s", err.msg);
    fclose(fp);

    yaml_parser_t parser;
    ck_assert_int_eq(yaml_parser_initialize(&parser), 1);
    fp = fopen(scratch, "r");
    yaml_parser_set_input_file(&parser, fp);
    must_see(&parser, YAML_STREAM_START_EVENT);
    must_see(&parser, YAML_DOCUMENT_START_EVENT);
    must_see(&parser, YAML_MAPPING_START_EVENT);
    for (int i = 0; i < N_TEXTS; i++) {
        snprintf(key, sizeof key, "t%d", i);
        must_read(&parser, key);
        must_read(&parser, texts[i]);
    }
    must_read(&parser, "nested");
    must_see(&parser, YAML_MAPPING_START_EVENT);
    for (int i = 0; i < N_TEXTS; i++) {
        snprintf(key, sizeof key, "t%d", i);
        must_read(&parser, key);
        must_read(&parser, texts[i]);
    }
    must_see(&parser, YAML_MAPPING_END_EVENT);
    static const char *const rest[] = {
        "nothing", "null", "bytes", "a\xEF\xBF\xBD\xEF\xBF\xBD", "real", "0.1",
        "nan",     "null", "count", "18446744073709551615",      "bool", "true"};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        must_read(&parser, rest[i]);
    }
    must_see(&parser, YAML_MAPPING_END_EVENT);
    must_see(&parser, YAML_DOCUMENT_END_EVENT);
    must_see(&parser, YAML_STREAM_END_EVENT);
    yaml_parser_delete(&parser);
    fclose(fp);
}
END_TEST

START_TEST(record_layout)
{
    struct err err = {0};
    FILE *fp = fopen(scratch, "w");
    struct record r = {.fp = fp};
    record_text(&r, "version", "1.0");
    record_section(&r, "cpu");
    record_text(&r, "model", "fast one");
    record_count(&r, "threads", 2);
    record_section_end(&r);
    record_bool(&r, "done", 0);
    ck_assert_int_eq(record_finish(&r, &err), 0);
    fclose(fp);
    must_be("version: \"1.0\"\ncpu:\n  model: \"fast one\"\n  threads: 2\ndone: false\n");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("report");
    TCase *t = tcase_create("report");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, epochs_golden);
    tcase_add_test(t, steps_golden);
    tcase_add_test(t, columns_tables);
    tcase_add_test(t, full_disk);
    tcase_add_test(t, summary_values);
    tcase_add_test(t, summary_cut_off);
    tcase_add_test(t, summary_header_only);
    tcase_add_test(t, csv_by_name);
    tcase_add_test(t, summary_extra_column);
    tcase_add_loop_test(t, summary_fault, 0, (int)(sizeof faults / sizeof *faults));
    tcase_add_test(t, summary_missing);
    tcase_add_test(t, csv_mutated);
    tcase_add_test(t, summary_no_memory);
    tcase_add_test(t, table_layout);
    tcase_add_test(t, summary_layout);
    tcase_add_test(t, record_reads_back);
    tcase_add_test(t, record_layout);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
