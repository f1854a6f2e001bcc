// SPDX-License-Identifier: BSD-3-Clause
// One GPU as a device (runtime/device.h), on any back end (gpu_backend.h): memory from one pool, one stream for
// all copies and kernels, pinned staging, the host's threads for what the host does between kernels.
//
// A call that fails is told once, with the back end's words, the device and the operation that was last put
// into the stream; the device is of no use then, and its rank ends.
// Threads: the one that opened it drives it; its own team (cpu_team.h) packs weights and shares host work.
#ifndef PR_KERNELS_GPU_GPU_DEVICE_H
#define PR_KERNELS_GPU_GPU_DEVICE_H

#include "kernels/gpu/gpu_backend.h"
#include "runtime/device.h"

typedef struct pr_gpu_device_params {
    const pr_gpu_backend *backend;
    int32_t index;       // 0..backend->devices() - 1
    int32_t threads;     // of the host, with the caller's
    const int32_t *cpu;  // [threads] where each is bound, or NULL
    bool shares_cores;   // see cpu_team.h
    bool graphs;         // of decode steps: gpu_step_graph.h
} pr_gpu_device_params;

// Errors: PR_ERR_ARGUMENT, PR_ERR_RESOURCE, PR_ERR_INTERNAL (the device refuses).
pr_status pr_gpu_device_open(const pr_gpu_device_params *params, pr_device **device) PR_MUST_CHECK;

// All memory and matrices of the device must have been released.
void pr_gpu_device_close(pr_device *device);

const pr_gpu_facts *
pr_gpu_device_facts(const pr_device *device);  // as they were when it was opened

#endif
