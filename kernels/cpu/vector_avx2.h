// SPDX-License-Identifier: BSD-3-Clause
// What the AVX2 kernels share: widening loads and pr_exp on 8 lanes, operation by operation as in
// runtime/base/elementary.h. A panel column or a tile row of 16 is two of these vectors.
#ifndef PR_KERNELS_CPU_VECTOR_AVX2_H
#define PR_KERNELS_CPU_VECTOR_AVX2_H

#include <immintrin.h>

#include "runtime/base/dtype.h"
#include "runtime/base/elementary.h"

#define PR_INLINE static inline __attribute__((always_inline))

enum { PR_WIDTH = 8 };

// Elements i..i+7 of an array, as float.
PR_INLINE __m256 pr_load8(pr_dtype dtype, const void *array, size_t i)
{
    if (dtype == PR_F32)
        return _mm256_loadu_ps((const float *)array + i);
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)array + i));
    if (dtype == PR_F16)
        return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

PR_INLINE __m256 pr_exp8(__m256 x)
{
    __m256 usual = _mm256_cmp_ps(x, _mm256_set1_ps(PR_EXP_LOW), _CMP_GE_OQ);
    x = _mm256_min_ps(x, _mm256_set1_ps(PR_EXP_HIGH));
    __m256 rounder = _mm256_set1_ps(PR_EXP_ROUND);
    __m256 n = _mm256_sub_ps(_mm256_fmadd_ps(x, _mm256_set1_ps(PR_EXP_LOG2E), rounder), rounder);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-PR_EXP_LN2_HIGH), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-PR_EXP_LN2_LOW), r);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(PR_EXP_C7), r, _mm256_set1_ps(PR_EXP_C6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PR_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PR_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PR_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    __m256i exponent = _mm256_add_epi32(_mm256_cvttps_epi32(n), _mm256_set1_epi32(127));
    __m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
    return _mm256_and_ps(usual, _mm256_mul_ps(p, scale));
}

#endif
