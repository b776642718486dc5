/* A run's folder: made new, never overwritten without force, one run's at a time. */
#ifndef RUN_FOLDER_H
#define RUN_FOLDER_H

#include <stddef.h>

#include "base/err.h"

/* ERR_EXISTS if `dir` exists and cannot be had: it is not an empty folder nor, with force, the folder
 * of a run that has ended (one that holds a config.yaml). */
int folder_check(const char *dir, int force, struct err *err) MUST_USE;

/* Makes the folder and what leads to it; with force the folder of an old run is emptied. ERR_EXISTS as
 * with folder_check, ERR_IO. *hold keeps other processes from the folder until it is closed, if only
 * by the end of this one. */
int folder_take(const char *dir, int force, int *hold, struct err *err) MUST_USE;

/* Takes back what folder_take did: as if the run had not begun. */
void folder_remove(const char *dir);

/* Are these the folders of one run, however they are written? For folders that runs make: links that
 * lead to them are followed, and they are no links themselves. They need not exist. */
int folder_is_same(const char *a, const char *b);

/* dir/name into buf; ERR_CONFIG if it is too long. */
int folder_path(char *buf, size_t cap, const char *dir, const char *name, struct err *err) MUST_USE;

#endif
