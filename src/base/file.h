/* Files that appear whole or not at all: written beside the target, synced, renamed.
 * Also small helpers around paths that several rooms need. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

struct file_out {
    FILE *fp;        /* write here; NULL when closed */
    char path[4096]; /* final name */
    char temp[4224]; /* name while writing, same folder: ".NAME.PID.tmp" */
};

/* Opens a temporary file beside `path`. ERR_IO with the path and the reason. A target that is a device
 * or pipe (/dev/stdout) is written in place; a symbolic link is replaced by the file. */
int file_out_open(struct file_out *f, const char *path, struct err *err) MUST_USE;

/* Flush, fsync, close, rename over `path`, fsync the folder. On failure the temporary is removed. */
int file_out_commit(struct file_out *f, struct err *err) MUST_USE;

/* Closes and removes the temporary; harmless after commit or on an all-zero struct. */
void file_out_discard(struct file_out *f);

/* Opens for reading; the caller closes. *size: the file's bytes, SIZE_MAX for a pipe or device.
 * ERR_MISSING if there is no such file, ERR_IO else (also for a folder). */
int file_open_read(const char *path, int *fd, size_t *size, struct err *err) MUST_USE;

/* Reads a whole file into *data (MEM_OTHER, one extra zero byte behind it; the caller frees).
 * ERR_MISSING if there is none, ERR_IO else, ERR_RANGE above max_bytes. */
int file_read_all(const char *path, size_t max_bytes, char **data, size_t *size, struct err *err)
    MUST_USE;

/* mkdir -p. */
int file_make_dirs(const char *path, struct err *err) MUST_USE;

int file_exists(const char *path);

/* Removes what is in a folder (links are removed, not followed) and keeps it. */
int file_empty_folder(const char *path, struct err *err) MUST_USE;

/* pread that goes on after short reads; ERR_IO, or ERR_FORMAT if the file ends early. */
int file_pread(int fd, const char *path, void *buf, size_t bytes, size_t offset, struct err *err)
    MUST_USE;

#endif
