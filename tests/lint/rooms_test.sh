#!/bin/sh
# Tests the tester: rooms.sh must find one planted fault of each kind, and nothing in a clean tree.
set -eu

lint=${top_srcdir:-.}/tests/lint/rooms.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
src=$tree/src

plant() { # FILE TEXT: a clean tree of two rooms with one more line in one file
    rm -rf "$src"
    mkdir -p "$src/base" "$src/nn"
    echo 'base_sources = src/base/a.c' >"$src/base/local.mk"
    echo 'nn_sources = src/nn/b.c' >"$src/nn/local.mk"
    cat >"$src/base/a.c" <<'END'
#include "config.h"
#include "base/a.h"
#include <stdio.h>
/* exit(1) in a comment, printf("x") too */
static const char *text = "abort() \" exit(2)"; // malloc(3)
void f(FILE *fp) { fprintf(fp, "%s", text); snprintf_like(fp); my_exit(0); }
END
    echo '#include "base/a.h"' >"$src/nn/b.c"
    test -z "$1" || printf '%s\n' "$2" >>"$src/$1"
}

must_pass() {
    sh "$lint" "$src" || { echo "a clean tree was refused"; exit 1; }
}

must_find() { # WORD FILE TEXT
    plant "$2" "$3"
    if found=$(sh "$lint" "$src"); then
        echo "not found: '$3' in $2"
        exit 1
    fi
    case $found in
    *"$1"*) ;;
    *) echo "'$3' in $2 was reported as: $found"; exit 1 ;;
    esac
}

plant '' ''
must_pass
plant nn/b.c '#include "store/x.h"'
must_pass
must_find 'may not know nn' base/a.c '#include "nn/b.h"'
must_find 'may not know run' nn/b.c '  #  include "run/b.h"'
must_find 'expected "ROOM/x.h"' nn/b.c '#include "x.h"'
must_find '<yaml.h>' base/a.c '#include <yaml.h>'
must_find 'exit' base/a.c 'void g(void) { exit (1); }'
must_find 'abort' base/a.c '/* x */ void g(void) { abort(); }'
must_find 'printf' nn/b.c 'void g(void) { printf("x"); }'
must_find 'stderr' nn/b.c 'void g(void) { fprintf(stderr, "x"); }'
must_find 'strcpy' nn/b.c 'void g(void) { strcpy(a, "/*"); }'
must_find 'rand' nn/b.c 'int g(void) { return rand(); }'
must_find 'malloc' nn/b.c 'void *g(void) { return malloc(1); }'
must_find 'TODO' nn/b.c '/* TODO: later */'
must_find 'not listed' nn/c.h ''
must_find 'does not exist' nn/local.mk 'nn_sources += src/nn/d.c'

plant '' ''
mkdir "$src/zoo"
touch "$src/zoo/a.c"
if sh "$lint" "$src" >/dev/null; then
    echo "not found: a folder that is no room"
    exit 1
fi
