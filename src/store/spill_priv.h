/* A spill file, and the thread of its own that writes and reads it.
 *
 * The file has no name, or loses it at once: whatever ends the process, nothing is left behind. It
 * is divided into regions, and its room on the disk is taken before it is written, so that a full
 * disk is found at the start. Each region has at most one transfer in flight; transfers are done in
 * the order in which they were asked for. All functions are for one thread, the caller's.
 *
 * A transfer that fails is remembered, the first one; no other is tried after it, and what was to
 * be read is then undefined: ask spill_failed after each wait. */
#ifndef STORE_SPILL_PRIV_H
#define STORE_SPILL_PRIV_H

#include <stddef.h>

#include "base/err.h"

struct spill;

/* May spill files be made in `dir`? ERR_CONFIG where it is no folder, cannot be written to or lies in
 * memory (tmpfs): maps that went there would still take memory. */
int spill_check_dir(const char *dir, struct err *err) MUST_USE;

/* An empty file in `dir`; "": in the first of $TMPDIR, /var/tmp, /tmp and . that will do. ERR_CONFIG,
 * ERR_IO, ERR_NOMEM. */
int spill_open(const char *dir, struct spill **out, struct err *err) MUST_USE;
/* Lets transfers in flight end. NULL is allowed. */
void spill_close(struct spill *s);

/* A region of so many bytes. Lets transfers in flight end. ERR_NOMEM. */
int spill_add(struct spill *s, size_t bytes, size_t *region, struct err *err) MUST_USE;
/* Takes the room of all regions from the disk. ERR_IO: it is not there. */
int spill_reserve(struct spill *s, struct err *err) MUST_USE;
size_t spill_bytes(const struct spill *s, size_t region);

/* Begin to write the region's first bytes, or to read some. The buffer must stay as it is until
 * spill_wait; a former transfer of the region is waited for. */
void spill_write(struct spill *s, size_t region, const void *buf, size_t bytes);
void spill_read(struct spill *s, size_t region, size_t offset, void *buf, size_t bytes);

/* Until the region's transfer, or all, have ended. */
void spill_wait(struct spill *s, size_t region);
void spill_wait_all(struct spill *s);

/* ERR_IO if a transfer has failed, else 0. */
int spill_failed(struct spill *s, struct err *err) MUST_USE;

#endif
