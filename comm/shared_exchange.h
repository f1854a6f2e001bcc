// SPDX-License-Identifier: BSD-3-Clause
// runtime/parallel.h through memory that the ranks of a group share: what one rank has is written once and
// read where it is. Private to comm/; the same bytes as the messages of comm_parallel.c and
// expert_exchange.c, in every operation.
//
//   segment of a rank, with capacity floats = the larger of T * H and outputs * V:
//     lane    [2][capacity]   float    its branch sums or logits; two, so that a lane needs one wait an
//                                      operation
//     x       [share][H]      float    the rows of its tokens, with [share][K] experts and their number
//     result  [arrivals][H]   float    of its experts, sorted by expert
//     place   [arrivals]      int32    where in result an entry is, in order of source rank, token, slot
//     first   [lanes + 1]     int32    a lane's first entry
//
//   tensor reduce    publish the branch | wait | add all branches in the order of the tree
//     large, tp > 2  publish it | wait | add a share of the columns, publish | wait | read the shares
//   expert dispatch  publish x and experts | wait | copy the rows of own experts, sorted
//   expert combine   publish results | wait | point to each slot's row where it is
//
// Cost: reduce reads tp * n floats, or 2 n where it is split, and writes n before unless the branch was
// computed in the room; a row is written and read once
// on its way out; on its way back nobody moves it when the experts compute into `results`. They may be
// written again after the next dispatch, for which every rank waits when it is done with them.
// Threads, errors: as parallel.h says.
#ifndef PR_COMM_SHARED_EXCHANGE_H
#define PR_COMM_SHARED_EXCHANGE_H

#include "comm/shared_window.h"

typedef struct pr_shared_exchange pr_shared_exchange;

// Collective over the group. *exchange is NULL, and why says why, where it cannot be (shared_window.h).
pr_status pr_shared_exchange_create(
    pr_group *group,
    const pr_comm_params *params,
    pr_comm_counts *counts,
    pr_shared_exchange **exchange,
    char why[PR_SHARED_WHY_BYTES]) PR_MUST_CHECK;
void pr_shared_exchange_destroy(pr_shared_exchange *exchange);

// This rank's lane buffer of the next reduce or gather.
float *pr_shared_exchange_room(const pr_shared_exchange *exchange);
pr_status pr_shared_exchange_reduce(
    pr_shared_exchange *exchange, const float *mine, float *sum, int32_t tokens, int32_t cols)
    PR_MUST_CHECK;
pr_status pr_shared_exchange_gather(
    pr_shared_exchange *exchange, const float *part, float *whole, int32_t tokens, int32_t cols)
    PR_MUST_CHECK;
pr_status
pr_shared_exchange_dispatch(pr_shared_exchange *exchange, pr_dispatch_args *args) PR_MUST_CHECK;
pr_status
pr_shared_exchange_combine(pr_shared_exchange *exchange, const pr_return_args *args) PR_MUST_CHECK;

#endif
