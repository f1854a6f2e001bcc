// SPDX-License-Identifier: BSD-3-Clause
// AVX-512 as attention_span.h and rope_rows.h want their vectors.
#ifndef PR_KERNELS_CPU_LANES_AVX512_H
#define PR_KERNELS_CPU_LANES_AVX512_H

#include <math.h>
#include <stdbool.h>

#include "kernels/cpu/vector_avx512.h"

typedef __m512 vector;

#define SCORE_QUERIES 6
enum { LANES = 16, GATHER_VECTORS = 8 };

PR_INLINE vector load(const void *from) { return _mm512_loadu_ps(from); }
PR_INLINE vector load_part(const void *from, int n)
{
    return _mm512_maskz_loadu_ps(pr_lanes(n), from);
}
PR_INLINE void store(void *to, vector x) { _mm512_storeu_ps(to, x); }
PR_INLINE void store_part(void *to, vector x, int n) { _mm512_mask_storeu_ps(to, pr_lanes(n), x); }
PR_INLINE vector splat(float x) { return _mm512_set1_ps(x); }
PR_INLINE vector splat_word(const uint32_t *word)
{
    return _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)*word));
}
PR_INLINE vector maximum_of(vector a, vector b) { return _mm512_max_ps(a, b); }
PR_INLINE float largest_lane(vector x) { return _mm512_reduce_max_ps(x); }
PR_INLINE vector exp_of(vector x) { return pr_exp16(x); }
PR_INLINE vector mask_unseen(vector x, int32_t seen)
{
    return _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), pr_lanes(seen), x);
}

// Words: pairs of bfloat16.
PR_INLINE vector low_half(vector words)
{
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(words), _mm512_set1_epi32(0xffff)));
}

// The upper half of each lane rounded to nearest even, denormals too; the lower half is something. NaN stays
// a quiet NaN.
PR_INLINE __m512i rounded(vector x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(_mm512_add_epi32(bits, up), nan, bits, _mm512_set1_epi32(0x400000));
}

// Words of the neighbours among 32 numbers.
PR_INLINE vector pair_words(vector first, vector second)
{
    const __m512i upper = _mm512_set_epi16(
        63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19,
        17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_castsi512_ps(_mm512_permutex2var_epi16(rounded(first), upper, rounded(second)));
}

// The words with x as one of their halves.
PR_INLINE vector replace_half(vector words, vector x, bool high)
{
    __m512i old = _mm512_castps_si512(words), upper = _mm512_set1_epi32((int32_t)0xffff0000u);
    __m512i bits = _mm512_and_si512(rounded(x), upper);
    __m512i kept = high ? _mm512_andnot_si512(upper, old) : _mm512_and_si512(upper, old);
    return _mm512_castsi512_ps(_mm512_or_si512(kept, high ? bits : _mm512_srli_epi32(bits, 16)));
}

#endif
