// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/gpu_matrix.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu/gpu_state.h"
#include "runtime/base/log.h"

enum { SLICE_COLS = 16, TASK_BYTES = 256 << 10 };

struct pr_matrix_stack {
    pr_packed_shape shape;
    int32_t count;
    char *memory;
};

static int64_t round_up(int64_t value, int64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static bool is_quantised(pr_quantization quantization)
{
    return quantization == PR_QUANTIZATION_INT8 || quantization == PR_QUANTIZATION_INT4;
}

static bool becomes_bf16(pr_dtype dtype, pr_quantization quantization)
{
    return dtype == PR_BF16 && quantization == PR_QUANTIZATION_NONE;
}

static size_t matrix_bytes(int64_t rows, int64_t cols, pr_dtype dtype, pr_quantization quantization)
{
    size_t element = becomes_bf16(dtype, quantization) ? 2 : 4;
    return (size_t)round_up(rows, PR_GPU_PADDED_ROWS) * (size_t)round_up(cols, PR_GPU_PADDED_COLS) *
           element;
}

static size_t packed_bytes(const pr_packed_shape *shape)
{
    return matrix_bytes(shape->rows, shape->cols, shape->dtype, shape->quantization);
}

static pr_status check_shape(const pr_device *device, const pr_packed_shape *shape)
{
    if (is_quantised(shape->quantization))
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "a %s device has no int8 or int4 weights: leave --quantization away, or use "
            "--device cpu",
            device->name);
    bool slices = shape->slices == 1 || shape->slices == 2 || shape->slices == 4 ||
                  shape->slices == PR_SLICES;
    if (shape->rows < 0 || shape->cols < 0 || !slices || shape->rows > INT32_MAX ||
        shape->cols > INT32_MAX - PR_GPU_PADDED_COLS)
        return pr_fail(
            PR_ERR_ARGUMENT, "a matrix of %lld rows, %lld columns in %d slices makes no sense",
            (long long)shape->rows, (long long)shape->cols, shape->slices);
    for (int32_t s = 1; s < shape->slices; s++) {
        if (becomes_bf16(shape->dtype, shape->quantization) &&
            shape->cols * s / shape->slices % SLICE_COLS != 0)
            return pr_fail(
                PR_ERR_UNSUPPORTED,
                "%lld columns in %d slices do not fit the tiles of a %s device: use --dtype "
                "float32, a smaller tp, or --device cpu",
                (long long)shape->cols, shape->slices, device->name);
    }
    return PR_OK;
}

// ---- Packing ---------------------------------------------------------------------------------

// Rows on their way through one stage.
typedef struct pack_work {
    const pr_matrix_source *source;
    bool is_bf16;
    int64_t stride;       // elements of a row on the device
    int64_t first, rows;  // of the source's part, in this stage
    int64_t task_rows;
    char *stage;
    char *scratch;  // [threads][scratch_bytes], if the source has a reader
    size_t scratch_bytes;
    atomic_bool failed;
} pack_work;

static void
pack_row(const pr_matrix_source *source, const char *stored, bool is_bf16, int64_t stride, char *to)
{
    size_t cols = (size_t)(source->col_end - source->col_begin), element = is_bf16 ? 2 : 4;
    if (is_bf16 || source->dtype == PR_F32) {
        memcpy(to, stored, cols * element);
    } else {
        float *wide = (float *)(void *)to;
        for (size_t i = 0; i < cols; i++)
            wide[i] = pr_dtype_load(source->dtype, stored, i);
    }
    memset(to + cols * element, 0, ((size_t)stride - cols) * element);
}

static void pack_rows(void *context, int64_t task, int32_t thread)
{
    pack_work *work = context;
    const pr_matrix_source *source = work->source;
    int64_t begin = task * work->task_rows, end = begin + work->task_rows;
    end = end < work->rows ? end : work->rows;
    size_t element = pr_dtype_bytes(source->dtype), row_bytes = (size_t)source->stride * element;
    const char *stored = (const char *)source->data +
                         (size_t)(source->row_begin + work->first + begin) * row_bytes +
                         (size_t)source->col_begin * element;
    if (source->reader) {
        char *scratch = work->scratch + (size_t)thread * work->scratch_bytes;
        size_t size_bytes = (size_t)(end - begin - 1) * row_bytes +
                            (size_t)(source->col_end - source->col_begin) * element;
        if (!source->reader->read(source->reader->context, stored, scratch, size_bytes)) {
            atomic_store(&work->failed, true);
            return;
        }
        stored = scratch;
    }
    size_t packed_row = (size_t)work->stride * (work->is_bf16 ? 2 : 4);
    for (int64_t i = begin; i < end; i++)
        pack_row(
            source, stored + (size_t)(i - begin) * row_bytes, work->is_bf16, work->stride,
            work->stage + (size_t)i * packed_row);
}

static pr_status reserve_scratch(pr_device *device, size_t size_bytes)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    if (size_bytes <= state->scratch_bytes)
        return PR_OK;
    free(state->scratch);
    state->scratch_bytes = 0;
    state->scratch = malloc((size_t)device->threads * size_bytes);
    if (!state->scratch)
        return pr_fail(PR_ERR_RESOURCE, "no memory left to read %zu bytes", size_bytes);
    state->scratch_bytes = size_bytes;
    return PR_OK;
}

// The source's part to rows of `stride` elements at `to`.
static pr_status
send_rows(pr_device *device, const pr_matrix_source *source, int64_t stride, char *to)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pack_work work = {
        .source = source,
        .is_bf16 = becomes_bf16(source->dtype, source->quantization),
        .stride = stride,
    };
    int64_t rows = source->row_end - source->row_begin;
    size_t packed_row = (size_t)stride * (work.is_bf16 ? 2 : 4);
    size_t row_bytes = (size_t)source->stride * pr_dtype_bytes(source->dtype);
    int64_t at_once = packed_row > 0 ? (int64_t)(PR_GPU_STAGE_BYTES / packed_row) : 0;
    if (rows == 0 || stride == 0)
        return PR_OK;
    if (at_once == 0)
        return pr_fail(
            PR_ERR_UNSUPPORTED, "a matrix with rows of %zu bytes is too wide", packed_row);
    work.task_rows = row_bytes < TASK_BYTES ? (int64_t)(TASK_BYTES / row_bytes) : 1;
    if (source->reader) {
        PR_TRY(reserve_scratch(device, (size_t)work.task_rows * row_bytes));
        work.scratch = state->scratch;
        work.scratch_bytes = state->scratch_bytes;
    }
    state->last = "loading";
    for (; work.first < rows; work.first += work.rows) {
        pr_gpu_stage *stage;
        work.rows = rows - work.first < at_once ? rows - work.first : at_once;
        PR_TRY(pr_gpu_stage_begin(state, &stage));
        work.stage = stage->memory;
        pr_cpu_team_run(
            state->team, pack_rows, &work, (work.rows + work.task_rows - 1) / work.task_rows);
        if (atomic_load(&work.failed))
            return PR_ERR_IO;
        PR_TRY(pr_gpu_stage_send(
            state, stage, to + (size_t)work.first * packed_row, (size_t)work.rows * packed_row));
    }
    return PR_OK;
}

// ---- Matrices and stacks ---------------------------------------------------------------------

static bool same_shape(const pr_packed_shape *a, const pr_packed_shape *b)
{
    return a->rows == b->rows && a->cols == b->cols && a->slices == b->slices &&
           a->dtype == b->dtype && a->quantization == b->quantization;
}

// *to: its rows, in memory of its own or the stack's.
static pr_status
take_place(pr_device *device, const pr_matrix_source *source, pr_matrix *made, char **to)
{
    const pr_packed_shape shape = pr_packed_shape_of(source);
    const pr_matrix_stack *stack = source->stack;
    if (!stack) {
        PR_TRY(device->memory_take(device, packed_bytes(&shape), &made->memory));
        *to = made->memory;
        return PR_OK;
    }
    if (!same_shape(&stack->shape, &shape) || source->stack_place < 0 ||
        source->stack_place >= stack->count)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "the experts of a layer have matrices of different types: use --device cpu");
    *to = stack->memory + (size_t)source->stack_place * packed_bytes(&shape);
    return PR_OK;
}

static void matrix_destroy(pr_device *device, pr_matrix *matrix)
{
    if (!matrix)
        return;
    device->memory_release(device, matrix->memory);
    free(matrix);
}

static pr_status
matrix_create(pr_device *device, const pr_matrix_source *source, pr_matrix **matrix)
{
    const pr_packed_shape shape = pr_packed_shape_of(source);
    PR_TRY(check_shape(device, &shape));
    pr_matrix *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for a matrix");
    made->weights = (pr_gpu_weights){
        .is_bf16 = becomes_bf16(shape.dtype, shape.quantization),
        .rows = (int32_t)shape.rows,
        .cols = (int32_t)shape.cols,
        .stride = (int32_t)round_up(shape.cols, PR_GPU_PADDED_COLS),
        .slices = shape.slices,
    };
    char *to = NULL;
    pr_status status = take_place(device, source, made, &to);
    if (status == PR_OK) {
        made->weights.data = to;
        status = send_rows(device, source, made->weights.stride, to);
    }
    if (status != PR_OK) {
        matrix_destroy(device, made);
        return status;
    }
    *matrix = made;
    return PR_OK;
}

static pr_status stack_create(
    pr_device *device, const pr_packed_shape *shape, int32_t count, pr_matrix_stack **stack)
{
    PR_TRY(check_shape(device, shape));
    pr_matrix_stack *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for %d matrices", count);
    *made = (pr_matrix_stack){.shape = *shape, .count = count};
    void *memory;
    pr_status status = device->memory_take(device, (size_t)count * packed_bytes(shape), &memory);
    if (status != PR_OK) {
        free(made);
        return status;
    }
    made->memory = memory;
    *stack = made;
    return PR_OK;
}

static void stack_destroy(pr_device *device, pr_matrix_stack *stack)
{
    device->memory_release(device, stack->memory);
    free(stack);
}

// ---- Tables ----------------------------------------------------------------------------------

static pr_status
table_create(pr_device *device, const pr_matrix_source *source, const void **table, pr_dtype *dtype)
{
    bool is_bf16 = becomes_bf16(source->dtype, source->quantization);
    int64_t rows = source->row_end - source->row_begin, cols = source->col_end - source->col_begin;
    void *memory;
    PR_TRY(device->memory_take(device, (size_t)rows * (size_t)cols * (is_bf16 ? 2 : 4), &memory));
    pr_status status = send_rows(device, source, cols, memory);
    if (status != PR_OK) {
        device->memory_release(device, memory);
        return status;
    }
    *table = memory;
    *dtype = is_bf16 ? PR_BF16 : PR_F32;
    return PR_OK;
}

static void table_destroy(pr_device *device, const void *table)
{
    device->memory_release(device, (void *)(uintptr_t)table);
}

void pr_gpu_matrix_fill(pr_device *device)
{
    device->matrix_create = matrix_create;
    device->matrix_destroy = matrix_destroy;
    device->stack_create = stack_create;
    device->stack_destroy = stack_destroy;
    device->table_create = table_create;
    device->table_destroy = table_destroy;
    device->packed_bytes = packed_bytes;
    device->matrix_bytes = matrix_bytes;
}
