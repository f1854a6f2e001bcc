// SPDX-License-Identifier: BSD-3-Clause
// The arithmetic of who holds what (the table at the top of shard.h): equal parts where tp cuts,
// parts that differ by one at most where the ranks of a group share experts.
// pr_shard_check and pr_shard_predict_bytes of shard.h are made here.
#ifndef PR_RUNTIME_MODEL_SHARD_CUT_H
#define PR_RUNTIME_MODEL_SHARD_CUT_H

#include "runtime/model/model.h"
#include "runtime/model/shard.h"

typedef struct pr_shard_range {
    int64_t begin, end;
} pr_shard_range;

// This tp rank's part of rows, columns, heads or vocabulary.
pr_shard_range pr_shard_cut(const pr_place *place, int64_t length);
// The experts of this rank of the group.
pr_shard_range pr_shard_cut_experts(const pr_place *place, int32_t experts);

#endif
