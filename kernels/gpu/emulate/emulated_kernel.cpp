// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/emulate/emulated_kernel.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/gpu/emulate/emulated_error.h"
#include "kernels/gpu/emulate/emulated_machine.h"

bool pr_emulated_kernel_fits(const pr_emulated_grid *grid)
{
    enum { MOST_YZ = 65535 };
    const uint32_t *blocks = grid->blocks;
    if (blocks[0] == 0 || blocks[1] == 0 || blocks[2] == 0 || blocks[0] > INT32_MAX ||
        blocks[1] > MOST_YZ || blocks[2] > MOST_YZ) {
        pr_emulated_error_set_launch(
            "a grid of %u x %u x %u blocks cannot be launched", blocks[0], blocks[1], blocks[2]);
        return false;
    }
    if (grid->threads == 0 || grid->threads > PR_EMULATED_THREADS) {
        pr_emulated_error_set_launch(
            "a block of %u threads cannot be launched: 1 to %d", grid->threads,
            PR_EMULATED_THREADS);
        return false;
    }
    if (grid->shared_bytes > PR_EMULATED_SHARED_BYTES) {
        pr_emulated_error_set_launch(
            "a block has at most %d bytes of shared memory, not %u", PR_EMULATED_SHARED_BYTES,
            grid->shared_bytes);
        return false;
    }
    return true;
}

bool pr_emulated_kernel_fits_together(const pr_emulated_grid *grid)
{
    uint64_t blocks = (uint64_t)grid->blocks[0] * grid->blocks[1] * grid->blocks[2];
    uint32_t each = PR_EMULATED_RESIDENT_BLOCKS / PR_EMULATED_MULTIPROCESSORS;
    if (each > PR_EMULATED_RESIDENT_THREADS / grid->threads)
        each = PR_EMULATED_RESIDENT_THREADS / grid->threads;
    if (grid->shared_bytes > 0 && each > PR_EMULATED_SHARED_BYTES / grid->shared_bytes)
        each = PR_EMULATED_SHARED_BYTES / grid->shared_bytes;
    return blocks <= (uint64_t)each * PR_EMULATED_MULTIPROCESSORS;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b > 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

void pr_emulated_kernel_begin(pr_emulated_run *run, const pr_emulated_kernel *kernel, uint64_t seed)
{
    const uint32_t *blocks = kernel->grid.blocks;
    run->kernel = kernel;
    run->seed = seed;
    run->blocks = (uint64_t)blocks[0] * blocks[1] * blocks[2];
    run->begun = 0;
    run->resident = 0;
    // Every block once, not in order: steps of a stride without a common divisor.
    run->offset = (seed >> 32) % run->blocks;
    run->stride = (seed & 0xffffffffu) % run->blocks;
    while (run->stride == 0 || common_divisor(run->stride, run->blocks) != 1)
        run->stride++;
}

static void begin_block(pr_emulated_run *run)
{
    uint64_t number = (run->offset + run->begun * run->stride) % run->blocks;
    const pr_emulated_kernel *kernel = run->kernel;
    pr_emulated_block *block =
        pr_emulated_block_take(&kernel->grid, number, run->seed, kernel->call, kernel->closure);
    if (!block) {
        fprintf(stderr, "gpu emulation: no memory for a block; give the process more\n");
        abort();
    }
    run->block[run->resident++] = block;
    run->begun++;
}

bool pr_emulated_kernel_turn(pr_emulated_run *run)
{
    for (;;) {
        while (run->begun < run->blocks && (run->kernel->together || run->resident == 0))
            begin_block(run);
        uint32_t waiting = 0;
        for (uint32_t i = 0; i < run->resident; i++) {
            if (pr_emulated_block_run(run->block[i]))
                pr_emulated_block_release(run->block[i]);
            else
                run->block[waiting++] = run->block[i];
        }
        run->resident = waiting;
        if (waiting > 0)
            return false;
        if (run->begun == run->blocks)
            return true;
    }
}
