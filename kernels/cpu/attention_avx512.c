// SPDX-License-Identifier: BSD-3-Clause
// Attention on AVX-512 without BF16: pairs are widened, two fma each.
#include "kernels/cpu/lanes_avx512.h"

enum { SCORE_VECTORS = 2 };

PR_INLINE vector join(vector low, vector high) { return pair_words(low, high); }

PR_INLINE vector dot(pr_dtype dtype, vector sum, vector a, vector b)
{
    if (dtype == PR_F32)
        return _mm512_fmadd_ps(a, b, sum);
    __m512i x = _mm512_castps_si512(a), y = _mm512_castps_si512(b);
    __m512i upper = _mm512_set1_epi32((int32_t)0xffff0000u);
    sum = _mm512_fmadd_ps(
        _mm512_castsi512_ps(_mm512_and_si512(x, upper)),
        _mm512_castsi512_ps(_mm512_and_si512(y, upper)), sum);
    return _mm512_fmadd_ps(
        _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
        _mm512_castsi512_ps(_mm512_slli_epi32(y, 16)), sum);
}

#include "kernels/cpu/attention_span.h"

void pr_attend_avx512(
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
