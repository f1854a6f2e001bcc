// SPDX-License-Identifier: BSD-3-Clause
// A launch of the emulated GPU, and those of its blocks that are resident while it runs: one, or all of them together.
//
// Threads: run and end by the machine's thread alone.
#ifndef PR_KERNELS_GPU_EMULATED_KERNEL_H
#define PR_KERNELS_GPU_EMULATED_KERNEL_H

#include "kernels/gpu/emulate/emulated_block.h"

enum { PR_EMULATED_RESIDENT_BLOCKS = 128 };

struct pr_emulated_kernel {
    pr_emulated_grid grid;
    bool together;
    void (*call)(const void *closure);
    const void *closure;  // borrowed
};

struct pr_emulated_run {
    const pr_emulated_kernel *kernel;  // NULL: nothing runs
    uint64_t seed, blocks, begun, stride, offset;
    uint32_t resident;
    pr_emulated_block *block[PR_EMULATED_RESIDENT_BLOCKS];
};

// Whether a device could run it; sets the error of a launch otherwise.
bool pr_emulated_kernel_fits(const pr_emulated_grid *grid);
bool pr_emulated_kernel_fits_together(const pr_emulated_grid *grid);

void pr_emulated_kernel_begin(
    pr_emulated_run *run, const pr_emulated_kernel *kernel, uint64_t seed);
// Each resident block as far as it gets. True: all blocks are done.
bool pr_emulated_kernel_turn(pr_emulated_run *run);

#endif
