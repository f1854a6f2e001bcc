// SPDX-License-Identifier: BSD-3-Clause
// What a CPU device keeps behind pr_device.state, and the drivers that fill the device's table: each cuts
// an operation into tasks for the team. Private to kernels/cpu.
#ifndef PR_KERNELS_CPU_STATE_H
#define PR_KERNELS_CPU_STATE_H

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_team.h"

typedef struct pr_cpu_state {
    pr_cpu_team *team;
    pr_cpu_kernels kernels;
    struct pr_cpu_slab *slab;  // that memory is cut from (cpu_memory.c), or NULL
    char *staging;             // [threads][staging_bytes]: what loading reads before it packs
    size_t staging_bytes;
    void *prepared;  // scratch of matmuls, taken by reserve
    size_t prepared_bytes;
    struct pr_cpu_product *product;  // [products]: one of every expert
    int64_t *first_chunk;            // [products]
    int32_t products;
} pr_cpu_state;

static inline pr_cpu_state *pr_cpu_state_of(const pr_device *device) { return device->state; }

// At least so many bytes of staging for each thread. PR_ERR_RESOURCE.
pr_status pr_cpu_staging_reserve(pr_device *device, size_t size_bytes) PR_MUST_CHECK;

// Which of `owners` a task belongs to, whose tasks follow each other: the last whose first is not after it.
static inline int32_t pr_cpu_task_owner(const int64_t *first_task, int32_t owners, int64_t task)
{
    int32_t low = 0, high = owners;
    while (high - low > 1) {
        int32_t middle = (low + high) / 2;
        if (first_task[middle] <= task)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void pr_cpu_matmul_fill(pr_device *device);  // matmul, gated, experts, reserve
void pr_cpu_matmul_release(pr_device *device);
void pr_cpu_rows_fill(pr_device *device);       // embed, rmsnorm, rope_store, topk, combine, add
void pr_cpu_attention_fill(pr_device *device);  // attention

#endif
