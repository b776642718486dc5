#include "config/quote.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

size_t quote_utf8(const char *s, size_t n, unsigned *code)
{
    static const unsigned least[5] = {0, 0, 0x80, 0x800, 0x10000}; /* shorter forms exist below */
    if (n == 0) {
        return 0;
    }
    const unsigned first = (unsigned char)s[0];
    size_t len;
    unsigned c;
    if (first < 0x80) {
        *code = first;
        return 1;
    } else if (first >= 0xC0 && first < 0xE0) {
        len = 2;
        c = first & 0x1F;
    } else if (first >= 0xE0 && first < 0xF0) {
        len = 3;
        c = first & 0x0F;
    } else if (first >= 0xF0 && first < 0xF8) {
        len = 4;
        c = first & 0x07;
    } else {
        return 0;
    }
    if (len > n) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        const unsigned next = (unsigned char)s[i];
        if ((next & 0xC0) != 0x80) {
            return 0;
        }
        c = c << 6 | (next & 0x3F);
    }
    if (c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) {
        return 0;
    }
    *code = c;
    return len;
}

int quote_is_printable(unsigned c)
{
    if (c < 0xA0) {
        return c >= 0x20 && c < 0x7F; /* U+0085 is a line break */
    }
    return c != 0x2028 && c != 0x2029 /* line breaks */ && c != 0xFEFF /* byte order mark */ &&
           c != 0xFFFE && c != 0xFFFF;
}

/* Whether the text can stand without quotes, also between the commas of a flow list. */
static int is_plain(const char *s)
{
    static const char *const special[] = {"true", "false", "yes", "no", "on",
                                          "off",  "null",  "y",   "n"};
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/";
    static const char others[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/0123456789.+-";
    if (strspn(s, first) == 0 || s[strspn(s, others)] != '\0') {
        return 0; /* no indicator, no number in whatever notation */
    }
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (strcasecmp(s, special[i]) == 0) {
            return 0;
        }
    }
    return 1;
}

void quote_text(FILE *fp, const char *text)
{
    if (is_plain(text)) {
        fputs(text, fp);
        return;
    }
    putc('"', fp);
    const size_t size = strlen(text);
    for (size_t i = 0; i < size;) {
        unsigned code = 0;
        const size_t len = quote_utf8(text + i, size - i, &code);
        if (len == 0) {
            fputs("\\uFFFD", fp);
            i++;
            continue;
        }
        if (code == '"' || code == '\\') {
            putc('\\', fp);
            putc((int)code, fp);
        } else if (code == '\n') {
            fputs("\\n", fp);
        } else if (code == '\t') {
            fputs("\\t", fp);
        } else if (quote_is_printable(code)) {
            fwrite(text + i, 1, len, fp);
        } else {
            fprintf(fp, "\\u%04X", code); /* what is not printable lies below U+10000 */
        }
        i += len;
    }
    putc('"', fp);
}

const char *quote_real(char buf[32], double v)
{
    if (isnan(v)) {
        return "null";
    }
    if (isinf(v)) {
        return v > 0 ? ".inf" : "-.inf";
    }
    if (v == floor(v) && fabs(v) < 1e15) {
        snprintf(buf, 32, "%.0f", v); /* 100 rather than 1.0e+02 */
        return buf;
    }
    for (int digits = 1; digits <= 17; digits++) { /* 17 always suffice */
        snprintf(buf, 32, "%.*g", digits, v);
        if (strtod(buf, NULL) == v) {
            break;
        }
    }
    char *e = strchr(buf, 'e');
    if (e && !strchr(buf, '.')) {
        memmove(e + 2, e, strlen(e) + 1);
        memcpy(e, ".0", 2);
    }
    return buf;
}
