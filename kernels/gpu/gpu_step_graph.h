// SPDX-License-Identifier: BSD-3-Clause
// Graphs of decode steps: what a step puts into the stream between graph_begin and graph_end of runtime/device.h, recorded
// once and then put in as one. Private to kernels/gpu.
//
// A graph fits a step with as many rows, of sequences that are not longer. Sizes are few: rows 1, 2, 4, then multiples
// of 8; lengths are powers of two from PR_GPU_ATTENTION_PART. What differs between two such steps is in the tables, at
// fixed places in device memory. A size is recorded when it comes for the second time: a kernel's first launch may load
// it, which cannot be recorded.
// Cost: a few hundred launches become one; a graph takes some 100 KB of the driver's.
#ifndef PR_KERNELS_GPU_GPU_STEP_GRAPH_H
#define PR_KERNELS_GPU_GPU_STEP_GRAPH_H

#include "kernels/gpu/gpu_state.h"

void pr_gpu_step_graph_fill(pr_device *device);  // graph_rows, graph_begin, graph_end
// Forgets all of them: the memory that they name is another's from now on.
void pr_gpu_step_graph_forget(pr_gpu_state *state);

#endif
