// SPDX-License-Identifier: BSD-3-Clause
// Products with bfloat16 weights: few rows are held against the copy (each weight is read once), many against dense
// matmul; so are grouped products of experts.
#include <stdlib.h>

#include "benchmarks/gpu/cases/gpu_cases.h"
#include "runtime/base/log.h"

enum { ROW_MULTIPLE = 128, COLUMN_MULTIPLE = 64 };

typedef struct matmul_shape {
    int32_t rows, outputs, cols, slices;
    bool many;  // rows: arithmetic is the limit
} matmul_shape;

static const matmul_shape matmul_full[] = {
    {1, 14336, 4096, 1, false},   {8, 14336, 4096, 1, false},   {64, 14336, 4096, 1, false},
    {1, 4096, 14336, 8, false},   {1, 128256, 4096, 1, false},  {256, 14336, 4096, 1, true},
    {4096, 14336, 4096, 1, true}, {4096, 4096, 14336, 8, true}, {8192, 8192, 8192, 1, true},
};
static const matmul_shape matmul_small[] = {
    {1, 130, 64, 1, false}, {3, 64, 70, 1, false},  {5, 64, 64, 1, false},
    {1, 64, 256, 8, false}, {1, 257, 32, 1, false}, {17, 64, 64, 1, true},
    {33, 130, 64, 1, true}, {16, 64, 128, 8, true}, {64, 64, 64, 1, true},
};
enum { MATMULS = sizeof matmul_full / sizeof *matmul_full };

typedef struct experts_shape {
    int32_t experts, hidden, inner, rows_of_each;
    bool many;
} experts_shape;

static const experts_shape experts_full[] = {
    {128, 2048, 768, 1, false},  {128, 2048, 768, 16, false}, {32, 7168, 2048, 16, false},
    {128, 2048, 768, 256, true}, {8, 4096, 14336, 256, true}, {32, 7168, 2048, 256, true},
};
static const experts_shape experts_small[] = {
    {4, 64, 32, 1, false}, {3, 32, 64, 2, false}, {2, 64, 48, 5, false},
    {4, 64, 32, 17, true}, {2, 64, 64, 16, true}, {2, 32, 32, 3, true},
};
enum { EXPERTS = sizeof experts_full / sizeof *experts_full };
static const double FEW_TARGET = 0.75, MANY_TARGET = 0.65;

static int32_t padded(int32_t count, int32_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

static pr_status take_scratch(pr_gpu_meter *meter, size_t size_bytes, void **scratch)
{
    float *floats;
    PR_TRY(pr_gpu_meter_floats(meter, (int64_t)(size_bytes / sizeof(float)) + 1, &floats));
    *scratch = floats;
    return PR_OK;
}

// ---- One product ----

typedef struct matmul_case {
    pr_gpu_meter *meter;
    pr_gpu_matmul_args args;
    int64_t weights_bytes;  // of one copy
} matmul_case;

static void launch_matmul(void *context, int32_t copy)
{
    matmul_case *c = context;
    pr_gpu_matmul_args args = c->args;
    args.weights.data = (const char *)args.weights.data + copy * c->weights_bytes;
    c->meter->backend->operations->matmul(c->meter->stream, &args, 1);
}

static pr_status take_matmul(matmul_case *c, const matmul_shape *shape, int32_t copies)
{
    int32_t stride = padded(shape->cols, COLUMN_MULTIPLE);
    int64_t elements = (int64_t)padded(shape->outputs, ROW_MULTIPLE) * stride;
    void *weights;
    float *x, *y;
    c->weights_bytes = elements * (int64_t)sizeof(uint16_t);
    PR_TRY(pr_gpu_meter_bf16(c->meter, elements * copies, &weights));
    PR_TRY(pr_gpu_meter_floats(c->meter, (int64_t)shape->rows * shape->cols, &x));
    PR_TRY(pr_gpu_meter_floats(c->meter, (int64_t)shape->rows * shape->outputs, &y));
    c->args = (pr_gpu_matmul_args){
        .rows = shape->rows,
        .x = x,
        .weights =
            {
                .data = weights,
                .is_bf16 = true,
                .rows = shape->outputs,
                .cols = shape->cols,
                .stride = stride,
                .slices = shape->slices,
            },
        .y = y,
    };
    return take_scratch(
        c->meter, c->meter->backend->operations->matmul_scratch_bytes(shape->rows, shape->cols),
        &c->args.scratch);
}

static pr_status run_matmul(pr_gpu_meter *meter, const matmul_shape *shape)
{
    matmul_case c = {.meter = meter};
    char name[96];
    double seconds, rows = shape->rows, weights = (double)shape->outputs * shape->cols;
    snprintf(
        name, sizeof name, "matmul %d x %d x %d%s", shape->rows, shape->outputs, shape->cols,
        shape->slices > 1 ? ", slices" : "");
    if (!pr_gpu_meter_wants(meter, name))
        return PR_OK;
    double bytes =
        weights * sizeof(uint16_t) + rows * (shape->cols + shape->outputs) * sizeof(float);
    int32_t copies = pr_gpu_meter_copies(meter, bytes);
    PR_TRY(take_matmul(&c, shape, copies));
    pr_gpu_meter_work work = {.launch = launch_matmul, .context = &c, .copies = copies};
    PR_TRY(pr_gpu_meter_time(meter, &work, &seconds));
    if (shape->many) {
        pr_gpu_meter_row row = {.name = name, .seconds = seconds};
        pr_gpu_meter_arithmetic(meter, &row, 2 * rows * weights);
    } else {
        pr_gpu_meter_bandwidth(meter, name, bytes, seconds, 0);
    }
    pr_gpu_meter_release(meter);
    return PR_OK;
}

// ---- Experts ----

typedef struct experts_case {
    pr_gpu_meter *meter;
    pr_gpu_experts_args args;
    int64_t gate_bytes, down_bytes;  // of one copy
} experts_case;

static void launch_experts(void *context, int32_t copy)
{
    experts_case *c = context;
    pr_gpu_experts_args args = c->args;
    args.gate = (const char *)args.gate + copy * c->gate_bytes;
    args.up = (const char *)args.up + copy * c->gate_bytes;
    args.down = (const char *)args.down + copy * c->down_bytes;
    c->meter->backend->operations->experts(c->meter->stream, &args);
}

static pr_status take_count(experts_case *c, const experts_shape *shape)
{
    int32_t *count = malloc(sizeof *count * (size_t)shape->experts);
    void *taken = NULL;
    if (!count)
        return pr_fail(PR_ERR_RESOURCE, "no host memory for %d counts", shape->experts);
    for (int32_t e = 0; e < shape->experts; e++)
        count[e] = shape->rows_of_each;
    pr_status status =
        pr_gpu_meter_put(c->meter, count, sizeof *count * (size_t)shape->experts, &taken);
    c->args.count = taken;
    free(count);
    return status;
}

static pr_status take_experts(experts_case *c, const experts_shape *shape, int32_t copies)
{
    pr_gpu_experts_args *args = &c->args;
    int32_t most_rows = shape->experts * shape->rows_of_each;
    *args = (pr_gpu_experts_args){
        .experts = shape->experts,
        .most_rows = most_rows,
        .is_bf16 = true,
        .hidden = shape->hidden,
        .inner = shape->inner,
        .hidden_padded = padded(shape->hidden, COLUMN_MULTIPLE),
        .inner_padded = padded(shape->inner, COLUMN_MULTIPLE),
    };
    int64_t gate =
        (int64_t)shape->experts * padded(shape->inner, ROW_MULTIPLE) * args->hidden_padded;
    int64_t down =
        (int64_t)shape->experts * padded(shape->hidden, ROW_MULTIPLE) * args->inner_padded;
    c->gate_bytes = gate * (int64_t)sizeof(uint16_t);
    c->down_bytes = down * (int64_t)sizeof(uint16_t);
    void *gate_weights, *up_weights, *down_weights;
    float *x, *y;
    PR_TRY(take_count(c, shape));
    PR_TRY(pr_gpu_meter_bf16(c->meter, gate * copies, &gate_weights));
    PR_TRY(pr_gpu_meter_bf16(c->meter, gate * copies, &up_weights));
    PR_TRY(pr_gpu_meter_bf16(c->meter, down * copies, &down_weights));
    PR_TRY(pr_gpu_meter_floats(c->meter, (int64_t)most_rows * shape->hidden, &x));
    PR_TRY(pr_gpu_meter_floats(c->meter, (int64_t)most_rows * shape->hidden, &y));
    PR_TRY(take_scratch(
        c->meter, c->meter->backend->operations->experts_scratch_bytes(args), &args->scratch));
    args->gate = gate_weights;
    args->up = up_weights;
    args->down = down_weights;
    args->x = x;
    args->y = y;
    return PR_OK;
}

static pr_status run_experts(pr_gpu_meter *meter, const experts_shape *shape)
{
    experts_case c = {.meter = meter};
    char name[96];
    double seconds, rows = (double)shape->experts * shape->rows_of_each;
    double weights = 3.0 * shape->hidden * shape->inner;
    snprintf(
        name, sizeof name, "experts %d x %d rows, H %d, I %d", shape->experts, shape->rows_of_each,
        shape->hidden, shape->inner);
    if (!pr_gpu_meter_wants(meter, name))
        return PR_OK;
    // The inner rows between the two halves stay out: they need not go through memory.
    double bytes =
        shape->experts * weights * sizeof(uint16_t) + rows * 2 * shape->hidden * sizeof(float);
    int32_t copies = pr_gpu_meter_copies(meter, bytes);
    PR_TRY(take_experts(&c, shape, copies));
    pr_gpu_meter_work work = {.launch = launch_experts, .context = &c, .copies = copies};
    PR_TRY(pr_gpu_meter_time(meter, &work, &seconds));
    if (shape->many) {
        pr_gpu_meter_row row = {.name = name, .seconds = seconds, .target_fraction = MANY_TARGET};
        pr_gpu_meter_arithmetic(meter, &row, 2 * rows * weights);
    } else {
        pr_gpu_meter_bandwidth(meter, name, bytes, seconds, FEW_TARGET);
    }
    pr_gpu_meter_release(meter);
    return PR_OK;
}

pr_status pr_matrix_cases_run(pr_gpu_meter *meter)
{
    for (int32_t i = 0; i < MATMULS; i++)
        PR_TRY(run_matmul(meter, meter->small ? &matmul_small[i] : &matmul_full[i]));
    for (int32_t i = 0; i < EXPERTS; i++)
        PR_TRY(run_experts(meter, meter->small ? &experts_small[i] : &experts_full[i]));
    return PR_OK;
}
