// SPDX-License-Identifier: BSD-3-Clause
// A group whose ranks compute in memory of their own devices, over any group that works on the host's memory
// (parallel.h): what the device has is copied to the host, exchanged there, and what comes is copied back. The
// portable way between GPUs: the same rows, the same order, the same bytes as on CPUs.
//
//   tensor reduce    branch to the host (into the group's room, where it has one) | reduce | sum to the device
//   tensor gather    part to the host | gather; the whole stays there
//   expert dispatch  x and experts to the host | dispatch | rows and counts to the device
//   expert combine   results to the host | combine | each slot's row to the device
//
// Cost: beside the group's own, 2 T H floats over the bus in a reduce, (T + n + n + T K) H for experts, and a
// wait for the device in each operation. Memory is taken at create, on the host as the device wants it for
// quick copies.
// Threads, errors: parallel.h's and the device's.
#ifndef PR_RUNTIME_PARALLEL_STAGED_H
#define PR_RUNTIME_PARALLEL_STAGED_H

#include "runtime/device.h"
#include "runtime/parallel.h"

typedef struct pr_parallel_staged_limits {
    int32_t tokens, outputs;  // T and rows of tensor_gather
    int32_t chosen;           // K, 0 for dense
    int32_t hidden, vocabulary;
} pr_parallel_staged_limits;

// Both are borrowed, and the group is used by nobody else meanwhile.
pr_status pr_parallel_staged_create(
    pr_parallel *group,
    pr_device *device,
    const pr_parallel_staged_limits *limits,
    pr_parallel **parallel) PR_MUST_CHECK;
void pr_parallel_staged_destroy(pr_parallel *parallel);

#endif
