// SPDX-License-Identifier: BSD-3-Clause
// The CPU as a device (runtime/device.h): reference kernels, which are the specification, and faster
// ones per instruction set, chosen when the device is opened. All give the same bits.
// Threads: one thread drives a device, its own team (cpu_team.h) works for it; several devices may be
// open.
#ifndef PR_KERNELS_CPU_DEVICE_H
#define PR_KERNELS_CPU_DEVICE_H

#include <stdbool.h>

#include "runtime/device.h"

typedef struct pr_cpu_device_params {
    const char *isa;  // "auto" (the best this CPU has), "reference", "avx2", "avx512", "avx512bf16"
    int32_t threads;  // with the caller's, 1 or more
    const int32_t *cpu;  // [threads] where each is bound, or NULL; the caller's own is left alone
    bool shares_cores;   // more threads than cores: see cpu_team.h
} pr_cpu_device_params;

// Errors: PR_ERR_ARGUMENT (another isa, no thread), PR_ERR_UNSUPPORTED (this CPU or build lacks it),
// PR_ERR_RESOURCE.
pr_status pr_cpu_device_open(const pr_cpu_device_params *params, pr_device **device) PR_MUST_CHECK;

// All memory and matrices of the device must have been released.
void pr_cpu_device_close(pr_device *device);

#endif
