// SPDX-License-Identifier: BSD-3-Clause
// A thread that asks the system for the bytes that loading will need next, in the order of loading and not
// far ahead of it, so that the disk works while matrices are packed.
//
//   files in order of use   |== used ==|=== asked for, at most WINDOW ===|......|
//
// Cost: a system call for each 4 MiB. Threads: add and used by the one that loads.
#ifndef PR_RUNTIME_MODEL_READ_AHEAD_H
#define PR_RUNTIME_MODEL_READ_AHEAD_H

#include "runtime/model/weights_file.h"

typedef struct pr_read_ahead pr_read_ahead;

pr_status pr_read_ahead_create(const pr_weights *weights, pr_read_ahead **ahead) PR_MUST_CHECK;
// Mapped bytes, before start. Errors: PR_ERR_RESOURCE.
pr_status
pr_read_ahead_add(pr_read_ahead *ahead, const void *from, size_t size_bytes) PR_MUST_CHECK;
void pr_read_ahead_start(pr_read_ahead *ahead);  // without a thread loading is merely slower
void pr_read_ahead_used(pr_read_ahead *ahead, size_t size_bytes);
void pr_read_ahead_destroy(pr_read_ahead *ahead);

#endif
