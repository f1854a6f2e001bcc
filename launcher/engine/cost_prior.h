// SPDX-License-Identifier: BSD-3-Clause
// What work will cost on this machine, before anything was measured: from the model's size and what a
// CPU rank usually does. Good enough to tell a prefix worth fetching from one worth computing.
// Pure arithmetic, the same on every run of the same options and threads: decisions depend on it.
#ifndef PR_LAUNCHER_ENGINE_COST_PRIOR_H
#define PR_LAUNCHER_ENGINE_COST_PRIOR_H

#include "launcher/options.h"
#include "runtime/model/model.h"
#include "scheduler/cost/cost_model.h"

// tp: of a lane that computes. threads: of each of its ranks. kv_blocks: of a lane.
pr_cost_model pr_cost_prior(
    const pr_model *model,
    const pr_options *options,
    pr_dtype kv_dtype,
    int32_t tp,
    int32_t threads,
    int32_t kv_blocks);

#endif
