// SPDX-License-Identifier: BSD-3-Clause
// The operations of a group as its devices themselves do them: experts' rows and branches go from device memory to device
// memory, counts stay there, the host waits for nothing. A device makes one (pr_device.exchange_create); comm/device_parallel.c has the ranks
// open each other's memory and makes a pr_parallel of it. Rows, their order and bytes are those of parallel.h.
//
// A rank alone (ranks 1) needs nothing opened: dispatch sorts, and says in `place` where each result will be.
// Threads: the device's. Memory is taken at create, none later. All ranks of a group make the same calls.
#ifndef PR_RUNTIME_DEVICE_EXCHANGE_H
#define PR_RUNTIME_DEVICE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/parallel.h"

enum { PR_DEVICE_REACH_BYTES = 64 };

typedef struct pr_device_exchange_params {
    int32_t ranks, rank, tp;
    int32_t first_rank;               // of the world, for what is said of rank 0 of the group
    int32_t experts, chosen, hidden;  // E and K 0: a dense model, which has branches only
    int32_t max_tokens;               // T of one lane's step
    int32_t timeout_ms;               // of each wait, by the device's clock
} pr_device_exchange_params;

typedef struct pr_device_exchange pr_device_exchange;
struct pr_device_exchange {
    void *state;
    // What a process of another rank needs to reach this one's memory; only if can_share.
    bool can_share;
    unsigned char reach[PR_DEVICE_REACH_BYTES];

    // Opens the others' memory, once, before the first dispatch. False: refused, and why.
    bool (*open)(
        pr_device_exchange *exchange,
        const unsigned char (*reach)[PR_DEVICE_REACH_BYTES],  // [ranks]
        char *why,
        size_t why_bytes);
    // As pr_parallel's, in device memory. They return when the work is put into the device's queue.
    pr_status (*dispatch)(pr_device_exchange *exchange, pr_dispatch_args *args);
    pr_status (*combine)(pr_device_exchange *exchange, const pr_return_args *args);
    // sum = the lane's branches in the order of parallel.h; tp > 1 only.
    pr_status (*reduce)(
        pr_device_exchange *exchange, const float *branch, float *sum, int64_t elements);
    // After a copy_out: PR_ERR_TIMEOUT, with the late rank's name, if a wait before it has run out of time. What
    // was computed since is of no use then, and the exchange neither.
    pr_status (*check)(pr_device_exchange *exchange);
    // When the device does nothing for it any more. Closes the others' memory; when all ranks have, destroy.
    void (*close)(pr_device_exchange *exchange);
    void (*destroy)(pr_device_exchange *exchange);
};

#endif
