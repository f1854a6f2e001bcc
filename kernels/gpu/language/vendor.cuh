// SPDX-License-Identifier: BSD-3-Clause
// What nvcc and hipcc spell alike of gpu.cuh. Included by cuda.cuh and hip.cuh alone, after the vendor's header.
#ifndef PR_GPU_LANGUAGE_VENDOR_CUH
#define PR_GPU_LANGUAGE_VENDOR_CUH

#define GPU_KERNEL static __global__
#define GPU_KERNEL_OF(threads) static __global__ __launch_bounds__(threads)
#define GPU_FUNCTION static __device__ __forceinline__
#define GPU_UNROLL _Pragma("unroll")

GPU_FUNCTION int gpu_thread() { return (int)threadIdx.x; }
GPU_FUNCTION int gpu_threads() { return (int)blockDim.x; }
GPU_FUNCTION int gpu_block() { return (int)blockIdx.x; }
GPU_FUNCTION int gpu_block_y() { return (int)blockIdx.y; }
GPU_FUNCTION int gpu_block_z() { return (int)blockIdx.z; }
GPU_FUNCTION int gpu_blocks() { return (int)gridDim.x; }
GPU_FUNCTION int gpu_lane() { return (int)(threadIdx.x % GPU_WARP); }
GPU_FUNCTION int gpu_warp() { return (int)(threadIdx.x / GPU_WARP); }

GPU_FUNCTION void gpu_barrier() { __syncthreads(); }

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

GPU_FUNCTION float gpu_sqrt(float x) { return __fsqrt_rn(x); }
GPU_FUNCTION uint32_t gpu_bits(float x) { return __float_as_uint(x); }
GPU_FUNCTION float gpu_from_bits(uint32_t bits) { return __uint_as_float(bits); }

#endif
