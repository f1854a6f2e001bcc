// SPDX-License-Identifier: BSD-3-Clause
// Matmul with quantised weights on AVX-512 with VNNI: one vector is a quad of columns of 16 outputs, one
// instruction multiplies it by a quad of one row and adds. The exact sums of a block and the float sums
// of a slice of R rows x P panels stay in registers; a group of rows is one block of them.
//   Cost: per block of 64 columns, row and panel 16 products and 3 operations for the scale; weights are
//   read once from memory, rows once per P panels.
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/quantized.h"
#include "kernels/cpu/vector_avx512.h"

enum { MAX_ROWS = 12, MAX_PANELS = 2, LEVELS = 3 };  // 2^LEVELS = PR_SLICES

// ---- Rows ------------------------------------------------------------------------------------

PR_INLINE void quantize_row_block(
    const float *x, int32_t columns, pr_packing packing, float *scale, int32_t *start, int8_t *q)
{
    enum { VECTORS = PR_WIDEST_BLOCK / PR_WIDTH };
    const int vectors = pr_quantized_block(packing) / PR_WIDTH;
    __m512 v[VECTORS];
    __m512i magnitude = _mm512_setzero_si512(), sum = _mm512_setzero_si512();
    for (int i = 0; i < vectors; i++) {
        v[i] = _mm512_maskz_loadu_ps(pr_lanes(columns - i * PR_WIDTH), x + i * PR_WIDTH);
        __m512i bits = _mm512_and_si512(_mm512_castps_si512(v[i]), _mm512_set1_epi32(0x7fffffff));
        magnitude = _mm512_max_epi32(magnitude, bits);
    }
    int32_t most_bits = _mm512_reduce_max_epi32(magnitude);
    float most, inverse = 0.0f;
    memcpy(&most, &most_bits, 4);
    *scale = 0.0f;
    if (most_bits >= PR_UNUSABLE_BITS)
        *scale = NAN;
    else if (most >= PR_SMALLEST_ROW) {
        *scale = most / 127.0f;
        inverse = 127.0f / most;
    }
    __mmask16 usable = pr_lanes(inverse > 0.0f ? PR_WIDTH : 0);
    for (int i = 0; i < vectors; i++) {
        __m512 scaled = _mm512_mul_ps(v[i], _mm512_set1_ps(inverse));
        __m512i rounded = _mm512_maskz_cvtps_epi32(usable, scaled);
        sum = _mm512_add_epi32(sum, rounded);
        _mm_store_si128((__m128i *)(void *)(q + i * PR_WIDTH), _mm512_cvtepi32_epi8(rounded));
    }
    *start = -pr_quantized_offset(packing) * _mm512_reduce_add_epi32(sum);
}

static void prepare(
    const pr_matrix *matrix,
    const float *x,
    int32_t rows,
    int32_t begin,
    int32_t end,
    void *prepared)
{
    const int32_t range[] = {rows, begin, end};
    pr_quantized_prepare(matrix, x, range, MAX_ROWS, quantize_row_block, prepared);
}

// ---- Products --------------------------------------------------------------------------------

typedef struct block {
    const pr_matmul_args *args;
    const char *group;  // prepared rows
    int64_t first_row, first_panel, end_panel;
} block;

typedef __m512 sums[MAX_ROWS][MAX_PANELS];
typedef __m512i exact_sums[MAX_ROWS][MAX_PANELS];

PR_INLINE void store_block(const block *b, int rows, int panels, sums sum)
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

// What a quad of each row and a vector of each panel add.
PR_INLINE void
add_quad(int rows, int panels, const int32_t *x, const __m512i w[MAX_PANELS], exact_sums exact)
{
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        __m512i one = _mm512_set1_epi32(x[r]);
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++)
            exact[r][p] = _mm512_dpbusd_epi32(exact[r][p], w[p], one);
    }
}

PR_INLINE void add_int8_quads(
    int rows, int panels, const int32_t *x, const char *const w[MAX_PANELS], exact_sums exact)
{
#pragma GCC unroll 4
    for (int quad = 0; quad < PR_INT8_BLOCK / PR_QUAD; quad++) {
        __m512i vector[MAX_PANELS];
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++)
            vector[p] = _mm512_loadu_si512(w[p] + quad * 64);
        add_quad(rows, panels, x + quad * rows, vector, exact);
    }
}

PR_INLINE void add_int4_quads(
    int rows, int panels, const int32_t *x, const char *const w[MAX_PANELS], exact_sums exact)
{
    const __m512i nibbles = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int pair = 0; pair < PR_INT4_BLOCK / PR_QUAD / 2; pair++) {
        __m512i low[MAX_PANELS], high[MAX_PANELS];
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++) {
            __m512i both = _mm512_loadu_si512(w[p] + pair * 64);
            low[p] = _mm512_and_si512(both, nibbles);
            high[p] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibbles);
        }
        add_quad(rows, panels, x + 2 * pair * rows, low, exact);
        add_quad(rows, panels, x + (2 * pair + 1) * rows, high, exact);
    }
}

// One block of K.
PR_INLINE void
add_block(int rows, int panels, pr_packing packing, const char *x, const char *const *w, sums sum)
{
    const float *scale = (const float *)(const void *)x;
    const int32_t *start = (const int32_t *)(const void *)x + rows;
    exact_sums exact;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++)
            exact[r][p] = _mm512_set1_epi32(start[r]);
    }
    if (packing == PR_PACKED_INT8)
        add_int8_quads(rows, panels, start + rows, w, exact);
    else
        add_int4_quads(rows, panels, start + rows, w, exact);
#pragma GCC unroll 2
    for (int p = 0; p < panels; p++) {
        __m512 scales = pr_load16(PR_BF16, w[p] + pr_quantized_weight_bytes(packing), 0);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            __m512 both = _mm512_mul_ps(scales, _mm512_set1_ps(scale[r]));
            sum[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact[r][p]), both, sum[r][p]);
        }
    }
}

// rows, panels and packing are constants at every call: the loops over them unroll.
PR_INLINE void compute(const block *b, int rows, int panels, pr_packing packing)
{
    const pr_matrix *matrix = b->args->matrix;
    int64_t last_panel = b->end_panel - 1;
    size_t block_bytes = pr_quantized_block_bytes(packing);
    size_t group_block_bytes = (size_t)rows * pr_quantized_row_block_bytes(packing);
    const char *x = b->group, *w[MAX_PANELS];
    for (int p = 0; p < panels; p++) {  // beyond the last: computed again, not stored
        int64_t at = b->first_panel + p;
        w[p] = pr_matrix_panel(matrix, at < last_panel ? at : last_panel);
    }
    sums sum, tree[LEVELS];
    for (int32_t slice = 0;; slice++) {
        int64_t blocks = pr_matrix_slice_padded(matrix, slice) / pr_quantized_block(packing);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
            for (int p = 0; p < panels; p++)
                sum[r][p] = _mm512_setzero_ps();
        }
        for (; blocks > 0; blocks--) {
            add_block(rows, panels, packing, x, w, sum);
            x += group_block_bytes;
            for (int p = 0; p < panels; p++)
                w[p] += block_bytes;
        }
        // A binary counter of finished branches: equal ones are added as soon as both are there.
        int level = 0;
        for (; (slice >> level) & 1; level++) {
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
                for (int p = 0; p < panels; p++)
                    sum[r][p] = _mm512_add_ps(tree[level][r][p], sum[r][p]);
            }
        }
        if (slice + 1 == matrix->slices)
            break;
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
            for (int p = 0; p < panels; p++)
                tree[level][r][p] = sum[r][p];
        }
    }
    store_block(b, rows, panels, sum);
}

#define ROWS(n, panels)                                                                            \
    case n:                                                                                        \
        compute(b, n, panels, packing);                                                            \
        break

// A group of rows; panels of it at once.
PR_INLINE void compute_rows(const block *b, int64_t rows, pr_packing packing)
{
    switch (rows) {
        ROWS(1, 1);
        ROWS(2, 1);
        ROWS(3, 1);
        ROWS(4, 1);
        ROWS(5, 1);
        ROWS(6, 1);
        ROWS(7, 1);
        ROWS(8, 1);
        ROWS(9, 1);
        ROWS(10, 1);
        ROWS(11, 1);
        ROWS(12, 1);
    }
}

PR_INLINE void multiply(
    const pr_matmul_args *args,
    pr_packing packing,
    const char *prepared,
    int64_t begin,
    int64_t end)
{
    const pr_matrix *matrix = args->matrix;
    int64_t rows = args->rows, groups = pr_quantized_groups(rows, MAX_ROWS);
    size_t row_bytes = pr_quantized_row_bytes(matrix);
    for (int64_t panel = begin; panel < end; panel++) {
        for (int64_t i = 0; i < groups; i++) {
            int64_t first = pr_quantized_group_begin(rows, groups, i);
            block b = {args, prepared + (size_t)first * row_bytes, first, panel, end};
            compute_rows(&b, pr_quantized_group_begin(rows, groups, i + 1) - first, packing);
        }
    }
}

static void
multiply_int8(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    multiply(args, PR_PACKED_INT8, prepared, begin, end);
}

static void
multiply_int4(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    multiply(args, PR_PACKED_INT4, prepared, begin, end);
}

static const pr_matmul_kernel int8 = {pr_quantized_row_bytes, prepare, multiply_int8};
static const pr_matmul_kernel int4 = {pr_quantized_row_bytes, prepare, multiply_int4};

void pr_cpu_vnni_kernels(pr_cpu_kernels *kernels)
{
    kernels->matmul[PR_PACKED_INT8] = &int8;
    kernels->matmul[PR_PACKED_INT4] = &int4;
}
