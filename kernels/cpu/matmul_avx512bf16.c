// SPDX-License-Identifier: BSD-3-Clause
// Matmul of bfloat16 weights on AVX-512 with BF16. A lane of x is a pair of columns, and vdpbf16ps adds
// both, the second first, with denormals as zero whatever the mode of the thread.
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

PR_INLINE void
add_step(pr_dtype dtype, const float *x, int rows, int panels, const char *const *panel, sums sum)
{
    (void)dtype;
    __m512bh w[PR_MOST_PANELS];
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

#include "kernels/cpu/matmul_pass.h"

static void round_pairs(const float *x, int64_t count, float *lane)
{
    for (int64_t k = 0; k < count; k += 2 * PR_WIDTH) {
        __m512 low = _mm512_maskz_loadu_ps(pr_lanes(count - k), x + k);
        __m512 high = _mm512_maskz_loadu_ps(pr_lanes(count - k - PR_WIDTH), x + k + PR_WIDTH);
        __m512i pairs = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        _mm512_mask_storeu_epi32(lane + k / 2, pr_lanes((count - k + 1) / 2), pairs);
    }
}

static void pass_pairs(const pr_pass *pass, float *sum) { pass_any(PR_BF16, pass, sum); }

static const pr_walk walks[] = {
    [PR_PACKED_BF16] =
        {pass_pairs, round_pairs, pr_interleave, pass_panels, 2, 2, 64, 8, PASS_ROWS},
};

#include "kernels/cpu/matmul_kernels.h"

const pr_matmul_kernel pr_matmul_bf16_avx512bf16 = {row_bytes, prepare, multiply};
