// SPDX-License-Identifier: BSD-3-Clause
// One rank's part of a group: executes plans (runtime/batch/plan.h says how), step by step.
//
//   idle: asleep on the control plane until plan n + 1 is there        (all ranks of a group get it)
//   run:  apply plan -> step -> agree -> report -> step -> agree -> ...  (decoding feeds itself)
//   agree: the group's ranks take the largest of 2 * plan + "I have work": a newer plan at the leader
//          makes all switch at the same step boundary, a stop makes all leave there; nobody with work
//          makes all go idle.
//
// stand by: a rank of the group is lost: it has no sequences and waits for the stop
//
// Threads: the program's main thread (it makes all MPI calls). The step itself takes no memory.
#ifndef PR_LAUNCHER_WORKER_H
#define PR_LAUNCHER_WORKER_H

#include "comm/control.h"
#include "comm/group.h"
#include "comm/kv_transfer.h"
#include "launcher/recover/recover_order.h"
#include "runtime/model/forward.h"
#include "runtime/sampling/token_bytes.h"

typedef struct pr_worker pr_worker;

typedef struct pr_worker_params {
    const pr_model *model;
    int32_t group_index, lane;
    pr_group *group;
    pr_control *control;
    pr_kv_transfer *transfer;
    pr_kv_store *store;
    const pr_shard *shard;
    pr_parallel *parallel;
    const pr_token_bytes *token_bytes;
    int32_t max_num_batched_tokens, max_num_seqs, max_model_len;
    int32_t timeout_ms;
    uint64_t plan_number;  // the group's plans begin after this one
    bool recovers;  // a group that loses a rank stands by, and the run goes on (comm/recovery.h)
} pr_worker_params;

// What one rank did, sent to rank 0 at the end (PR_MESSAGE_COUNTS).
typedef struct pr_worker_counts {
    int64_t read_bytes;  // of the weight files
    int64_t steps, step_ns;
    int64_t rows;  // tokens computed
    int64_t reduce_bytes, gather_bytes, dispatch_bytes, combine_bytes, transfer_bytes;
} pr_worker_counts;

pr_status pr_worker_create(const pr_worker_params *params, pr_worker **worker) PR_MUST_CHECK;
void pr_worker_destroy(pr_worker *worker);

// Until PR_MESSAGE_STOP, or until an order that somebody else carries out; *order is NONE after the stop. May be
// called again then. On an error rank 0 has been told (PR_MESSAGE_FAULT), unless it is gone.
pr_status pr_worker_run(pr_worker *worker, pr_recover_order *order) PR_MUST_CHECK;

bool pr_worker_is_broken(const pr_worker *worker);  // its group has lost a rank

#endif
