/* A file's content from start to end, inflated if it is gzipped, with its CRC-32.
 *
 * The first two bytes decide, not the name: browsers tend to unpack a .gz on the way. A gzip file
 * may consist of several members (RFC 1952); the checksum and length of each are verified. */
#ifndef DATA_IDX_STREAM_PRIV_H
#define DATA_IDX_STREAM_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#include "base/err.h"
#include "data/dataset_priv.h"

enum { IDX_STREAM_BUFFER = 1 << 16 };

struct idx_stream {
    struct dataset_file file;
    bool is_gzip;
    bool is_inflating; /* z is initialised */
    bool is_between;   /* at a gzip member's end */
    z_stream z;
    uint8_t *in;        /* [IDX_STREAM_BUFFER] compressed bytes */
    size_t file_offset; /* bytes read from the file */
    size_t n_read;      /* bytes of content delivered */
    uint32_t crc;       /* of the content delivered */
};

/* Opens dir/name or dir/name.gz. ERR_MISSING if there is neither, ERR_IO, ERR_FORMAT, ERR_NOMEM. */
int idx_stream_open(struct idx_stream *s, const char *dir, const char *name, struct err *err)
    MUST_USE;

/* Exactly `bytes` bytes; ERR_FORMAT if the content ends before. */
int idx_stream_read(struct idx_stream *s, void *buf, size_t bytes, struct err *err) MUST_USE;

/* Whether the content ends here. Verifies the gzip trailer; an error if that is wrong. */
int idx_stream_at_end(struct idx_stream *s, bool *at_end, struct err *err) MUST_USE;

/* Harmless on an all-zero struct. */
void idx_stream_close(struct idx_stream *s);

#endif
