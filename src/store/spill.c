/* See spill_priv.h.
 *
 * The pages that the kernel keeps of the file are not given back map by map: they are no memory of
 * the process and the kernel takes them when it needs any. Dropping what backward has read
 * (POSIX_FADV_DONTNEED) would make the kernel first write those dead pages to the disk: measured
 * with 16 maps of 32 MiB, 512 MiB in each step instead of next to nothing. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_TMPFILE, mkostemp */
#endif
#include "store/spill_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

enum { DIR_BYTES = 256, PAGE = 4096, NO_REGION = -1 };
#define MAX_TRANSFER ((size_t)64 << 20) /* bytes of one call */

struct region {
    size_t offset, bytes;
    /* The transfer in flight. */
    char *buf;
    size_t at, n; /* within the region */
    int is_write, is_busy;
    int next; /* in the queue */
};

struct spill {
    char dir[DIR_BYTES];
    int fd;
    struct region *regions;
    size_t n, cap;
    size_t file_bytes, reserved_bytes;
    pthread_t thread;
    int has_thread;
    pthread_mutex_t mutex; /* of what follows and of the regions' transfers */
    pthread_cond_t work, done;
    int first, last; /* the queue's ends */
    int stop;
    int has_failed, failed_write, errnum; /* errnum 0: the file ended early */
    size_t failed_at, failed_bytes;
};

/* --- the folder ----------------------------------------------------------------------------- */

static int is_in_memory(const char *dir)
{
    struct statfs fs;
    return statfs(dir, &fs) == 0 &&
           ((unsigned)fs.f_type == TMPFS_MAGIC || (unsigned)fs.f_type == RAMFS_MAGIC);
}

int spill_check_dir(const char *dir, struct err *err)
{
    struct stat st;
    if (stat(dir, &st) != 0) {
        return err_sys(err, ERR_CONFIG, errno, "storage.spill_dir: %s", dir);
    }
    if (!S_ISDIR(st.st_mode)) {
        return err_set(err, ERR_CONFIG, "storage.spill_dir: %s is not a folder", dir);
    }
    if (access(dir, W_OK | X_OK) != 0) {
        return err_sys(err, ERR_CONFIG, errno, "storage.spill_dir: %s", dir);
    }
    if (is_in_memory(dir)) {
        return err_set(
            err, ERR_CONFIG,
            "storage.spill_dir: %s lies in memory (tmpfs), where spilled maps would save "
            "none: choose a folder on a disk",
            dir);
    }
    return 0;
}

static int find_dir(char dir[DIR_BYTES], struct err *err)
{
    const char *const candidates[] = {getenv("TMPDIR"), "/var/tmp", "/tmp", "."};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        const char *candidate = candidates[i];
        if (candidate != NULL && candidate[0] != '\0' && str_copy(dir, DIR_BYTES, candidate) == 0 &&
            spill_check_dir(dir, NULL) == 0) {
            return 0;
        }
    }
    return err_set(err, ERR_CONFIG,
                   "no place for the spill file: none of $TMPDIR, /var/tmp, /tmp and the current "
                   "folder can be written to and lies on a disk: set storage.spill_dir");
}

/* --- the file ------------------------------------------------------------------------------- */

/* Where there are no files without a name: one that loses it before a signal can come between. */
static int open_named(const char *dir)
{
    char path[DIR_BYTES + 32];
    sigset_t all, before;
    (void)snprintf(path, sizeof path, "%s/.division-spill-XXXXXX", dir);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int fd = mkostemp(path, O_CLOEXEC);
    const int errnum = errno;
    if (fd >= 0) {
        unlink(path);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = errnum;
    return fd;
}

static int open_file(struct spill *s, struct err *err)
{
#ifdef O_TMPFILE
    s->fd = open(s->dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
#endif
    if (s->fd < 0) {
        s->fd = open_named(s->dir);
    }
    return s->fd < 0 ? err_sys(err, ERR_IO, errno, "cannot make a spill file in %s", s->dir) : 0;
}

/* What the file system says that it has left: asked first, since taking nearly all of a disk in vain
 * would hurt others. */
static int check_room(const struct spill *s, size_t bytes, struct err *err)
{
    struct statvfs fs;
    char need[32], have[32];
    if (fstatvfs(s->fd, &fs) != 0 || fs.f_blocks == 0 ||
        (double)fs.f_bavail * (double)fs.f_frsize >= (double)bytes) {
        return 0;
    }
    return err_set(err, ERR_IO,
                   "the spill file needs %s and the disk of %s has %s left: set storage.spill_dir "
                   "or lower train.batch_size",
                   str_bytes(need, (double)bytes), s->dir,
                   str_bytes(have, (double)fs.f_bavail * (double)fs.f_frsize));
}

static int allocate(int fd, size_t from, size_t bytes)
{
    int errnum;
    do {
        errnum = posix_fallocate(fd, (off_t)from, (off_t)bytes);
    } while (errnum == EINTR);
    return errnum;
}

int spill_reserve(struct spill *s, struct err *err)
{
    const size_t bytes = s->file_bytes - s->reserved_bytes;
    sigset_t too_large, before, pending;
    char need[32];
    if (bytes == 0) {
        return 0;
    }
    if (check_room(s, bytes, err) != 0) {
        return (int)err->code;
    }
    /* A limit on the size of files is an error, not the end of the process. */
    sigemptyset(&too_large);
    sigaddset(&too_large, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &too_large, &before);
    const int errnum = allocate(s->fd, s->reserved_bytes, bytes);
    if (sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) &&
        !sigismember(&before, SIGXFSZ)) {
        const struct timespec now = {0};
        (void)sigtimedwait(&too_large, NULL, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum != 0) {
        return err_sys(err, ERR_IO, errnum, "cannot take %s for the spill file in %s",
                       str_bytes(need, (double)s->file_bytes), s->dir);
    }
    s->reserved_bytes = s->file_bytes;
    return 0;
}

/* --- the thread ----------------------------------------------------------------------------- */

/* Returns 0, or -1 with *errnum (0: the file ended early). */
static int transfer(int fd, int is_write, char *buf, size_t bytes, size_t offset, int *errnum)
{
    while (bytes > 0) {
        const size_t n = bytes < MAX_TRANSFER ? bytes : MAX_TRANSFER;
        const ssize_t did = is_write ? pwrite(fd, buf, n, (off_t)offset)
                                     : pread(fd, buf, n, (off_t)offset);
        if (did < 0 && errno == EINTR) {
            continue;
        }
        if (did <= 0) {
            *errnum = did < 0 ? errno : 0;
            return -1;
        }
        buf += did;
        offset += (size_t)did;
        bytes -= (size_t)did;
    }
    return 0;
}

static void *thread_main(void *arg)
{
    struct spill *s = arg;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (s->first == NO_REGION && !s->stop) {
            pthread_cond_wait(&s->work, &s->mutex);
        }
        if (s->first == NO_REGION) {
            break;
        }
        const int index = s->first;
        const struct region r = s->regions[index];
        s->first = r.next;
        s->last = s->first == NO_REGION ? NO_REGION : s->last;
        const int skip = s->has_failed;
        int errnum = 0, rc = 0;
        pthread_mutex_unlock(&s->mutex);
        if (!skip) {
            rc = transfer(s->fd, r.is_write, r.buf, r.n, r.offset + r.at, &errnum);
        }
        pthread_mutex_lock(&s->mutex);
        if (rc != 0) {
            s->has_failed = 1;
            s->failed_write = r.is_write;
            s->errnum = errnum;
            s->failed_at = r.offset + r.at;
            s->failed_bytes = r.n;
        }
        s->regions[index].is_busy = 0;
        pthread_cond_broadcast(&s->done);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* With all signals blocked: they are for the thread that handles them. */
static int start_thread(struct spill *s, struct err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int errnum = pthread_create(&s->thread, NULL, thread_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum != 0) {
        return err_sys(err, ERR_NOMEM, errnum, "cannot start the thread of the spill file");
    }
    s->has_thread = 1;
    return 0;
}

/* --- the caller's side ---------------------------------------------------------------------- */

int spill_open(const char *dir, struct spill **out, struct err *err)
{
    struct spill *s = mem_alloc(MEM_OTHER, sizeof *s);
    if (s == NULL) {
        return err_nomem(err, "the spill file's table", sizeof *s);
    }
    s->fd = -1;
    s->first = s->last = NO_REGION;
    /* These cannot fail here: default attributes take no resources. */
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->done, NULL);
    int code = dir[0] == '\0' ? find_dir(s->dir, err) : spill_check_dir(dir, err);
    if (code == 0 && dir[0] != '\0' && str_copy(s->dir, sizeof s->dir, dir) != 0) {
        code = err_set(err, ERR_CONFIG, "storage.spill_dir: the path is longer than %d bytes",
                       DIR_BYTES - 1);
    }
    if (code != 0 || (code = open_file(s, err)) != 0 || (code = start_thread(s, err)) != 0) {
        spill_close(s);
        return code;
    }
    *out = s;
    return 0;
}

void spill_close(struct spill *s)
{
    if (s == NULL) {
        return;
    }
    if (s->has_thread) {
        pthread_mutex_lock(&s->mutex);
        s->stop = 1;
        pthread_cond_signal(&s->work);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(s->thread, NULL);
    }
    if (s->fd >= 0) {
        close(s->fd);
    }
    pthread_cond_destroy(&s->done);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->mutex);
    mem_free(s->regions);
    mem_free(s);
}

int spill_add(struct spill *s, size_t bytes, size_t *region, struct err *err)
{
    spill_wait_all(s);
    if (s->n == s->cap) {
        const size_t cap = s->cap == 0 ? 64 : 2 * s->cap;
        struct region *grown = mem_realloc(MEM_OTHER, s->regions, cap * sizeof *grown);
        if (grown == NULL) {
            return err_nomem(err, "the spill file's table", cap * sizeof *grown);
        }
        s->regions = grown;
        s->cap = cap;
    }
    s->regions[s->n] = (struct region){.offset = s->file_bytes, .bytes = bytes};
    s->file_bytes += (bytes + PAGE - 1) / PAGE * PAGE;
    *region = s->n++;
    return 0;
}

size_t spill_bytes(const struct spill *s, size_t region)
{
    assert(region < s->n);
    return s->regions[region].bytes;
}

static void submit(struct spill *s, size_t region, const struct region *what)
{
    assert(region < s->n);
    struct region *r = &s->regions[region];
    assert(what->at + what->n <= r->bytes);
    pthread_mutex_lock(&s->mutex);
    while (r->is_busy) {
        pthread_cond_wait(&s->done, &s->mutex);
    }
    r->buf = what->buf;
    r->at = what->at;
    r->n = what->n;
    r->is_write = what->is_write;
    r->is_busy = 1;
    r->next = NO_REGION;
    if (s->first == NO_REGION) {
        s->first = (int)region;
    } else {
        s->regions[s->last].next = (int)region;
    }
    s->last = (int)region;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->mutex);
}

void spill_write(struct spill *s, size_t region, const void *buf, size_t bytes)
{
    /* The buffer is only read, but the field serves both directions. */
    submit(s, region, &(struct region){.buf = (char *)(uintptr_t)buf, .n = bytes, .is_write = 1});
}

void spill_read(struct spill *s, size_t region, size_t offset, void *buf, size_t bytes)
{
    submit(s, region, &(struct region){.buf = buf, .at = offset, .n = bytes});
}

void spill_wait(struct spill *s, size_t region)
{
    assert(region < s->n);
    pthread_mutex_lock(&s->mutex);
    while (s->regions[region].is_busy) {
        pthread_cond_wait(&s->done, &s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
}

void spill_wait_all(struct spill *s)
{
    for (size_t i = 0; i < s->n; i++) {
        spill_wait(s, i);
    }
}

int spill_failed(struct spill *s, struct err *err)
{
    pthread_mutex_lock(&s->mutex);
    const int has_failed = s->has_failed, is_write = s->failed_write, errnum = s->errnum;
    const size_t at = s->failed_at, bytes = s->failed_bytes;
    pthread_mutex_unlock(&s->mutex);
    if (!has_failed) {
        return 0;
    }
    if (errnum == 0) {
        return err_set(err, ERR_IO,
                       "the spill file in %s ends before the %zu bytes at %zu that were to be %s",
                       s->dir, bytes, at, is_write ? "written" : "read");
    }
    return err_sys(err, ERR_IO, errnum, "cannot %s %zu bytes at %zu of the spill file in %s",
                   is_write ? "write" : "read", bytes, at, s->dir);
}
