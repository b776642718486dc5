/* .npy files: see npy.h.
 *
 *   bytes 0-5   "\x93NUMPY"
 *   byte  6, 7  version: major (1, 2, 3), minor (0)
 *   then        header length, little-endian: 2 bytes in version 1, else 4
 *   header      {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  and spaces, newline
 *   data        the elements
 *
 * The header is a Python literal; only the three keys that the format knows are read, in any
 * order. It is read from a buffer with a length and never trusted. */
#include "tensor/npy.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "tensor/bytes_priv.h"

#define NPY_MAX_HEADER_BYTES ((size_t)65536)
#define NPY_ALIGN 64 /* numpy pads so that the data begins at a multiple of it */

static const unsigned char npy_magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

/* Element types of files. */
enum npy_kind { NPY_FLOAT, NPY_SIGNED, NPY_UNSIGNED };

struct npy_type {
    enum npy_kind kind;
    size_t size;
    int is_big;
};

/* The header text and how far it is read. */
struct npy_scan {
    const char *path;
    const char *text;
    size_t len, at;
    size_t text_offset; /* of text[0] in the file, for messages */
    struct err *err;
};

/* --- the header --- */

static int scan_fault(const struct npy_scan *s, const char *expected)
{
    return err_set(s->err, ERR_FORMAT, "%s: npy header, byte %zu: expected %s", s->path,
                   s->text_offset + s->at, expected);
}

static void scan_spaces(struct npy_scan *s)
{
    while (s->at < s->len && (s->text[s->at] == ' ' || s->text[s->at] == '\n')) {
        s->at++;
    }
}

/* Takes `word` if it comes next, behind spaces. */
static int scan_word(struct npy_scan *s, const char *word)
{
    scan_spaces(s);
    const size_t n = strlen(word);
    if (s->len - s->at < n || memcmp(s->text + s->at, word, n) != 0) {
        return 0;
    }
    s->at += n;
    return 1;
}

/* A string in single or double quotes, without escapes, shorter than cap. */
static int scan_string(struct npy_scan *s, char *out, size_t cap)
{
    scan_spaces(s);
    const char quote = s->at < s->len ? s->text[s->at] : '\0';
    if (quote != '\'' && quote != '"') {
        return scan_fault(s, "a string in quotes");
    }
    const char *begin = s->text + s->at + 1;
    const char *end = memchr(begin, quote, s->len - s->at - 1);
    if (end == NULL || (size_t)(end - begin) >= cap) {
        return scan_fault(s, "a short string in quotes");
    }
    const size_t n = (size_t)(end - begin);
    memcpy(out, begin, n);
    out[n] = '\0';
    s->at += n + 2;
    return 0;
}

/* (), (3,), (2, 3): at most NPY_MAX_DIMS sizes. */
static int scan_shape(struct npy_scan *s, struct npy *out)
{
    if (!scan_word(s, "(")) {
        return scan_fault(s, "'(' of the shape");
    }
    out->n_dims = 0;
    while (!scan_word(s, ")")) {
        if (s->at >= s->len || s->text[s->at] < '0' || s->text[s->at] > '9') {
            return scan_fault(s, "a size or ')' in the shape");
        }
        if (out->n_dims == NPY_MAX_DIMS) {
            return scan_fault(s, "at most 8 dimensions");
        }
        size_t value = 0;
        while (s->at < s->len && s->text[s->at] >= '0' && s->text[s->at] <= '9') {
            const size_t digit = (size_t)(s->text[s->at] - '0');
            if (value > (SIZE_MAX - digit) / 10) {
                return scan_fault(s, "a size that fits into memory");
            }
            value = value * 10 + digit;
            s->at++;
        }
        out->dims[out->n_dims++] = value;
        if (!scan_word(s, ",")) {
            if (!scan_word(s, ")")) {
                return scan_fault(s, "',' or ')' in the shape");
            }
            return 0;
        }
    }
    return 0;
}

/* '<f4', '>i2', '|u1': order, kind, size. */
static int parse_type(const struct npy_scan *s, const char *descr, struct npy_type *type)
{
    static const struct {
        char letter;
        enum npy_kind kind;
        const char *sizes;
    } kinds[] = {{'f', NPY_FLOAT, "48"}, {'i', NPY_SIGNED, "1248"}, {'u', NPY_UNSIGNED, "1248"}};
    const int known = strlen(descr) == 3 && strchr("<>|=", descr[0]) != NULL;
    for (size_t i = 0; known && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (descr[1] == kinds[i].letter && strchr(kinds[i].sizes, descr[2]) != NULL) {
            type->kind = kinds[i].kind;
            type->size = (size_t)(descr[2] - '0');
            type->is_big = descr[0] == '>' || (descr[0] == '=' && bytes_host_is_big());
            return 0;
        }
    }
    return err_set(s->err, ERR_FORMAT,
                   "%s: npy arrays of type '%s' are not read, expected '<f4', '<f8' or an integer "
                   "type: convert it with array.astype('float32')",
                   s->path, descr);
}

/* The dictionary: type and shape. */
static int scan_header(struct npy_scan *s, struct npy_type *type, struct npy *out)
{
    int has_descr = 0, has_order = 0, has_shape = 0;
    if (!scan_word(s, "{")) {
        return scan_fault(s, "'{'");
    }
    while (!scan_word(s, "}")) {
        char key[32], descr[32];
        int code = scan_string(s, key, sizeof key);
        if (code == 0 && !scan_word(s, ":")) {
            code = scan_fault(s, "':' behind a key");
        }
        if (code != 0) {
            return code;
        }
        if (strcmp(key, "descr") == 0 && !has_descr) {
            has_descr = 1;
            code = scan_string(s, descr, sizeof descr);
            code = code != 0 ? code : parse_type(s, descr, type);
        } else if (strcmp(key, "fortran_order") == 0 && !has_order) {
            has_order = 1;
            if (scan_word(s, "True")) {
                code = err_set(s->err, ERR_FORMAT,
                               "%s: the array is in Fortran order, expected C order: save it with "
                               "numpy.ascontiguousarray(array)",
                               s->path);
            } else if (!scan_word(s, "False")) {
                code = scan_fault(s, "True or False");
            }
        } else if (strcmp(key, "shape") == 0 && !has_shape) {
            has_shape = 1;
            code = scan_shape(s, out);
        } else {
            code = scan_fault(s, "each of 'descr', 'fortran_order' and 'shape' once");
        }
        if (code != 0) {
            return code;
        }
        if (!scan_word(s, ",")) {
            if (!scan_word(s, "}")) {
                return scan_fault(s, "',' or '}'");
            }
            break;
        }
    }
    scan_spaces(s);
    if (s->at != s->len) {
        return scan_fault(s, "spaces and the header's end");
    }
    if (!has_descr || !has_order || !has_shape) {
        return scan_fault(s, "all of 'descr', 'fortran_order' and 'shape'");
    }
    return 0;
}

/* --- reading --- */

/* Reads exactly n bytes at *offset and moves it on. */
static int read_part(FILE *fp, const char *path, void *buf, size_t n, size_t *offset,
                     struct err *err)
{
    const size_t got = fread(buf, 1, n, fp);
    if (got != n && ferror(fp)) {
        return err_sys(err, ERR_IO, errno, "cannot read %s at byte %zu", path, *offset + got);
    }
    if (got != n) {
        return err_set(err, ERR_FORMAT, "%s ends at byte %zu, expected %zu bytes from byte %zu on",
                       path, *offset + got, n, *offset);
    }
    *offset += n;
    return 0;
}

/* Magic, version, header: leaves the stream at the data. */
static int read_header(FILE *fp, const char *path, struct npy_type *type, struct npy *out,
                       size_t *offset, struct err *err)
{
    unsigned char begin[8], length[4] = {0};
    int code = read_part(fp, path, begin, sizeof begin, offset, err);
    if (code != 0) {
        return code;
    }
    if (memcmp(begin, npy_magic, sizeof npy_magic) != 0) {
        return err_set(err, ERR_FORMAT, "%s is no npy file: it does not begin with \\x93NUMPY",
                       path);
    }
    if (begin[6] < 1 || begin[6] > 3) {
        return err_set(err, ERR_FORMAT, "%s: npy version %d.%d, expected 1.0, 2.0 or 3.0", path,
                       begin[6], begin[7]);
    }
    code = read_part(fp, path, length, begin[6] == 1 ? 2 : 4, offset, err);
    if (code != 0) {
        return code;
    }
    const size_t header_bytes = (size_t)length[0] | (size_t)length[1] << 8 |
                                (size_t)length[2] << 16 | (size_t)length[3] << 24;
    if (header_bytes > NPY_MAX_HEADER_BYTES) {
        return err_set(err, ERR_FORMAT, "%s: npy header of %zu bytes, expected at most %zu", path,
                       header_bytes, NPY_MAX_HEADER_BYTES);
    }
    char *text = mem_alloc(MEM_OTHER, header_bytes);
    if (text == NULL) {
        return err_nomem(err, path, header_bytes);
    }
    struct npy_scan scan = {
        .path = path, .text = text, .len = header_bytes, .text_offset = *offset, .err = err};
    code = read_part(fp, path, text, header_bytes, offset, err);
    code = code != 0 ? code : scan_header(&scan, type, out);
    mem_free(text);
    return code;
}

/* One element, in host order. */
static float to_float(const unsigned char *p, const struct npy_type *type)
{
    uint64_t u = 0;
    for (size_t i = 0; i < type->size; i++) {
        u |= (uint64_t)p[type->is_big ? type->size - 1 - i : i] << (8 * i);
    }
    if (type->kind == NPY_FLOAT && type->size == 4) {
        const uint32_t bits = (uint32_t)u;
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    if (type->kind == NPY_FLOAT) {
        double value;
        memcpy(&value, &u, sizeof value);
        return (float)value;
    }
    if (type->kind == NPY_UNSIGNED) {
        return (float)u;
    }
    const uint64_t sign = UINT64_C(1) << (8 * type->size - 1);
    const int64_t value = (int64_t)((u ^ sign) - sign); /* sign extension */
    return (float)value;
}

static int read_data(FILE *fp, const char *path, const struct npy_type *type, float *data, size_t n,
                     size_t *offset, struct err *err)
{
    if (type->kind == NPY_FLOAT && type->size == 4) {
        const int code = read_part(fp, path, data, n * sizeof *data, offset, err);
        if (code == 0 && type->is_big != bytes_host_is_big()) {
            bytes_swap(data, sizeof *data, n);
        }
        return code;
    }
    unsigned char chunk[4096];
    const size_t per_chunk = sizeof chunk / type->size;
    for (size_t i = 0; i < n; i += per_chunk) {
        const size_t m = n - i < per_chunk ? n - i : per_chunk;
        const int code = read_part(fp, path, chunk, m * type->size, offset, err);
        if (code != 0) {
            return code;
        }
        for (size_t j = 0; j < m; j++) {
            data[i + j] = to_float(chunk + j * type->size, type);
        }
    }
    return 0;
}

/* The number of elements; their bytes in the file and in memory must both have a size. */
static int count_elements(const struct npy *a, const struct npy_type *type, const char *path,
                          size_t *n, struct err *err)
{
    int overflow = 0;
    *n = 1;
    for (size_t i = 0; i < a->n_dims; i++) {
        *n = size_mul(*n, a->dims[i], &overflow);
    }
    (void)size_mul(*n, type->size, &overflow);
    (void)size_mul(*n, sizeof(float), &overflow);
    if (overflow) {
        return err_set(err, ERR_FORMAT, "%s: the shape has more elements than fit into memory",
                       path);
    }
    return 0;
}

int npy_read(const char *path, struct npy *out, struct err *err)
{
    struct npy a = {0};
    struct npy_type type = {NPY_FLOAT, sizeof(float), 0};
    size_t n = 0, offset = 0, file_bytes = 0;
    int fd = -1;
    int code = file_open_read(path, &fd, &file_bytes, err);
    if (code != 0) {
        return code;
    }
    FILE *fp = fdopen(fd, "rb");
    if (fp == NULL) {
        code = err_sys(err, ERR_IO, errno, "cannot read %s", path);
        close(fd);
        return code;
    }
    code = read_header(fp, path, &type, &a, &offset, err);
    code = code != 0 ? code : count_elements(&a, &type, path, &n, err);
    if (code != 0) {
        goto out;
    }
    /* Before memory is taken: does the file have what the header promises, and no more? */
    if (file_bytes != SIZE_MAX && (file_bytes < offset || file_bytes - offset != n * type.size)) {
        code = err_set(err, ERR_FORMAT,
                       "%s: expected %zu bytes of data (%zu elements of %zu bytes) behind byte "
                       "%zu, found %zu",
                       path, n * type.size, n, type.size, offset,
                       file_bytes < offset ? 0 : file_bytes - offset);
        goto out;
    }
    a.data = mem_alloc(MEM_DATA, n * sizeof(float));
    if (a.data == NULL) {
        code = err_nomem(err, path, n * sizeof(float));
        goto out;
    }
    code = read_data(fp, path, &type, a.data, n, &offset, err);
    if (code == 0 && fgetc(fp) != EOF) {
        code = err_set(err, ERR_FORMAT, "%s: data goes on behind its last element at byte %zu",
                       path, offset);
    }
    if (code == 0) {
        *out = a;
        a.data = NULL;
    }
out:
    npy_fini(&a);
    (void)fclose(fp);
    return code;
}

void npy_fini(struct npy *a)
{
    mem_free(a->data);
    *a = (struct npy){0};
}

/* --- writing --- */

int npy_write(const char *path, const float *data, size_t n_dims, const size_t *dims,
              struct err *err)
{
    if (n_dims > NPY_MAX_DIMS) {
        return err_set(err, ERR_SHAPE, "%s: %zu dimensions, expected at most %d", path, n_dims,
                       NPY_MAX_DIMS);
    }
    char text[512] = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
    size_t len = strlen(text), n = 1;
    for (size_t i = 0; i < n_dims; i++) {
        const char *before = i == 0 ? "" : ", ", *behind = n_dims == 1 ? "," : "";
        const int added = snprintf(text + len, sizeof text - len, "%s%zu%s", before, dims[i],
                                   behind);
        len += (size_t)added; /* at most 8 * 22 characters */
        n *= dims[i];
    }
    memcpy(text + len, "), }", 4);
    len += 4;
    const size_t preamble = sizeof npy_magic + 2 + 2;
    while ((preamble + len + 1) % NPY_ALIGN != 0) {
        text[len++] = ' ';
    }
    text[len++] = '\n';

    const unsigned char rest[4] = {1, 0, (unsigned char)(len & 255), (unsigned char)(len >> 8)};
    struct file_out f;
    const int code = file_out_open(&f, path, err);
    if (code != 0) {
        return code;
    }
    /* Failed writes leave their mark in the stream; commit looks at it. */
    if (fwrite(npy_magic, 1, sizeof npy_magic, f.fp) == sizeof npy_magic &&
        fwrite(rest, 1, sizeof rest, f.fp) == sizeof rest && fwrite(text, 1, len, f.fp) == len) {
        (void)bytes_write(f.fp, data, sizeof *data, n);
    }
    return file_out_commit(&f, err);
}
