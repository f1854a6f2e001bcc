// SPDX-License-Identifier: BSD-3-Clause
// What the AVX-512 kernels share: widening loads and pr_exp on 16 lanes, operation by operation as
// in runtime/base/elementary.h.
#ifndef PR_KERNELS_CPU_VECTOR_AVX512_H
#define PR_KERNELS_CPU_VECTOR_AVX512_H

#include <immintrin.h>

#include "runtime/base/dtype.h"
#include "runtime/base/elementary.h"

#define PR_INLINE static inline __attribute__((always_inline))

enum { PR_WIDTH = 16 };

// Elements i..i+15 of an array, as float.
PR_INLINE __m512 pr_load16(pr_dtype dtype, const void *array, size_t i)
{
    if (dtype == PR_F32)
        return _mm512_loadu_ps((const float *)array + i);
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)((const uint16_t *)array + i));
    if (dtype == PR_F16)
        return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// The first n lanes set; none for n <= 0, all for n >= 16.
PR_INLINE __mmask16 pr_lanes(int64_t n)
{
    return (__mmask16)(n <= 0 ? 0u : n >= PR_WIDTH ? 0xffffu : (1u << n) - 1u);
}

PR_INLINE __m512 pr_exp16(__m512 x)
{
    __mmask16 usual = _mm512_cmp_ps_mask(x, _mm512_set1_ps(PR_EXP_LOW), _CMP_GE_OQ);
    x = _mm512_min_ps(x, _mm512_set1_ps(PR_EXP_HIGH));
    __m512 rounder = _mm512_set1_ps(PR_EXP_ROUND);
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(PR_EXP_LOG2E), rounder), rounder);
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-PR_EXP_LN2_HIGH), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-PR_EXP_LN2_LOW), r);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(PR_EXP_C7), r, _mm512_set1_ps(PR_EXP_C6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PR_EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PR_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PR_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    __m512i exponent = _mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127));
    __m512 scale = _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
    return _mm512_maskz_mul_ps(usual, p, scale);
}

#endif
