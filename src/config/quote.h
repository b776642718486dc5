/* Texts and numbers as YAML scalars, for the files that the program writes (config.yaml, run.yaml). */
#ifndef CONFIG_QUOTE_H
#define CONFIG_QUOTE_H

#include <stdio.h>

/* Writes `text` plain where every YAML reader takes it for that text, else (a number, a truth value,
 * anything unusual) in double quotes; control characters as escapes. Reads back as the same text, but for bytes that
 * are not UTF-8: YAML cannot hold them, each becomes U+FFFD. Errors stay in ferror(fp). */
void quote_text(FILE *fp, const char *text);

/* The shortest decimal that reads back as the same double; "1.0e-05" rather than "1e-05", which
 * YAML 1.1 readers take for a text. NaN is "null" (not measured), infinities ".inf", "-.inf".
 * Returns buf, or a constant text. */
const char *quote_real(char buf[32], double v);

/* Length (1 to 4) of the UTF-8 character at s[0..n) and its code point; 0 if there is none. */
size_t quote_utf8(const char *s, size_t n, unsigned *code);

/* Whether YAML lets the code point stand for itself, within one line. */
int quote_is_printable(unsigned code);

#endif
