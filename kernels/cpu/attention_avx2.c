// SPDX-License-Identifier: BSD-3-Clause
// Attention on AVX2: two vectors are one of AVX-512; pairs are widened, two fma each.
#include "kernels/cpu/lanes_avx2.h"

enum { SCORE_VECTORS = 2 };

PR_INLINE vector join(vector low, vector high) { return pair_words(low, high); }

PR_INLINE vector dot(pr_dtype dtype, vector sum, vector a, vector b)
{
    if (dtype == PR_F32)
        return _mm256_fmadd_ps(a, b, sum);
    __m256i x = _mm256_castps_si256(a), y = _mm256_castps_si256(b);
    __m256i upper = _mm256_set1_epi32((int32_t)0xffff0000u);
    sum = _mm256_fmadd_ps(
        _mm256_castsi256_ps(_mm256_and_si256(x, upper)),
        _mm256_castsi256_ps(_mm256_and_si256(y, upper)), sum);
    return _mm256_fmadd_ps(
        _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)),
        _mm256_castsi256_ps(_mm256_slli_epi32(y, 16)), sum);
}

#include "kernels/cpu/attention_span.h"

void pr_attend_avx2(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end)
{
    if (args->kv_dtype == PR_F32)
        attend_rows(args, segment, kv_head, row_begin, row_end, PR_F32);
    else
        attend_bf16(args, segment, kv_head, row_begin, row_end);
}
