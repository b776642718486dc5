/* Byte order: see bytes_priv.h. */
#include "tensor/bytes_priv.h"

#include <string.h>

int bytes_host_is_big(void)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return 1;
#else
    return 0;
#endif
}

void bytes_swap(void *data, size_t size, size_t n)
{
    unsigned char *p = data;
    for (size_t i = 0; i < n; i++, p += size) {
        for (size_t a = 0, b = size - 1; a < b; a++, b--) {
            const unsigned char kept = p[a];
            p[a] = p[b];
            p[b] = kept;
        }
    }
}

uint64_t bytes_get_u64(const unsigned char in[8])
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) {
        value = value << 8 | in[i];
    }
    return value;
}

void bytes_put_u64(unsigned char out[8], uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        out[i] = (unsigned char)(value >> (8 * i));
    }
}

int bytes_write(FILE *fp, const void *data, size_t size, size_t n)
{
    if (!bytes_host_is_big()) {
        return n == 0 || fwrite(data, size, n, fp) == n ? 0 : -1;
    }
    unsigned char chunk[4096];
    const size_t per_chunk = sizeof chunk / size;
    const unsigned char *src = data;
    for (size_t i = 0; i < n; i += per_chunk) {
        const size_t m = n - i < per_chunk ? n - i : per_chunk;
        memcpy(chunk, src + i * size, m * size);
        bytes_swap(chunk, size, m);
        if (fwrite(chunk, size, m, fp) != m) {
            return -1;
        }
    }
    return 0;
}
