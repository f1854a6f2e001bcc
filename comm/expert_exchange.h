// SPDX-License-Identifier: BSD-3-Clause
// Sends token rows to the ranks that hold their experts, and the experts' results back. Private to
// comm/: runtime/parallel.h is the contract, comm_parallel.c fills it.
//
// The tp ranks of a lane hold the same T rows: each sends its share of them, and gets all results.
//
//   dispatch  entries  {rows, entries, (row, local expert)...} to every rank with experts
//             rows     each row once per rank that holds experts for it
//   combine   results  one row per entry, to all tp ranks of the lane it came from
//
// An entry is one (token, slot); entries are in order of token, slot everywhere, and an expert's
// rows in order of source rank, token, slot. So a row's place never depends on time.
// Cost: sends at most share * min(K, R) * H floats and receives T * K * H; buffers for the worst
// case (every lane's tokens to this rank) are reserved, but untouched pages take no memory.
#ifndef PR_COMM_EXPERT_EXCHANGE_H
#define PR_COMM_EXPERT_EXCHANGE_H

#include "comm/group.h"

typedef struct pr_expert_exchange pr_expert_exchange;

// Needs a group of more than one rank. The counts are borrowed and grow with every send.
pr_status pr_expert_exchange_create(
    pr_group *group,
    const pr_comm_params *params,
    pr_comm_counts *counts,
    pr_expert_exchange **exchange) PR_MUST_CHECK;
void pr_expert_exchange_destroy(pr_expert_exchange *exchange);

pr_status
pr_expert_exchange_dispatch(pr_expert_exchange *exchange, pr_dispatch_args *args) PR_MUST_CHECK;
pr_status
pr_expert_exchange_combine(pr_expert_exchange *exchange, const pr_return_args *args) PR_MUST_CHECK;

#endif
