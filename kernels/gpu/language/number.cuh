// SPDX-License-Identifier: BSD-3-Clause
// Numbers of kernels: bfloat16 and exp, the same bits as runtime/base/dtype.h and runtime/base/elementary.h.
// Included by gpu.cuh alone.
#ifndef PR_GPU_LANGUAGE_NUMBER_CUH
#define PR_GPU_LANGUAGE_NUMBER_CUH

GPU_FUNCTION float gpu_from_bf16(gpu_bf16 bits) { return gpu_from_bits((uint32_t)bits << 16); }

GPU_FUNCTION gpu_bf16 gpu_to_bf16(float value)
{
    uint32_t bits = gpu_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (gpu_bf16)((bits >> 16) | 0x40u);
    return (gpu_bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

GPU_FUNCTION uint32_t gpu_to_bf16_pair(float low, float high)
{
    return (uint32_t)gpu_to_bf16(low) | (uint32_t)gpu_to_bf16(high) << 16;
}

// pr_exp, operation by operation.
GPU_FUNCTION float gpu_exp(float x)
{
    if (!(x >= -87.0f))
        return 0.0f;
    if (x > 88.0f)
        x = 88.0f;
    float n = gpu_fma(x, 1.44269504088896341f, 12582912.0f) - 12582912.0f;
    float r = gpu_fma(n, -0.693145751953125f, x);
    r = gpu_fma(n, -1.42860682030941723e-6f, r);
    float p = gpu_fma(1.0f / 5040.0f, r, 1.0f / 720.0f);
    p = gpu_fma(p, r, 1.0f / 120.0f);
    p = gpu_fma(p, r, 1.0f / 24.0f);
    p = gpu_fma(p, r, 1.0f / 6.0f);
    p = gpu_fma(p, r, 0.5f);
    p = gpu_fma(p, r, 1.0f);
    p = gpu_fma(p, r, 1.0f);
    return p * gpu_from_bits((uint32_t)((int32_t)n + 127) << 23);
}

#endif
