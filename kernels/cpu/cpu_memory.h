// SPDX-License-Identifier: BSD-3-Clause
// Memory of a CPU device: little pieces from the heap, all others cut one after the other from slabs that
// ask for huge pages, so that also matrices smaller than a huge page lie on one.
//
//   slab (64 MiB, or one large piece)  |h|piece....|h|piece..........|h|piece|   never used  |
//                                      2 MiB aligned; h: 64 bytes that name the slab
//
// Pages come, zeroed, at first use. A slab goes back to the system with its last piece; what is released
// before is not used again, which suits weights and caches: they live as long as the device.
// Threads: those of the device's driver.
#ifndef PR_KERNELS_CPU_MEMORY_H
#define PR_KERNELS_CPU_MEMORY_H

#include "runtime/device.h"

pr_status pr_cpu_memory_take(pr_device *device, size_t size_bytes, void **memory) PR_MUST_CHECK;
void pr_cpu_memory_release(pr_device *device, void *memory);

// Memory and copies of the device's table, and what is nothing on a CPU: tables of a step, a table of rows.
void pr_cpu_memory_fill(pr_device *device);

// Brings the pages of a piece, right after it was taken, by all threads of the device at once: two that
// meet in a huge page would both zero one, and one be thrown away.
void pr_cpu_memory_populate(pr_device *device, void *memory, size_t size_bytes);

#endif
