// SPDX-License-Identifier: BSD-3-Clause
// Memory of the emulated GPU: pages of its own for each allocation, and one behind that must not be touched. What is
// shared with other processes of this host becomes a memfd at that moment, at the address it had.
//
// Source: memfd_create(2), /proc/PID/fd. Cost: some system calls for each allocation.
// Threads: any. Errors: emulated_error.h.
#ifndef PR_KERNELS_GPU_EMULATED_MEMORY_H
#define PR_KERNELS_GPU_EMULATED_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/gpu_backend.h"

void *pr_emulated_memory_take(size_t size_bytes, bool pinned);  // zeroed
void pr_emulated_memory_release(void *memory);
bool pr_emulated_memory_seen(const void *memory);  // by kernels: taken or opened here
int64_t pr_emulated_memory_bytes(void);
int64_t pr_emulated_memory_free_bytes(void);

// Nothing may run that uses the memory.
bool pr_emulated_memory_share(void *memory, pr_gpu_ipc *ipc);
void *pr_emulated_memory_open(const pr_gpu_ipc *ipc);
void pr_emulated_memory_close(void *memory);

#endif
