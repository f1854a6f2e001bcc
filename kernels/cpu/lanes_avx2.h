// SPDX-License-Identifier: BSD-3-Clause
// AVX2 as attention_span.h and rope_rows.h want their vectors.
#ifndef PR_KERNELS_CPU_LANES_AVX2_H
#define PR_KERNELS_CPU_LANES_AVX2_H

#include <math.h>
#include <stdbool.h>

#include "kernels/cpu/vector_avx2.h"

typedef __m256 vector;

#define SCORE_QUERIES 4
enum { LANES = 8, GATHER_VECTORS = 4 };

PR_INLINE vector load(const void *from) { return _mm256_loadu_ps(from); }
PR_INLINE __m256i first_lanes(int32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
PR_INLINE vector load_part(const void *from, int n)
{
    return _mm256_maskload_ps(from, first_lanes(n));
}
PR_INLINE void store(void *to, vector x) { _mm256_storeu_ps(to, x); }
PR_INLINE void store_part(void *to, vector x, int n) { _mm256_maskstore_ps(to, first_lanes(n), x); }
PR_INLINE vector splat(float x) { return _mm256_set1_ps(x); }
PR_INLINE vector splat_word(const uint32_t *word)
{
    return _mm256_castsi256_ps(_mm256_set1_epi32((int32_t)*word));
}
PR_INLINE vector maximum_of(vector a, vector b) { return _mm256_max_ps(a, b); }
PR_INLINE float largest_lane(vector x)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
PR_INLINE vector exp_of(vector x) { return pr_exp8(x); }
PR_INLINE vector mask_unseen(vector x, int32_t seen)
{
    __m256 lanes = _mm256_castsi256_ps(first_lanes(seen));
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), x, lanes);
}

// Words: pairs of bfloat16.
PR_INLINE vector low_half(vector words)
{
    return _mm256_and_ps(words, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff)));
}

// The upper half of each lane rounded to nearest even, denormals too; the lower half is something. NaN stays
// a quiet NaN.
PR_INLINE __m256i rounded(vector x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_blendv_epi8(_mm256_add_epi32(bits, up), quiet, nan);
}

// Words of the neighbours among 16 numbers.
PR_INLINE vector pair_words(vector first, vector second)
{
    __m256i packed = _mm256_packus_epi32(
        _mm256_srli_epi32(rounded(first), 16), _mm256_srli_epi32(rounded(second), 16));
    return _mm256_castsi256_ps(_mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
}

// The words with x as one of their halves.
PR_INLINE vector replace_half(vector words, vector x, bool high)
{
    __m256i old = _mm256_castps_si256(words), upper = _mm256_set1_epi32((int32_t)0xffff0000u);
    __m256i bits = _mm256_and_si256(rounded(x), upper);
    __m256i kept = high ? _mm256_andnot_si256(upper, old) : _mm256_and_si256(upper, old);
    return _mm256_castsi256_ps(_mm256_or_si256(kept, high ? bits : _mm256_srli_epi32(bits, 16)));
}

#endif
