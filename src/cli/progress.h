/* Progress of a run on stderr: one line that is rewritten on a terminal, plain lines elsewhere. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stddef.h>

#include "report/columns.h"
#include "run/session.h"
#include "train/trainer.h"

struct progress {
    int is_terminal;
    double last_s; /* when the line was last written */
    size_t n_epochs;
    int line_open; /* a rewritten line stands on the terminal */
};

void progress_begin(struct progress *p, const struct session *s);
void progress_step(struct progress *p, const struct train_step_info *info);
void progress_epoch(struct progress *p, const struct epoch_row *row);
/* Ends an open line, so that a message begins on its own. */
void progress_end(struct progress *p);

#endif
