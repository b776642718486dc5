/* A run's folder: made new, never overwritten without force. */
#ifndef RUN_FOLDER_H
#define RUN_FOLDER_H

#include <stddef.h>

#include "base/err.h"

/* ERR_EXISTS if `dir` exists and is not an empty folder. */
int folder_check(const char *dir, struct err *err) MUST_USE;

/* Makes the folder and what leads to it. With force an existing run folder (one that holds a
 * config.yaml, or nothing) is emptied first; anything else in its place is ERR_EXISTS even then. */
int folder_make(const char *dir, int force, struct err *err) MUST_USE;

/* dir/name into buf; ERR_CONFIG if it is too long. */
int folder_path(char *buf, size_t cap, const char *dir, const char *name, struct err *err) MUST_USE;

#endif
