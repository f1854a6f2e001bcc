// SPDX-License-Identifier: BSD-3-Clause
// The specification of matmul with quantised weights, in plain C (docs/kernels.md).
#include "kernels/cpu/matmul_outputs.h"
#include "kernels/cpu/quantized.h"
#include "runtime/base/dtype.h"

static void quantize_row_block(
    const float *x, int32_t columns, pr_packing packing, float *scale, int32_t *start, int8_t *q)
{
    uint32_t most_bits = 0;
    int32_t sum = 0;
    float most;
    memset(q, 0, PR_WIDEST_BLOCK);
    *scale = 0.0f;
    *start = 0;
    for (int32_t k = 0; k < columns; k++) {  // of magnitudes, bits have the order of the numbers
        uint32_t bits;
        memcpy(&bits, &x[k], 4);
        bits &= 0x7fffffffu;
        most_bits = bits > most_bits ? bits : most_bits;
    }
    memcpy(&most, &most_bits, 4);
    if (most_bits >= PR_UNUSABLE_BITS)
        *scale = NAN;
    else if (most >= PR_SMALLEST_ROW) {
        float inverse = 127.0f / most;
        *scale = most / 127.0f;
        for (int32_t k = 0; k < columns; k++) {
            q[k] = (int8_t)nearbyintf(x[k] * inverse);
            sum += q[k];
        }
        *start = -pr_quantized_offset(packing) * sum;
    }
}

static void prepare(const pr_matmul_args *args, int32_t begin, int32_t end, void *prepared)
{
    pr_quantized_prepare(args, begin, end, 1, quantize_row_block, prepared);
}

// Weight k of a block, one output.
static int32_t weight(const uint8_t *block, pr_packing packing, int32_t k, int64_t output)
{
    int32_t quad = k / PR_QUAD, in_quad = k % PR_QUAD;
    if (packing == PR_PACKED_INT8)
        return block[(quad * PR_PANEL + output) * PR_QUAD + in_quad] - 128;
    uint8_t pair = block[(quad / 2 * PR_PANEL + output) * PR_QUAD + in_quad];
    return (quad % 2 == 0 ? pair & 15 : pair >> 4) - 8;
}

static float weight_scale(const uint8_t *block, pr_packing packing, int64_t output)
{
    uint16_t bits;
    memcpy(&bits, block + pr_quantized_weight_bytes(packing) + 2 * output, 2);
    return pr_bf16_to_f32(bits);
}

// One output: blocks added within a slice, slices then as pairs of neighbours until one is left.
static float output_of(const pr_matmul_args *args, const void *prepared, int32_t m, int64_t output)
{
    const pr_matrix *matrix = args->matrix;
    const char *row = (const char *)prepared + (size_t)m * pr_quantized_row_bytes(matrix);
    pr_packing packing = matrix->packing;
    const uint8_t *block = (const uint8_t *)pr_matrix_panel(matrix, output / PR_PANEL);
    float slice[PR_SLICES];
    for (int32_t s = 0; s < matrix->slices; s++) {
        int64_t blocks = pr_matrix_slice_padded(matrix, s) / matrix->unit;
        slice[s] = 0.0f;
        for (int64_t i = 0; i < blocks; i++) {
            const int8_t *q = (const int8_t *)row + sizeof(float) + sizeof(int32_t);
            float scale;
            int32_t sum = 0;
            memcpy(&scale, row, sizeof scale);
            for (int32_t k = 0; k < matrix->unit; k++)
                sum += q[k] * weight(block, packing, k, output % PR_PANEL);
            scale = weight_scale(block, packing, output % PR_PANEL) * scale;
            slice[s] = fmaf((float)sum, scale, slice[s]);
            block += pr_quantized_block_bytes(packing);
            row += pr_quantized_row_block_bytes(packing);
        }
    }
    return pr_matrix_add_slices(slice, matrix->slices);
}

static void multiply(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    pr_matmul_each_output(args, prepared, output_of, begin, end);
}

const pr_matmul_kernel pr_matmul_quantized_reference = {pr_quantized_row_bytes, prepare, multiply};
