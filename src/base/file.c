/* Whole-or-nothing files and path helpers: see file.h. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

/* Length of the folder part of a path, its last slash included; 0 if there is none. */
static size_t folder_len(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

int file_out_open(struct file_out *f, const char *path, struct err *err)
{
    *f = (struct file_out){0};
    if (path[0] == '\0') {
        return err_set(err, ERR_IO, "cannot write a file without a name");
    }
    if (str_copy(f->path, sizeof f->path, path) != 0) {
        f->path[0] = '\0';
        return err_sys(err, ERR_IO, ENAMETOOLONG, "cannot write %.60s...", path);
    }
    struct stat st;
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    const char *opened = f->temp;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        if (S_ISDIR(st.st_mode)) {
            return err_sys(err, ERR_IO, EISDIR, "cannot write %s", path);
        }
        /* A device or pipe can only be written in place. */
        flags = O_WRONLY | O_CLOEXEC;
        opened = f->path;
    } else {
        const size_t folder = folder_len(path);
        (void)snprintf(f->temp, sizeof f->temp, "%.*s.%s.%ld.tmp", (int)folder, path, path + folder,
                       (long)getpid());
        (void)unlink(f->temp); /* left by a process of the same number that was killed */
    }
    const int fd = open(opened, flags, 0666);
    if (fd < 0) {
        const int reason = errno;
        f->temp[0] = '\0';
        return err_sys(err, ERR_IO, reason, "cannot write %s", path);
    }
    f->fp = fdopen(fd, "wb");
    if (f->fp == NULL) {
        const int reason = errno;
        close(fd);
        if (f->temp[0] != '\0') {
            (void)unlink(f->temp);
            f->temp[0] = '\0';
        }
        return err_sys(err, ERR_IO, reason, "cannot write %s", path);
    }
    return 0;
}

void file_out_discard(struct file_out *f)
{
    if (f->fp != NULL) {
        (void)fclose(f->fp);
        f->fp = NULL;
        if (f->temp[0] != '\0') {
            (void)unlink(f->temp);
        }
    }
}

/* fsync where the file system knows it; pipes and some folders do not. */
static int sync_fd(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP ? 0 : -1;
}

/* Makes a rename in `path`'s folder durable. */
static int sync_folder(const char *path, struct err *err)
{
    char folder[4096];
    size_t len = folder_len(path);
    if (len == 0) {
        folder[len++] = '.';
    } else {
        memcpy(folder, path, len);
    }
    folder[len] = '\0';
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return 0; /* writable but not readable: the rename has been done, it is just not synced */
    }
    const int status = sync_fd(fd);
    const int reason = errno;
    close(fd);
    return status == 0 ? 0 : err_sys(err, ERR_IO, reason, "cannot sync %s", folder);
}

int file_out_commit(struct file_out *f, struct err *err)
{
    if (f->fp == NULL) {
        return err_set(err, ERR_IO, "cannot finish %s: it is not open", f->path);
    }
    /* A write that failed before has left the stream's mark, but its errno may be gone. */
    const int failed_before = ferror(f->fp);
    errno = 0;
    int ok = fflush(f->fp) == 0 && !failed_before && sync_fd(fileno(f->fp)) == 0;
    int reason = errno;
    if (ok && f->temp[0] == '\0') {
        ok = fclose(f->fp) == 0;
        reason = errno;
        f->fp = NULL;
        return ok ? 0 : err_sys(err, ERR_IO, reason, "cannot write %s", f->path);
    }
    if (ok) {
        ok = fclose(f->fp) == 0 && rename(f->temp, f->path) == 0;
        reason = errno;
        f->fp = NULL;
        if (ok) {
            return sync_folder(f->path, err);
        }
        (void)unlink(f->temp);
    } else {
        file_out_discard(f);
    }
    if (reason == 0) {
        return err_set(err, ERR_IO, "cannot write %s: a write failed (is the disk full?)", f->path);
    }
    return err_sys(err, ERR_IO, reason, "cannot write %s", f->path);
}

int file_open_read(const char *path, int *fd, size_t *size, struct err *err)
{
    const int opened = open(path, O_RDONLY | O_CLOEXEC);
    if (opened < 0) {
        const int reason = errno;
        const int missing = reason == ENOENT || reason == ENOTDIR;
        return err_sys(err, missing ? ERR_MISSING : ERR_IO, reason, "cannot open %s", path);
    }
    struct stat st;
    int status = fstat(opened, &st);
    if (status == 0 && S_ISDIR(st.st_mode)) {
        status = -1;
        errno = EISDIR;
    }
    if (status != 0) {
        const int reason = errno;
        close(opened);
        return err_sys(err, ERR_IO, reason, "cannot read %s", path);
    }
    *fd = opened;
    *size = S_ISREG(st.st_mode) ? (size_t)st.st_size : SIZE_MAX;
    return 0;
}

int file_read_all(const char *path, size_t max_bytes, char **data, size_t *size, struct err *err)
{
    int fd = -1;
    size_t file_bytes = 0;
    int result = file_open_read(path, &fd, &file_bytes, err);
    if (result != 0) {
        return result;
    }
    char *buf = NULL;
    size_t len = 0;

    /* The size is a hint only: pipes have none, files may grow, those of /proc say 0. */
    size_t cap = 4096;
    if (file_bytes != SIZE_MAX) {
        if (file_bytes > max_bytes) {
            result = err_set(err, ERR_RANGE, "%s has %zu bytes, at most %zu are read", path,
                             file_bytes, max_bytes);
            goto out;
        }
        cap += file_bytes;
    }
    buf = mem_alloc(MEM_OTHER, cap);
    if (buf == NULL) {
        result = err_nomem(err, path, cap);
        goto out;
    }
    for (;;) {
        if (len + 1 == cap) {
            const size_t grown_cap = cap > SIZE_MAX / 2 ? SIZE_MAX : cap * 2;
            char *grown = mem_realloc(MEM_OTHER, buf, grown_cap);
            if (grown == NULL) {
                result = err_nomem(err, path, grown_cap);
                goto out;
            }
            buf = grown;
            cap = grown_cap;
        }
        const ssize_t n = read(fd, buf + len, cap - 1 - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            result = err_sys(err, ERR_IO, errno, "cannot read %s", path);
            goto out;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
        if (len > max_bytes) {
            result = err_set(err, ERR_RANGE, "%s has more than the %zu bytes that are read", path,
                             max_bytes);
            goto out;
        }
    }
    buf[len] = '\0';
    *data = buf;
    *size = len;
    buf = NULL;
out:
    mem_free(buf);
    close(fd);
    return result;
}

int file_make_dirs(const char *path, struct err *err)
{
    char part[4096];
    if (path[0] == '\0') {
        return err_set(err, ERR_IO, "cannot make a folder without a name");
    }
    if (str_copy(part, sizeof part, path) != 0) {
        return err_sys(err, ERR_IO, ENAMETOOLONG, "cannot make the folder %.60s...", path);
    }
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        const char kept = *p;
        *p = '\0';
        if (mkdir(part, 0777) != 0) {
            const int reason = errno;
            struct stat st;
            if (stat(part, &st) != 0) {
                return err_sys(err, ERR_IO, reason, "cannot make the folder %s", part);
            }
            if (!S_ISDIR(st.st_mode)) {
                return err_set(err, ERR_IO, "cannot make the folder %s: a file of that name exists",
                               part);
            }
        }
        if (kept == '\0') {
            return 0;
        }
        *p = kept;
    }
}

int file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static DIR *open_dir(int parent_fd, const char *name, int flags)
{
    const int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL && fd >= 0) {
        const int reason = errno;
        close(fd);
        errno = reason;
    }
    return dir;
}

static int remove_at(int parent_fd, const char *name, const char *path, struct err *err);

/* Removes what is in the folder and closes it. `path` is for messages. */
static int empty_dir(DIR *dir, const char *path, struct err *err)
{
    int result = 0;
    while (result == 0) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            if (errno != 0) {
                result = err_sys(err, ERR_IO, errno, "cannot read a folder in %s", path);
            }
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            result = remove_at(dirfd(dir), entry->d_name, path, err);
        }
    }
    closedir(dir);
    return result;
}

/* Removes `name` in the folder open as parent_fd; links are removed, not followed. Each level of
 * folders keeps one descriptor and two stack frames. */
static int remove_at(int parent_fd, const char *name, const char *path, struct err *err)
{
    if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return err_sys(err, ERR_IO, errno, "cannot remove %s in %s", name, path);
    }
    DIR *dir = open_dir(parent_fd, name, O_NOFOLLOW);
    if (dir == NULL) {
        return err_sys(err, ERR_IO, errno, "cannot remove %s in %s", name, path);
    }
    const int result = empty_dir(dir, path, err);
    return result == 0 && unlinkat(parent_fd, name, AT_REMOVEDIR) != 0
               ? err_sys(err, ERR_IO, errno, "cannot remove %s in %s", name, path)
               : result;
}

int file_empty_folder(const char *path, struct err *err)
{
    DIR *dir = open_dir(AT_FDCWD, path, 0);
    return dir == NULL ? err_sys(err, ERR_IO, errno, "cannot read the folder %s", path)
                       : empty_dir(dir, path, err);
}

int file_pread(int fd, const char *path, void *buf, size_t bytes, size_t offset, struct err *err)
{
    if (offset > (size_t)PTRDIFF_MAX || bytes > (size_t)PTRDIFF_MAX - offset) {
        return err_set(err, ERR_FORMAT, "%s: offset %zu with %zu bytes is beyond any file", path,
                       offset, bytes);
    }
    char *dst = buf;
    size_t done = 0;
    while (done < bytes) {
        const ssize_t n = pread(fd, dst + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_sys(err, ERR_IO, errno, "cannot read %s at byte %zu", path, offset + done);
        }
        if (n == 0) {
            return err_set(err, ERR_FORMAT,
                           "%s ends at byte %zu, expected %zu bytes from byte %zu on: "
                           "the file is cut short",
                           path, offset + done, bytes, offset);
        }
        done += (size_t)n;
    }
    return 0;
}
