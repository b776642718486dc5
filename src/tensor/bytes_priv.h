/* Little-endian numbers of files, on hosts of either byte order. For this room alone. */
#ifndef TENSOR_BYTES_PRIV_H
#define TENSOR_BYTES_PRIV_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Is the host big-endian? */
int bytes_host_is_big(void);

/* Reverses the bytes of each of n elements of `size` bytes. */
void bytes_swap(void *data, size_t size, size_t n);

uint64_t bytes_get_u64(const unsigned char in[8]);
void bytes_put_u64(unsigned char out[8], uint64_t value);

/* Writes n elements of `size` bytes (at most 8) as little-endian. Returns 0, or -1 when the stream
 * fails. */
int bytes_write(FILE *fp, const void *data, size_t size, size_t n);

#endif
