/* Files: whole or not at all, clear errors, full disks. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "scratch.h"
#include "test_base.h"

static struct scratch scratch;

static void set_up(void)
{
    scratch_make(&scratch);
}

static void tear_down(void)
{
    scratch_remove(&scratch);
}

/* Entries of the scratch folder but "." and "..". */
static int n_entries(void)
{
    DIR *dir = opendir(scratch.dir);
    ck_assert_ptr_nonnull(dir);
    int n = -2;
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

static void assert_contents(const char *path, const char *text)
{
    struct err err = {0};
    char *data = NULL;
    size_t size = 0;
    ck_assert_msg(file_read_all(path, 1000, &data, &size, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(size, strlen(text));
    ck_assert_str_eq(data, text);
    mem_free(data);
}

START_TEST(commit_makes_the_file_appear)
{
    struct err err = {0};
    struct file_out f;
    const char *path = scratch_path(&scratch, "a.txt");
    ck_assert_int_eq(file_out_open(&f, path, &err), 0);
    ck_assert_str_eq(f.path, path);
    fputs("hello", f.fp);
    ck_assert(!file_exists(path));
    ck_assert(file_exists(f.temp));
    ck_assert_int_eq(file_out_commit(&f, &err), 0);
    ck_assert_ptr_null(f.fp);
    assert_contents(path, "hello");
    ck_assert_int_eq(n_entries(), 1);
    file_out_discard(&f);
    assert_contents(path, "hello");
}
END_TEST

START_TEST(the_old_file_stays_until_commit)
{
    struct err err = {0};
    struct file_out f;
    const char *path = scratch_write(&scratch, "a.txt", "old", 3);
    ck_assert_int_eq(file_out_open(&f, path, &err), 0);
    fputs("new text", f.fp);
    fflush(f.fp);
    assert_contents(path, "old");
    ck_assert_int_eq(file_out_commit(&f, &err), 0);
    assert_contents(path, "new text");
}
END_TEST

START_TEST(discard_leaves_nothing)
{
    struct err err = {0};
    struct file_out f;
    const char *path = scratch_write(&scratch, "a.txt", "old", 3);
    ck_assert_int_eq(file_out_open(&f, path, &err), 0);
    fputs("half", f.fp);
    file_out_discard(&f);
    file_out_discard(&f);
    assert_contents(path, "old");
    ck_assert_int_eq(n_entries(), 1);
    struct file_out zero = {0};
    file_out_discard(&zero);
    ck_assert_int_eq(file_out_commit(&f, &err), ERR_IO);
}
END_TEST

START_TEST(a_killed_writers_leftover_is_replaced)
{
    struct err err = {0};
    struct file_out f;
    char name[64];
    snprintf(name, sizeof name, ".a.txt.%ld.tmp", (long)getpid());
    scratch_write(&scratch, name, "garbage of a killed process", 27);
    ck_assert_int_eq(file_out_open(&f, scratch_path(&scratch, "a.txt"), &err), 0);
    fputs("x", f.fp);
    ck_assert_int_eq(file_out_commit(&f, &err), 0);
    assert_contents(scratch_path(&scratch, "a.txt"), "x");
    ck_assert_int_eq(n_entries(), 1);
}
END_TEST

START_TEST(a_name_without_folder_works)
{
    struct err err = {0};
    struct file_out f;
    ck_assert_int_eq(chdir(scratch.dir), 0);
    ck_assert_int_eq(file_out_open(&f, "plain", &err), 0);
    fputs("x", f.fp);
    ck_assert_int_eq(file_out_commit(&f, &err), 0);
    assert_contents("plain", "x");
    ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

START_TEST(what_cannot_be_opened_says_why)
{
    struct err err = {0};
    struct file_out f;
    ck_assert_int_eq(file_out_open(&f, scratch_path(&scratch, "no/such/dir"), &err), ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.msg, "no/such/dir"));
    ck_assert_ptr_nonnull(strstr(err.msg, "No such file or directory"));
    ck_assert_ptr_null(f.fp);
    ck_assert_int_eq(file_out_open(&f, scratch.dir, &err), ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.msg, "Is a directory"));
    ck_assert_int_eq(file_out_open(&f, "", &err), ERR_IO);
    char longest[5000];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    ck_assert_int_eq(file_out_open(&f, longest, &err), ERR_IO);
    file_out_discard(&f);
}
END_TEST

START_TEST(a_full_disk_is_an_error)
{
    struct err err = {0};
    struct file_out f;
    if (!file_exists("/dev/full")) {
        return;
    }
    /* Few bytes, seen at the flush; and many, where the failed write is in the past. */
    const int sizes[] = {10, 1000000};
    for (int k = 0; k < 2; k++) {
        ck_assert_int_eq(file_out_open(&f, "/dev/full", &err), 0);
        for (int i = 0; i < sizes[k]; i++) {
            fputc('x', f.fp);
        }
        ck_assert_int_eq(file_out_commit(&f, &err), ERR_IO);
        ck_assert_ptr_nonnull(strstr(err.msg, "cannot write /dev/full: No space left on device"));
        ck_assert_ptr_null(f.fp);
    }
    struct stat st;
    ck_assert_int_eq(stat("/dev/full", &st), 0);
    ck_assert(S_ISCHR(st.st_mode)); /* it was not replaced by a file */
}
END_TEST

START_TEST(a_failed_rename_removes_the_temporary)
{
    struct err err = {0};
    struct file_out f;
    const char *path = scratch_path(&scratch, "a");
    ck_assert_int_eq(file_out_open(&f, path, &err), 0);
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(file_out_commit(&f, &err), ERR_IO);
    ck_assert(!file_exists(f.temp));
    ck_assert_int_eq(n_entries(), 1);
}
END_TEST

START_TEST(read_all_reads_any_size)
{
    struct err err = {0};
    static char text[20000];
    memset(text, 'q', sizeof text);
    const size_t sizes[] = {0, 1, 4094, 4095, 4096, 4097, 20000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *data = NULL;
        size_t size = 99;
        const char *path = scratch_write(&scratch, "f", text, sizes[i]);
        ck_assert_int_eq(file_read_all(path, sizes[i], &data, &size, &err), 0);
        ck_assert_uint_eq(size, sizes[i]);
        ck_assert_mem_eq(data, text, size);
        ck_assert_int_eq(data[size], '\0');
        mem_free(data);
        if (sizes[i] > 0) {
            data = NULL;
            ck_assert_int_eq(file_read_all(path, sizes[i] - 1, &data, &size, &err), ERR_RANGE);
            ck_assert_ptr_null(data);
        }
    }
}
END_TEST

START_TEST(read_all_reads_what_has_no_size)
{
    struct err err = {0};
    char *data = NULL;
    size_t size = 0;
    if (file_exists("/proc/self/maps")) { /* a file that says 0 bytes and has more than 4096 */
        ck_assert_int_eq(file_read_all("/proc/self/maps", 1 << 20, &data, &size, &err), 0);
        ck_assert_uint_gt(size, 0);
        ck_assert_uint_eq(strlen(data), size);
        mem_free(data);
    }
    ck_assert_int_eq(file_read_all("/dev/zero", 100000, &data, &size, &err), ERR_RANGE);
}
END_TEST

START_TEST(read_all_errors)
{
    struct err err = {0};
    char *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(file_read_all(scratch_path(&scratch, "none"), 9, &data, &size, &err),
                     ERR_MISSING);
    ck_assert_ptr_nonnull(strstr(err.msg, scratch.path));
    const char *path = scratch_write(&scratch, "f", "abc", 3);
    char below[1100];
    snprintf(below, sizeof below, "%s/x", path);
    ck_assert_int_eq(file_read_all(below, 9, &data, &size, &err), ERR_MISSING);
    ck_assert_int_eq(file_read_all(scratch.dir, 9, &data, &size, &err), ERR_IO);
    mem_fail_after(1);
    ck_assert_int_eq(file_read_all(path, 9, &data, &size, &err), ERR_NOMEM);
    mem_fail_after(0);
    ck_assert_ptr_null(data);
}
END_TEST

START_TEST(open_read_tells_the_size)
{
    struct err err = {0};
    int fd = -1;
    size_t size = 0;
    ck_assert_int_eq(file_open_read(scratch_write(&scratch, "f", "abc", 3), &fd, &size, &err), 0);
    ck_assert_uint_eq(size, 3);
    close(fd);
    ck_assert_int_eq(file_open_read("/dev/null", &fd, &size, &err), 0);
    ck_assert_uint_eq(size, (size_t)-1);
    close(fd);
    ck_assert_int_eq(file_open_read(scratch.dir, &fd, &size, &err), ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.msg, "Is a directory"));
}
END_TEST

START_TEST(make_dirs_empty_and_remove_tree)
{
    struct err err = {0};
    const char *path = scratch_path(&scratch, "a//b/c/");
    ck_assert_msg(file_make_dirs(path, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(file_make_dirs(path, &err), 0);
    ck_assert(file_exists(scratch_path(&scratch, "a/b/c")));

    scratch_write(&scratch, "a/b/file", "x", 1);
    scratch_write(&scratch, "outside", "x", 1);
    char link[1100];
    snprintf(link, sizeof link, "%s/a/b/link", scratch.dir);
    ck_assert_int_eq(symlink(scratch.dir, link), 0);
    ck_assert_int_eq(file_make_dirs(scratch_path(&scratch, "a/b/file/d"), &err), ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.msg, "a/b/file"));

    ck_assert_int_eq(file_empty_folder(scratch_path(&scratch, "a"), &err), 0);
    ck_assert(file_exists(scratch_path(&scratch, "a")));
    ck_assert(!file_exists(scratch_path(&scratch, "a/b")));
    ck_assert(file_exists(scratch_path(&scratch, "outside"))); /* the link was not followed */
    ck_assert_int_eq(file_empty_folder(scratch_path(&scratch, "none"), &err), ERR_IO);
    ck_assert_int_eq(file_make_dirs("", &err), ERR_IO);
}
END_TEST

START_TEST(pread_reads_exactly_or_says_where_it_ended)
{
    struct err err = {0};
    char buf[8] = {0};
    const int fd = open(scratch_write(&scratch, "f", "0123456789", 10), O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(file_pread(fd, "f", buf, 4, 3, &err), 0);
    ck_assert_str_eq(buf, "3456");
    ck_assert_int_eq(file_pread(fd, "f", buf, 0, 10, &err), 0);
    ck_assert_int_eq(file_pread(fd, "f", buf, 4, 7, &err), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.msg, "f ends at byte 10"));
    ck_assert_int_eq(file_pread(fd, "f", buf, 4, (size_t)-1, &err), ERR_FORMAT);
    ck_assert_int_eq(file_pread(fd, "f", buf, (size_t)-1, 1, &err), ERR_FORMAT);
    close(fd);
    ck_assert_int_eq(file_pread(-1, "f", buf, 4, 0, &err), ERR_IO);
}
END_TEST

Suite *file_suite(void)
{
    Suite *s = suite_create("file");
    TCase *t = tcase_create("file");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, commit_makes_the_file_appear);
    tcase_add_test(t, the_old_file_stays_until_commit);
    tcase_add_test(t, discard_leaves_nothing);
    tcase_add_test(t, a_killed_writers_leftover_is_replaced);
    tcase_add_test(t, a_name_without_folder_works);
    tcase_add_test(t, what_cannot_be_opened_says_why);
    tcase_add_test(t, a_full_disk_is_an_error);
    tcase_add_test(t, a_failed_rename_removes_the_temporary);
    tcase_add_test(t, read_all_reads_any_size);
    tcase_add_test(t, read_all_reads_what_has_no_size);
    tcase_add_test(t, read_all_errors);
    tcase_add_test(t, open_read_tells_the_size);
    tcase_add_test(t, make_dirs_empty_and_remove_tree);
    tcase_add_test(t, pread_reads_exactly_or_says_where_it_ended);
    suite_add_tcase(s, t);
    return s;
}
