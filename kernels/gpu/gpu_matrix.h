// SPDX-License-Identifier: BSD-3-Clause
// Weights on a GPU: row-major as stored, bfloat16 or float32, filled up with zeros to whole tiles.
//
//   stored     [N][K] of a mapped file, any dtype
//   device     [N up to a multiple of 128][K up to a multiple of 64]   (gpu_operations.h: pr_gpu_weights)
//   stack      [count] of those, one after another: what `experts` reads
//   table      [V][H], nothing filled up: what `embed` reads
//
// float16 is widened to float32, and so is everything under --dtype float32. Quantised and converted weights are
// the CPU's. Rows are read (or taken from the mapping), converted by the host's threads into a pinned stage and
// sent from there, one stage under way while the next is filled.
// Threads: the device's driver.
#ifndef PR_KERNELS_GPU_GPU_MATRIX_H
#define PR_KERNELS_GPU_GPU_MATRIX_H

#include "kernels/gpu/gpu_operations.h"
#include "runtime/device.h"

struct pr_matrix {
    pr_gpu_weights weights;
    void *memory;  // its own; NULL: a stack's
};

void pr_gpu_matrix_fill(pr_device *device);  // matrices, stacks, tables, their sizes

#endif
