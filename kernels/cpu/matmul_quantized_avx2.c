// SPDX-License-Identifier: BSD-3-Clause
// Matmul with quantised weights on AVX2: two vectors are a quad of columns of a panel (16 outputs). Bytes
// are multiplied to pairs of 16 bits, where nothing saturates:
//   int8  |w| <= 128 times q with w's sign: at most 2 * 128 * 127 = 32512
//   int4  stored weight <= 15 times q: a whole block of 8 quads adds up to 8 * 2 * 15 * 127 = 30480 at most
//   Cost: per quad of a row and 8 outputs 4 operations (int8), 2 (int4).
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/quantized.h"
#include "kernels/cpu/vector_avx2.h"

enum { MOST_ROWS = 4, HALVES = 2, LEVELS = 3 };  // a panel is two vectors; 2^LEVELS = PR_SLICES

// ---- Rows ------------------------------------------------------------------------------------

PR_INLINE int32_t largest(__m256i v)
{
    __m128i most = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
    return _mm_cvtsi128_si32(most);
}

PR_INLINE int32_t add_up(__m256i v)
{
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return _mm_cvtsi128_si32(sum);
}

// x holds a whole block.
PR_INLINE void
quantize_whole(const float *x, pr_packing packing, float *scale, int32_t *start, int8_t *q)
{
    enum { VECTORS = PR_WIDEST_BLOCK / PR_WIDTH };
    const int vectors = pr_quantized_block(packing) / PR_WIDTH;
    __m256i v[VECTORS], magnitude = _mm256_setzero_si256(), sum = _mm256_setzero_si256();
    for (int i = 0; i < vectors; i++) {
        v[i] = _mm256_castps_si256(_mm256_loadu_ps(x + i * PR_WIDTH));
        __m256i bits = _mm256_and_si256(v[i], _mm256_set1_epi32(0x7fffffff));
        magnitude = _mm256_max_epi32(magnitude, bits);
    }
    int32_t most_bits = largest(magnitude);
    float most, inverse = 0.0f;
    memcpy(&most, &most_bits, 4);
    *scale = 0.0f;
    if (most_bits >= PR_UNUSABLE_BITS)
        *scale = NAN;
    else if (most >= PR_SMALLEST_ROW) {
        *scale = most / 127.0f;
        inverse = 127.0f / most;
    }
    const __m256i usable = _mm256_set1_epi32(inverse > 0.0f ? -1 : 0);
    for (int i = 0; i < vectors; i++) {
        __m256 scaled = _mm256_mul_ps(_mm256_castsi256_ps(v[i]), _mm256_set1_ps(inverse));
        __m256i rounded = _mm256_and_si256(_mm256_cvtps_epi32(scaled), usable);
        sum = _mm256_add_epi32(sum, rounded);
        __m128i words =
            _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
        _mm_storel_epi64((__m128i *)(void *)(q + i * PR_WIDTH), _mm_packs_epi16(words, words));
    }
    *start = -pr_quantized_offset(packing) * add_up(sum);
}

PR_INLINE void quantize_row_block(
    const float *x, int32_t columns, pr_packing packing, float *scale, int32_t *start, int8_t *q)
{
    float filled[PR_WIDEST_BLOCK] = {0};
    if (columns < pr_quantized_block(packing)) {
        memcpy(filled, x, (size_t)columns * sizeof *x);
        x = filled;
    }
    quantize_whole(x, packing, scale, start, q);
}

// ---- Products --------------------------------------------------------------------------------

typedef pr_quantized_part block;

typedef __m256 sums[MOST_ROWS][HALVES];
typedef __m256i exact_sums[MOST_ROWS][HALVES];

PR_INLINE void store_block(const block *b, int rows, sums sum)
{
    int64_t outputs = b->args->matrix->rows, n = b->panel * PR_PANEL, left = outputs - n;
    const float *bias = b->args->bias;
    for (int r = 0; r < rows; r++) {
        float y[PR_PANEL], *to = b->args->y + (b->first_row + r) * outputs + n;
        _mm256_storeu_ps(y, sum[r][0]);
        _mm256_storeu_ps(y + PR_WIDTH, sum[r][1]);
        for (int64_t i = 0; i < left && i < PR_PANEL; i++)
            to[i] = bias != NULL ? y[i] + bias[n + i] : y[i];
    }
}

PR_INLINE __m256i load(const char *w)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)w);
}

// The stored offset is taken off here, so the sums begin at 0, not at the rows' start.
PR_INLINE void add_int8_quads(int rows, const int32_t *x, const char *w, exact_sums exact)
{
    const __m256i ones = _mm256_set1_epi16(1), offset = _mm256_set1_epi8((char)-128);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        exact[r][0] = exact[r][1] = _mm256_setzero_si256();
    for (int quad = 0; quad < PR_INT8_BLOCK / PR_QUAD; quad++) {
        __m256i sign[HALVES], magnitude[HALVES];
        for (int h = 0; h < HALVES; h++) {
            sign[h] = _mm256_xor_si256(load(w + quad * 64 + h * 32), offset);
            magnitude[h] = _mm256_abs_epi8(sign[h]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m256i one = _mm256_set1_epi32(x[quad * rows + r]);
            for (int h = 0; h < HALVES; h++) {
                __m256i pairs = _mm256_maddubs_epi16(magnitude[h], _mm256_sign_epi8(one, sign[h]));
                exact[r][h] = _mm256_add_epi32(exact[r][h], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
}

PR_INLINE void
add_int4_quads(int rows, const int32_t *start, const int32_t *x, const char *w, exact_sums exact)
{
    const __m256i ones = _mm256_set1_epi16(1), nibbles = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        exact[r][0] = exact[r][1] = _mm256_setzero_si256();
    for (int pair = 0; pair < PR_INT4_BLOCK / PR_QUAD / 2; pair++) {
        for (int h = 0; h < HALVES; h++) {
            __m256i both = load(w + pair * 64 + h * 32);
            __m256i low = _mm256_and_si256(both, nibbles);
            __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibbles);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                __m256i one = _mm256_set1_epi32(x[2 * pair * rows + r]);
                __m256i next = _mm256_set1_epi32(x[(2 * pair + 1) * rows + r]);
                __m256i pairs = _mm256_add_epi16(
                    _mm256_maddubs_epi16(low, one), _mm256_maddubs_epi16(high, next));
                exact[r][h] = _mm256_add_epi16(exact[r][h], pairs);
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        for (int h = 0; h < HALVES; h++)
            exact[r][h] =
                _mm256_add_epi32(_mm256_madd_epi16(exact[r][h], ones), _mm256_set1_epi32(start[r]));
    }
}

// One block of K.
PR_INLINE void add_block(int rows, pr_packing packing, const char *x, const char *w, sums sum)
{
    const float *scale = (const float *)(const void *)x;
    const int32_t *start = (const int32_t *)(const void *)x + rows;
    exact_sums exact;
    if (packing == PR_PACKED_INT8)
        add_int8_quads(rows, start + rows, w, exact);
    else
        add_int4_quads(rows, start, start + rows, w, exact);
    for (int h = 0; h < HALVES; h++) {
        __m256 scales =
            pr_load8(PR_BF16, w + pr_quantized_weight_bytes(packing), (size_t)(h * PR_WIDTH));
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m256 both = _mm256_mul_ps(scales, _mm256_set1_ps(scale[r]));
            sum[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(exact[r][h]), both, sum[r][h]);
        }
    }
}

// rows and packing are constants at every call: the loops over them unroll.
PR_INLINE void compute(const block *b, int rows, pr_packing packing)
{
    const pr_matrix *matrix = b->args->matrix;
    size_t part_block_bytes = (size_t)rows * pr_quantized_row_block_bytes(packing);
    const char *x = b->prepared, *w = pr_matrix_panel(matrix, b->panel);
    sums sum, tree[LEVELS];
    for (int32_t slice = 0;; slice++) {
        int64_t blocks = pr_matrix_slice_padded(matrix, slice) / pr_quantized_block(packing);
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm256_setzero_ps();
        for (; blocks > 0; blocks--) {
            add_block(rows, packing, x, w, sum);
            x += part_block_bytes;
            w += pr_quantized_block_bytes(packing);
        }
        // A binary counter of finished branches: equal ones are added as soon as both are there.
        int level = 0;
        for (; (slice >> level) & 1; level++) {
            for (int r = 0; r < rows; r++) {
                for (int h = 0; h < HALVES; h++)
                    sum[r][h] = _mm256_add_ps(tree[level][r][h], sum[r][h]);
            }
        }
        if (slice + 1 == matrix->slices)
            break;
        memcpy(tree[level], sum, sizeof sum);
    }
    store_block(b, rows, sum);
}

PR_INLINE void compute_rows(const block *b, int64_t rows, pr_packing packing)
{
    switch (rows) {
    case 1:
        compute(b, 1, packing);
        break;
    case 2:
        compute(b, 2, packing);
        break;
    case 3:
        compute(b, 3, packing);
        break;
    default:
        compute(b, 4, packing);
        break;
    }
}

#include "kernels/cpu/quantized_walk.h"

const pr_matmul_kernel pr_matmul_quantized_avx2 = {pr_quantized_row_bytes, prepare, multiply};
