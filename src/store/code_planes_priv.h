/* Codes of 1 to 16 bits, a width per channel, as bit planes.
 *
 * Eight consecutive pixels (an octet) of a channel of b bits take b bytes: byte k holds bit k of the
 * eight codes, the first pixel in the low bit. The channels of an octet follow one another, the
 * octets of the map too: octet o of channel ch begins at o * row_bytes + at[ch], with at[ch] the sum
 * of the widths before it and row_bytes that of all. Pixels count through the samples; those that
 * are missing in the last octet are 0. Single-threaded. */
#ifndef STORE_CODE_PLANES_PRIV_H
#define STORE_CODE_PLANES_PRIV_H

#include <stddef.h>
#include <stdint.h>

#define CODE_PLANES_PIXELS 8

/* codes [8][c] -> dst [sum of bits]. Codes fit into their channel's bits. */
void code_planes_pack(const uint16_t *codes, size_t c, const uint8_t *bits, unsigned char *dst);

/* One channel's b bytes -> its eight codes. */
void code_planes_unpack(const unsigned char *src, unsigned bits, uint16_t codes[8]);

#endif
