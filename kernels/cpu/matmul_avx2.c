// SPDX-License-Identifier: BSD-3-Clause
// Matmul on AVX2: two vectors are one column of a panel (16 outputs). A block of rows x panels stays
// in registers (at most 12 sums) while k runs over a slice; lanes never mix, so each output is added
// in the reference's order whatever the block.
//   Cost: one pass over the weights; M = 1 takes 4 panels at a time, M = 2 and 3 two (independent
//   sums hide the latency of fma), more rows one panel and up to 6 rows.
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"
#include "kernels/cpu/vector_avx2.h"

enum { MAX_ROWS = 6, MAX_PANELS = 4, MAX_VECTORS = 2 * MAX_PANELS, LEVELS = 3, CHUNK = 8 };

typedef struct block {
    const pr_matmul_args *args;
    int64_t first_row, first_panel, end_panel;
} block;

PR_INLINE void store_block(const block *b, int rows, int panels, __m256 sum[MAX_ROWS][MAX_VECTORS])
{
    int64_t outputs = b->args->matrix->rows;
    const float *bias = b->args->bias;
    for (int p = 0; p < panels; p++) {
        int64_t n = (b->first_panel + p) * PR_PANEL, left = outputs - n;
        if (left <= 0 || b->first_panel + p >= b->end_panel)
            return;
        int64_t count = left < PR_PANEL ? left : PR_PANEL;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            float y[PR_PANEL], *to = b->args->y + (b->first_row + r) * outputs + n;
            _mm256_storeu_ps(y, sum[r][2 * p]);
            _mm256_storeu_ps(y + 8, sum[r][2 * p + 1]);
            for (int64_t i = 0; i < count; i++)
                to[i] = bias != NULL ? y[i] + bias[n + i] : y[i];
        }
    }
}

// rows, panels and dtype are constants at every call: the loops over them unroll.
PR_INLINE void compute(const block *b, int rows, int panels, pr_dtype dtype)
{
    const pr_matrix *matrix = b->args->matrix;
    const float *x = b->args->x + b->first_row * matrix->cols;
    int64_t last_panel = b->end_panel - 1, cols = matrix->cols;
    const char *panel[MAX_PANELS];
    for (int p = 0; p < panels; p++) {  // beyond the last: computed again, not stored
        int64_t at = b->first_panel + p;
        panel[p] = pr_matrix_panel(matrix, at < last_panel ? at : last_panel);
    }
    int vectors = 2 * panels;
    __m256 sum[MAX_ROWS][MAX_VECTORS], tree[LEVELS][MAX_ROWS][MAX_VECTORS];
    for (int32_t slice = 0;; slice++) {
        int64_t end = pr_matrix_slice_begin(matrix, slice + 1);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                sum[r][v] = _mm256_setzero_ps();
        }
        for (int64_t k = pr_matrix_slice_begin(matrix, slice); k < end; k++) {
            __m256 w[MAX_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                w[v] = pr_load8(dtype, panel[v / 2], (size_t)(k * PR_PANEL + v % 2 * 8));
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                __m256 one = _mm256_set1_ps(x[r * cols + k]);
#pragma GCC unroll 8
                for (int v = 0; v < vectors; v++)
                    sum[r][v] = _mm256_fmadd_ps(one, w[v], sum[r][v]);
            }
        }
        // A binary counter of finished branches: equal ones are added as soon as both are there.
        int level = 0;
        for (; (slice >> level) & 1; level++) {
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
#pragma GCC unroll 8
                for (int v = 0; v < vectors; v++)
                    sum[r][v] = _mm256_add_ps(tree[level][r][v], sum[r][v]);
            }
        }
        if (slice + 1 == matrix->slices)
            break;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                tree[level][r][v] = sum[r][v];
        }
    }
    store_block(b, rows, panels, sum);
}

// All panels for up to three rows.
PR_INLINE void multiply_few(const pr_matmul_args *args, pr_dtype dtype, int64_t begin, int64_t end)
{
    int64_t step = args->rows == 1 ? 4 : 2;
    for (int64_t panel = begin; panel < end; panel += step) {
        block b = {.args = args, .first_panel = panel, .end_panel = end};
        if (args->rows == 1)
            compute(&b, 1, 4, dtype);
        else if (args->rows == 2)
            compute(&b, 2, 2, dtype);
        else
            compute(&b, 3, 2, dtype);
    }
}

// 3 to 6 rows.
PR_INLINE void compute_rows(const block *b, int64_t rows, pr_dtype dtype)
{
    switch (rows) {
    case 3:
        compute(b, 3, 1, dtype);
        break;
    case 4:
        compute(b, 4, 1, dtype);
        break;
    case 5:
        compute(b, 5, 1, dtype);
        break;
    default:
        compute(b, 6, 1, dtype);
        break;
    }
}

PR_INLINE void multiply(const pr_matmul_args *args, pr_dtype dtype, int64_t begin, int64_t end)
{
    if (args->rows <= 3) {
        multiply_few(args, dtype, begin, end);
        return;
    }
    // Row blocks of nearly equal size, 3 to 6: 7 rows are 3 + 4, not 6 + 1. A chunk of them stays in
    // the cache while the panels pass.
    int64_t rows = args->rows, blocks = (rows + MAX_ROWS - 1) / MAX_ROWS;
    for (int64_t chunk = 0; chunk < blocks; chunk += CHUNK) {
        int64_t chunk_end = chunk + CHUNK < blocks ? chunk + CHUNK : blocks;
        for (int64_t panel = begin; panel < end; panel++) {
            for (int64_t i = chunk; i < chunk_end; i++) {
                block b = {
                    .args = args,
                    .first_row = rows * i / blocks,
                    .first_panel = panel,
                    .end_panel = end};
                compute_rows(&b, rows * (i + 1) / blocks - b.first_row, dtype);
            }
        }
    }
}

static size_t no_row_bytes(const pr_matrix *matrix)
{
    (void)matrix;
    return 0;
}

static void prepare_nothing(
    const pr_matrix *matrix,
    const float *x,
    int32_t rows,
    int32_t begin,
    int32_t end,
    void *prepared)
{
    (void)matrix;
    (void)x;
    (void)rows;
    (void)begin;
    (void)end;
    (void)prepared;
}

static void
multiply_f32(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    (void)prepared;
    multiply(args, PR_F32, begin, end);
}

static void
multiply_bf16(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    (void)prepared;
    multiply(args, PR_BF16, begin, end);
}

static void
multiply_f16(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    (void)prepared;
    multiply(args, PR_F16, begin, end);
}

const pr_matmul_kernel pr_matmul_f32_avx2 = {no_row_bytes, prepare_nothing, multiply_f32};
const pr_matmul_kernel pr_matmul_bf16_avx2 = {no_row_bytes, prepare_nothing, multiply_bf16};
const pr_matmul_kernel pr_matmul_f16_avx2 = {no_row_bytes, prepare_nothing, multiply_f16};
