// SPDX-License-Identifier: BSD-3-Clause
// runtime/device_exchange.h on a GPU: a rank alone by permute, ranks of a node by stores into mapped
// memory (gpu_exchange.h).
// Threads: the device's.
#ifndef PR_KERNELS_GPU_GPU_DIRECT_H
#define PR_KERNELS_GPU_GPU_DIRECT_H

#include "kernels/gpu/gpu_backend.h"
#include "runtime/device_exchange.h"

// The stream is the device's, and both are borrowed. can_share is false where the back end does not give the memory to
// other processes.
pr_status pr_gpu_direct_create(
    const pr_gpu_backend *gpu,
    pr_gpu_stream *stream,
    const pr_device_exchange_params *params,
    pr_device_exchange **exchange) PR_MUST_CHECK;

#endif
