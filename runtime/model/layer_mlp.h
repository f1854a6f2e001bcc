// SPDX-License-Identifier: BSD-3-Clause
// The dense MLP of one rank: down(silu(gate(x)) * up(x)) over its part of the inner size.
// Threads: the worker thread; local (the sum over the lane is the caller's).
#ifndef PR_RUNTIME_MODEL_LAYER_MLP_H
#define PR_RUNTIME_MODEL_LAYER_MLP_H

#include "runtime/model/forward.h"

typedef struct pr_layer_mlp pr_layer_mlp;

pr_status pr_layer_mlp_create(
    const pr_model *model,
    const pr_shard *shard,
    const pr_forward_limits *limits,
    pr_layer_mlp **mlp) PR_MUST_CHECK;
void pr_layer_mlp_destroy(pr_layer_mlp *mlp);

// x [tokens][H], normalised, to y [tokens][H]: this rank's branch of the down projection.
void pr_layer_mlp_run(pr_layer_mlp *mlp, int32_t layer, int32_t tokens, const float *x, float *y);

#endif
