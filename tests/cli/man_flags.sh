#!/bin/sh
# Every option of a program stands in its man page and in its --help, with its argument, and no
# option stands there that the program does not take.
set -eu

LC_ALL=C
export LC_ALL
srcdir=$(cd "${top_srcdir:-.}" && pwd)
builddir=$(cd "${top_builddir:-.}" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/division-flags.XXXXXX")
trap 'rm -rf "$work"' EXIT
status=0

# both WHAT EXPECTED FOUND: two sorted lists that must be equal.
both() {
    comm -23 "$2" "$3" | sed "s,^,$1 lacks --," >"$work/differences"
    comm -13 "$2" "$3" | sed "s,\$, is no option of the program," | sed "s,^,$1: --," \
        >>"$work/differences"
    if test -s "$work/differences"; then
        cat "$work/differences"
        status=1
    fi
}

programs=0
for source in "$srcdir"/src/cli/*_main.c; do
    short=$(basename "$source" _main.c)
    name=division-$short
    page=$srcdir/man/$name.1
    programs=$((programs + 1))
    # "name", "name ARG" or "name[=ARG]": the rows of getopt's table.
    sed -n 's/^ *{"\([a-z-]*\)", required_argument,.*/\1 ARG/p
        s/^ *{"\([a-z-]*\)", optional_argument,.*/\1[=ARG]/p
        s/^ *{"\([a-z-]*\)", no_argument,.*/\1/p' "$srcdir/src/cli/$short"_*.c | sort -u >"$work/options"
    test -s "$work/options" || {
        echo "$source: no options found"
        status=1
    }
    sed -n 's/^\.It Fl \\-\([a-z-]*\) Ar .*/\1 ARG/p
        s/^\.It Fl \\-\([a-z-]*\) Ns Op = .*/\1[=ARG]/p
        s/^\.It Fl \\-\([a-z-]*\)$/\1/p' "$page" | sort -u >"$work/manual"
    both "man/$name.1" "$work/options" "$work/manual"

    # In the synopsis options may stand several to a line.
    sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESCRIPTION/p' "$page" | grep -o 'Fl \\-[a-z-]*' |
        sed 's/.*\\-//' | sort -u >"$work/synopsis"
    sed 's/ ARG//; s/\[.*//' "$work/options" | sort -u >"$work/names"
    both "synopsis of man/$name.1" "$work/names" "$work/synopsis"

    # The lines of --help that begin with options: "  --name ARG  text" or "  --name, --name".
    "$builddir/$name" --help | sed -n 's/^  \(--[a-z].*\)/\1/p' |
        sed 's/  .*//; s/, --/\n--/g' |
        sed -n 's/^--\([a-z-]*\) .*/\1 ARG/p; s/^--\([a-z-]*\)\[=.*/\1[=ARG]/p; s/^--\([a-z-]*\)$/\1/p' | sort -u >"$work/help"
    both "$name --help" "$work/options" "$work/help"

    if command -v mandoc >/dev/null 2>&1; then
        mandoc -T lint -W warning "$page" || status=1
    fi
done
test "$programs" -gt 0 || {
    echo "no programs found"
    status=1
}

# Every storage policy stands in the page and in the --help of the program that tries them out.
for policy in $(sed -n 's/^X(\([a-z]*\))$/\1/p' "$srcdir/src/store/store.def"); do
    if ! grep -q "^\.Cm $policy\>" "$srcdir/man/division-codec.1" ||
        ! "$builddir/division-codec" --help | sed -n '/--policy/,/--block/p' | grep -q "\<$policy\>"; then
        echo "division-codec: its manual or its --help lacks policy $policy"
        status=1
    fi
done
exit $status
