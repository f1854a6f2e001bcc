// SPDX-License-Identifier: BSD-3-Clause
// Matmul of bfloat16 weights on AVX-512 with BF16. A lane of x is a pair of columns, and vdpbf16ps adds
// both, the second first, with denormals as zero whatever the mode of the thread.
#include "kernels/cpu/matmul_x86.h"
#include "kernels/cpu/vector_avx512.h"

PR_INLINE int lanes_of(pr_dtype dtype)
{
    (void)dtype;
    return 1;
}

PR_INLINE int bytes_of(pr_dtype dtype)
{
    (void)dtype;
    return 64;
}

PR_INLINE void add_step(
    pr_dtype dtype,
    const float *x,
    int rows,
    int panels,
    const char *const *panel,
    __m512 (*sum)[4])
{
    (void)dtype;
    __m512bh w[4];
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        w[p] = (__m512bh)_mm512_loadu_si512(panel[p]);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        __m512bh pair = (__m512bh)_mm512_castps_si512(_mm512_set1_ps(x[r]));
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
            sum[r][p] = _mm512_dpbf16_ps(sum[r][p], pair, w[p]);
    }
}

#include "kernels/cpu/matmul_pass_avx512.h"

static void round_pairs(const float *x, int64_t count, float *lane)
{
    for (int64_t k = 0; k < count; k += 2 * PR_WIDTH) {
        __m512 low = _mm512_maskz_loadu_ps(pr_lanes(count - k), x + k);
        __m512 high = _mm512_maskz_loadu_ps(pr_lanes(count - k - PR_WIDTH), x + k + PR_WIDTH);
        __m512i pairs = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        _mm512_mask_storeu_epi32(lane + k / 2, pr_lanes((count - k + 1) / 2), pairs);
    }
}

static void run_pass(const pr_pass *pass, float *sum) { pass_any(PR_BF16, pass, sum); }

static const pr_walk walk = {
    .run_pass = run_pass,
    .round_lanes = round_pairs,
    .interleave = pr_interleave,
    .lane_cols = 2,
    .step_cols = 2,
    .step_bytes = 64,
    .few_rows = 8,
    .most_rows = PR_BLOCK_ROWS,
    .panels = PR_PANELS_AVX512,
};

static size_t row_bytes(const pr_matrix *matrix) { return pr_walk_row_bytes(&walk, matrix); }

static void prepare(
    const pr_matrix *matrix,
    const float *x,
    int32_t rows,
    int32_t begin,
    int32_t end,
    void *prepared)
{
    pr_matmul_args args = {.rows = rows, .x = x, .matrix = matrix};
    pr_walk_prepare(&walk, &args, begin, end, prepared);
}

static void multiply(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    pr_walk_multiply(&walk, args, prepared, begin, end);
}

const pr_matmul_kernel pr_matmul_bf16_avx512bf16 = {row_bytes, prepare, multiply};
