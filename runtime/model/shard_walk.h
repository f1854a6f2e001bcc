// SPDX-License-Identifier: BSD-3-Clause
// Every part of the weights that one rank holds, in the order of loading, found under its name and checked
// against config.json. What becomes of a part is the visitor's: loading lists, then loads; convert writes.
// Threads: the caller's.
#ifndef PR_RUNTIME_MODEL_SHARD_WALK_H
#define PR_RUNTIME_MODEL_SHARD_WALK_H

#include "runtime/model/shard.h"
#include "runtime/model/shard_cut.h"

typedef struct pr_shard_matrix {
    const char *name;                // in converted weights; until the visit is over
    const pr_packed_tensor *packed;  // or NULL: as stored
    // Of packed ones, too: ranges within the whole matrix, dtype and quantisation.
    pr_matrix_source source;
    int32_t slice_begin, slice_end;  // of the whole matrix's slices
    // Of experts: where the stack of a layer's same matrices belongs, the place in it, how many there are.
    pr_matrix_stack **stack;
    int32_t stack_place, stacked;
} pr_shard_matrix;

typedef struct pr_shard_vector {
    const char *name;
    const pr_tensor *tensor;
    int64_t begin, end;
} pr_shard_vector;

typedef struct pr_shard_visitor {
    void *context;
    // matrix and vector: where in the shard it belongs.
    pr_status (*matrix)(void *context, const pr_shard_matrix *part, pr_matrix **matrix);
    pr_status (*vector)(void *context, const pr_shard_vector *part, float **vector);
    pr_status (*table)(void *context, const pr_tensor *embedding);
} pr_shard_visitor;

// params: model, weights, place and quantization count. shard: of pr_shard_make with the same.
pr_status pr_shard_walk(
    const pr_shard_params *params, const pr_shard_visitor *visitor, pr_shard *shard) PR_MUST_CHECK;

#endif
