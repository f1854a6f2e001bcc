// SPDX-License-Identifier: BSD-3-Clause
// runtime/parallel.h for a device with memory of its own. Private to comm/: pr_comm_parallel_create makes it where
// pr_comm_params.device says so.
//
//   reduce, experts   direct: the device's own exchange, by stores into the others' memory (one node)
//                     nccl: by the vendor's library (nccl_exchange.h), only where it is asked for
//                     staged: through the host (runtime/parallel_staged.h) over the group's exchange
//                     a rank alone: nothing leaves the device
//   gather            through the host, for the sampler
//
// Which one is the same on all ranks of a group: direct where every rank's device can reach every other's.
#ifndef PR_COMM_DEVICE_PARALLEL_H
#define PR_COMM_DEVICE_PARALLEL_H

#include "comm/group.h"
#include "runtime/device_exchange.h"

// The device's exchange, opened on all ranks. *exchange is NULL where that cannot be or is not wanted (nothing to
// exchange, another way asked for). Collective over the group. PR_ERR_RESOURCE where direct was asked for and cannot be.
pr_status pr_device_parallel_open(
    pr_group *group, const pr_comm_params *params, pr_device_exchange **exchange) PR_MUST_CHECK;
// Collective over the group, unless it is broken: then what others may still reach is left to the process's end.
void pr_device_parallel_close(pr_group *group, pr_device_exchange *exchange);

// host: the group's operations on the host's memory, borrowed; exchange: taken on success, NULL for staged.
pr_status pr_device_parallel_create(
    pr_group *group,
    const pr_comm_params *params,
    pr_parallel *host,
    pr_device_exchange *exchange,
    pr_parallel **parallel) PR_MUST_CHECK;
void pr_device_parallel_destroy(pr_parallel *parallel);  // closes the exchange

// Whether it is one of these; what it was made of.
bool pr_device_parallel_is(const pr_parallel *parallel);
pr_parallel *pr_device_parallel_host(const pr_parallel *parallel);
pr_exchange pr_device_parallel_exchange(const pr_parallel *parallel);  // AUTO: the host's

#endif
