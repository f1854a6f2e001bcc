// SPDX-License-Identifier: BSD-3-Clause
// Interleaves the lanes of up to PR_BLOCK_ROWS rows, four rows at a time.
#ifndef PR_KERNELS_CPU_MATMUL_X86_H
#define PR_KERNELS_CPU_MATMUL_X86_H

#include <immintrin.h>

#include "kernels/cpu/cpu_kernels.h"

// Lane `at` to `at + 3` of four rows; lanes of a row are `rows` apart afterwards.
static inline void pr_interleave_four(const float *const *lane, int64_t at, int32_t rows, float *to)
{
    __m128 a = _mm_loadu_ps(lane[0] + at), b = _mm_loadu_ps(lane[1] + at);
    __m128 c = _mm_loadu_ps(lane[2] + at), d = _mm_loadu_ps(lane[3] + at);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(to, a);
    _mm_storeu_ps(to + rows, b);
    _mm_storeu_ps(to + 2 * rows, c);
    _mm_storeu_ps(to + 3 * rows, d);
}

// lane [rows][count] to prepared [count][rows].
static void pr_interleave(const float *const *lane, int32_t rows, int64_t count, float *prepared)
{
    int32_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        int64_t j = 0;
        for (; j + 4 <= count; j += 4)
            pr_interleave_four(lane + r, j, rows, prepared + j * rows + r);
        for (; j < count; j++) {
            for (int32_t i = r; i < r + 4; i++)
                prepared[j * rows + i] = lane[i][j];
        }
    }
    for (; r < rows; r++) {
        for (int64_t j = 0; j < count; j++)
            prepared[j * rows + r] = lane[r][j];
    }
}

#endif
