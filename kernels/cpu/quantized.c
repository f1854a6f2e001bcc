// SPDX-License-Identifier: BSD-3-Clause
// Quantises weights while they are packed. Sixteen outputs side by side, so that compilers make vectors
// of the loops over lanes; plain C, so that every instruction set multiplies by the same weights.
#include "kernels/cpu/quantized.h"

#include <float.h>

#include "runtime/base/dtype.h"

typedef float lanes[PR_PANEL];

// Adding and taking away 1.5 * 2^23 rounds to an integer, ties to even, if |x| < 2^22.
static inline float round_even(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

// A NaN becomes low.
static inline float clamp(float x, float low, float high)
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

static void fill(lanes *w, int32_t from, int32_t to)
{
    if (from < to)
        memset(w + from, 0, (size_t)(to - from) * sizeof *w);
}

// Columns of `rows` stored rows as [columns][lane], zeros beyond rows.
static void
widen(const pr_matrix_source *source, const char *stored, int64_t rows, int32_t columns, lanes *w)
{
    size_t stride = (size_t)source->stride;
    if (rows < PR_PANEL)
        fill(w, 0, columns);
    for (size_t lane = 0; lane < (size_t)rows; lane++) {
        size_t row = lane * stride;
        if (source->dtype == PR_BF16)
            for (size_t k = 0; k < (size_t)columns; k++)
                w[k][lane] = pr_dtype_load(PR_BF16, stored, row + k);
        else
            for (size_t k = 0; k < (size_t)columns; k++)
                w[k][lane] = pr_dtype_load(source->dtype, stored, row + k);
    }
}

// The largest magnitude of each lane; PR_UNUSABLE_BITS and more if there is a NaN or an infinity.
static void find_most(lanes *w, int32_t columns, int32_t most_bits[PR_PANEL])
{
    memset(most_bits, 0, PR_PANEL * sizeof *most_bits);
    for (int32_t k = 0; k < columns; k++) {
        int32_t bits[PR_PANEL];
        memcpy(bits, w[k], sizeof bits);
        for (int lane = 0; lane < PR_PANEL; lane++) {
            bits[lane] &= 0x7fffffff;
            most_bits[lane] = bits[lane] > most_bits[lane] ? bits[lane] : most_bits[lane];
        }
    }
}

// Rounds the scales to what is stored, and gives their inverses.
static void
store_scales(const lanes scale, const int32_t most_bits[PR_PANEL], char *packed, lanes inverse)
{
    for (int lane = 0; lane < PR_PANEL; lane++) {
        uint16_t bits = pr_f32_to_bf16(most_bits[lane] >= PR_UNUSABLE_BITS ? NAN : scale[lane]);
        float rounded = pr_bf16_to_f32(bits);
        if (fabsf(rounded) < FLT_MIN)
            bits = 0;
        inverse[lane] = fabsf(rounded) >= FLT_MIN ? 1.0f / rounded : 0.0f;
        memcpy(packed + 2 * lane, &bits, 2);
    }
}

// ---- int8 ------------------------------------------------------------------------------------

static void pack_int8_block(lanes *w, uint8_t *packed)
{
    int32_t most_bits[PR_PANEL];
    lanes scale, inverse;
    find_most(w, PR_INT8_BLOCK, most_bits);
    memcpy(scale, most_bits, sizeof scale);
    for (int lane = 0; lane < PR_PANEL; lane++)
        scale[lane] /= 127.0f;
    store_scales(
        scale, most_bits, (char *)packed + pr_quantized_weight_bytes(PR_PACKED_INT8), inverse);
    for (int32_t quad = 0; quad < PR_INT8_BLOCK / PR_QUAD; quad++) {
        for (int32_t k = 0; k < PR_QUAD; k++) {
            const float *column = w[quad * PR_QUAD + k];
            for (int lane = 0; lane < PR_PANEL; lane++) {
                float q = clamp(round_even(column[lane] * inverse[lane]), -127.0f, 127.0f);
                packed[(quad * PR_PANEL + lane) * PR_QUAD + k] = (uint8_t)((int32_t)q + 128);
            }
        }
    }
}

void pr_quantized_pack_int8(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    lanes w[PR_INT8_BLOCK];
    for (int64_t k = 0; k < cols; k += PR_INT8_BLOCK) {
        int32_t columns = cols - k < PR_INT8_BLOCK ? (int32_t)(cols - k) : PR_INT8_BLOCK;
        widen(source, stored, rows, columns, w);
        fill(w, columns, PR_INT8_BLOCK);
        pack_int8_block(w, (uint8_t *)packed);
        stored += PR_INT8_BLOCK * pr_dtype_bytes(source->dtype);
        packed += pr_quantized_block_bytes(PR_PACKED_INT8);
    }
}

// ---- int4 ------------------------------------------------------------------------------------

// The weight of largest magnitude, with its sign; of equal ones the first.
static void find_extreme(lanes *w, lanes extreme)
{
    memset(extreme, 0, sizeof(lanes));
    for (int32_t k = 0; k < PR_INT4_BLOCK; k++) {
        for (int lane = 0; lane < PR_PANEL; lane++)
            extreme[lane] = fabsf(w[k][lane]) > fabsf(extreme[lane]) ? w[k][lane] : extreme[lane];
    }
}

// Quantises with the extreme at `at`, and keeps the least-squares scale of that if it is nearer. With
// that scale, sum wq / sum qq, the squared error is sum ww - (sum wq)^2 / sum qq.
static void try_extreme_at(lanes *w, const lanes extreme, float at, lanes best, lanes scale)
{
    lanes inverse, wq = {0}, qq = {0};
    for (int lane = 0; lane < PR_PANEL; lane++)
        inverse[lane] = at / extreme[lane];
    for (int32_t k = 0; k < PR_INT4_BLOCK; k++) {
        for (int lane = 0; lane < PR_PANEL; lane++) {
            float q = clamp(round_even(w[k][lane] * inverse[lane]), -8.0f, 7.0f);
            wq[lane] += w[k][lane] * q;
            qq[lane] += q * q;
        }
    }
    for (int lane = 0; lane < PR_PANEL; lane++) {
        float gain = wq[lane] * wq[lane] / qq[lane];
        bool better = gain > best[lane];
        best[lane] = better ? gain : best[lane];
        scale[lane] = better ? wq[lane] / qq[lane] : scale[lane];
    }
}

static void pack_int4_block(lanes *w, uint8_t *packed)
{
    static const float places[] = {-8.0f, -7.5f, -7.0f, 7.0f, 7.5f, 6.5f, -8.5f};
    int32_t most_bits[PR_PANEL];
    lanes extreme, best = {0}, scale = {0}, inverse;
    find_most(w, PR_INT4_BLOCK, most_bits);
    find_extreme(w, extreme);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        try_extreme_at(w, extreme, places[i], best, scale);
    store_scales(
        scale, most_bits, (char *)packed + pr_quantized_weight_bytes(PR_PACKED_INT4), inverse);
    for (int32_t k = 0; k < PR_INT4_BLOCK; k++) {
        int32_t quad = k / PR_QUAD, shift = quad % 2 * 4;
        uint8_t *to = packed + quad / 2 * PR_PANEL * PR_QUAD + k % PR_QUAD;
        for (int lane = 0; lane < PR_PANEL; lane++) {
            float q = clamp(round_even(w[k][lane] * inverse[lane]), -8.0f, 7.0f);
            uint8_t nibble = (uint8_t)((int32_t)q + 8);
            to[lane * PR_QUAD] = (uint8_t)(shift ? to[lane * PR_QUAD] | nibble << 4 : nibble);
        }
    }
}

void pr_quantized_pack_int4(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    lanes w[PR_INT4_BLOCK];
    for (int64_t k = 0; k < cols; k += PR_INT4_BLOCK) {
        int32_t columns = cols - k < PR_INT4_BLOCK ? (int32_t)(cols - k) : PR_INT4_BLOCK;
        widen(source, stored, rows, columns, w);
        fill(w, columns, PR_INT4_BLOCK);
        pack_int4_block(w, (uint8_t *)packed);
        stored += PR_INT4_BLOCK * pr_dtype_bytes(source->dtype);
        packed += pr_quantized_block_bytes(PR_PACKED_INT4);
    }
}
