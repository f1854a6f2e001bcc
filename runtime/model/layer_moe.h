// SPDX-License-Identifier: BSD-3-Clause
// The mixture-of-experts MLP: a gate chooses K experts per token, rows go to the ranks that hold
// them, come back to their slots and are added in slot order.
//   Every rank of a lane has the same rows and computes the same gate; the result is whole on each.
// Threads: the worker thread. Collective over the group, also with no tokens of its own.
#ifndef PR_RUNTIME_MODEL_LAYER_MOE_H
#define PR_RUNTIME_MODEL_LAYER_MOE_H

#include "runtime/model/forward.h"

typedef struct pr_layer_moe pr_layer_moe;

// Takes buffers for the most rows that can arrive: lanes * max_tokens * min(K, local experts).
pr_status pr_layer_moe_create(
    const pr_model *model,
    const pr_shard *shard,
    pr_parallel *parallel,
    const pr_forward_limits *limits,
    pr_layer_moe **moe) PR_MUST_CHECK;
void pr_layer_moe_destroy(pr_layer_moe *moe);

// x [tokens][H], normalised, to y [tokens][H]. Errors: those of the exchange.
pr_status pr_layer_moe_run(
    pr_layer_moe *moe, int32_t layer, int32_t tokens, const float *x, float *y) PR_MUST_CHECK;

#endif
