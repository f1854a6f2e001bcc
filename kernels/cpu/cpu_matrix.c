// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/cpu/cpu_matrix.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_memory.h"
#include "kernels/cpu/cpu_state.h"
#include "kernels/cpu/quantized.h"
#include "runtime/base/log.h"

// What one packing is; the kernels have how it is made.
typedef struct packing_rule {
    int32_t unit;
    // Bytes of padded_cols columns of a panel.
    size_t (*bytes)(int64_t padded_cols);
    int32_t vectors_of_four, vectors_of_two;  // of a unit
} packing_rule;

// Rows that a task reads at once, in bytes: they stay in the second-level cache until they are packed.
enum { STAGED_BYTES = 512 << 10 };

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

static const packing_rule rules[PR_PACKINGS] = {
    [PR_PACKED_F32] = {1, four_bytes, 1, 0},
    [PR_PACKED_BF16] = {2, two_bytes, 1, 0},
    [PR_PACKED_F16] = {1, two_bytes, 0, 1},
    [PR_PACKED_INT8] = {PR_INT8_BLOCK, int8_bytes, PR_INT8_BLOCK / 4, 1},
    [PR_PACKED_INT4] = {PR_INT4_BLOCK, int4_bytes, PR_INT4_BLOCK / 8, 1},
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

pr_matrix pr_cpu_matrix_of(const pr_packed_shape *shape)
{
    pr_matrix matrix = {
        .rows = shape->rows,
        .cols = shape->cols,
        .slices = shape->slices,
        .packing = packing_of(shape->dtype, shape->quantization),
    };
    const packing_rule *rule = &rules[matrix.packing];
    matrix.unit = rule->unit;
    for (int32_t s = 0; s < matrix.slices; s++)
        matrix.padded_cols += pr_matrix_slice_padded(&matrix, s);
    matrix.panel_bytes = ((rule->bytes(matrix.padded_cols) + 63) / 64 | 1) * 64;
    return matrix;
}

size_t pr_cpu_matrix_slice_offset(const pr_matrix *matrix, int32_t s)
{
    int64_t columns = 0;
    for (int32_t i = 0; i < s; i++)
        columns += pr_matrix_slice_padded(matrix, i);
    return rules[matrix->packing].bytes(columns);
}

void pr_cpu_matrix_unit_vectors(pr_packing packing, int32_t *of_four, int32_t *of_two)
{
    *of_four = rules[packing].vectors_of_four;
    *of_two = rules[packing].vectors_of_two;
}

// Of one slice: slices fill up at most PR_SLICES - 1 further units.
size_t pr_cpu_matrix_bytes(int64_t rows, int64_t cols, pr_dtype dtype, pr_quantization quantization)
{
    const pr_packed_shape shape = {rows, cols, 1, dtype, quantization};
    pr_matrix matrix = pr_cpu_matrix_of(&shape);
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
    pr_pack_rows *pack;
    int64_t task_panels;
    char *staging;  // [threads][staging_bytes], if the source has a reader
    size_t staging_bytes;
    atomic_bool failed;
} pack_work;

// stored: the source's column col_begin of the panel's first row.
static void pack_panel(const pack_work *work, int64_t panel, const char *stored)
{
    const pr_matrix *matrix = work->matrix;
    size_t element = pr_dtype_bytes(work->source->dtype);
    int64_t rows = matrix->rows - panel * PR_PANEL;
    char *packed = matrix->panels + (size_t)panel * matrix->panel_bytes;
    for (int32_t s = 0; s < matrix->slices; s++) {
        int64_t begin = pr_matrix_slice_begin(matrix, s);
        int64_t columns = pr_matrix_slice_begin(matrix, s + 1) - begin;
        work->pack(
            work->source, stored + (size_t)begin * element, rows < PR_PANEL ? rows : PR_PANEL,
            columns, packed);
        packed += rules[matrix->packing].bytes(pr_matrix_slice_padded(matrix, s));
    }
}

static void pack_panels(void *context, int64_t task, int32_t thread)
{
    pack_work *work = context;
    const pr_matrix_source *source = work->source;
    size_t element = pr_dtype_bytes(source->dtype), stride = (size_t)source->stride * element;
    int64_t panel = task * work->task_panels, end = panel + work->task_panels;
    if (end > pr_matrix_panels(work->matrix))
        end = pr_matrix_panels(work->matrix);
    int64_t first = panel * PR_PANEL, last = end * PR_PANEL;
    if (last > work->matrix->rows)
        last = work->matrix->rows;
    const char *stored = (const char *)source->data + (size_t)(source->row_begin + first) * stride +
                         (size_t)source->col_begin * element;
    if (source->reader != NULL) {
        char *staged = work->staging + (size_t)thread * work->staging_bytes;
        size_t size_bytes =
            (size_t)(last - first - 1) * stride + (size_t)work->matrix->cols * element;
        if (!source->reader->read(source->reader->context, stored, staged, size_bytes)) {
            atomic_store(&work->failed, true);
            return;
        }
        stored = staged;
    }
    for (int64_t i = panel; i < end; i++)
        pack_panel(work, i, stored + (size_t)((i - panel) * PR_PANEL) * stride);
}

pr_status pr_cpu_staging_reserve(pr_device *device, size_t size_bytes)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    size_t rounded = (size_bytes + 63) / 64 * 64;
    if (rounded <= state->staging_bytes)
        return PR_OK;
    free(state->staging);
    state->staging_bytes = 0;
    state->staging = aligned_alloc(64, (size_t)pr_cpu_team_threads(state->team) * rounded);
    if (state->staging == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left to read %zu bytes", rounded);
    state->staging_bytes = rounded;
    return PR_OK;
}

static pr_status pack_matrix(pr_device *device, const pr_matrix_source *source, pr_matrix *matrix)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    pack_work work = {
        .source = source,
        .matrix = matrix,
        .pack = state->kernels.pack[matrix->packing],
        .task_panels = 1,
    };
    int64_t panels = pr_matrix_panels(matrix);
    if (source->reader != NULL) {
        size_t panel_bytes = PR_PANEL * (size_t)source->stride * pr_dtype_bytes(source->dtype);
        if (panel_bytes < STAGED_BYTES)
            work.task_panels = (int64_t)(STAGED_BYTES / panel_bytes);
        PR_TRY(pr_cpu_staging_reserve(device, (size_t)work.task_panels * panel_bytes));
        work.staging = state->staging;
        work.staging_bytes = state->staging_bytes;
    }
    int64_t tasks = (panels + work.task_panels - 1) / work.task_panels;
    pr_cpu_team_run(state->team, pack_panels, &work, tasks);
    return atomic_load(&work.failed) ? PR_ERR_IO : PR_OK;
}

pr_status pr_cpu_matrix_take_panels(pr_device *device, pr_matrix *matrix)
{
    void *panels;
    size_t size_bytes = (size_t)pr_matrix_panels(matrix) * matrix->panel_bytes;
    PR_TRY(device->memory_take(device, size_bytes, &panels));
    pr_cpu_memory_populate(device, panels, size_bytes);
    matrix->panels = panels;
    return PR_OK;
}

pr_status
pr_cpu_matrix_create(pr_device *device, const pr_matrix_source *source, pr_matrix **matrix)
{
    PR_TRY(check_source(source));
    const pr_packed_shape shape = pr_packed_shape_of(source);
    pr_matrix *made = malloc(sizeof(*made));
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for a matrix");
    *made = pr_cpu_matrix_of(&shape);
    pr_status status = pr_cpu_matrix_take_panels(device, made);
    if (status == PR_OK && shape.rows > 0 && shape.cols > 0)
        status = pack_matrix(device, source, made);
    if (status != PR_OK) {
        pr_cpu_matrix_destroy(device, made);
        return status;
    }
    *matrix = made;
    return PR_OK;
}

void pr_cpu_matrix_destroy(pr_device *device, pr_matrix *matrix)
{
    if (matrix == NULL)
        return;
    if (!matrix->in_place)
        device->memory_release(device, matrix->panels);
    free(matrix);
}
