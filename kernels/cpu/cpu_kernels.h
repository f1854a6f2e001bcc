// SPDX-License-Identifier: BSD-3-Clause
// Who fills the kernel table of a CPU device. The reference fills all of it; an instruction set then
// overrides what it has faster, and may assume its CPU features.
#ifndef PR_KERNELS_CPU_KERNELS_H
#define PR_KERNELS_CPU_KERNELS_H

#include "runtime/device.h"

void pr_cpu_reference_kernels(pr_device *device);
void pr_cpu_avx2_kernels(pr_device *device);
void pr_cpu_avx512_kernels(pr_device *device);

// The overrides, one file each.
void pr_matmul_avx2(pr_device *device, const pr_matmul_args *args);
void pr_attention_avx2(pr_device *device, const pr_attention_args *args);
void pr_matmul_avx512(pr_device *device, const pr_matmul_args *args);
void pr_attention_avx512(pr_device *device, const pr_attention_args *args);

// Positions of a page that hold one tile of a head: where they start, in elements.
static inline size_t pr_tile_offset(int32_t tile, int32_t kv_head, int32_t d, int32_t block_tokens)
{
    int32_t in_page = tile % (block_tokens / PR_TILE);
    return ((size_t)kv_head * (size_t)block_tokens + (size_t)in_page * PR_TILE) * (size_t)d;
}

#endif
