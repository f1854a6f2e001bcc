// SPDX-License-Identifier: BSD-3-Clause
// The forward pass of one rank: rows of tokens in, logits of the wanted rows out. Reads like the
// paper; everything that computes is behind device.h, everything that talks behind parallel.h.
// Memory is taken at create for the given limits; run takes none (the step path).
// Threads: the worker thread. Collective: every rank of the group runs the same steps.
#ifndef PR_RUNTIME_MODEL_FORWARD_H
#define PR_RUNTIME_MODEL_FORWARD_H

#include "runtime/cache/kv_store.h"
#include "runtime/device.h"
#include "runtime/model/model.h"
#include "runtime/model/shard.h"
#include "runtime/parallel.h"

typedef struct pr_forward pr_forward;

typedef struct pr_forward_limits {
    int32_t max_tokens;     // rows of one step
    int32_t max_outputs;    // rows with logits in one step
    int32_t max_positions;  // longest sequence
    int32_t max_segments;   // of one step; 0: as many as rows
} pr_forward_limits;

typedef struct pr_forward_batch {
    // All arrays are the host's.
    int32_t tokens;           // T, may be 0: the rank still serves its experts
    const int32_t *token;     // [T]
    const int32_t *position;  // [T] absolute
    int32_t segments;
    const pr_segment *segment;  // [segments], rows in ascending order, covering all T rows
    int32_t outputs;            // S
    const int32_t *output_row;  // [S] ascending
    void (*layer_done)(
        void *context, int32_t layer);  // K and V of the layer are in the pages; or NULL
    void *context;
} pr_forward_batch;

pr_status pr_forward_create(
    const pr_model *model,
    const pr_shard *shard,
    pr_kv_store *store,
    pr_parallel *parallel,
    const pr_forward_limits *limits,
    pr_forward **forward) PR_MUST_CHECK;
void pr_forward_destroy(pr_forward *forward);

// *logits: [S][V], the host's, owned by the forward, valid until the next call; the caller may overwrite it.
pr_status
pr_forward_run(pr_forward *forward, const pr_forward_batch *batch, float **logits) PR_MUST_CHECK;

// Logits of further rows of the step that was run last, in the same memory; as often as wanted. The same
// bits as if the step had named the row. Collective: every rank of the lane asks for the same rows.
pr_status pr_forward_logits(
    pr_forward *forward,
    const int32_t *row,  // [rows] 0..T-1
    int32_t rows,        // at most max_outputs
    float **logits) PR_MUST_CHECK;

#endif
