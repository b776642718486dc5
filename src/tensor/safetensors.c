/* safetensors files: see safetensors.h.
 *
 *   bytes 0-7   header length n, little-endian
 *   n bytes     JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …},
 *               optionally "__metadata__": {"key": "value", …}; spaces at the end are allowed
 *   the rest    the data; offsets count from here, leave no holes and do not overlap
 *
 * Each tensor is read into its own 64-byte aligned place of one buffer, whatever the file's
 * alignment is, so that callers may use it as an array. jansson keeps its own heap: parsed headers
 * are gone before the functions return. */
#include "tensor/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "tensor/bytes_priv.h"

#define METADATA "__metadata__"
#define SLOT_ALIGN ((size_t)64)

/* How a file's elements become ours. */
struct dtype {
    const char *name;
    size_t size; /* in the file */
    enum safetensors_type type;
    size_t out_size; /* in memory */
};

static const struct dtype dtypes[] = {
    {"F32", 4, SAFETENSORS_F32, 4}, {"F64", 8, SAFETENSORS_F64, 8},  {"I64", 8, SAFETENSORS_I64, 8},
    {"F16", 2, SAFETENSORS_F32, 4}, {"BF16", 2, SAFETENSORS_F32, 4},
};
#define N_DTYPES (sizeof dtypes / sizeof dtypes[0])

/* One tensor as the header describes it. */
struct found {
    struct safetensors_entry entry; /* name: borrowed from the JSON tree until it is copied */
    const struct dtype *dtype;
    size_t begin, end; /* from the data's beginning */
    size_t n;          /* elements */
};

/* Where an entry's elements lie in the file. */
struct place {
    const struct dtype *dtype;
    size_t offset;
};

/* An open file: fd is -1 once all has been read. */
struct reader {
    int fd;
    char *path, *names;
    struct place *places; /* [entries] */
    unsigned char *data;  /* of safetensors_read */
};

/* --- reading the header --- */

/* A JSON integer >= 0 as a size; -1 if it is none. */
static int to_size(const json_t *value, size_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return -1;
    }
    *out = (size_t)json_integer_value(value);
    return 0;
}

/* The shape, and from it the number of elements. */
static int parse_shape(const json_t *shape, struct found *f, const char *path, struct err *err)
{
    const char *name = f->entry.name;
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_MAX_DIMS) {
        return err_set(err, ERR_FORMAT,
                       "%s: tensor '%.200s': \"shape\" must be a list of at most %d sizes", path,
                       name, SAFETENSORS_MAX_DIMS);
    }
    int overflow = 0;
    f->n = 1;
    f->entry.n_dims = json_array_size(shape);
    for (size_t i = 0; i < f->entry.n_dims; i++) {
        if (to_size(json_array_get(shape, i), &f->entry.dims[i]) != 0) {
            return err_set(err, ERR_FORMAT,
                           "%s: tensor '%.200s': size %zu of \"shape\" must be an integer of at "
                           "least 0",
                           path, name, i);
        }
        f->n = size_mul(f->n, f->entry.dims[i], &overflow);
    }
    (void)size_mul(f->n, 8, &overflow); /* whatever the type */
    if (overflow) {
        return err_set(err, ERR_FORMAT,
                       "%s: tensor '%.200s': the shape has more elements than fit into memory",
                       path, name);
    }
    return 0;
}

/* One member of the header. data_bytes: what the file has behind the header. */
static int parse_tensor(const char *name, const json_t *value, size_t data_bytes, struct found *f,
                        const char *path, struct err *err)
{
    *f = (struct found){.entry.name = name};
    const json_t *dtype = json_object_get(value, "dtype");
    const json_t *offsets = json_object_get(value, "data_offsets");
    if (!json_is_object(value) || json_object_size(value) != 3 || !json_is_string(dtype) ||
        !json_is_array(offsets) || json_array_size(offsets) != 2) {
        return err_set(err, ERR_FORMAT,
                       "%s: tensor '%.200s': expected \"dtype\", \"shape\" and \"data_offsets\": "
                       "[begin, end]",
                       path, name);
    }
    for (size_t i = 0; i < N_DTYPES; i++) {
        if (strcmp(json_string_value(dtype), dtypes[i].name) == 0) {
            f->dtype = &dtypes[i];
        }
    }
    if (f->dtype == NULL) {
        return err_set(err, ERR_FORMAT,
                       "%s: tensor '%.200s': type \"%.40s\" is not read, expected F32, F64, F16, "
                       "BF16 or I64",
                       path, name, json_string_value(dtype));
    }
    f->entry.type = f->dtype->type;
    const int code = parse_shape(json_object_get(value, "shape"), f, path, err);
    if (code != 0) {
        return code;
    }
    if (to_size(json_array_get(offsets, 0), &f->begin) != 0 ||
        to_size(json_array_get(offsets, 1), &f->end) != 0 || f->begin > f->end ||
        f->end > data_bytes) {
        return err_set(err, ERR_FORMAT,
                       "%s: tensor '%.200s': \"data_offsets\" must be two integers in order, at "
                       "most the file's %zu bytes of data: the file is cut short or damaged",
                       path, name, data_bytes);
    }
    if (f->end - f->begin != f->n * f->dtype->size) {
        return err_set(err, ERR_FORMAT,
                       "%s: tensor '%.200s': the offsets %zu to %zu give %zu bytes, its shape "
                       "needs %zu",
                       path, name, f->begin, f->end, f->end - f->begin, f->n * f->dtype->size);
    }
    return 0;
}

static int by_offset(const void *pa, const void *pb)
{
    const struct found *a = pa, *b = pb;
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    if (a->end != b->end) {
        return a->end < b->end ? -1 : 1;
    }
    return strcmp(a->entry.name, b->entry.name);
}

/* Sorts by offset; the tensors must cover the data without holes or overlaps. */
static int check_cover(struct found *found, size_t n, size_t data_bytes, const char *path,
                       struct err *err)
{
    if (n > 0) {
        qsort(found, n, sizeof *found, by_offset);
    }
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (found[i].begin != at) {
            return err_set(err, ERR_FORMAT,
                           "%s: tensor '%.200s' begins at data byte %zu, expected %zu: the "
                           "tensors %s",
                           path, found[i].entry.name, found[i].begin, at,
                           found[i].begin < at ? "overlap" : "leave a hole");
        }
        at = found[i].end;
    }
    if (at != data_bytes) {
        return err_set(err, ERR_FORMAT, "%s: %zu bytes of data, the tensors cover %zu", path,
                       data_bytes, at);
    }
    return 0;
}

/* Parses the text; *root is the caller's to release. */
static int parse_json(const char *text, size_t len, const char *path, json_t **root,
                      struct err *err)
{
    json_error_t fault;
    *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &fault);
    if (*root == NULL && json_error_code(&fault) == json_error_out_of_memory) {
        return err_nomem(err, path, len);
    }
    if (*root == NULL) {
        return err_set(err, ERR_FORMAT, "%s: the header is no JSON: %s (at header byte %d)", path,
                       fault.text, fault.position);
    }
    if (!json_is_object(*root)) {
        return err_set(err, ERR_FORMAT, "%s: the header is no JSON object", path);
    }
    return 0;
}

/* All tensors of the header; *found is the caller's. */
static int parse_header(const json_t *root, size_t data_bytes, const char *path,
                        struct found **found, size_t *n, struct err *err)
{
    const size_t n_members = json_object_size(root);
    struct found *list = mem_calloc(MEM_OTHER, n_members, sizeof *list);
    if (list == NULL) {
        return err_nomem(err, path, n_members * sizeof *list);
    }
    int code = 0;
    size_t count = 0;
    /* jansson's iterators want a pointer to non-const, but change nothing. */
    union {
        const json_t *in;
        json_t *out;
    } object = {root};
    for (void *it = json_object_iter(object.out); it != NULL && code == 0;
         it = json_object_iter_next(object.out, it)) {
        if (strcmp(json_object_iter_key(it), METADATA) != 0) {
            code = parse_tensor(json_object_iter_key(it), json_object_iter_value(it), data_bytes,
                                &list[count], path, err);
            count++;
        }
    }
    code = code != 0 ? code : check_cover(list, count, data_bytes, path, err);
    if (code != 0) {
        mem_free(list);
        return code;
    }
    *found = list;
    *n = count;
    return 0;
}

/* --- reading the data --- */

static float from_bf16(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float from_f16(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t exponent = (half >> 10) & 31, fraction = half & 1023;
    if (exponent == 0) {
        const float value = (float)fraction * 0x1p-24f; /* zero or subnormal: exact */
        return sign != 0 ? -value : value;
    }
    /* Infinity and NaN keep their place at the top of the exponent's range. */
    const uint32_t wide = exponent == 31 ? 255 : exponent + (127 - 15);
    const uint32_t bits = sign | wide << 23 | fraction << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Widens n 2-byte elements that lie in the upper half of a slot, to floats that fill it. */
static void widen(unsigned char *slot, size_t n, int is_bf16)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char *p = slot + 2 * n + 2 * i; /* never behind what is written below */
        const uint16_t half = (uint16_t)(p[0] | p[1] << 8);
        const float value = is_bf16 ? from_bf16(half) : from_f16(half);
        memcpy(slot + 4 * i, &value, sizeof value);
    }
}

/* Copies names and places; fills entries in the order of `found`. */
static int keep_header(struct reader *r, size_t data_offset, const struct found *found, size_t n,
                       struct safetensors_entry *entries, struct err *err)
{
    size_t names_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        names_bytes += strlen(found[i].entry.name) + 1;
    }
    r->names = mem_alloc(MEM_OTHER, names_bytes);
    r->places = mem_calloc(MEM_OTHER, n, sizeof *r->places);
    if (r->names == NULL || r->places == NULL) {
        return err_nomem(err, r->path, names_bytes + n * sizeof *r->places);
    }
    char *name = r->names;
    for (size_t i = 0; i < n; i++) {
        const size_t name_bytes = strlen(found[i].entry.name) + 1;
        memcpy(name, found[i].entry.name, name_bytes);
        entries[i] = found[i].entry;
        entries[i].name = name;
        r->places[i] = (struct place){found[i].dtype, data_offset + found[i].begin};
        name += name_bytes;
    }
    return 0;
}

/* The header's text: *text is the caller's. */
static int read_header(int fd, size_t file_bytes, const char *path, char **text, size_t *len,
                       struct err *err)
{
    unsigned char begin[8];
    if (file_bytes < sizeof begin) {
        return err_set(err, ERR_FORMAT, "%s: %zu bytes are too few for a safetensors file", path,
                       file_bytes);
    }
    int code = file_pread(fd, path, begin, sizeof begin, 0, err);
    if (code != 0) {
        return code;
    }
    const uint64_t header_bytes = bytes_get_u64(begin);
    if (header_bytes > file_bytes - sizeof begin || header_bytes > SAFETENSORS_MAX_HEADER_BYTES) {
        return err_set(err, ERR_FORMAT,
                       "%s: header length %llu at byte 0, expected at most %zu: the file is cut "
                       "short, or no safetensors file",
                       path, (unsigned long long)header_bytes,
                       file_bytes - sizeof begin < SAFETENSORS_MAX_HEADER_BYTES
                           ? file_bytes - sizeof begin
                           : SAFETENSORS_MAX_HEADER_BYTES);
    }
    char *read = mem_alloc(MEM_OTHER, (size_t)header_bytes);
    if (read == NULL) {
        return err_nomem(err, path, (size_t)header_bytes);
    }
    code = file_pread(fd, path, read, (size_t)header_bytes, sizeof begin, err);
    if (code != 0) {
        mem_free(read);
        return code;
    }
    *text = read;
    *len = (size_t)header_bytes;
    return 0;
}

int safetensors_open(const char *path, struct safetensors_file *out, struct err *err)
{
    size_t file_bytes = 0, header_bytes = 0, n = 0;
    char *text = NULL;
    json_t *root = NULL;
    struct found *found = NULL;
    struct safetensors_file file = {0};

    struct reader *r = mem_alloc(MEM_OTHER, sizeof *r);
    if (r == NULL) {
        return err_nomem(err, path, sizeof *r);
    }
    file.priv = r;
    r->fd = -1;
    int code = file_open_read(path, &r->fd, &file_bytes, err);
    if (code != 0) {
        goto out;
    }
    if (file_bytes == SIZE_MAX) {
        code = err_set(err, ERR_IO, "cannot read %s: it is a pipe or device, not a file", path);
        goto out;
    }
    if ((code = read_header(r->fd, file_bytes, path, &text, &header_bytes, err)) != 0 ||
        (code = parse_json(text, header_bytes, path, &root, err)) != 0 ||
        (code = parse_header(root, file_bytes - 8 - header_bytes, path, &found, &n, err)) != 0) {
        goto out;
    }
    file.n_entries = n;
    file.entries = mem_calloc(MEM_OTHER, n, sizeof *file.entries);
    r->path = mem_strdup(path);
    if (file.entries == NULL || r->path == NULL) {
        code = err_nomem(err, path, n * sizeof *file.entries);
        goto out;
    }
    code = keep_header(r, 8 + header_bytes, found, n, file.entries, err);
    if (code == 0) {
        *out = file;
        file = (struct safetensors_file){0};
    }
out:
    safetensors_fini(&file);
    mem_free(found);
    json_decref(root);
    mem_free(text);
    return code;
}

int safetensors_load(const struct safetensors_file *f, const struct safetensors_entry *e,
                     size_t first, size_t n, void *out, struct err *err)
{
    const struct reader *r = f->priv;
    const struct place *at = &r->places[e - f->entries];
    const size_t in_bytes = n * at->dtype->size;
    unsigned char *slot = out, *dst = slot + (n * at->dtype->out_size - in_bytes);
    const int code = file_pread(r->fd, r->path, dst, in_bytes, at->offset + first * at->dtype->size,
                                err);
    if (code != 0) {
        return code;
    }
    if (at->dtype->size == 2) {
        widen(slot, n, strcmp(at->dtype->name, "BF16") == 0);
    } else if (bytes_host_is_big()) {
        bytes_swap(slot, at->dtype->size, n);
    }
    return 0;
}

size_t safetensors_count(const struct safetensors_entry *e)
{
    size_t n = 1;
    for (size_t i = 0; i < e->n_dims; i++) {
        n *= e->dims[i];
    }
    return n;
}

static size_t slot_bytes(const struct reader *r, const struct safetensors_file *f, size_t i)
{
    /* At most twice the file's bytes and 64 per header entry: cannot overflow. */
    const size_t bytes = safetensors_count(&f->entries[i]) * r->places[i].dtype->out_size;
    return (bytes + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN;
}

int safetensors_read(const char *path, struct safetensors_file *out, struct err *err)
{
    struct safetensors_file file;
    int code = safetensors_open(path, &file, err);
    if (code != 0) {
        return code;
    }
    struct reader *r = file.priv;
    size_t data_bytes = 0;
    for (size_t i = 0; i < file.n_entries; i++) {
        data_bytes += slot_bytes(r, &file, i);
    }
    r->data = mem_alloc(MEM_OTHER, data_bytes);
    if (r->data == NULL) {
        code = err_nomem(err, path, data_bytes);
    }
    unsigned char *slot = r->data;
    for (size_t i = 0; i < file.n_entries && code == 0; i++) {
        struct safetensors_entry *e = &file.entries[i];
        code = safetensors_load(&file, e, 0, safetensors_count(e), slot, err);
        e->data = slot;
        slot += slot_bytes(r, &file, i);
    }
    if (code != 0) {
        safetensors_fini(&file);
        return code;
    }
    close(r->fd);
    r->fd = -1;
    *out = file;
    return 0;
}

const struct safetensors_entry *safetensors_find(const struct safetensors_file *f, const char *name)
{
    for (size_t i = 0; i < f->n_entries; i++) {
        if (strcmp(f->entries[i].name, name) == 0) {
            return &f->entries[i];
        }
    }
    return NULL;
}

void safetensors_fini(struct safetensors_file *f)
{
    struct reader *r = f->priv;
    if (r != NULL) {
        if (r->fd >= 0) {
            close(r->fd);
        }
        mem_free(r->path);
        mem_free(r->names);
        mem_free(r->places);
        mem_free(r->data);
        mem_free(r);
    }
    mem_free(f->entries);
    *f = (struct safetensors_file){0};
}

/* --- writing --- */

static const struct dtype *dtype_of(const struct safetensors_entry *e)
{
    return &dtypes[e->type]; /* the table begins in the order of the enum */
}

/* Adds one tensor that begins at data byte *at. Returns 0, or -1 if jansson refuses. */
static int add_tensor(json_t *root, const struct safetensors_entry *e, size_t *at)
{
    const size_t bytes = safetensors_count(e) * dtype_of(e)->size;
    json_t *shape = json_array();
    int status = shape == NULL ? -1 : 0;
    for (size_t i = 0; status == 0 && i < e->n_dims; i++) {
        status = json_array_append_new(shape, json_integer((json_int_t)e->dims[i]));
    }
    if (status != 0) {
        json_decref(shape);
        return -1;
    }
    json_t *value = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_of(e)->name, "shape", shape,
                              "data_offsets", (json_int_t)*at, (json_int_t)(*at + bytes));
    *at += bytes;
    return json_object_set_new(root, e->name, value);
}

/* Writes one tensor's elements: from memory, or piece by piece as `fill` makes them. Returns 0, or -1
 * if the file does not take them. */
static int write_tensor(FILE *fp, const struct safetensors_entry *e)
{
    const size_t n = safetensors_count(e), size = dtype_of(e)->size;
    if (e->fill == NULL) {
        return bytes_write(fp, e->data, size, n);
    }
    _Alignas(double) unsigned char piece[SAFETENSORS_PIECE * sizeof(double)];
    for (size_t first = 0; first < n; first += SAFETENSORS_PIECE) {
        const size_t m = n - first < SAFETENSORS_PIECE ? n - first : SAFETENSORS_PIECE;
        e->fill(e->data, first, m, piece);
        if (bytes_write(fp, piece, size, m) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The header as a JSON tree, or NULL with err set. Tensors of 8-byte elements come first. */
static json_t *make_header(const struct safetensors_entry *entries, size_t n,
                           const char *const *meta, size_t n_meta, const char *path,
                           struct err *err)
{
    json_t *root = json_object(), *map = json_object();
    const char *culprit = METADATA;
    size_t at = 0;
    if (root == NULL || map == NULL) {
        json_decref(map);
        goto fail;
    }
    if (n_meta == 0) {
        json_decref(map);
    } else if (json_object_set_new(root, METADATA, map) != 0) {
        goto fail;
    }
    for (size_t i = 0; i < n_meta; i++) {
        culprit = meta[2 * i];
        if (json_object_set_new(map, meta[2 * i], json_string(meta[2 * i + 1])) != 0) {
            goto fail;
        }
    }
    for (size_t size = 8; size >= 4; size -= 4) {
        for (size_t i = 0; i < n; i++) {
            culprit = entries[i].name;
            if (dtype_of(&entries[i])->size != size) {
                continue;
            }
            if (json_object_get(root, culprit) != NULL || strcmp(culprit, METADATA) == 0) {
                (void)err_set(err, ERR_FORMAT, "cannot write %s: two tensors are called '%.200s'",
                              path, culprit);
                json_decref(root);
                return NULL;
            }
            if (add_tensor(root, &entries[i], &at) != 0) {
                goto fail;
            }
        }
    }
    return root;
fail:
    (void)err_set(err, ERR_FORMAT,
                  "cannot write %s: no header entry for '%.200s' (is it UTF-8, is memory short?)",
                  path, culprit);
    json_decref(root);
    return NULL;
}

int safetensors_write(const char *path, const struct safetensors_entry *entries, size_t n,
                      const char *const *meta, size_t n_meta, struct err *err)
{
    struct err ours = {0}; /* the code is needed even if the caller wants no message */
    json_t *root = make_header(entries, n, meta, n_meta, path, &ours);
    if (root == NULL) {
        return err_set(err, ours.code, "%s", ours.msg);
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (text == NULL) {
        return err_nomem(err, path, 0);
    }
    struct file_out f;
    const int code = file_out_open(&f, path, err);
    if (code != 0) {
        free(text);
        return code;
    }
    /* Spaces, so that the data begins at a multiple of 8. */
    const size_t len = strlen(text), padded = (len + 7) / 8 * 8;
    unsigned char begin[8];
    bytes_put_u64(begin, padded);
    int ok = fwrite(begin, 1, sizeof begin, f.fp) == sizeof begin &&
             fprintf(f.fp, "%s%*s", text, (int)(padded - len), "") >= 0;
    free(text); /* jansson's */
    for (size_t size = 8; size >= 4; size -= 4) {
        for (size_t i = 0; ok && i < n; i++) {
            if (dtype_of(&entries[i])->size == size) {
                ok = write_tensor(f.fp, &entries[i]) == 0;
            }
        }
    }
    return file_out_commit(&f, err);
}
