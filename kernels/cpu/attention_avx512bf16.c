// SPDX-License-Identifier: BSD-3-Clause
// Attention on AVX-512 with BF16: one instruction per pair. float32 KV is attention_avx512.c's.
#include "kernels/cpu/lanes_avx512.h"

enum { SCORE_VECTORS = 4 };

PR_INLINE vector join(vector low, vector high)
{
    return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high, low));
}

PR_INLINE vector dot(pr_dtype dtype, vector sum, vector a, vector b)
{
    if (dtype == PR_F32)
        return _mm512_fmadd_ps(a, b, sum);
    return _mm512_dpbf16_ps(
        sum, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}

#include "kernels/cpu/attention_span.h"

void pr_attend_avx512bf16(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end)
{
    if (args->kv_dtype == PR_F32)
        pr_attend_avx512(args, segment, kv_head, row_begin, row_end);
    else
        attend_bf16(args, segment, kv_head, row_begin, row_end);
}
