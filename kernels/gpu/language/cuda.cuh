// SPDX-License-Identifier: BSD-3-Clause
// gpu.cuh for nvcc (CUDA 12 and newer, sm_80 and newer). Included by gpu.cuh alone.
#ifndef PR_GPU_LANGUAGE_CUDA_CUH
#define PR_GPU_LANGUAGE_CUDA_CUH

#include <cuda_runtime.h>

#define GPU_WARP 32
#define GPU_COPY_OVERLAPS 1

#include "kernels/gpu/language/vendor.cuh"

GPU_FUNCTION void gpu_warp_barrier() { __syncwarp(); }
template <class T> GPU_FUNCTION T gpu_shuffle(T v, int lane)
{
    return __shfl_sync(0xffffffffu, v, lane);
}
template <class T> GPU_FUNCTION T gpu_shuffle_xor(T v, int mask)
{
    return __shfl_xor_sync(0xffffffffu, v, mask);
}
template <class T> GPU_FUNCTION T gpu_shuffle_up(T v, int distance)
{
    return __shfl_up_sync(0xffffffffu, v, (unsigned)distance);
}
GPU_FUNCTION uint64_t gpu_ballot(bool condition) { return __ballot_sync(0xffffffffu, condition); }

GPU_FUNCTION void gpu_copy16_begin(void *to_shared, const void *from_global)
{
    unsigned to = (unsigned)__cvta_generic_to_shared(to_shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from_global)
                 : "memory");
}
GPU_FUNCTION void gpu_copy16_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> GPU_FUNCTION void gpu_copy16_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
GPU_FUNCTION uint32_t gpu_load_acquire(const uint32_t *from)
{
    uint32_t v;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
    return v;
}
GPU_FUNCTION uint64_t gpu_load_acquire(const uint64_t *from)
{
    uint64_t v;
    asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(from) : "memory");
    return v;
}
GPU_FUNCTION void gpu_store_release(uint32_t *to, uint32_t v)
{
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(v) : "memory");
}
GPU_FUNCTION void gpu_store_release(uint64_t *to, uint64_t v)
{
    asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(to), "l"(v) : "memory");
}
GPU_FUNCTION uint64_t gpu_clock_ns()
{
    uint64_t v;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(v));
    return v;
}
GPU_FUNCTION void gpu_pause() { __nanosleep(100); }

GPU_FUNCTION float gpu_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
GPU_FUNCTION float gpu_larger(float a, float b) { return fmaxf(a, b); }

// ---- Launch ----

enum { GPU_SHARED_FREE_BYTES = 48 * 1024 };  // more has to be asked for

static inline void gpu_allow_shared(const void *kernel, unsigned shared_bytes)
{
    if (shared_bytes > GPU_SHARED_FREE_BYTES)
        (void)cudaFuncSetAttribute(
            kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
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
    gpu_allow_shared((const void *)kernel, shared_bytes);
    kernel<<<dim3(grid.x, grid.y, grid.z), threads, shared_bytes, (cudaStream_t)stream>>>(args...);
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
    gpu_allow_shared((const void *)kernel, shared_bytes);
    void *list[] = {(void *)&args...};
    cudaError_t error = cudaLaunchCooperativeKernel(
        (const void *)kernel, dim3(grid.x, grid.y, grid.z), dim3(threads), list, shared_bytes,
        (cudaStream_t)stream);
    if (error == cudaErrorCooperativeLaunchTooLarge)
        (void)cudaGetLastError();
    return error == cudaSuccess;
}

#endif
