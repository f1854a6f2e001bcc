// SPDX-License-Identifier: BSD-3-Clause
// Attention on AVX2: two vectors are one of AVX-512; pairs are widened, two fma each.
#include <math.h>

#include "kernels/cpu/flush_mode_x86.h"
#include "kernels/cpu/vector_avx2.h"

typedef __m256 vector;

#define SCORE_QUERIES 4
enum { LANES = 8, SCORE_VECTORS = 2, GATHER_VECTORS = 4 };

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
PR_INLINE vector low_half(vector x)
{
    return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff)));
}

// Rounds to nearest even; the bfloat16 is the lower half of each lane. NaN stays a quiet NaN.
PR_INLINE __m256i rounded(vector x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_srli_epi32(_mm256_blendv_epi8(_mm256_add_epi32(bits, up), quiet, nan), 16);
}

// Pairs of neighbours of the 16 lanes, low first.
PR_INLINE vector join(vector low, vector high)
{
    __m256i packed = _mm256_packus_epi32(rounded(low), rounded(high));
    return _mm256_castsi256_ps(_mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
}

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

// Not inlined, so that no arithmetic moves out of where denormals are zero.
static __attribute__((noinline)) void attend_bf16(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end)
{
    attend_rows(args, segment, kv_head, row_begin, row_end, PR_BF16);
}

void pr_attend_avx2(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end)
{
    if (args->kv_dtype == PR_F32) {
        attend_rows(args, segment, kv_head, row_begin, row_end, PR_F32);
        return;
    }
    unsigned before = pr_flush_begin();
    attend_bf16(args, segment, kv_head, row_begin, row_end);
    pr_flush_end(before);
}
