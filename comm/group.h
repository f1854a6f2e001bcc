// SPDX-License-Identifier: BSD-3-Clause
// One group's communicators: the ranks that step together, and this rank's lane within.
// Creation is collective over the world (every rank calls it once, in or out of a group).
#ifndef PR_COMM_GROUP_H
#define PR_COMM_GROUP_H

#include "comm/world.h"
#include "runtime/batch/layout.h"
#include "runtime/device.h"
#include "runtime/parallel.h"

typedef struct pr_group pr_group;

// *group is NULL on a rank that is in no group (dedicated controller).
pr_status pr_group_create(pr_world *world, const pr_layout *layout, pr_group **group) PR_MUST_CHECK;
void pr_group_destroy(pr_group *group);

// The same, collective over the group's ranks only, some of which replace lost ones (recovery.h). epoch:
// another one every time.
pr_status pr_group_create_again(
    pr_world *world, const pr_layout *layout, int32_t epoch, pr_group **group) PR_MUST_CHECK;

// A rank of the group is lost: nothing of it is used again, and what MPI and the others may still reach of
// it (communicators, buffers, windows) is not given back when it is destroyed.
void pr_group_abandon(pr_group *group);

// *value becomes the largest of all ranks' values; nonblocking inside, with a deadline. 8 bytes up and
// down a binomial tree, once per step. PR_ERR_TIMEOUT, PR_ERR_PEER.
pr_status pr_group_agree(pr_group *group, int64_t *value, int32_t timeout_ms) PR_MUST_CHECK;

typedef enum pr_exchange {
    PR_EXCHANGE_AUTO,      // the quickest that can be
    PR_EXCHANGE_SHARED,    // through memory of one node, or an error
    PR_EXCHANGE_MESSAGES,  // MPI messages
    PR_EXCHANGE_NCCL,      // between devices by their vendor's library, or an error
    PR_EXCHANGE_DIRECT,    // experts: between the memories of devices of one node, or an error
} pr_exchange;

typedef struct pr_comm_params {
    int32_t experts, chosen;  // E, K of the model; 0 for dense
    int32_t hidden, vocabulary;
    int32_t max_tokens;   // T of one lane's step
    int32_t max_outputs;  // rows of tensor_gather
    int32_t timeout_ms;   // deadline of every wait
    bool
        shares_cores;  // more threads than cores on this node: who waits gives its core away at once
    pr_exchange exchange;
    pr_device *device;  // that computes; NULL: its memory is the host's. Borrowed
} pr_comm_params;

// Fills runtime/parallel.h for this rank: by messages (comm_parallel.c, expert_exchange.c) or, where all
// ranks of the group are on one node, through shared memory (shared_exchange.c), with the same bytes. A
// group of one rank gets runtime's "alone". For a device with memory of its own device_parallel.c goes around
// that: experts directly between devices where they reach each other, the rest through the host. Collective over the group. Memory is taken here, none later.
pr_status pr_comm_parallel_create(
    pr_group *group, const pr_comm_params *params, pr_parallel **parallel) PR_MUST_CHECK;
void pr_comm_parallel_destroy(pr_parallel *parallel);
// What is exchanged through: AUTO for a rank alone, which exchanges nothing; with a device of its own memory
// DIRECT or NCCL, or what its host copies go through.
pr_exchange pr_comm_parallel_exchange(const pr_parallel *parallel);

// Bytes and messages this rank sent so far, by operation, for the run's report. transfer_bytes is 0
// here: pr_kv_transfer_sent_bytes has it.
typedef struct pr_comm_counts {
    int64_t reduce_bytes, gather_bytes, dispatch_bytes, combine_bytes, transfer_bytes;
    int64_t messages;
} pr_comm_counts;
void pr_comm_parallel_count(const pr_parallel *parallel, pr_comm_counts *counts);

#endif
