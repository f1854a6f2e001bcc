// SPDX-License-Identifier: BSD-3-Clause
// Arithmetic with denormals as zero, in plain C: what vdpbf16ps computes, and x86 with FTZ and DAZ set.
// A denormal operand counts as zero of its sign, and so does a result that is denormal after rounding to
// 24 bits without a bound on the exponent. That is not quite what "the float32 result is denormal" says:
// values just below 2^-126 that float32 rounds up to it are zero too.
//
// Source: Intel SDM vol. 1, 4.9.1.5 (tininess after rounding) and vol. 2, VDPBF16PS. Cost: for reference
// kernels.
#ifndef PR_KERNELS_CPU_FLUSHED_H
#define PR_KERNELS_CPU_FLUSHED_H

#include <float.h>
#include <math.h>

static inline float pr_flushed(float x) { return fabsf(x) < FLT_MIN ? copysignf(0.0f, x) : x; }

static inline float pr_flushed_product(float a, float b)
{
    float product = pr_flushed(a) * pr_flushed(b);
    if (fabsf(product) == FLT_MIN && fabs((double)a * (double)b) < 0x1p-126 - 0x1p-151)
        return copysignf(0.0f, product);
    return pr_flushed(product);
}

// a b + sum, rounded once.
static inline float pr_flushed_fma(float a, float b, float sum)
{
    a = pr_flushed(a), b = pr_flushed(b), sum = pr_flushed(sum);
    float result = fmaf(a, b, sum);
    if (fabsf(result) == FLT_MIN && fabs((double)a * (double)b + (double)sum) < 0x1p-126 - 0x1p-151)
        return copysignf(0.0f, result);
    return pr_flushed(result);
}

#endif
