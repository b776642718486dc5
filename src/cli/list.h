/* division-run --list: the rows of the tables that configs choose from. */
#ifndef CLI_LIST_H
#define CLI_LIST_H

#include <stdio.h>

#include "base/err.h"

/* what: "policies", "models", "datasets", "keys". ERR_CONFIG with the valid words. */
int list_write(const char *what, FILE *fp, struct err *err) MUST_USE;

#endif
