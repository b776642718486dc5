#include "store/code_planes_priv.h"

/* Bit j of byte i becomes bit i of byte j (Warren, Hacker's Delight, 7-3). */
static uint64_t transpose(uint64_t x)
{
    uint64_t t = (x ^ x >> 7) & UINT64_C(0x00AA00AA00AA00AA);
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & UINT64_C(0x0000CCCC0000CCCC);
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & UINT64_C(0x00000000F0F0F0F0);
    return x ^ t ^ t << 28;
}

void code_planes_pack(const uint16_t *codes, size_t c, const uint8_t *bits, unsigned char *dst)
{
    for (size_t ch = 0; ch < c; ch++) {
        uint64_t low = 0, high = 0;
        for (size_t i = 0; i < CODE_PLANES_PIXELS; i++) {
            const uint64_t code = codes[i * c + ch];
            low |= (code & 0xFFu) << 8 * i;
            high |= code >> 8 << 8 * i;
        }
        low = transpose(low);
        const unsigned n_low = bits[ch] < 8 ? bits[ch] : 8;
        for (unsigned k = 0; k < n_low; k++) {
            *dst++ = (unsigned char)(low >> 8 * k & 0xFFu);
        }
        if (bits[ch] > 8) {
            high = transpose(high);
            for (unsigned k = 8; k < bits[ch]; k++) {
                *dst++ = (unsigned char)(high >> 8 * (k - 8) & 0xFFu);
            }
        }
    }
}

void code_planes_unpack(const unsigned char *src, unsigned bits, uint16_t codes[8])
{
    uint64_t low = 0, high = 0;
    for (unsigned k = 0; k < bits; k++) {
        if (k < 8) {
            low |= (uint64_t)src[k] << 8 * k;
        } else {
            high |= (uint64_t)src[k] << 8 * (k - 8);
        }
    }
    low = transpose(low);
    high = bits > 8 ? transpose(high) : 0;
    for (size_t i = 0; i < CODE_PLANES_PIXELS; i++) {
        codes[i] = (uint16_t)((low >> 8 * i & 0xFFu) | (high >> 8 * i & 0xFFu) << 8);
    }
}
