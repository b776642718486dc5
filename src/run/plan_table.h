/* The rows of --plan: what the whole run needs, and each layer's part. */
#ifndef RUN_PLAN_TABLE_H
#define RUN_PLAN_TABLE_H

#include <stddef.h>

#include "base/err.h"
#include "report/plan_row.h"
#include "run/forecast.h"
#include "run/session.h"

struct plan_text {
    char type[64], kept_by[32], peak_at[320];
};

struct plan_table {
    struct plan_row *rows;   /* the total, the image, the layers in order */
    struct plan_text *texts; /* [n] what the rows' strings are */
    size_t n;
};

/* Session and forecast are borrowed and must outlive the table. ERR_NOMEM. */
int plan_table_make(const struct session *s, const struct forecast *f, struct plan_table *out,
                    struct err *err) MUST_USE;
void plan_table_fini(struct plan_table *t);

/* The row's saved bytes of one piece; NaN where there are none. */
double plan_table_piece(const struct plan_row *row, enum store_piece piece);

#endif
