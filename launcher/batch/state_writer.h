// SPDX-License-Identifier: BSD-3-Clause
// Writes the state of a batch while it runs, on a thread of its own: a slow disk does not hold up the plans.
// Of states that come faster than the disk takes them the last is written.
// Threads: one, beside its own.
#ifndef PR_LAUNCHER_BATCH_STATE_WRITER_H
#define PR_LAUNCHER_BATCH_STATE_WRITER_H

#include "launcher/batch/batch_state.h"

typedef struct pr_state_writer pr_state_writer;

// output: borrowed for the writer's life.
pr_status pr_state_writer_create(const char *output, pr_state_writer **writer) PR_MUST_CHECK;
// Waits for the write that is under way; what was told and not begun is dropped. NULL is fine.
void pr_state_writer_destroy(pr_state_writer *writer);

// PR_ERR_IO: an earlier one could not be written, as its line has said.
pr_status pr_state_writer_tell(pr_state_writer *writer, const pr_batch_state *state) PR_MUST_CHECK;

#endif
