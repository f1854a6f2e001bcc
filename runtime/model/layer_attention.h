// SPDX-License-Identifier: BSD-3-Clause
// Self-attention of one rank's heads: projections, rotary embedding, KV pages, scores, output
// projection. One object serves all layers; its buffers hold one step.
//   h query heads and g KV heads of this rank, d head size, T tokens of the step, H hidden.
// Threads: the worker thread; local (the sum over the lane is the caller's).
#ifndef PR_RUNTIME_MODEL_LAYER_ATTENTION_H
#define PR_RUNTIME_MODEL_LAYER_ATTENTION_H

#include "runtime/model/forward.h"

typedef struct pr_layer_attention pr_layer_attention;

// Takes the rotary tables for max_positions and buffers for max_tokens.
pr_status pr_layer_attention_create(
    const pr_model *model,
    const pr_shard *shard,
    pr_kv_store *store,
    const pr_forward_limits *limits,
    pr_layer_attention **attention) PR_MUST_CHECK;
void pr_layer_attention_destroy(pr_layer_attention *attention);

// Once per step, before its layers: which KV block each row of the batch writes to, [T], until the next.
const int32_t *
pr_layer_attention_begin(pr_layer_attention *attention, const pr_forward_batch *batch);

// x [T][H], normalised, to y [T][H]: this rank's branch of the output projection, without its bias.
// The layer's K and V of the batch are in the pages after it.
void pr_layer_attention_run(
    pr_layer_attention *attention,
    int32_t layer,
    const pr_forward_batch *batch,
    const float *x,
    float *y);

#endif
