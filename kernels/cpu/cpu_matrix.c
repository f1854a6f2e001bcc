// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/cpu/cpu_matrix.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_state.h"
#include "kernels/cpu/quantized.h"
#include "runtime/base/log.h"

// How one packing is made.
typedef struct packing_rule {
    int32_t unit;
    // Bytes of padded_cols columns of a panel.
    size_t (*bytes)(int64_t padded_cols);
    // Interleaves `rows` (<= 16) stored rows of one slice; the panel is zero before.
    void (*pack)(
        const pr_matrix_source *source,
        const char *stored,
        int64_t rows,
        int64_t cols,
        char *packed);
} packing_rule;

static size_t two_bytes(int64_t cols) { return (size_t)cols * PR_PANEL * 2; }
static size_t four_bytes(int64_t cols) { return (size_t)cols * PR_PANEL * 4; }

static size_t int8_bytes(int64_t cols)
{
    return (size_t)(cols / PR_INT8_BLOCK) * pr_quantized_block_bytes(PR_PACKED_INT8);
}

static size_t int4_bytes(int64_t cols)
{
    return (size_t)(cols / PR_INT4_BLOCK) * pr_quantized_block_bytes(PR_PACKED_INT4);
}

static void pack_f32(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    float *to = (float *)(void *)packed;
    for (int64_t lane = 0; lane < rows; lane++) {
        for (int64_t k = 0; k < cols; k++)
            to[k * PR_PANEL + lane] =
                pr_dtype_load(source->dtype, stored, (size_t)(lane * source->stride + k));
    }
}

static void pack_f16(
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

static void pack_bf16(
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

static const packing_rule rules[PR_PACKINGS] = {
    [PR_PACKED_F32] = {1, four_bytes, pack_f32},
    [PR_PACKED_BF16] = {2, two_bytes, pack_bf16},
    [PR_PACKED_F16] = {1, two_bytes, pack_f16},
    [PR_PACKED_INT8] = {PR_INT8_BLOCK, int8_bytes, pr_quantized_pack_int8},
    [PR_PACKED_INT4] = {PR_INT4_BLOCK, int4_bytes, pr_quantized_pack_int4},
};

static pr_packing packing_of(pr_dtype dtype, pr_quantization quantization)
{
    if (quantization == PR_QUANTIZATION_INT8)
        return PR_PACKED_INT8;
    if (quantization == PR_QUANTIZATION_INT4)
        return PR_PACKED_INT4;
    if (quantization == PR_QUANTIZATION_FLOAT32)
        return PR_PACKED_F32;
    return dtype == PR_F32 ? PR_PACKED_F32 : dtype == PR_BF16 ? PR_PACKED_BF16 : PR_PACKED_F16;
}

// Fills in what follows from rows, cols, slices and packing.
static void shape(pr_matrix *matrix)
{
    const packing_rule *rule = &rules[matrix->packing];
    matrix->unit = rule->unit;
    matrix->padded_cols = 0;
    for (int32_t s = 0; s < matrix->slices; s++)
        matrix->padded_cols += pr_matrix_slice_padded(matrix, s);
    matrix->panel_bytes = ((rule->bytes(matrix->padded_cols) + 63) / 64 | 1) * 64;
}

// Of one slice: slices fill up at most PR_SLICES - 1 further units.
size_t pr_cpu_matrix_bytes(int64_t rows, int64_t cols, pr_dtype dtype, pr_quantization quantization)
{
    pr_matrix matrix = {
        .rows = rows, .cols = cols, .slices = 1, .packing = packing_of(dtype, quantization)};
    shape(&matrix);
    return (size_t)pr_matrix_panels(&matrix) * matrix.panel_bytes;
}

static pr_status check_source(const pr_matrix_source *source)
{
    bool slices = source->slices == 1 || source->slices == 2 || source->slices == 4 ||
                  source->slices == PR_SLICES;
    if (source->row_begin < 0 || source->row_end < source->row_begin || source->col_begin < 0 ||
        source->col_end < source->col_begin || source->col_end > source->stride || !slices)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "matrix part of rows %lld..%lld, columns %lld..%lld of %lld in %d slices makes no "
            "sense",
            (long long)source->row_begin, (long long)source->row_end, (long long)source->col_begin,
            (long long)source->col_end, (long long)source->stride, source->slices);
    return PR_OK;
}

typedef struct pack_work {
    const pr_matrix_source *source;
    const pr_matrix *matrix;
} pack_work;

static void pack_panel(void *context, int64_t panel, int32_t thread)
{
    const pack_work *work = context;
    const pr_matrix_source *source = work->source;
    const pr_matrix *matrix = work->matrix;
    const packing_rule *rule = &rules[matrix->packing];
    size_t element = pr_dtype_bytes(source->dtype);
    int64_t row = panel * PR_PANEL, rows = matrix->rows - row, filled = 0;
    (void)thread;
    for (int32_t s = 0; s < matrix->slices; s++) {
        int64_t begin = pr_matrix_slice_begin(matrix, s);
        int64_t at = (source->row_begin + row) * source->stride + source->col_begin + begin;
        rule->pack(
            source, (const char *)source->data + (size_t)at * element,
            rows < PR_PANEL ? rows : PR_PANEL, pr_matrix_slice_begin(matrix, s + 1) - begin,
            matrix->panels + (size_t)panel * matrix->panel_bytes + rule->bytes(filled));
        filled += pr_matrix_slice_padded(matrix, s);
    }
}

pr_status
pr_cpu_matrix_create(pr_device *device, const pr_matrix_source *source, pr_matrix **matrix)
{
    PR_TRY(check_source(source));
    pr_matrix *made = malloc(sizeof(*made));
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for a matrix");
    *made = (pr_matrix){
        .rows = source->row_end - source->row_begin,
        .cols = source->col_end - source->col_begin,
        .slices = source->slices,
        .packing = packing_of(source->dtype, source->quantization),
    };
    shape(made);
    void *panels;
    size_t size_bytes = (size_t)pr_matrix_panels(made) * made->panel_bytes;
    pr_status status = device->memory_take(device, size_bytes, &panels);
    if (status != PR_OK) {
        free(made);
        return status;
    }
    made->panels = panels;
    pack_work work = {source, made};
    pr_cpu_team_run(pr_cpu_state_of(device)->team, pack_panel, &work, pr_matrix_panels(made));
    *matrix = made;
    return PR_OK;
}

void pr_cpu_matrix_destroy(pr_device *device, pr_matrix *matrix)
{
    if (matrix == NULL)
        return;
    device->memory_release(device, matrix->panels);
    free(matrix);
}
