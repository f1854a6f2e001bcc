// SPDX-License-Identifier: BSD-3-Clause
// What a kernel may use, under one name for nvcc, hipcc and the emulation on a CPU. A file of kernels/gpu/operations
// includes this and no header of a vendor. C++17; no exceptions, no standard containers.
//
//   GPU_KERNEL            begins a kernel:                 GPU_KERNEL void add_rows(add_args args) { ... }
//   GPU_KERNEL_OF(threads) the same; it is launched with at most so many threads, and may use the registers of the rest
//   GPU_FUNCTION          begins a function called by kernels
//   GPU_WARP              lanes of a warp: 32 or 64, a constant; lane masks have 64 bits
//   GPU_UNROLL            before a loop whose trip count is a constant
//
// Where a thread is:
//   gpu_thread() gpu_threads()          in its block, of its block (blocks have one dimension)
//   gpu_block() gpu_block_y() gpu_block_z() gpu_blocks()          its block, blocks in x
//   gpu_lane() gpu_warp()               in its warp, its warp in the block
//
// Together. Every thread of the block (or warp) must arrive, by the same call:
//   gpu_barrier()                       the block; orders shared and global memory within it
//   gpu_warp_barrier()                  the warp
//   gpu_shuffle(v, lane) gpu_shuffle_xor(v, mask) gpu_shuffle_up(v, distance)    v of another lane; 4 or 8 bytes;
//                                       shuffle_up: the own v where lane < distance
//   gpu_ballot(condition)               uint64_t, bit i = lane i's
//
// Memory:
//   gpu_shared<T>()                     the block's shared memory as a T, not initialised; its size is said at launch
//   gpu_copy16_begin(to_shared, from_global)  16 bytes, both aligned to 16, may be in flight until
//   gpu_copy16_commit(), gpu_copy16_wait<N>() all but this thread's newest N commits have arrived (then a barrier)
//   GPU_COPY_OVERLAPS                   1: such copies fly while the thread goes on, so many stages of them pay;
//                                       0: they are there at once, two stages do
//   gpu_load16(from) gpu_store16(to, v) 16 bytes at once, aligned to 16, as gpu_bytes16 (four uint32_t)
//   gpu_load_acquire(p) gpu_store_release(p, v)   uint32_t or uint64_t, ordered for all GPUs and the host
//   gpu_clock_ns()                      the device's clock, for limits of waits
//   gpu_pause()                         in every turn of a loop that waits for another block, GPU or the host
//
// Numbers (no contraction, IEEE division and square root):
//   gpu_fma(a, b, c)  gpu_exp(x) (the bits of pr_exp)  gpu_sqrt(x)
//   gpu_larger(a, b)    of a number and a NaN the number, of two zeros any
//   gpu_bf16 (uint16_t)  gpu_to_bf16(float) to nearest even  gpu_from_bf16(gpu_bf16)
//   gpu_to_bf16_pair(low, high): two in a uint32_t, low in the low half
//   gpu_exp_f64(x)  gpu_log_f64(x)  the bits of pr_exp_f64 and pr_log_f64
//
// Launch, from host code of the same file:
//   gpu_launch(kernel, gpu_grid{x, y, z}, threads, shared_bytes, stream, args...)
//   gpu_launch_together(...)            the same; all blocks are resident at once (they may wait for each other);
//                                       false: the device cannot hold so many
//   Errors of a launch stay with the backend until it is asked (gpu_backend.h, error).
//
// Where lanes diverge, no `*_barrier`, shuffle or ballot. Shared memory that another lane wrote is read after a
// barrier only: the emulation runs threads in shuffled order to show a missing one (emulated.h).
#ifndef PR_GPU_LANGUAGE_GPU_CUH
#define PR_GPU_LANGUAGE_GPU_CUH

#include <stdint.h>

#include "kernels/gpu/gpu_stream.h"

struct gpu_grid {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(16) gpu_bytes16 {
    uint32_t word[4];
};
typedef uint16_t gpu_bf16;

#if defined(PR_GPU_EMULATED)
#include "kernels/gpu/language/emulated.h"
#elif defined(__HIPCC__) || defined(__HIP__)
#include "kernels/gpu/language/hip.cuh"
#else
#include "kernels/gpu/language/cuda.cuh"
#endif

#include "kernels/gpu/language/number.cuh"

#endif
