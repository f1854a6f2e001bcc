// SPDX-License-Identifier: BSD-3-Clause
// A decode step made longer, so that few sizes are seen and each can be a graph of the device (device.h): the rows beyond
// the batch's are its first row again. They write the K and V that this row writes, to the same place, and nobody
// reads their results.
#ifndef PR_RUNTIME_MODEL_PADDED_BATCH_H
#define PR_RUNTIME_MODEL_PADDED_BATCH_H

#include "runtime/model/forward.h"

typedef struct pr_padded_batch pr_padded_batch;

// max_rows: of the longest batch. Memory is taken here, none later.
pr_status pr_padded_batch_create(int32_t max_rows, pr_padded_batch **padded) PR_MUST_CHECK;
void pr_padded_batch_destroy(pr_padded_batch *padded);

// Whether each row is a sequence of its own with an output: the same for all ranks of a lane, which pass the same rows.
bool pr_padded_batch_can(const pr_forward_batch *batch);
// The batch with `rows` rows, at least its own; valid until the next call.
const pr_forward_batch *
pr_padded_batch_fill(pr_padded_batch *padded, const pr_forward_batch *batch, int32_t rows);

#endif
