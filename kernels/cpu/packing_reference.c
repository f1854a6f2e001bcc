// SPDX-License-Identifier: BSD-3-Clause
// Packing of float weights in plain C: what cpu_matrix.h says of their units.
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"

void pr_pack_f32_reference(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    float *to = (float *)(void *)packed;
    for (int64_t lane = 0; lane < rows; lane++) {
        for (int64_t k = 0; k < cols; k++)
            to[k * PR_PANEL + lane] =
                pr_dtype_load(source->dtype, stored, (size_t)(lane * source->stride + k));
    }
}

void pr_pack_f16_reference(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    for (int64_t k = 0; k < cols; k++) {
        char *column = packed + (size_t)k * PR_PANEL * 2;
        for (int64_t lane = 0; lane < rows; lane++)
            memcpy(column + 2 * lane, stored + (size_t)(lane * source->stride + k) * 2, 2);
    }
}

static uint16_t flushed_bf16(const char *stored)
{
    uint16_t bits;
    memcpy(&bits, stored, 2);
    return (bits & 0x7f80u) == 0 ? bits & 0x8000u : bits;
}

void pr_pack_bf16_reference(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    size_t stride_bytes = (size_t)source->stride * 2;
    for (int64_t k = 0; k < cols; k += 2) {
        uint16_t *pair = (uint16_t *)(void *)(packed + (size_t)k * PR_PANEL * 2);
        for (int64_t lane = 0; lane < rows; lane++) {
            const char *from = stored + (size_t)lane * stride_bytes + (size_t)k * 2;
            pair[2 * lane] = flushed_bf16(from);
            if (k + 1 < cols)
                pair[2 * lane + 1] = flushed_bf16(from + 2);
        }
    }
}
