// SPDX-License-Identifier: BSD-3-Clause
// The vectors of attention_span.h on AVX-512, but for the products of bfloat16 pairs: those are dot and join
// of the including file.
#ifndef PR_KERNELS_CPU_ATTENTION_LANES_AVX512_H
#define PR_KERNELS_CPU_ATTENTION_LANES_AVX512_H

#include <math.h>

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
PR_INLINE vector low_half(vector x)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0xffff)));
}

#endif
