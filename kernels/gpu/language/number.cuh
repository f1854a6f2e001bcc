// SPDX-License-Identifier: BSD-3-Clause
// Numbers of kernels: bfloat16, exp and log, the same bits as runtime/base/dtype.h and runtime/base/elementary.[ch].
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

// exp(x) / 2^n for the integer n next to x / ln 2.
GPU_FUNCTION float gpu_exp_fraction(float x, float n)
{
    float r = gpu_fma(n, -0.693145751953125f, x);
    r = gpu_fma(n, -1.42860682030941723e-6f, r);
    float p = gpu_fma(1.0f / 5040.0f, r, 1.0f / 720.0f);
    p = gpu_fma(p, r, 1.0f / 120.0f);
    p = gpu_fma(p, r, 1.0f / 24.0f);
    p = gpu_fma(p, r, 1.0f / 6.0f);
    p = gpu_fma(p, r, 0.5f);
    p = gpu_fma(p, r, 1.0f);
    return gpu_fma(p, r, 1.0f);
}

// pr_exp, operation by operation.
GPU_FUNCTION float gpu_exp(float x)
{
    if (!(x >= -87.0f))
        return 0.0f;
    if (x > 88.0f)
        x = 88.0f;
    float n = gpu_fma(x, 1.44269504088896341f, 12582912.0f) - 12582912.0f;
    float p = gpu_exp_fraction(x, n);
    return p * gpu_from_bits((uint32_t)((int32_t)n + 127) << 23);
}

GPU_FUNCTION uint64_t gpu_bits_f64(double x)
{
    union {
        double value;
        uint64_t bits;
    } u = {x};
    return u.bits;
}
GPU_FUNCTION double gpu_from_bits_f64(uint64_t bits)
{
    union {
        uint64_t bits;
        double value;
    } u = {bits};
    return u.value;
}

// pr_exp_f64, operation by operation.
GPU_FUNCTION double gpu_exp_f64(double x)
{
    const double c[13] = {
        1.0,
        1.0,
        1.0 / 2,
        1.0 / 6,
        1.0 / 24,
        1.0 / 120,
        1.0 / 720,
        1.0 / 5040,
        1.0 / 40320,
        1.0 / 362880,
        1.0 / 3628800,
        1.0 / 39916800,
        1.0 / 479001600,
    };
    if (!(x >= -700))
        return 0;
    if (x > 700)
        x = 700;
    double n = (x * 1.4426950408889634 + 0x1.8p52) - 0x1.8p52;
    double r = x - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    double sum = c[12];
    GPU_UNROLL
    for (int k = 11; k >= 0; k--)
        sum = sum * r + c[k];
    return sum * gpu_from_bits_f64((uint64_t)((int64_t)n + 1023) << 52);
}

// pr_log_f64 of a positive normal number, operation by operation; frexp is exact in any way it is done.
GPU_FUNCTION double gpu_log_f64(double x)
{
    uint64_t bits = gpu_bits_f64(x);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1022;
    double m = gpu_from_bits_f64((bits & 0x000fffffffffffffu) | (uint64_t)1022 << 52);
    if (m < 0.70710678118654752) {
        m *= 2;
        exponent--;
    }
    double s = (m - 1) / (m + 1), square = s * s, sum = 0;
    GPU_UNROLL
    for (int k = 21; k >= 1; k -= 2)
        sum = sum * square + 1.0 / k;
    return (double)exponent * 0.69314718055994530942 + 2 * s * sum;
}

#endif
