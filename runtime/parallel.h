// SPDX-License-Identifier: BSD-3-Clause
// The contract of a group: the points where a forward pass talks to other ranks.
// comm/ fills it; the built-in default is "alone" (parallel.c).
//
//   group of R ranks = R / tp lanes of tp ranks:   lane 0: ranks 0..tp-1, lane 1: ranks tp..2tp-1, ...
//   A lane holds its own requests and KV (attention-data-parallel across lanes, TP inside);
//   experts are spread over all R ranks: rank r holds [E*r/R, E*(r+1)/R).
//
// Memory: rows, experts, counts and slots are in the memory of the device that computes. comm's work on
// the host's; parallel_staged.h offers such a one to another device. whole of tensor_gather is always the
// host's: it is for the sampler.
// All ranks of a group call the same sequence of operations with their own T (0 is allowed); all
// ranks of a lane pass the same rows. Values never depend on tp, R or who is where:
//   tensor_reduce   the branches of the fixed binary tree of PR_SLICES slices (design.md §5)
//   tensor_gather   vocabulary-parallel logits put side by side
//   dispatch/combine rows return to their slots, untouched
// Threads: the worker thread only. Collective over the lane (reduce, gather) or group (experts).
// Errors: PR_ERR_TIMEOUT or PR_ERR_PEER when a rank is late or lost: the group is then unusable.
#ifndef PR_RUNTIME_PARALLEL_H
#define PR_RUNTIME_PARALLEL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_parallel pr_parallel;

// Sends each token row to the ranks that hold its K experts.
typedef struct pr_dispatch_args {
    int32_t tokens, chosen, hidden;
    const float *x;         // [T][H]
    const int32_t *expert;  // [T][K], 0..E-1
    // out, owned by the exchange until combine returns:
    const float *rows;     // [n][H], sorted by local expert
    const int32_t *count;  // [local experts], their sum is n
    int32_t received;      // n, or more where only the device knows it
    float *results;        // [n][H]: who computes here spares combine a copy; or NULL
    // NULL before. Set by a group whose rows never leave their device:
    const int32_t *row_of;  // [n]: row i is row row_of[i] of rows
    const int32_t *place;   // [T][K]: the result's row of each slot; there is nothing to combine
} pr_dispatch_args;

typedef struct pr_return_args {
    const float *rows;  // [n][H], the experts' results in the order dispatch delivered
    const float *
        *slot;  // [T][K] out, at the origin (every rank of its lane): each result, [H], until
                // the next dispatch; may be another rank's memory
} pr_return_args;

struct pr_parallel {
    int32_t tp, tp_rank;  // within the lane
    int32_t lanes, lane;  // lanes of the group, this rank's
    int32_t ranks, rank;  // of the group
    int32_t experts;      // E of the model, 0 for dense
    int32_t layer;        // that calls, -1: none; set by the caller, for who says what is stuck
    bool
        on_device;  // reduce, dispatch and combine are work for the device alone: the host waits in none of them
    void *state;

    // Memory for the branch or part that the next reduce or gather takes, [T][H] or [outputs][V / tp]:
    // who computes there spares it a copy. NULL: there is none.
    float *(*tensor_room)(pr_parallel *parallel);
    // branch [T][cols], this rank's branch sum, to sum [T][cols], the whole sum: the same on all ranks
    // of the lane. sum may be branch unless that is the room.
    pr_status (*tensor_reduce)(
        pr_parallel *parallel, const float *branch, float *sum, int32_t tokens, int32_t cols);
    // The end of a step. part [T][end-begin of this tp rank] to whole [T][cols]; tp rank r holds columns
    // [cols*r/tp, cols*(r+1)/tp).
    pr_status (*tensor_gather)(
        pr_parallel *parallel, const float *part, float *whole, int32_t tokens, int32_t cols);
    pr_status (*expert_dispatch)(pr_parallel *parallel, pr_dispatch_args *args);
    pr_status (*expert_combine)(pr_parallel *parallel, const pr_return_args *args);
};

// Share r of R of n things: [pr_share_begin(n, r, R), pr_share_begin(n, r + 1, R)).
static inline int64_t pr_share_begin(int64_t n, int64_t r, int64_t ranks) { return n * r / ranks; }

// One rank alone. max_tokens: the largest T. Memory is taken here, none later.
pr_status pr_parallel_alone_create(
    int32_t experts, int32_t chosen, int32_t hidden, int32_t max_tokens, pr_parallel **parallel)
    PR_MUST_CHECK;
void pr_parallel_alone_destroy(pr_parallel *parallel);

#endif
