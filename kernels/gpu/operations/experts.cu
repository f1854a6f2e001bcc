// SPDX-License-Identifier: BSD-3-Clause
// Gated MLPs of experts: y = down(silu(gate(x)) * up(x)), rows sorted by expert, their counts known on the device only.
//
//   plan    each block: prefix sums of the counts; the units of work of expert e are [first_unit[e], first_unit[e + 1])
//   few     experts of 1 to 16 rows: weights stream (matmul_stream.cuh)      unit = the expert's rows
//   many    the others: tensor cores by blocks (matmul_block.cuh)            unit = BM of the expert's rows
//   plain   float32 weights (matmul_plain.cuh)                               unit = 16 of the expert's rows
//
// A block takes every gpu_blocks()-th (unit, group of columns), so only what is there is walked. Gate and up are made by
// one block, tile beside tile, and leave as one row of bfloat16, which is what down takes. A row has the bits that
// pr_gpu_matmul, pr_gpu_gated and pr_gpu_matmul give it.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/matrix/gated.cuh"
#include "kernels/gpu/matrix/matmul_block.cuh"
#include "kernels/gpu/matrix/matmul_plain.cuh"
#include "kernels/gpu/matrix/matmul_round.cuh"
#include "kernels/gpu/matrix/matmul_stream.cuh"

enum { EXPERTS_BLOCKS = 1024 };

struct experts_launch {
    int experts, hidden, inner, hidden_padded, inner_padded;
    int64_t in_stride, down_stride;  // elements from expert to expert
    const int32_t *count, *row_of;
    const float *x;
    const void *gate, *up, *down;
    gpu_bf16 *rounded;  // [n][hidden_padded]
    void *inside;       // [n][inner_padded] bfloat16, or [n][inner] float32
    float *y;
    int least, most, unit_rows,
        groups;  // which experts, by their count; rows of a unit; groups of columns
};

// Before the other shared memory; the arrays have experts + 1 numbers, one after the other.
struct experts_plan {
    int *first_row, *first_unit;
};
struct experts_task {
    int expert, first_row, end_row, group;
};

GPU_FUNCTION int experts_units(const experts_launch &args, int count)
{
    return count > args.least && count <= args.most ? (count + args.unit_rows - 1) / args.unit_rows
                                                    : 0;
}

GPU_FUNCTION void experts_plan_warp(const experts_plan &plan, const experts_launch &args)
{
    int rows = 0, units = 0, lane = gpu_lane();
    for (int base = 0; base < args.experts; base += GPU_WARP) {
        int expert = base + lane;
        int count = expert < args.experts ? args.count[expert] : 0,
            own = experts_units(args, count);
        int row = count, unit = own;
        for (int distance = 1; distance < GPU_WARP; distance *= 2) {
            int other_row = gpu_shuffle_up(row, distance),
                other_unit = gpu_shuffle_up(unit, distance);
            row += lane < distance ? 0 : other_row;
            unit += lane < distance ? 0 : other_unit;
        }
        if (expert < args.experts) {
            plan.first_row[expert] = rows + row - count;
            plan.first_unit[expert] = units + unit - own;
        }
        rows += gpu_shuffle(row, GPU_WARP - 1);
        units += gpu_shuffle(unit, GPU_WARP - 1);
    }
    if (lane == 0) {
        plan.first_row[args.experts] = rows;
        plan.first_unit[args.experts] = units;
    }
}

// The plan lies after T in shared memory.
template <class T>
GPU_FUNCTION experts_plan experts_plan_make(T &shared, const experts_launch &args)
{
    int *after = reinterpret_cast<int *>(&shared + 1);
    experts_plan plan = {after, after + args.experts + 1};
    if (gpu_warp() == 0)
        experts_plan_warp(plan, args);
    gpu_barrier();
    return plan;
}

GPU_FUNCTION int experts_tasks(const experts_plan &plan, const experts_launch &args)
{
    return plan.first_unit[args.experts] * args.groups;
}

GPU_FUNCTION experts_task
experts_task_of(const experts_plan &plan, const experts_launch &args, int task)
{
    int unit = task / args.groups, low = 0, high = args.experts;
    while (
        high - low >
        1) {  // the last expert that begins at or before the unit: those without units end there too
        int middle = (low + high) / 2;
        if (plan.first_unit[middle] <= unit)
            low = middle;
        else
            high = middle;
    }
    int first = plan.first_row[low] + (unit - plan.first_unit[low]) * args.unit_rows;
    int end = first + args.unit_rows < plan.first_row[low + 1] ? first + args.unit_rows
                                                               : plan.first_row[low + 1];
    return experts_task{low, first, end, task % args.groups};
}

GPU_FUNCTION int experts_source_row(const experts_launch &args, int row)
{
    return args.row_of ? args.row_of[row] : row;
}

// Past the end of the unit its last row again, whose sums are not kept.
GPU_FUNCTION int experts_row(const experts_task &task, int row)
{
    return row < task.end_row ? row : task.end_row - 1;
}

// ---- Few rows ----

template <int WIDE> GPU_KERNEL_OF(STREAM_THREADS) void experts_few_in(experts_launch args)
{
    enum { HALF = WIDE / 2 };  // tiles of gate, then as many of up
    stream_shared &shared = gpu_shared<stream_shared>();
    experts_plan plan = experts_plan_make(shared, args);
    for (int at = gpu_block(); at < experts_tasks(plan, args); at += gpu_blocks()) {
        experts_task task = experts_task_of(plan, args, at);
        stream_floats x;
        GPU_UNROLL
        for (int i = 0; i < GPU_TILE_A_ROWS; i++) {
            int row = experts_row(task, task.first_row + gpu_tile_a_row(i));
            x.row[i] = args.x + (int64_t)experts_source_row(args, row) * args.hidden;
        }
        x.paired = args.hidden % 2 == 0;
        int tile = gpu_warp() % WIDE, first_column = task.group * HALF * GPU_TILE;
        const void *matrix = tile < HALF ? args.gate : args.up;
        int64_t from = task.expert * args.in_stride +
                       (int64_t)(first_column + tile % HALF * GPU_TILE) * args.hidden_padded;
        stream_weights weights = {
            static_cast<const gpu_bf16 *>(matrix) + from, args.hidden_padded, args.hidden, 1};
        matmul_sums<WIDE, false> sums;
        stream_product(shared, x, weights, sums);
        int row = task.first_row + gpu_thread() / GPU_TILE;
        GPU_UNROLL
        for (int i = 0; i < HALF; i++) {
            int column = first_column + i * GPU_TILE + gpu_thread() % GPU_TILE;
            if (row < task.end_row && column < args.inner_padded)
                static_cast<gpu_bf16 *>(args.inside)[(int64_t)row * args.inner_padded + column] =
                    gpu_to_bf16(gated_value(sums.value[i], sums.value[i + HALF]));
        }
    }
}

template <int WIDE> GPU_KERNEL_OF(STREAM_THREADS) void experts_few_down(experts_launch args)
{
    stream_shared &shared = gpu_shared<stream_shared>();
    experts_plan plan = experts_plan_make(shared, args);
    for (int at = gpu_block(); at < experts_tasks(plan, args); at += gpu_blocks()) {
        experts_task task = experts_task_of(plan, args, at);
        stream_rounded x;
        GPU_UNROLL
        for (int i = 0; i < GPU_TILE_A_ROWS; i++) {
            int row = experts_row(task, task.first_row + gpu_tile_a_row(i));
            x.row[i] =
                static_cast<const gpu_bf16 *>(args.inside) + (int64_t)row * args.inner_padded;
        }
        int first_column = task.group * WIDE * GPU_TILE;
        int64_t from = task.expert * args.down_stride +
                       (int64_t)(first_column + gpu_warp() % WIDE * GPU_TILE) * args.inner_padded;
        stream_weights weights = {
            static_cast<const gpu_bf16 *>(args.down) + from, args.inner_padded, args.inner, 1};
        matmul_sums<WIDE, false> sums;
        stream_product(shared, x, weights, sums);
        int row = task.first_row + gpu_thread() / GPU_TILE;
        GPU_UNROLL
        for (int i = 0; i < WIDE; i++) {
            int column = first_column + i * GPU_TILE + gpu_thread() % GPU_TILE;
            if (row < task.end_row && column < args.hidden)
                args.y[(int64_t)row * args.hidden + column] = sums.value[i];
        }
    }
}

// ---- Many rows ----

// Rows of a block's ring.
template <class S>
GPU_FUNCTION void
experts_rows_of(block_source<S> &source, const experts_task &task, const gpu_bf16 *rows, int stride)
{
    GPU_UNROLL
    for (int i = 0; i < S::COPIES_M; i++) {
        int row = experts_row(task, task.first_row + block_row<S>(i));
        source.x[i] = rows + (int64_t)row * stride + block_piece<S>();
    }
}

// Columns of the block's ring: 16 of gate and the same 16 of up by turns, so both sums of an output are in one thread.
template <class S> GPU_KERNEL_OF(BLOCK_THREADS) void experts_many_in(experts_launch args)
{
    static_assert(S::TILES_N % 2 == 0, "gate beside up");
    block_shared<S> &shared = gpu_shared<block_shared<S>>();
    experts_plan plan = experts_plan_make(shared, args);
    for (int at = gpu_block(); at < experts_tasks(plan, args); at += gpu_blocks()) {
        experts_task task = experts_task_of(plan, args, at);
        int first_column = task.group * S::BN / 2;
        block_source<S> source = {{}, {}, args.hidden, 1};
        experts_rows_of<S>(source, task, args.rounded, args.hidden_padded);
        GPU_UNROLL
        for (int i = 0; i < S::COPIES_N; i++) {
            int ring = block_row<S>(i),
                column = first_column + ring / 32 * GPU_TILE + ring % GPU_TILE;
            const void *matrix = ring / GPU_TILE % 2 ? args.up : args.gate;
            source.weights[i] = static_cast<const gpu_bf16 *>(matrix) +
                                task.expert * args.in_stride +
                                (int64_t)column * args.hidden_padded + block_piece<S>();
        }
        typename S::sums sums;
        block_product<S>(shared, source, sums);
        GPU_UNROLL
        for (int i = 0; i < S::VALUES; i++) {
            if (i / GPU_TILE_VALUES % 2)
                continue;  // up: taken with its gate
            int ring = block_value_column<S>(i), row = task.first_row + block_value_row<S>(i);
            int column = first_column + ring / 32 * GPU_TILE + ring % GPU_TILE;
            if (row < task.end_row && column < args.inner_padded)
                static_cast<gpu_bf16 *>(args.inside)[(int64_t)row * args.inner_padded + column] =
                    gpu_to_bf16(gated_value(sums.value[i], sums.value[i + GPU_TILE_VALUES]));
        }
    }
}

template <class S> GPU_KERNEL_OF(BLOCK_THREADS) void experts_many_down(experts_launch args)
{
    block_shared<S> &shared = gpu_shared<block_shared<S>>();
    experts_plan plan = experts_plan_make(shared, args);
    for (int at = gpu_block(); at < experts_tasks(plan, args); at += gpu_blocks()) {
        experts_task task = experts_task_of(plan, args, at);
        int first_column = task.group * S::BN;
        block_source<S> source = {{}, {}, args.inner, 1};
        experts_rows_of<S>(
            source, task, static_cast<const gpu_bf16 *>(args.inside), args.inner_padded);
        GPU_UNROLL
        for (int i = 0; i < S::COPIES_N; i++)
            source.weights[i] =
                static_cast<const gpu_bf16 *>(args.down) + task.expert * args.down_stride +
                (int64_t)(first_column + block_row<S>(i)) * args.inner_padded + block_piece<S>();
        typename S::sums sums;
        block_product<S>(shared, source, sums);
        GPU_UNROLL
        for (int i = 0; i < S::VALUES; i++) {
            int row = task.first_row + block_value_row<S>(i),
                column = first_column + block_value_column<S>(i);
            if (row < task.end_row && column < args.hidden)
                args.y[(int64_t)row * args.hidden + column] = sums.value[i];
        }
    }
}

// ---- float32 ----

GPU_FUNCTION const float *
experts_plain_weights(const void *matrix, int64_t from, int column, int columns, int stride)
{
    return column < columns ? static_cast<const float *>(matrix) + from + (int64_t)column * stride
                            : nullptr;
}

GPU_KERNEL void experts_plain_in(experts_launch args)
{
    plain_shared &shared = gpu_shared<plain_shared>();
    experts_plan plan = experts_plan_make(shared, args);
    for (int at = gpu_block(); at < experts_tasks(plan, args); at += gpu_blocks()) {
        experts_task task = experts_task_of(plan, args, at);
        int side = gpu_thread() / PLAIN_SIDE, row = task.first_row + side;
        int64_t from = task.expert * args.in_stride;
        int first_column = task.group * PLAIN_SIDE,
            column = first_column + gpu_thread() % PLAIN_SIDE;
        plain_source source = {nullptr, nullptr, args.hidden, 1};
        if (row < task.end_row)
            source.x = args.x + (int64_t)experts_source_row(args, row) * args.hidden;
        source.weights = experts_plain_weights(
            args.gate, from, first_column + side, args.inner, args.hidden_padded);
        float gate = plain_product(shared, source);
        source.weights = experts_plain_weights(
            args.up, from, first_column + side, args.inner, args.hidden_padded);
        float up = plain_product(shared, source);
        if (row < task.end_row && column < args.inner)
            static_cast<float *>(args.inside)[(int64_t)row * args.inner + column] =
                gated_value(gate, up);
    }
}

GPU_KERNEL void experts_plain_down(experts_launch args)
{
    plain_shared &shared = gpu_shared<plain_shared>();
    experts_plan plan = experts_plan_make(shared, args);
    for (int at = gpu_block(); at < experts_tasks(plan, args); at += gpu_blocks()) {
        experts_task task = experts_task_of(plan, args, at);
        int side = gpu_thread() / PLAIN_SIDE, row = task.first_row + side;
        int first_column = task.group * PLAIN_SIDE,
            column = first_column + gpu_thread() % PLAIN_SIDE;
        plain_source source = {nullptr, nullptr, args.inner, 1};
        if (row < task.end_row)
            source.x = static_cast<const float *>(args.inside) + (int64_t)row * args.inner;
        source.weights = experts_plain_weights(
            args.down, task.expert * args.down_stride, first_column + side, args.hidden,
            args.inner_padded);
        float value = plain_product(shared, source);
        if (row < task.end_row && column < args.hidden)
            args.y[(int64_t)row * args.hidden + column] = value;
    }
}

// ---- Host ----

typedef void (*experts_kernel)(experts_launch);

static int experts_groups(int columns, int wide) { return (columns + wide - 1) / wide; }

// Experts of more than `least` and at most `most` rows, in units of unit_rows, columns in groups.
static void experts_run(
    pr_gpu_stream *stream,
    experts_kernel kernel,
    experts_launch launch,
    int most_rows,
    size_t shared_bytes)
{
    int64_t busy = most_rows / (launch.least + 1), experts = launch.experts;
    int64_t units = most_rows / launch.unit_rows + (busy < experts ? busy : experts);
    int64_t tasks = units * launch.groups, most = EXPERTS_BLOCKS;
    unsigned blocks = (unsigned)(tasks < most ? tasks : most);
    unsigned plan_bytes = (unsigned)(2 * (launch.experts + 1)) * (unsigned)sizeof(int);
    if (blocks > 0)
        gpu_launch(
            kernel, gpu_grid{blocks, 1, 1}, STREAM_THREADS, (unsigned)shared_bytes + plan_bytes,
            stream, launch);
}

static experts_kernel experts_few_in_of(int wide)
{
    if (wide >= 8)
        return experts_few_in<STREAM_WARPS>;
    return wide >= 4 ? experts_few_in<4> : experts_few_in<2>;
}

static experts_kernel experts_few_down_of(int wide)
{
    if (wide >= 8)
        return experts_few_down<STREAM_WARPS>;
    return wide >= 4 ? experts_few_down<4> : wide >= 2 ? experts_few_down<2> : experts_few_down<1>;
}

static void experts_few(pr_gpu_stream *stream, experts_launch launch, int most_rows)
{
    int busy = most_rows < launch.experts ? most_rows : launch.experts, rows = most_rows / busy;
    launch.least = 0;
    launch.most = launch.unit_rows = STREAM_ROWS;
    int64_t tiles = (int64_t)busy * 2 * experts_groups(launch.inner_padded, GPU_TILE);
    int wide = stream_wide(tiles, rows, matmul_spans(launch.hidden, 1));
    wide = wide < 2 ? 2 : wide;
    launch.groups = experts_groups(launch.inner_padded, wide / 2 * GPU_TILE);
    experts_run(stream, experts_few_in_of(wide), launch, most_rows, sizeof(stream_shared));
    tiles = (int64_t)busy * experts_groups(launch.hidden, GPU_TILE);
    wide = stream_wide(tiles, rows, matmul_spans(launch.inner, 1));
    launch.groups = experts_groups(launch.hidden, wide * GPU_TILE);
    experts_run(stream, experts_few_down_of(wide), launch, most_rows, sizeof(stream_shared));
}

template <class S>
static void experts_many(pr_gpu_stream *stream, experts_launch launch, int most_rows)
{
    launch.least = STREAM_ROWS;
    launch.most = most_rows;
    launch.unit_rows = S::BM;
    launch.groups = experts_groups(launch.inner_padded, S::BN / 2);
    experts_run(stream, experts_many_in<S>, launch, most_rows, sizeof(block_shared<S>));
    launch.groups = experts_groups(launch.hidden, S::BN);
    experts_run(stream, experts_many_down<S>, launch, most_rows, sizeof(block_shared<S>));
}

static void experts_plain(pr_gpu_stream *stream, experts_launch launch, int most_rows)
{
    launch.least = 0;
    launch.most = most_rows;
    launch.unit_rows = PLAIN_SIDE;
    launch.groups = experts_groups(launch.inner, PLAIN_SIDE);
    experts_run(stream, experts_plain_in, launch, most_rows, sizeof(plain_shared));
    launch.groups = experts_groups(launch.hidden, PLAIN_SIDE);
    experts_run(stream, experts_plain_down, launch, most_rows, sizeof(plain_shared));
}

// Scratch: what is inside the MLP, then the rounded rows.
static size_t experts_inside_bytes(const pr_gpu_experts_args *args)
{
    size_t row_bytes = args->is_bf16 ? (size_t)args->inner_padded * sizeof(gpu_bf16)
                                     : (size_t)args->inner * sizeof(float);
    return (size_t)args->most_rows * row_bytes;
}

size_t pr_gpu_experts_scratch_bytes(const pr_gpu_experts_args *args)
{
    size_t rounded =
        args->is_bf16 && args->most_rows > STREAM_ROWS ? (size_t)args->hidden_padded : 0;
    return experts_inside_bytes(args) + (size_t)args->most_rows * rounded * sizeof(gpu_bf16);
}

static int64_t experts_stride(int rows, int padded)
{
    return (int64_t)((rows + PR_GPU_PADDED_ROWS - 1) / PR_GPU_PADDED_ROWS) * PR_GPU_PADDED_ROWS *
           padded;
}

static experts_launch experts_launch_of(const pr_gpu_experts_args *args)
{
    experts_launch launch = {};
    launch.experts = args->experts;
    launch.hidden = args->hidden;
    launch.inner = args->inner;
    launch.hidden_padded = args->hidden_padded;
    launch.inner_padded = args->inner_padded;
    launch.in_stride = experts_stride(args->inner, args->hidden_padded);
    launch.down_stride = experts_stride(args->hidden, args->inner_padded);
    launch.count = args->count;
    launch.row_of = args->row_of;
    launch.x = args->x;
    launch.gate = args->gate;
    launch.up = args->up;
    launch.down = args->down;
    launch.inside = args->scratch;
    launch.rounded = reinterpret_cast<gpu_bf16 *>(
        static_cast<unsigned char *>(args->scratch) + experts_inside_bytes(args));
    launch.y = args->y;
    return launch;
}

void pr_gpu_experts(pr_gpu_stream *stream, const pr_gpu_experts_args *args)
{
    if (args->most_rows == 0 || args->experts == 0)
        return;
    experts_launch launch = experts_launch_of(args);
    if (!args->is_bf16) {
        experts_plain(stream, launch, args->most_rows);
        return;
    }
    experts_few(stream, launch, args->most_rows);
    if (args->most_rows <= STREAM_ROWS)
        return;
    round_launch(
        stream, round_args{
                    args->most_rows, args->count, args->experts, args->row_of, args->x,
                    args->hidden, args->hidden_padded, launch.rounded});
    if (args->most_rows / args->experts > 64)
        experts_many<block_shape<128, 128, 32, 2, false>>(stream, launch, args->most_rows);
    else
        experts_many<block_shape<64, 128, 32, 2, false>>(stream, launch, args->most_rows);
}
