// SPDX-License-Identifier: BSD-3-Clause
// Matmul on AVX-512: one vector is one column of a panel (16 outputs). A block of rows x panels
// stays in registers while k runs over a slice; lanes never mix, so each output is added in the
// reference's order whatever the block.
//   Cost: one pass over the weights; M <= 2 rows take 4 panels at a time (independent sums hide the
//   latency of fma), more rows take 2 panels and up to 12 rows.
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"
#include "kernels/cpu/vector_avx512.h"

enum { MAX_ROWS = 12, MAX_PANELS = 4, CHUNK = 4, LEVELS = 3 };  // 2^LEVELS = PR_SLICES

typedef struct block {
    const pr_matmul_args *args;
    int64_t first_row, first_panel, end_panel;
} block;

PR_INLINE void store_block(const block *b, int rows, int panels, __m512 sum[MAX_ROWS][MAX_PANELS])
{
    int64_t outputs = b->args->matrix->rows;
    for (int p = 0; p < panels; p++) {
        int64_t n = (b->first_panel + p) * PR_PANEL;
        __mmask16 lanes = pr_lanes(outputs - n);
        if (lanes == 0 || b->first_panel + p >= b->end_panel)
            return;
        __m512 bias = _mm512_setzero_ps();
        if (b->args->bias != NULL)
            bias = _mm512_maskz_loadu_ps(lanes, b->args->bias + n);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            __m512 y = sum[r][p];
            if (b->args->bias != NULL)
                y = _mm512_add_ps(y, bias);
            _mm512_mask_storeu_ps(b->args->y + (b->first_row + r) * outputs + n, lanes, y);
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
    __m512 sum[MAX_ROWS][MAX_PANELS], tree[LEVELS][MAX_ROWS][MAX_PANELS];
    for (int32_t slice = 0;; slice++) {
        int64_t end = pr_matrix_slice_begin(matrix, slice + 1);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++)
                sum[r][p] = _mm512_setzero_ps();
        }
        for (int64_t k = pr_matrix_slice_begin(matrix, slice); k < end; k++) {
            __m512 w[MAX_PANELS];
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++)
                w[p] = pr_load16(dtype, panel[p], (size_t)k * PR_PANEL);
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
                __m512 one = _mm512_set1_ps(x[r * cols + k]);
#pragma GCC unroll 4
                for (int p = 0; p < panels; p++)
                    sum[r][p] = _mm512_fmadd_ps(one, w[p], sum[r][p]);
            }
        }
        // A binary counter of finished branches: equal ones are added as soon as both are there.
        int level = 0;
        for (; (slice >> level) & 1; level++) {
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
                for (int p = 0; p < panels; p++)
                    sum[r][p] = _mm512_add_ps(tree[level][r][p], sum[r][p]);
            }
        }
        if (slice + 1 == matrix->slices)
            break;
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++)
                tree[level][r][p] = sum[r][p];
        }
    }
    store_block(b, rows, panels, sum);
}

// 3 to 12 rows.
PR_INLINE void compute_rows(const block *b, int64_t rows, pr_dtype dtype)
{
    switch (rows) {
    case 3:
        compute(b, 3, 2, dtype);
        break;
    case 4:
        compute(b, 4, 2, dtype);
        break;
    case 5:
        compute(b, 5, 2, dtype);
        break;
    case 6:
        compute(b, 6, 2, dtype);
        break;
    case 7:
        compute(b, 7, 2, dtype);
        break;
    case 8:
        compute(b, 8, 2, dtype);
        break;
    case 9:
        compute(b, 9, 2, dtype);
        break;
    case 10:
        compute(b, 10, 2, dtype);
        break;
    case 11:
        compute(b, 11, 2, dtype);
        break;
    default:
        compute(b, 12, 2, dtype);
        break;
    }
}

PR_INLINE void multiply(const pr_matmul_args *args, pr_dtype dtype, int64_t begin, int64_t end)
{
    int64_t rows = args->rows;
    if (rows <= 2) {
        for (int64_t panel = begin; panel < end; panel += 4) {
            block b = {.args = args, .first_panel = panel, .end_panel = end};
            if (rows == 1)
                compute(&b, 1, 4, dtype);
            else
                compute(&b, 2, 4, dtype);
        }
        return;
    }
    // Row blocks of nearly equal size: 13 rows are 7 + 6, not 12 + 1. A chunk of them stays in the
    // cache while the panels pass.
    int64_t blocks = (rows + MAX_ROWS - 1) / MAX_ROWS;
    for (int64_t chunk = 0; chunk < blocks; chunk += CHUNK) {
        int64_t chunk_end = chunk + CHUNK < blocks ? chunk + CHUNK : blocks;
        for (int64_t panel = begin; panel < end; panel += 2) {
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

const pr_matmul_kernel pr_matmul_f32_avx512 = {no_row_bytes, prepare_nothing, multiply_f32};
const pr_matmul_kernel pr_matmul_bf16_avx512 = {no_row_bytes, prepare_nothing, multiply_bf16};
const pr_matmul_kernel pr_matmul_f16_avx512 = {no_row_bytes, prepare_nothing, multiply_f16};
