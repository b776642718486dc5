#!/bin/sh
# Rules about the compiled library:
#   1. every external symbol begins with the noun of a file of src/ (mem_alloc: src/base/mem.c), so
#      that the library takes no names that a user's program may want;
#   2. vector registers beyond the baseline's appear only in the kernels compiled for them, so that
#      the program starts on any x86-64.
set -eu

library=${top_builddir:-.}/libdivision.a
if ! test -e "$library" || ! command -v nm >/dev/null || ! command -v objdump >/dev/null; then
    echo "no library, nm or objdump here"
    exit 77
fi
status=0

# First words of the files' names, and their singular; then the exceptions, with their homes.
nouns=$(find "${top_srcdir:-.}/src" -type f \( -name '*.[ch]' -o -name '*.def' \) |
    sed 's,.*/,,; s,[._].*,,' | sed 'p; s/s$//' | LC_ALL=C sort -u)
nouns="$nouns
size
softmax
step"
# Sanitizers and coverage add names of their own, with leading underscores.
foreign=$(nm -g --defined-only "$library" 2>/dev/null | awk 'NF == 3 { print $3 }' |
    grep -v '^_' | LC_ALL=C sort -u | awk -v nouns="$nouns" '
    BEGIN { n = split(nouns, list, "\n"); for (i = 1; i <= n; i++) known[list[i]] = 1 }
    { word = $0; sub(/_.*/, "", word); if (!(word in known)) print }')
if test -n "$foreign"; then
    echo "symbols without the noun of a file in front:"
    echo "$foreign"
    status=1
fi

# With -m flags of the user's own, or off x86-64, there is no such baseline.
if grep -q '^CFLAGS = .*-m' "${top_builddir:-.}/Makefile" || test "$(uname -m)" != x86_64; then
    exit $status
fi
leaks=$(objdump -d --no-show-raw-insn "$library" | awk '
    /file format/ { object = $1; sub(/:$/, "", object); isa = object ~ /libkern_avx/ }
    !isa && /%[yz]mm[0-9]/ && !(object in seen) { seen[object] = 1; print object }')
if test -n "$leaks"; then
    echo "objects with AVX code that runs on every processor:"
    echo "$leaks"
    status=1
fi
exit $status
