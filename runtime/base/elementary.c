// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/base/elementary.h"

// log(m * 2^e) = e ln 2 + 2 atanh(s), s = (m-1)/(m+1), m in [sqrt(1/2), sqrt(2)): the odd series
// in s converges as 0.0295^k.
double pr_log_f64(double x)
{
    int exponent;
    double m = frexp(x, &exponent);  // exact
    if (m < 0.70710678118654752) {
        m *= 2;
        exponent--;
    }
    double s = (m - 1) / (m + 1), square = s * s, sum = 0;
    for (int k = 21; k >= 1; k -= 2)
        sum = sum * square + 1.0 / k;
    return (double)exponent * 0.69314718055994530942 + 2 * s * sum;
}

// exp(x) = 2^n * p(r), |r| <= ln(2)/2; p = Taylor to r^12, the rest is below 2e-16. Adding and
// subtracting 1.5 * 2^52 rounds to an integer. The sampler calls this once per token of the vocabulary:
// no division, no library call.
double pr_exp_f64(double x)
{
    static const double c[13] = {
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
    for (int k = 11; k >= 0; k--)
        sum = sum * r + c[k];
    int64_t bits = ((int64_t)n + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, 8);
    return sum * scale;
}

// Reduction by pi/2 in two parts (Cody and Waite 1980). The first fma is exact: both terms are
// multiples of 2^-52 and their difference is below 1. Then Taylor on |r| <= pi/4.
void pr_sin_cos(double angle, double *sine, double *cosine)
{
    double n = nearbyint(angle * 0.63661977236758134308);
    double r = fma(n, -1.57079632679489655800e+00, angle);
    r = fma(n, -6.12323399573676603587e-17, r);
    double square = r * r, s = 1, c = 1;
    for (int k = 17; k >= 3; k -= 2)
        s = 1 - s * square / (k * (k - 1));
    for (int k = 16; k >= 2; k -= 2)
        c = 1 - c * square / (k * (k - 1));
    s *= r;
    switch ((int)((int64_t)n & 3)) {
    case 0:
        *sine = s, *cosine = c;
        break;
    case 1:
        *sine = c, *cosine = -s;
        break;
    case 2:
        *sine = -s, *cosine = -c;
        break;
    default:
        *sine = -c, *cosine = s;
        break;
    }
}
