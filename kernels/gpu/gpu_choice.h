// SPDX-License-Identifier: BSD-3-Clause
// Which device a rank computes on, by the words of --device:
//
//   auto               a GPU where one can be seen, else the CPU; never an emulated one
//   cpu
//   cuda, hip          the GPUs of a node in turn: rank i of the node takes number i modulo how many there are
//   cuda:1             number 1 of those that CUDA_VISIBLE_DEVICES (ROCR_VISIBLE_DEVICES) leaves, for every rank
//   cuda:GPU-1a2b      the one whose UUID begins so; MIG-... names an instance
//   emulated[64]       kernels on the CPU, with warps of 32 (64): for tests of kernels, slow
//
// Opens the back end's shared object (gpu_library.h), no device.
#ifndef PR_KERNELS_GPU_GPU_CHOICE_H
#define PR_KERNELS_GPU_GPU_CHOICE_H

#include "kernels/gpu/gpu_backend.h"
#include "runtime/base/status.h"

typedef struct pr_gpu_choice {
    const pr_gpu_backend *backend;  // NULL: the CPU
    int32_t index;
    int32_t devices;     // that the node's ranks take in turn; 1 where one is named
    pr_gpu_facts facts;  // of the device
} pr_gpu_choice;

// For rank `number` of those that compute on this node. Errors: PR_ERR_ARGUMENT (words, a number beyond
// those there are), PR_ERR_NOT_FOUND (no device), PR_ERR_UNSUPPORTED (no such back end here).
pr_status pr_gpu_choice_make(const char *name, int32_t number, pr_gpu_choice *choice) PR_MUST_CHECK;

// Calls `found` for each device of the back end; none if it cannot be opened, and why says why then.
void pr_gpu_choice_list(
    const char *backend,
    void (*found)(void *context, const char *backend, int32_t index, const pr_gpu_facts *facts),
    void *context,
    char why[256]);

#endif
