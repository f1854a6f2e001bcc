// SPDX-License-Identifier: BSD-3-Clause
// runtime/device_exchange.h by grouped send and receive of NCCL or RCCL: rows go from GPU to GPU, between nodes too, while
// the hosts tell each other by MPI which experts each token has chosen, so that all know how much comes. Private to comm/.
//
//   dispatch  experts of the share to the host | all-gather of them | rows gathered on the device, each once per rank |
//             grouped send and receive | row_of and counts to the device
//   combine   results gathered in order of token and slot | grouped send and receive | places of the slots to the device
//   reduce    recursive doubling: send and receive, then add (the sum of two does not depend on their order)
//
// Order and bytes are those of expert_exchange.h. Cost: its bytes, and one wait for the device in each dispatch.
// A rank that is lost leaves the others in the library, which has no limit: the control plane notices (watch.h).
#ifndef PR_COMM_NCCL_EXCHANGE_H
#define PR_COMM_NCCL_EXCHANGE_H

#include "comm/group.h"
#include "runtime/device_exchange.h"

// Collective over the group, of more than one rank. Ranks with different versions of the library are refused.
pr_status pr_nccl_exchange_create(
    pr_group *group, const pr_comm_params *params, pr_device_exchange **exchange) PR_MUST_CHECK;

#endif
