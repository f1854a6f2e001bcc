// SPDX-License-Identifier: BSD-3-Clause
// Our own exp, log, sine and cosine: one polynomial each, the same bits on every machine, compiler
// and vector width (design.md §5). Every operation below is one IEEE operation in the order
// written; vector kernels repeat exactly these operations per lane. Build with -ffp-contract=off.
#ifndef PR_RUNTIME_BASE_ELEMENTARY_H
#define PR_RUNTIME_BASE_ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

// Constants of pr_exp, shared with the vector versions.
// exp(x) = 2^n * p(r), n = round(x / ln 2), |r| <= ln(2)/2; p = Taylor to r^7, error < 2 ulp.
#define PR_EXP_LOW (-87.0f)  // below: 0
#define PR_EXP_HIGH (88.0f)  // above: exp(88)
#define PR_EXP_LOG2E 1.44269504088896341f
#define PR_EXP_ROUND 12582912.0f  // 1.5 * 2^23: adding and subtracting it rounds to an integer
#define PR_EXP_LN2_HIGH 0.693145751953125f
#define PR_EXP_LN2_LOW 1.42860682030941723e-6f
#define PR_EXP_C7 (1.0f / 5040.0f)
#define PR_EXP_C6 (1.0f / 720.0f)
#define PR_EXP_C5 (1.0f / 120.0f)
#define PR_EXP_C4 (1.0f / 24.0f)
#define PR_EXP_C3 (1.0f / 6.0f)

static inline float pr_exp(float x)
{
    if (!(x >= PR_EXP_LOW))  // also NaN and -inf
        return 0.0f;
    if (x > PR_EXP_HIGH)
        x = PR_EXP_HIGH;
    float n = fmaf(x, PR_EXP_LOG2E, PR_EXP_ROUND) - PR_EXP_ROUND;
    float r = fmaf(n, -PR_EXP_LN2_HIGH, x);
    r = fmaf(n, -PR_EXP_LN2_LOW, r);
    float p = fmaf(PR_EXP_C7, r, PR_EXP_C6);
    p = fmaf(p, r, PR_EXP_C5);
    p = fmaf(p, r, PR_EXP_C4);
    p = fmaf(p, r, PR_EXP_C3);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return p * scale;
}

static inline float pr_silu(float x) { return x / (1.0f + pr_exp(-x)); }

// Natural logarithm of a positive normal number, in double, error < 1e-13 relative.
double pr_log_f64(double x);

// e^x in double, error < 1e-13 relative; 0 below -700, and the argument is capped at 700.
double pr_exp_f64(double x);

// Sine and cosine of an angle in radians, |angle| < 2^30, error < 1e-12.
void pr_sin_cos(double angle, double *sine, double *cosine);

#endif
