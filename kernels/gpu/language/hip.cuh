// SPDX-License-Identifier: BSD-3-Clause
// gpu.cuh for hipcc (ROCm 5.2 and newer, gfx90a and gfx94x). Included by gpu.cuh alone.
#ifndef PR_GPU_LANGUAGE_HIP_CUH
#define PR_GPU_LANGUAGE_HIP_CUH

#include <hip/hip_runtime.h>

#define GPU_WARP 64
#define GPU_COPY_OVERLAPS 0

#include "kernels/gpu/language/vendor.cuh"

// A wave runs in step; what its lanes wrote must be ordered all the same.
GPU_FUNCTION void gpu_warp_barrier()
{
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
    __builtin_amdgcn_wave_barrier();
}
template <class T> GPU_FUNCTION T gpu_shuffle(T v, int lane) { return __shfl(v, lane, GPU_WARP); }
template <class T> GPU_FUNCTION T gpu_shuffle_xor(T v, int mask)
{
    return __shfl_xor(v, mask, GPU_WARP);
}
template <class T> GPU_FUNCTION T gpu_shuffle_up(T v, int distance)
{
    return __shfl_up(v, (unsigned)distance, GPU_WARP);
}
GPU_FUNCTION uint64_t gpu_ballot(bool condition) { return __ballot(condition); }

// No copy engine into LDS before gfx950: through registers, there at once.
GPU_FUNCTION void gpu_copy16_begin(void *to_shared, const void *from_global)
{
    gpu_store16(to_shared, gpu_load16(from_global));
}
GPU_FUNCTION void gpu_copy16_commit() {}
template <int N> GPU_FUNCTION void gpu_copy16_wait() {}
template <class T> GPU_FUNCTION T gpu_load_acquire(const T *from)
{
    return __hip_atomic_load(const_cast<T *>(from), __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_SYSTEM);
}
template <class T> GPU_FUNCTION void gpu_store_release(T *to, T v)
{
    __hip_atomic_store(to, v, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_SYSTEM);
}
// The real-time counter runs at 100 MHz on these.
GPU_FUNCTION uint64_t gpu_clock_ns() { return __builtin_amdgcn_s_memrealtime() * 10; }
GPU_FUNCTION void gpu_pause() { __builtin_amdgcn_s_sleep(4); }

GPU_FUNCTION float gpu_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
GPU_FUNCTION float gpu_larger(float a, float b) { return __builtin_fmaxf(a, b); }

// ---- Launch ----

template <class... P, class... A>
static inline void gpu_launch(
    void (*kernel)(P...),
    gpu_grid grid,
    unsigned threads,
    unsigned shared_bytes,
    pr_gpu_stream *stream,
    A... args)
{
    kernel<<<dim3(grid.x, grid.y, grid.z), threads, shared_bytes, (hipStream_t)stream>>>(args...);
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
    void *list[] = {(void *)&args...};
    hipError_t error = hipLaunchCooperativeKernel(
        (const void *)kernel, dim3(grid.x, grid.y, grid.z), dim3(threads), list, shared_bytes,
        (hipStream_t)stream);
    if (error == hipErrorCooperativeLaunchTooLarge)
        (void)hipGetLastError();
    return error == hipSuccess;
}

#endif
