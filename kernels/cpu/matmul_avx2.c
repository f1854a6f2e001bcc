// SPDX-License-Identifier: BSD-3-Clause
// Matmul on AVX2: two vectors are one column of a panel (16 outputs), at most 12 sums stay in registers.
// A lane of x is a float; bfloat16 weights are pairs of columns, widened in registers by a mask or a
// shift, and the second column of a pair is added first.
#include "kernels/cpu/flush_mode_x86.h"
#include "kernels/cpu/matmul_walk.h"
#include "kernels/cpu/matmul_x86.h"
#include "kernels/cpu/vector_avx2.h"

#define PASS_ROWS 6
enum { PANEL_VECTORS = 2, FETCH_ROWS = 4, MOST_VECTORS = PANEL_VECTORS * PR_MOST_PANELS };

typedef __m256 vector;
typedef vector sums[PASS_ROWS][MOST_VECTORS];

static const int8_t pass_panels[PASS_ROWS + 1] = {0, 4, 2, 2, 1, 1, 1};

PR_INLINE vector zero(void) { return _mm256_setzero_ps(); }

PR_INLINE void store(float *to, vector x) { _mm256_storeu_ps(to, x); }

// ---- A pass ------------------------------------------------------------------------------------

PR_INLINE int lanes_of(pr_dtype dtype) { return dtype == PR_BF16 ? 2 : 1; }

PR_INLINE int bytes_of(pr_dtype dtype) { return dtype == PR_F16 ? 32 : 64; }

PR_INLINE void add_column(const float *x, int rows, int vectors, const __m256 *w, sums sum)
{
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        __m256 one = _mm256_set1_ps(x[r]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[r][v] = _mm256_fmadd_ps(one, w[v], sum[r][v]);
    }
}

PR_INLINE __m256i load_pairs(const char *const *panel, int v)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)(panel[v / 2] + v % 2 * 32));
}

PR_INLINE void
add_step(pr_dtype dtype, const float *x, int rows, int vectors, const char *const *panel, sums sum)
{
    __m256 w[MOST_VECTORS];
    if (dtype != PR_BF16) {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            w[v] = pr_load8(dtype, panel[v / 2], (size_t)(v % 2 * 8));
        add_column(x, rows, vectors, w, sum);
        return;
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        w[v] =
            _mm256_castsi256_ps(_mm256_and_si256(load_pairs(panel, v), _mm256_set1_epi32(-65536)));
    add_column(x + rows, rows, vectors, w, sum);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        w[v] = _mm256_castsi256_ps(_mm256_slli_epi32(load_pairs(panel, v), 16));
    add_column(x, rows, vectors, w, sum);
}

#include "kernels/cpu/matmul_pass.h"

static void pass_bf16(const pr_pass *pass, float *sum)
{
    unsigned before = pr_flush_begin();
    pass_bf16_flushed(pass, sum);
    pr_flush_end(before);
}

// ---- Rounding rows -----------------------------------------------------------------------------

static void copy_lanes(const float *x, int64_t count, float *lane)
{
    memcpy(lane, x, (size_t)count * sizeof(float));
}

// pr_f32_to_bf16 of a flushed float, kept as float.
PR_INLINE __m256i rounded(__m256i bits)
{
    const __m256i exponent = _mm256_set1_epi32(0x7f800000), sign = _mm256_set1_epi32(INT32_MIN);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_cmpgt_epi32(_mm256_andnot_si256(sign, bits), exponent);
    up = _mm256_blendv_epi8(up, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), nan);
    __m256i zero = _mm256_cmpeq_epi32(_mm256_and_si256(bits, exponent), _mm256_setzero_si256());
    up = _mm256_blendv_epi8(up, _mm256_and_si256(bits, sign), zero);
    return _mm256_and_si256(up, _mm256_set1_epi32(-65536));
}

static void round_bf16(const float *x, int64_t count, float *lane)
{
    int64_t k = 0;
    for (; k + PR_WIDTH <= count; k += PR_WIDTH) {
        __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + k));
        _mm256_storeu_ps(lane + k, _mm256_castsi256_ps(rounded(bits)));
    }
    float rest[PR_WIDTH] = {0};
    memcpy(rest, x + k, (size_t)(count - k) * sizeof(float));
    __m256i bits = rounded(_mm256_castps_si256(_mm256_loadu_ps(rest)));
    _mm256_storeu_ps(rest, _mm256_castsi256_ps(bits));
    memcpy(lane + k, rest, (size_t)(count - k) * sizeof(float));
}

// ---- Kernels -----------------------------------------------------------------------------------

static const pr_walk walks[] = {
    [PR_PACKED_F32] = {pass_f32, copy_lanes, pr_interleave, pass_panels, 1, 1, 64, 6, PASS_ROWS},
    [PR_PACKED_BF16] = {pass_bf16, round_bf16, pr_interleave, pass_panels, 1, 2, 64, 3, PASS_ROWS},
    [PR_PACKED_F16] = {pass_f16, copy_lanes, pr_interleave, pass_panels, 1, 1, 32, 3, PASS_ROWS},
};

#include "kernels/cpu/matmul_kernels.h"

const pr_matmul_kernel pr_matmul_float_avx2 = {row_bytes, prepare, multiply};
