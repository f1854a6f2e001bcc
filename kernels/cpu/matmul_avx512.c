// SPDX-License-Identifier: BSD-3-Clause
// Matmul on AVX-512. A lane of x is a float; bfloat16 weights are pairs of columns, widened in registers
// by a mask or a shift, and the second column of a pair is added first.
#include "kernels/cpu/flush_mode_x86.h"
#include "kernels/cpu/matmul_walk.h"
#include "kernels/cpu/matmul_x86.h"
#include "kernels/cpu/vector_avx512.h"

#define PASS_ROWS 12
enum { PANEL_VECTORS = 1, FETCH_ROWS = 5 };

typedef __m512 vector;
typedef vector sums[PASS_ROWS][PR_MOST_PANELS];

// As many panels as give 24 sums, or 4 streams of weights.
static const int8_t pass_panels[PASS_ROWS + 1] = {0, 4, 4, 4, 4, 4, 4, 3, 3, 2, 2, 2, 2};

PR_INLINE vector zero(void) { return _mm512_setzero_ps(); }

PR_INLINE void store(float *to, vector x) { _mm512_storeu_ps(to, x); }

PR_INLINE int lanes_of(pr_dtype dtype) { return dtype == PR_BF16 ? 2 : 1; }

PR_INLINE int bytes_of(pr_dtype dtype) { return dtype == PR_F16 ? 32 : 64; }

PR_INLINE void add_column(const float *x, int rows, int panels, const vector *w, sums sum)
{
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        __m512 one = _mm512_set1_ps(x[r]);
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
            sum[r][p] = _mm512_fmadd_ps(one, w[p], sum[r][p]);
    }
}

PR_INLINE void
add_step(pr_dtype dtype, const float *x, int rows, int panels, const char *const *panel, sums sum)
{
    vector w[PR_MOST_PANELS];
    if (dtype != PR_BF16) {
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
            w[p] = pr_load16(dtype, panel[p], 0);
        add_column(x, rows, panels, w, sum);
        return;
    }
    __m512i pair[PR_MOST_PANELS];
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
        pair[p] = _mm512_loadu_si512(panel[p]);
        w[p] = _mm512_castsi512_ps(_mm512_and_si512(pair[p], _mm512_set1_epi32(-65536)));
    }
    add_column(x + rows, rows, panels, w, sum);
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        w[p] = _mm512_castsi512_ps(_mm512_slli_epi32(pair[p], 16));
    add_column(x, rows, panels, w, sum);
}

#include "kernels/cpu/matmul_pass.h"

// ---- Rounding rows -----------------------------------------------------------------------------

static void copy_lanes(const float *x, int64_t count, float *lane)
{
    for (int64_t k = 0; k < count; k += PR_WIDTH) {
        __mmask16 lanes = pr_lanes(count - k);
        _mm512_mask_storeu_ps(lane + k, lanes, _mm512_maskz_loadu_ps(lanes, x + k));
    }
}

// pr_f32_to_bf16 of a flushed float, kept as float.
static void round_bf16(const float *x, int64_t count, float *lane)
{
    const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7fff);
    const __m512i exponent = _mm512_set1_epi32(0x7f800000), sign = _mm512_set1_epi32(INT32_MIN);
    for (int64_t k = 0; k < count; k += PR_WIDTH) {
        __mmask16 lanes = pr_lanes(count - k);
        __m512i bits = _mm512_castps_si512(_mm512_maskz_loadu_ps(lanes, x + k));
        __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
        __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, half), odd);
        __mmask16 nan =
            _mm512_cmp_epi32_mask(_mm512_andnot_si512(sign, bits), exponent, _MM_CMPINT_NLE);
        rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
        rounded =
            _mm512_mask_and_epi32(rounded, _mm512_testn_epi32_mask(bits, exponent), bits, sign);
        rounded = _mm512_and_si512(rounded, _mm512_set1_epi32(-65536));
        _mm512_mask_storeu_ps(lane + k, lanes, _mm512_castsi512_ps(rounded));
    }
}

// ---- Kernels -----------------------------------------------------------------------------------

static void pass_bf16(const pr_pass *pass, float *sum)
{
    unsigned before = pr_flush_begin();
    pass_bf16_flushed(pass, sum);
    pr_flush_end(before);
}

// float16 at up to 8 rows: with 12 rows x 2 panels the conversions do not hide.
static const pr_walk walks[] = {
    [PR_PACKED_F32] = {pass_f32, copy_lanes, pr_interleave, pass_panels, 1, 1, 64, 8, PASS_ROWS},
    [PR_PACKED_BF16] = {pass_bf16, round_bf16, pr_interleave, pass_panels, 1, 2, 64, 4, PASS_ROWS},
    [PR_PACKED_F16] = {pass_f16, copy_lanes, pr_interleave, pass_panels, 1, 1, 32, 4, 8},
};

#include "kernels/cpu/matmul_kernels.h"

const pr_matmul_kernel pr_matmul_float_avx512 = {row_bytes, prepare, multiply};
