// SPDX-License-Identifier: BSD-3-Clause
// gpu.cuh for a C++ compiler: kernels run on the CPU (emulate/), to be tested where no GPU is. The build gives GPU_WARP,
// 32 or 64. Included by gpu.cuh alone.
//
// What it shows that a GPU hides: a missing barrier (threads run in any order, shared memory begins as NaN), a missing
// wait for a copy (nothing is copied before), lanes that part before a barrier, shared memory beyond what was asked for,
// and with the address sanitizer every access outside of an allocation.
#ifndef PR_GPU_LANGUAGE_EMULATED_H
#define PR_GPU_LANGUAGE_EMULATED_H

#include <string.h>
#include <time.h>

#include "kernels/gpu/emulate/emulated_block.h"
#include "kernels/gpu/emulate/emulated_machine.h"

#define GPU_KERNEL static
#define GPU_KERNEL_OF(threads) static
#define GPU_COPY_OVERLAPS (GPU_WARP == 32)
#define GPU_FUNCTION __attribute__((unused)) static inline
#define GPU_UNROLL
static_assert(GPU_WARP == 32 || GPU_WARP == 64, "a warp has 32 or 64 lanes");

// As a default argument: the place of the call.
#define GPU_SITE_PARAMS const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define GPU_SITE(name) (pr_emulated_site{name, file, line})

GPU_FUNCTION int gpu_thread() { return pr_emulated_self->thread; }
GPU_FUNCTION int gpu_threads() { return (int)pr_emulated_self->block->grid.threads; }
GPU_FUNCTION int gpu_block() { return (int)pr_emulated_self->block->place[0]; }
GPU_FUNCTION int gpu_block_y() { return (int)pr_emulated_self->block->place[1]; }
GPU_FUNCTION int gpu_block_z() { return (int)pr_emulated_self->block->place[2]; }
GPU_FUNCTION int gpu_blocks() { return (int)pr_emulated_self->block->grid.blocks[0]; }
GPU_FUNCTION int gpu_lane() { return pr_emulated_self->lane; }
GPU_FUNCTION int gpu_warp() { return pr_emulated_self->warp; }

GPU_FUNCTION void gpu_barrier(GPU_SITE_PARAMS)
{
    pr_emulated_block_barrier(GPU_SITE("gpu_barrier"));
}
GPU_FUNCTION void gpu_warp_barrier(GPU_SITE_PARAMS)
{
    (void)pr_emulated_block_exchange(NULL, 0, NULL, GPU_SITE("gpu_warp_barrier"));
}

template <class T> GPU_FUNCTION T gpu_emulated_take(T v, int lane, pr_emulated_site site)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    const unsigned char *slots = pr_emulated_block_exchange(&v, sizeof(T), NULL, site);
    if (lane < 0 || lane >= pr_emulated_block_lanes())
        pr_emulated_block_fail("the warp has no such lane", site);
    T taken;
    memcpy(&taken, slots + (size_t)lane * PR_EMULATED_SLOT_BYTES, sizeof(T));
    return taken;
}
template <class T> GPU_FUNCTION T gpu_shuffle(T v, int lane, GPU_SITE_PARAMS)
{
    return gpu_emulated_take(v, lane & (GPU_WARP - 1), GPU_SITE("gpu_shuffle"));
}
template <class T> GPU_FUNCTION T gpu_shuffle_xor(T v, int mask, GPU_SITE_PARAMS)
{
    return gpu_emulated_take(v, gpu_lane() ^ mask, GPU_SITE("gpu_shuffle_xor"));
}
template <class T> GPU_FUNCTION T gpu_shuffle_up(T v, int distance, GPU_SITE_PARAMS)
{
    int lane = gpu_lane();
    return gpu_emulated_take(
        v, lane < distance ? lane : lane - distance, GPU_SITE("gpu_shuffle_up"));
}
GPU_FUNCTION uint64_t gpu_ballot(bool condition, GPU_SITE_PARAMS)
{
    unsigned char mine = condition;
    const unsigned char *slots = pr_emulated_block_exchange(&mine, 1, NULL, GPU_SITE("gpu_ballot"));
    uint64_t lanes = 0;
    for (int i = 0; i < pr_emulated_block_lanes(); i++)
        lanes |= (uint64_t)slots[i * PR_EMULATED_SLOT_BYTES] << i;
    return lanes;
}

template <class T> GPU_FUNCTION T &gpu_shared(GPU_SITE_PARAMS)
{
    const pr_emulated_block *block = pr_emulated_self->block;
    if (sizeof(T) > block->grid.shared_bytes)
        pr_emulated_block_fail(
            "the launch asked for less shared memory than that", GPU_SITE("gpu_shared"));
    return *reinterpret_cast<T *>(block->shared);
}
GPU_FUNCTION void gpu_copy16_begin(void *to_shared, const void *from_global)
{
    pr_emulated_block_copy_begin(to_shared, from_global);
}
GPU_FUNCTION void gpu_copy16_commit() { pr_emulated_block_copy_commit(); }
template <int N> GPU_FUNCTION void gpu_copy16_wait() { pr_emulated_block_copy_wait(N); }
GPU_FUNCTION gpu_bytes16 gpu_load16(const void *from)
{
    return *static_cast<const gpu_bytes16 *>(from);
}
GPU_FUNCTION void gpu_store16(void *to, gpu_bytes16 v) { *static_cast<gpu_bytes16 *>(to) = v; }
template <class T> GPU_FUNCTION T gpu_load_acquire(const T *from)
{
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}
template <class T> GPU_FUNCTION void gpu_store_release(T *to, T v)
{
    __atomic_store_n(to, v, __ATOMIC_RELEASE);
}
GPU_FUNCTION uint64_t gpu_clock_ns()
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
GPU_FUNCTION void gpu_pause() { pr_emulated_block_pause(); }

GPU_FUNCTION float gpu_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
GPU_FUNCTION float gpu_sqrt(float x) { return __builtin_sqrtf(x); }
GPU_FUNCTION float gpu_larger(float a, float b) { return __builtin_fmaxf(a, b); }
GPU_FUNCTION uint32_t gpu_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}
GPU_FUNCTION float gpu_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

// ---- Launch ----

template <class F>
static inline bool gpu_emulated_launch(
    F closure,
    gpu_grid grid,
    unsigned threads,
    unsigned shared_bytes,
    bool together,
    pr_gpu_stream *stream)
{
    static_assert(
        sizeof(F) <= PR_EMULATED_CLOSURE_BYTES, "arguments of a kernel are at most 1 KiB");
    const pr_emulated_grid whole = {{grid.x, grid.y, grid.z}, threads, shared_bytes};
    auto call = [](const void *bytes) { (*static_cast<const F *>(bytes))(); };
    return pr_emulated_machine_launch(stream, &whole, together, call, &closure, sizeof(F));
}

template <class... P, class... A>
static inline void gpu_launch(
    void (*kernel)(P...),
    gpu_grid grid,
    unsigned threads,
    unsigned shared_bytes,
    pr_gpu_stream *stream,
    A... args)
{
    auto closure = [=] { kernel(args...); };
    (void)gpu_emulated_launch(closure, grid, threads, shared_bytes, false, stream);
}

template <class... P, class... A>
static inline bool gpu_launch_together(
    void (*kernel)(P...),
    gpu_grid grid,
    unsigned threads,
    unsigned shared_bytes,
    pr_gpu_stream *stream,
    A... args)
{
    static_assert(
        (__is_same(P, A) && ...),
        "the arguments have the types of the parameters: CUDA takes their bytes");
    auto closure = [=] { kernel(args...); };
    return gpu_emulated_launch(closure, grid, threads, shared_bytes, true, stream);
}

#endif
