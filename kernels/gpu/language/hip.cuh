// SPDX-License-Identifier: BSD-3-Clause
// gpu.cuh for hipcc (ROCm 5.2 and newer, gfx90a and gfx94x). Included by gpu.cuh alone.
#ifndef PR_GPU_LANGUAGE_HIP_CUH
#define PR_GPU_LANGUAGE_HIP_CUH

#include <hip/hip_runtime.h>

#define GPU_KERNEL static __global__
#define GPU_KERNEL_OF(threads) static __global__ __launch_bounds__(threads)
#define GPU_FUNCTION static __device__ __forceinline__
#define GPU_UNROLL _Pragma("unroll")
#define GPU_WARP 64
#define GPU_COPY_OVERLAPS 0

GPU_FUNCTION int gpu_thread() { return (int)threadIdx.x; }
GPU_FUNCTION int gpu_threads() { return (int)blockDim.x; }
GPU_FUNCTION int gpu_block() { return (int)blockIdx.x; }
GPU_FUNCTION int gpu_block_y() { return (int)blockIdx.y; }
GPU_FUNCTION int gpu_block_z() { return (int)blockIdx.z; }
GPU_FUNCTION int gpu_blocks() { return (int)gridDim.x; }
GPU_FUNCTION int gpu_lane() { return (int)(threadIdx.x % GPU_WARP); }
GPU_FUNCTION int gpu_warp() { return (int)(threadIdx.x / GPU_WARP); }

GPU_FUNCTION void gpu_barrier() { __syncthreads(); }
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

template <class T> GPU_FUNCTION T &gpu_shared()
{
    extern __shared__ __align__(128) unsigned char gpu_shared_bytes[];
    return *reinterpret_cast<T *>(gpu_shared_bytes);
}
GPU_FUNCTION gpu_bytes16 gpu_load16(const void *from)
{
    uint4 v = *static_cast<const uint4 *>(from);
    return gpu_bytes16{{v.x, v.y, v.z, v.w}};
}
GPU_FUNCTION void gpu_store16(void *to, gpu_bytes16 v)
{
    *static_cast<uint4 *>(to) = make_uint4(v.word[0], v.word[1], v.word[2], v.word[3]);
}
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
GPU_FUNCTION float gpu_sqrt(float x) { return __fsqrt_rn(x); }
GPU_FUNCTION float gpu_larger(float a, float b) { return __builtin_fmaxf(a, b); }
GPU_FUNCTION uint32_t gpu_bits(float x) { return __float_as_uint(x); }
GPU_FUNCTION float gpu_from_bits(uint32_t bits) { return __uint_as_float(bits); }

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
