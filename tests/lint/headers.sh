#!/bin/sh
# Every header of src/ compiles when it is included alone: it includes what it uses.
set -eu

cd "${top_srcdir:-.}"
status=0
for header in $(find src -name '*.h' | LC_ALL=C sort); do
    case $header in
    src/kernels/simd/*) continue ;; # meant for one translation unit per instruction set
    esac
    # The second inclusion tests the guard.
    if ! printf '#include "%s"\n#include "%s"\n' "${header#src/}" "${header#src/}" |
        ${CC:-cc} -std=gnu17 -Isrc -Wall -Wstrict-prototypes -Werror -fsyntax-only -x c -; then
        echo "$header does not compile alone"
        status=1
    fi
done
exit $status
