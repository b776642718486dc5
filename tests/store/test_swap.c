/* Policy swap: maps go to a file without a name and come back as they were; whatever is wrong with
 * the disk is an error with a name, at the start where it can be known there. */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/store.h"
#include "tests/nn/net.h"
#include "tests/scratch.h"

#define TMPFS_TYPE 0x01021994 /* statfs(2) */

enum { N_MAPS = 9 };

static struct scratch scratch;
static struct kernels kernels;
static struct store store;
static struct store_map maps[N_MAPS];
static struct tensor before[N_MAPS], after[N_MAPS];

static void open_store(const char *dir)
{
    struct err err = {0};
    struct store_params params = store_params_default();
    snprintf(params.spill_dir, sizeof params.spill_dir, "%.255s", dir);
    ck_assert_msg(kernels_fill(&kernels, "ref", &err) == 0, "%s", err.msg);
    ck_assert_msg(store_open(&store, "swap", &params, &kernels, 1, &err) == 0, "%s", err.msg);
}

/* Maps of many sizes, the first of several transfers' length. */
static void make_maps(void)
{
    for (uint32_t i = 0; i < N_MAPS; i++) {
        struct shape s = {.n = 3, .h = 5 + i, .w = 7, .c = 1 + 3 * i};
        if (i == 0) {
            s = (struct shape){.n = 2, .h = 96, .w = 96, .c = 1000};
        }
        maps[i] = (struct store_map){
            .id = 10 * i + 1, .name = "map", .producer = "conv2d", .shape = s, .uses = 1};
        before[i] = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&s)), s);
        after[i] = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&s)), s);
    }
}

static void fill(uint64_t step)
{
    for (uint32_t i = 0; i < N_MAPS; i++) {
        struct rng rng = rng_make(step, RNG_TEST, 0, i);
        for (size_t e = 0; e < shape_elements(&maps[i].shape); e++) {
            before[i].data[e] = (real)rng_uniform(&rng, e);
        }
        memset(after[i].data, 0xff, shape_bytes(&maps[i].shape));
    }
}

static int prepare(struct err *err)
{
    const struct store_map *list[N_MAPS];
    for (size_t i = 0; i < N_MAPS; i++) {
        list[i] = &maps[i];
    }
    return store.policy->prepare(&store, list, N_MAPS, err);
}

static void put(size_t i)
{
    ck_assert_uint_eq(store.policy->encode(&store, &maps[i], &before[i], NULL, NULL, 0, NULL), 0);
}

static int get(size_t i, struct err *err)
{
    const struct shape *s = &maps[i].shape;
    struct codec_block whole = {.n1 = s->n, .h1 = s->h, .c1 = s->c};
    store.policy->decode(&store, &maps[i], NULL, &whole, &after[i], NULL);
    return store.policy->failed(&store, err);
}

/* On a disk, also where /tmp lies in memory. */
static void setup(void)
{
    struct statfs fs;
    scratch_make(&scratch);
    if (statfs(scratch.dir, &fs) == 0 && fs.f_type == TMPFS_TYPE) {
        scratch_remove(&scratch);
        ck_assert_int_eq(setenv("TMPDIR", "/var/tmp", 1), 0);
        scratch_make(&scratch);
    }
    make_maps();
    fill(0);
}

static void teardown(void)
{
    store_close(&store);
    for (size_t i = 0; i < N_MAPS; i++) {
        mem_free(before[i].data);
        mem_free(after[i].data);
    }
    scratch_remove(&scratch);
}

static size_t n_files(void)
{
    size_t n = 0;
    DIR *dir = opendir(scratch.dir);
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n - 2;
}

/* This process's descriptor of the spill file. */
static int spill_fd(void)
{
    for (int fd = 3; fd < 256; fd++) {
        char link[64], path[1024];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, path, sizeof path - 1);
        path[len > 0 ? len : 0] = '\0';
        if (strncmp(path, scratch.dir, strlen(scratch.dir)) == 0) {
            return fd;
        }
    }
    ck_abort_msg("no spill file in %s", scratch.dir);
    return -1;
}

/* --- round trips ---------------------------------------------------------------------------- */

/* All maps are in flight at once; once settled, their buffers may be overwritten. */
START_TEST(maps_come_back_as_they_were)
{
    struct err err = {0};
    open_store(scratch.dir);
    ck_assert_msg(prepare(&err) == 0, "%s", err.msg);
    for (uint64_t step = 0; step < 3; step++) {
        fill(step);
        struct tensor copies[N_MAPS];
        for (size_t i = 0; i < N_MAPS; i++) {
            copies[i] = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&maps[i].shape)),
                                    maps[i].shape);
            memcpy(copies[i].data, before[i].data, shape_bytes(&maps[i].shape));
            put(i);
        }
        for (size_t i = 0; i < N_MAPS; i++) {
            ck_assert_int_eq(store.policy->settle(&store, &maps[i], &err), 0);
            memset(before[i].data, 0, shape_bytes(&maps[i].shape));
        }
        for (size_t i = N_MAPS; i-- > 0;) { /* every second one is read ahead */
            if (i % 2) {
                ck_assert_int_eq(store.policy->prefetch(&store, &maps[i], &after[i], &err), 0);
            }
        }
        for (size_t i = N_MAPS; i-- > 0;) {
            ck_assert_msg(get(i, &err) == 0, "%s", err.msg);
            ck_assert_mem_eq(after[i].data, copies[i].data, shape_bytes(&maps[i].shape));
            mem_free(copies[i].data);
        }
    }
}
END_TEST

/* Unsettled, unprepared, a smaller batch, a second reader, and a block of a map. */
START_TEST(any_order_will_do)
{
    struct err err = {0};
    open_store(scratch.dir);
    put(2);
    ck_assert_msg(get(2, &err) == 0, "%s", err.msg);
    ck_assert_mem_eq(after[2].data, before[2].data, shape_bytes(&maps[2].shape));

    ck_assert_msg(prepare(&err) == 0, "%s", err.msg);
    maps[4].shape.n = before[4].shape.n = after[4].shape.n = 2;
    put(4);
    struct tensor first = tensor_view(mem_alloc(MEM_OTHER, shape_bytes(&maps[4].shape)),
                                      maps[4].shape);
    ck_assert_int_eq(store.policy->prefetch(&store, &maps[4], &first, &err), 0);
    ck_assert_msg(get(4, &err) == 0, "%s", err.msg);
    ck_assert_mem_eq(after[4].data, before[4].data, shape_bytes(&maps[4].shape));
    store.policy->cancel(&store);
    mem_free(first.data);

    const struct shape *s = &maps[4].shape;
    struct codec_block block = {.n0 = 1, .n1 = 2, .h0 = 3, .h1 = 6, .c0 = 2, .c1 = 9};
    real out[3 * 7 * 8];
    struct tensor part = tensor_view(out, (struct shape){.n = 1, .h = 3, .w = 7, .c = 7});
    part.pixel_stride = 8;
    store.policy->decode(&store, &maps[4], NULL, &block, &part, NULL);
    ck_assert_int_eq(store.policy->failed(&store, &err), 0);
    for (size_t p = 0; p < 3 * 7; p++) {
        const real *from = before[4].data + ((s->h + 3) * s->w + p) * s->c + 2;
        ck_assert_mem_eq(out + 8 * p, from, 7 * sizeof(real));
    }
}
END_TEST

START_TEST(the_file_has_no_name_and_its_room_is_taken)
{
    struct err err = {0};
    struct stat st;
    size_t bytes = 0;
    open_store(scratch.dir);
    ck_assert_msg(prepare(&err) == 0, "%s", err.msg);
    ck_assert_uint_eq(n_files(), 0);
    for (size_t i = 0; i < N_MAPS; i++) {
        bytes += shape_bytes(&maps[i].shape);
    }
    ck_assert_int_eq(fstat(spill_fd(), &st), 0);
    ck_assert_uint_ge((size_t)st.st_size, bytes);
    ck_assert_uint_ge((size_t)st.st_blocks * 512, bytes);
    store_close(&store);
    ck_assert_uint_eq(n_files(), 0);
}
END_TEST

/* --- errors --------------------------------------------------------------------------------- */

static void refused(const char *dir, const char *says)
{
    struct err err = {0};
    struct store_params params = store_params_default();
    snprintf(params.spill_dir, sizeof params.spill_dir, "%.255s", dir);
    ck_assert_int_eq(store_open(&store, "swap", &params, &kernels, 1, &err), ERR_CONFIG);
    ck_assert_msg(strstr(err.msg, "storage.spill_dir") && strstr(err.msg, dir) &&
                      strstr(err.msg, says),
                  "%s", err.msg);
}

START_TEST(unfit_folders_are_refused)
{
    struct statfs fs;
    refused(scratch_path(&scratch, "none"), "No such file");
    refused(scratch_write(&scratch, "file", "", 0), "not a folder");
    if (geteuid() != 0) { /* nothing is forbidden to root */
        ck_assert_int_eq(mkdir(scratch_path(&scratch, "locked"), 0500), 0);
        refused(scratch.path, "Permission denied");
    }
    if (statfs("/dev/shm", &fs) == 0 && fs.f_type == TMPFS_TYPE && access("/dev/shm", W_OK) == 0) {
        refused("/dev/shm", "in memory");
    }
}
END_TEST

/* Of a folder that takes no files one hears when the file is made. */
START_TEST(a_folder_without_files_is_an_error)
{
    struct err err = {0};
    if (access("/proc", W_OK | X_OK) == 0) {
        open_store("/proc");
        ck_assert_int_eq(prepare(&err), ERR_IO);
        ck_assert_msg(strstr(err.msg, "/proc"), "%s", err.msg);
    }
}
END_TEST

static void limit_files(size_t bytes)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Too small a limit for files, too small a disk: known before the first step. */
START_TEST(want_of_room_is_found_at_the_start)
{
    struct err err = {0};
    open_store(scratch.dir);
    limit_files(1 << 20);
    ck_assert_int_eq(prepare(&err), ERR_IO);
    ck_assert_msg(strstr(err.msg, "cannot take") && strstr(err.msg, scratch.dir), "%s", err.msg);
    limit_files(RLIM_INFINITY);
    store_close(&store);

    open_store(scratch.dir);
    maps[0].shape.n = (size_t)1 << 30; /* 32 PiB */
    err = (struct err){0};
    ck_assert_int_eq(prepare(&err), ERR_IO);
    ck_assert_msg(strstr(err.msg, "left"), "%s", err.msg);
    maps[0].shape.n = 2;
}
END_TEST

/* Written past a limit: the map's own settle says so, and all that follows. */
START_TEST(a_failed_write_is_an_error)
{
    struct err err = {0};
    open_store(scratch.dir);
    ck_assert_msg(prepare(&err) == 0, "%s", err.msg);
    limit_files(4096);
    put(5);
    ck_assert_int_eq(store.policy->settle(&store, &maps[5], &err), ERR_IO);
    ck_assert_msg(strstr(err.msg, "cannot write") && strstr(err.msg, scratch.dir), "%s", err.msg);
    limit_files(RLIM_INFINITY);
    put(6);
    ck_assert_int_eq(store.policy->settle(&store, &maps[6], &err), ERR_IO);
    ck_assert_int_eq(store.policy->prefetch(&store, &maps[6], &after[6], &err), ERR_IO);
    ck_assert_int_eq(get(6, &err), ERR_IO);
}
END_TEST

START_TEST(a_short_read_is_an_error)
{
    struct err err = {0};
    open_store(scratch.dir);
    ck_assert_msg(prepare(&err) == 0, "%s", err.msg);
    put(0);
    put(1);
    ck_assert_int_eq(store.policy->settle(&store, &maps[1], &err), 0);
    ck_assert_int_eq(ftruncate(spill_fd(), (off_t)shape_bytes(&maps[0].shape)), 0);
    ck_assert_msg(get(0, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(get(1, &err), ERR_IO);
    ck_assert_msg(strstr(err.msg, "ends before"), "%s", err.msg);
}
END_TEST

/* --- in a training step --------------------------------------------------------------------- */

static uint32_t two_convolutions(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "a", 0, 16, 3, 1, 1, 0);
    x = graph_relu(g, "a.relu", graph_batch_norm(g, "a.bn", x));
    x = graph_conv2d(g, "b", x, 16, 3, 1, 1, 0);
    x = graph_relu(g, "b.relu", graph_batch_norm(g, "b.bn", x));
    return graph_linear(g, "fc", graph_global_avg_pool(g, "gap", x), 5);
}

static void truncate_after_loss(void *ctx, const struct plan_step *s, double seconds)
{
    (void)ctx, (void)seconds;
    if (s->kind == PLAN_LOSS) {
        ck_assert_int_eq(ftruncate(spill_fd(), 0), 0);
    }
}

/* A step that cannot have its maps back ends with the map's name, and no transfer is left. */
START_TEST(a_step_without_its_maps_fails)
{
    struct net net;
    struct err err = {0};
    struct loss_result result;
    struct net_options o = {.policy_name = "swap", .params = store_params_default(), .n = 4};
    snprintf(o.params.spill_dir, sizeof o.params.spill_dir, "%.255s", scratch.dir);
    net_init(&net, two_convolutions, &o);
    ck_assert_uint_gt(net.exec.train.spilled_bytes, 0);
    net_loss(&net, 0);
    ck_assert_uint_eq(net.exec.spilled_bytes, net.exec.train.spilled_bytes);
    ck_assert_uint_eq(net.exec.saved_pieces[STORE_PIECE_MAPS], /* the linear layer's input */
                      net.exec.train.values[net.graph.layers[7]->in[0]].choice.bytes);
    net.exec.hooks.step_done = truncate_after_loss;
    ck_assert_int_eq(exec_train(&net.exec, &net.images, net.labels, 1, &result, &err), ERR_IO);
    ck_assert_msg(strstr(err.msg, "b") && strstr(err.msg, "spill file"), "%s", err.msg);
    net_fini(&net);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("swap");
    TCase *t = tcase_create("swap");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, maps_come_back_as_they_were);
    tcase_add_test(t, any_order_will_do);
    tcase_add_test(t, the_file_has_no_name_and_its_room_is_taken);
    tcase_add_test(t, unfit_folders_are_refused);
    tcase_add_test(t, a_folder_without_files_is_an_error);
    tcase_add_test(t, want_of_room_is_found_at_the_start);
    tcase_add_test(t, a_failed_write_is_an_error);
    tcase_add_test(t, a_short_read_is_an_error);
    tcase_add_test(t, a_step_without_its_maps_fails);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
