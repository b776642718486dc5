/* Plain and gzipped files as one stream: see idx_stream_priv.h. */
#include "data/idx_stream_priv.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"

static voidpf inflate_alloc(voidpf opaque, uInt n, uInt size)
{
    (void)opaque;
    return mem_calloc(MEM_OTHER, n, size);
}

static void inflate_free(voidpf opaque, voidpf ptr)
{
    (void)opaque;
    mem_free(ptr);
}

static int gzip_begin(struct idx_stream *s, struct err *err)
{
    s->in = mem_alloc(MEM_OTHER, IDX_STREAM_BUFFER);
    if (s->in == NULL) {
        return err_nomem(err, "reading a gzip file", IDX_STREAM_BUFFER);
    }
    s->z.zalloc = inflate_alloc;
    s->z.zfree = inflate_free;
    enum { GZIP_ONLY = 16 }; /* zlib.h: added to windowBits, demands a gzip header */
    const int z = inflateInit2(&s->z, MAX_WBITS + GZIP_ONLY);
    if (z != Z_OK) {
        return err_nomem(err, "reading a gzip file", (size_t)1 << MAX_WBITS);
    }
    s->is_inflating = true;
    s->is_between = true; /* before the first member */
    return 0;
}

int idx_stream_open(struct idx_stream *s, const char *dir, const char *name, struct err *err)
{
    *s = (struct idx_stream){0};
    int rc = dataset_file_open(&s->file, dir, name, err);
    if (rc == ERR_MISSING) {
        char gz[64];
        const size_t len = strlen(name);
        if (len + sizeof ".gz" > sizeof gz) {
            return rc;
        }
        memcpy(gz, name, len);
        memcpy(gz + len, ".gz", sizeof ".gz");
        rc = dataset_file_open(&s->file, dir, gz, err);
    }
    if (rc != 0) {
        return rc;
    }
    uint8_t magic[2] = {0, 0};
    if (s->file.size >= sizeof magic) {
        rc = file_pread(s->file.fd, s->file.path, magic, sizeof magic, 0, err);
    }
    s->is_gzip = magic[0] == 0x1f && magic[1] == 0x8b; /* RFC 1952, section 2.3.1 */
    if (rc == 0 && s->is_gzip) {
        rc = gzip_begin(s, err);
    }
    if (rc != 0) {
        idx_stream_close(s);
    }
    return rc;
}

static int gzip_refill(struct idx_stream *s, struct err *err)
{
    const size_t left = s->file.size - s->file_offset;
    const size_t n = left < IDX_STREAM_BUFFER ? left : IDX_STREAM_BUFFER;
    const int rc = file_pread(s->file.fd, s->file.path, s->in, n, s->file_offset, err);
    if (rc == 0) {
        s->file_offset += n;
        s->z.next_in = s->in;
        s->z.avail_in = (uInt)n;
    }
    return rc;
}

static int gzip_failed(const struct idx_stream *s, int z, struct err *err)
{
    const size_t at = s->file_offset - s->z.avail_in;
    if (z == Z_MEM_ERROR) {
        return err_nomem(err, "reading a gzip file", (size_t)1 << MAX_WBITS);
    }
    return err_set(err, ERR_FORMAT,
                   "%s: damaged gzip data near offset %zu of %zu (%s), after %zu bytes of content: "
                   "get the file anew",
                   s->file.path, at, s->file.size, s->z.msg != NULL ? s->z.msg : "unusable stream",
                   s->n_read);
}

/* Up to cap bytes (cap > 0); *got = 0 only behind the last member's verified trailer. */
static int gzip_some(struct idx_stream *s, uint8_t *buf, size_t cap, size_t *got, struct err *err)
{
    enum { AT_ONCE = 1 << 30 }; /* avail_out is 32 bits wide */
    const uInt room = cap < AT_ONCE ? (uInt)cap : AT_ONCE;
    s->z.next_out = buf;
    s->z.avail_out = room;
    while (s->z.avail_out == room) {
        if (s->z.avail_in == 0 && s->file_offset < s->file.size) {
            const int rc = gzip_refill(s, err);
            if (rc != 0) {
                return rc;
            }
        }
        if (s->z.avail_in == 0) {
            if (s->is_between) {
                break;
            }
            return err_set(err, ERR_FORMAT,
                           "%s is cut short: its gzip stream does not end within the file's %zu "
                           "bytes (%zu bytes of content so far): get the file anew",
                           s->file.path, s->file.size, s->n_read);
        }
        s->is_between = false;
        int z = inflate(&s->z, Z_NO_FLUSH);
        if (z == Z_STREAM_END) {
            s->is_between = true;
            z = inflateReset(&s->z); /* another member, or rubbish, which its header check finds */
        }
        if (z != Z_OK) {
            return gzip_failed(s, z, err);
        }
    }
    *got = room - s->z.avail_out;
    return 0;
}

static int stream_some(struct idx_stream *s, uint8_t *buf, size_t cap, size_t *got, struct err *err)
{
    int rc = 0;
    if (s->is_gzip) {
        rc = gzip_some(s, buf, cap, got, err);
    } else {
        const size_t left = s->file.size - s->file_offset;
        *got = left < cap ? left : cap;
        rc = file_pread(s->file.fd, s->file.path, buf, *got, s->file_offset, err);
        s->file_offset += *got;
    }
    if (rc == 0) {
        s->crc = (uint32_t)crc32_z(s->crc, buf, *got);
        s->n_read += *got;
    }
    return rc;
}

int idx_stream_read(struct idx_stream *s, void *buf, size_t bytes, struct err *err)
{
    uint8_t *dst = buf;
    size_t done = 0;
    while (done < bytes) {
        size_t got = 0;
        const int rc = stream_some(s, dst + done, bytes - done, &got, err);
        if (rc != 0) {
            return rc;
        }
        if (got == 0) {
            return err_set(err, ERR_FORMAT,
                           "%s: its content ends after %zu bytes, expected %zu more", s->file.path,
                           s->n_read, bytes - done);
        }
        done += got;
    }
    return 0;
}

int idx_stream_at_end(struct idx_stream *s, bool *at_end, struct err *err)
{
    uint8_t byte;
    size_t got = 0;
    const int rc = stream_some(s, &byte, 1, &got, err);
    if (rc == 0) {
        *at_end = got == 0;
    }
    return rc;
}

void idx_stream_close(struct idx_stream *s)
{
    if (s->is_inflating) {
        inflateEnd(&s->z);
    }
    mem_free(s->in);
    dataset_file_close(&s->file);
    *s = (struct idx_stream){0};
}
