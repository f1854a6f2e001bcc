// SPDX-License-Identifier: BSD-3-Clause
// Matmul with quantised weights on AVX-512 with VNNI: one vector is a quad of columns of 16 outputs, one
// instruction multiplies it by a quad of one row and adds. The exact sums of a block and the float sums
// of a slice, of up to 12 rows and one panel, stay in registers.
//   Cost: per block of 64 columns, row and panel 16 products and 3 operations for the scale (int4: per
//   32 columns 8 and 3, and 12 to take the nibbles apart). A weight is read from memory once.
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/quantized.h"
#include "kernels/cpu/vector_avx512.h"

enum { MOST_ROWS = PR_BLOCK_ROWS, LEVELS = 3 };  // 2^LEVELS = PR_SLICES
// With so many products for each loaded vector the loop no longer runs far enough ahead of itself to
// keep memory busy; weights are then asked for so many bytes before they are needed. Beyond the end that
// does no harm.
enum { BUSY = 7, AHEAD = 2048 };

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

// ---- Products --------------------------------------------------------------------------------

typedef pr_quantized_part block;

// What a quad of each row and a vector of weights add.
PR_INLINE void add_quad(int rows, const int32_t *x, __m512i w, __m512i exact[MOST_ROWS])
{
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        exact[r] = _mm512_dpbusd_epi32(exact[r], w, _mm512_set1_epi32(x[r]));
}

PR_INLINE void add_int8_quads(int rows, const int32_t *x, const char *w, __m512i exact[MOST_ROWS])
{
#pragma GCC unroll 16
    for (int quad = 0; quad < PR_INT8_BLOCK / PR_QUAD; quad++) {
        if (rows >= BUSY)
            _mm_prefetch(w + quad * 64 + AHEAD, _MM_HINT_T0);
        add_quad(rows, x + quad * rows, _mm512_loadu_si512(w + quad * 64), exact);
    }
}

PR_INLINE void add_int4_quads(int rows, const int32_t *x, const char *w, __m512i exact[MOST_ROWS])
{
    const __m512i nibbles = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int pair = 0; pair < PR_INT4_BLOCK / PR_QUAD / 2; pair++) {
        if (2 * rows >= BUSY)
            _mm_prefetch(w + pair * 64 + AHEAD, _MM_HINT_T0);
        __m512i both = _mm512_loadu_si512(w + pair * 64);
        __m512i low = _mm512_and_si512(both, nibbles);
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibbles);
        add_quad(rows, x + 2 * pair * rows, low, exact);
        add_quad(rows, x + (2 * pair + 1) * rows, high, exact);
    }
}

// One block of K.
PR_INLINE void
add_block(int rows, pr_packing packing, const char *x, const char *w, __m512 sum[MOST_ROWS])
{
    const float *scale = (const float *)(const void *)x;
    const int32_t *start = (const int32_t *)(const void *)x + rows;
    __m512i exact[MOST_ROWS];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        exact[r] = _mm512_set1_epi32(start[r]);
    if (packing == PR_PACKED_INT8)
        add_int8_quads(rows, start + rows, w, exact);
    else
        add_int4_quads(rows, start + rows, w, exact);
    __m512 scales = pr_load16(PR_BF16, w + pr_quantized_weight_bytes(packing), 0);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        __m512 both = _mm512_mul_ps(scales, _mm512_set1_ps(scale[r]));
        sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact[r]), both, sum[r]);
    }
}

PR_INLINE void store_block(const block *b, int rows, const __m512 sum[MOST_ROWS])
{
    int64_t outputs = b->args->matrix->rows, n = b->panel * PR_PANEL;
    __mmask16 lanes = pr_lanes(outputs - n);
    __m512 bias = _mm512_setzero_ps();
    if (b->args->bias != NULL)
        bias = _mm512_maskz_loadu_ps(lanes, b->args->bias + n);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        __m512 y = b->args->bias != NULL ? _mm512_add_ps(sum[r], bias) : sum[r];
        _mm512_mask_storeu_ps(b->args->y + (b->first_row + r) * outputs + n, lanes, y);
    }
}

// rows and packing are constants at every call: the loops over them unroll.
PR_INLINE void compute(const block *b, int rows, pr_packing packing)
{
    const pr_matrix *matrix = b->args->matrix;
    size_t part_block_bytes = (size_t)rows * pr_quantized_row_block_bytes(packing);
    const char *x = b->prepared, *w = pr_matrix_panel(matrix, b->panel);
    __m512 sum[MOST_ROWS], tree[LEVELS][MOST_ROWS];
    for (int32_t slice = 0;; slice++) {
        int64_t blocks = pr_matrix_slice_padded(matrix, slice) / pr_quantized_block(packing);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
            sum[r] = _mm512_setzero_ps();
        for (; blocks > 0; blocks--) {
            add_block(rows, packing, x, w, sum);
            x += part_block_bytes;
            w += pr_quantized_block_bytes(packing);
        }
        // A binary counter of finished branches: equal ones are added as soon as both are there.
        int level = 0;
        for (; (slice >> level) & 1; level++) {
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++)
                sum[r] = _mm512_add_ps(tree[level][r], sum[r]);
        }
        if (slice + 1 == matrix->slices)
            break;
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
            tree[level][r] = sum[r];
    }
    store_block(b, rows, sum);
}

#define PR_CASE(n)                                                                                 \
    case n:                                                                                        \
        compute(b, n, packing);                                                                    \
        break

PR_INLINE void compute_rows(const block *b, int64_t rows, pr_packing packing)
{
    switch (rows) {
        PR_CASE(1);
        PR_CASE(2);
        PR_CASE(3);
        PR_CASE(4);
        PR_CASE(5);
        PR_CASE(6);
        PR_CASE(7);
        PR_CASE(8);
        PR_CASE(9);
        PR_CASE(10);
        PR_CASE(11);
        PR_CASE(12);
    }
}

#include "kernels/cpu/quantized_walk.h"

static const pr_matmul_kernel quantized = {pr_quantized_row_bytes, prepare, multiply};

void pr_cpu_vnni_kernels(pr_cpu_kernels *kernels)
{
    kernels->matmul[PR_PACKED_INT8] = &quantized;
    kernels->matmul[PR_PACKED_INT4] = &quantized;
}
