// SPDX-License-Identifier: BSD-3-Clause
// y = x W^T + bias for up to three matrices that share their rows. Three ways with the same bits: few rows stream the
// weights (matmul_stream.cuh), many go by blocks on tensor cores (matmul_block.cuh) after their rows were rounded once
// (matmul_round.cuh); float32 weights go one output a thread (matmul_plain.cuh).
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/matrix/matmul_block.cuh"
#include "kernels/gpu/matrix/matmul_plain.cuh"
#include "kernels/gpu/matrix/matmul_round.cuh"
#include "kernels/gpu/matrix/matmul_stream.cuh"

// One matrix of a launch: its column blocks are [first, next product's first).
struct matmul_product {
    const void *weights;
    const float *bias;
    float *y;
    int columns, cols, stride, slices;  // N, K
    int first;
};

struct matmul_launch {
    int rows, count;
    const int32_t *rows_used;
    const float *x;           // [M][K]
    const gpu_bf16 *rounded;  // [M][padded]
    int padded;
    matmul_product product[PR_GPU_MATMUL_MOST];
};

GPU_FUNCTION int matmul_rows(const matmul_launch &args)
{
    return args.rows_used && *args.rows_used < args.rows ? *args.rows_used : args.rows;
}

GPU_FUNCTION matmul_product matmul_product_of(const matmul_launch &args, int block)
{
    matmul_product product = args.product[0];
    GPU_UNROLL
    for (int i = 1; i < PR_GPU_MATMUL_MOST; i++)
        if (i < args.count && block >= args.product[i].first)
            product = args.product[i];
    return product;
}

GPU_FUNCTION void matmul_put(const matmul_product &product, int row, int column, float value)
{
    if (product.bias)
        value += product.bias[column];
    product.y[(int64_t)row * product.columns + column] = value;
}

template <int WIDE, bool SLICED>
GPU_KERNEL_OF(STREAM_THREADS)
void matmul_stream(matmul_launch args)
{
    stream_shared &shared = gpu_shared<stream_shared>();
    int rows = matmul_rows(args), first_row = gpu_block_y() * STREAM_ROWS;
    if (first_row >= rows)
        return;
    matmul_product product = matmul_product_of(args, gpu_block());
    int first_column = (gpu_block() - product.first) * WIDE * GPU_TILE;
    stream_floats x;
    GPU_UNROLL
    for (int i = 0; i < GPU_TILE_A_ROWS; i++) {
        int row = first_row + gpu_tile_a_row(i);
        row = row < rows ? row : rows - 1;
        x.row[i] = args.x + (int64_t)row * product.cols;
    }
    x.paired = product.cols % 2 == 0;
    int column = first_column + gpu_warp() % WIDE * GPU_TILE;
    stream_weights weights = {
        static_cast<const gpu_bf16 *>(product.weights) + (int64_t)column * product.stride,
        product.stride, product.cols, product.slices};
    matmul_sums<WIDE, SLICED> sums;
    stream_product(shared, x, weights, sums);
    int row = first_row + gpu_thread() / GPU_TILE;
    GPU_UNROLL
    for (int i = 0; i < WIDE; i++) {
        int to = first_column + i * GPU_TILE + gpu_thread() % GPU_TILE;
        if (row < rows && to < product.columns)
            matmul_put(product, row, to, sums.value[i]);
    }
}

// Blocks next to each other in time share rows or columns: they go down MATMUL_DOWN of BM rows, then one of BN columns.
enum { MATMUL_DOWN = 8 };

template <class S> GPU_KERNEL_OF(BLOCK_THREADS) void matmul_block(matmul_launch args)
{
    block_shared<S> &shared = gpu_shared<block_shared<S>>();
    int rows = matmul_rows(args), columns = gpu_blocks(), down = (args.rows + S::BM - 1) / S::BM;
    int at = gpu_block() + gpu_block_y() * columns, group = at / (MATMUL_DOWN * columns);
    int in_group =
        down - group * MATMUL_DOWN < MATMUL_DOWN ? down - group * MATMUL_DOWN : MATMUL_DOWN;
    int place = at - group * MATMUL_DOWN * columns;
    int first_row = (group * MATMUL_DOWN + place % in_group) * S::BM;
    matmul_product product = matmul_product_of(args, place / in_group);
    int first_column = (place / in_group - product.first) * S::BN;
    if (first_row >= rows)
        return;
    block_source<S> source = {{}, {}, product.cols, product.slices};
    GPU_UNROLL
    for (int i = 0; i < S::COPIES_M; i++) {
        int row = first_row + block_row<S>(i);
        row = row < rows ? row : rows - 1;  // a row of this product again: its sums are not kept
        source.x[i] = args.rounded + (int64_t)row * args.padded + block_piece<S>();
    }
    GPU_UNROLL
    for (int i = 0; i < S::COPIES_N; i++)
        source.weights[i] = static_cast<const gpu_bf16 *>(product.weights) +
                            (int64_t)(first_column + block_row<S>(i)) * product.stride +
                            block_piece<S>();
    typename S::sums sums;
    block_product<S>(shared, source, sums);
    GPU_UNROLL
    for (int i = 0; i < S::VALUES; i++) {
        int row = first_row + block_value_row<S>(i),
            column = first_column + block_value_column<S>(i);
        if (row < rows && column < product.columns)
            matmul_put(product, row, column, sums.value[i]);
    }
}

GPU_KERNEL void matmul_plain(matmul_launch args)
{
    plain_shared &shared = gpu_shared<plain_shared>();
    int rows = matmul_rows(args), first_row = gpu_block_y() * PLAIN_SIDE;
    if (first_row >= rows)
        return;
    matmul_product product = matmul_product_of(args, gpu_block());
    int first_column = (gpu_block() - product.first) * PLAIN_SIDE, side = gpu_thread() / PLAIN_SIDE;
    plain_source source = {nullptr, nullptr, product.cols, product.slices};
    if (first_row + side < rows)
        source.x = args.x + (int64_t)(first_row + side) * product.cols;
    if (first_column + side < product.columns)
        source.weights = static_cast<const float *>(product.weights) +
                         (int64_t)(first_column + side) * product.stride;
    float value = plain_product(shared, source);
    int column = first_column + gpu_thread() % PLAIN_SIDE;
    if (first_row + side < rows && column < product.columns)
        matmul_put(product, first_row + side, column, value);
}

// ---- Host ----

// Divides the columns of all products into blocks of `wide`; how many there are.
static int matmul_divide(matmul_launch *launch, int wide)
{
    int blocks = 0;
    for (int i = 0; i < launch->count; i++) {
        launch->product[i].first = blocks;
        blocks += (launch->product[i].columns + wide - 1) / wide;
    }
    return blocks;
}

template <int WIDE, bool SLICED>
static void matmul_stream_run(pr_gpu_stream *stream, matmul_launch *launch)
{
    unsigned across = (unsigned)matmul_divide(launch, WIDE * GPU_TILE);
    unsigned down = (unsigned)((launch->rows + STREAM_ROWS - 1) / STREAM_ROWS);
    if (across > 0)
        gpu_launch(
            matmul_stream<WIDE, SLICED>, gpu_grid{across, down, 1}, STREAM_THREADS,
            sizeof(stream_shared), stream, *launch);
}

template <int WIDE, bool SLICED>
static void matmul_stream_wide(pr_gpu_stream *stream, matmul_launch *launch, int wide)
{
    if (wide == WIDE)
        matmul_stream_run<WIDE, SLICED>(stream, launch);
    else if constexpr (WIDE > 1)
        matmul_stream_wide<WIDE / 2, SLICED>(stream, launch, wide);
}

template <bool SLICED> static void matmul_few(pr_gpu_stream *stream, matmul_launch *launch)
{
    int tiles = matmul_divide(launch, GPU_TILE), spans = 1;
    for (int i = 0; i < launch->count; i++) {
        int own = matmul_spans(launch->product[i].cols, launch->product[i].slices);
        spans = own > spans ? own : spans;
    }
    matmul_stream_wide<STREAM_WARPS, SLICED>(
        stream, launch, stream_wide(tiles, launch->rows, spans));
}

template <class S> static void matmul_block_run(pr_gpu_stream *stream, matmul_launch *launch)
{
    unsigned across = (unsigned)matmul_divide(launch, S::BN);
    unsigned down = (unsigned)((launch->rows + S::BM - 1) / S::BM);
    if (across > 0)
        gpu_launch(
            matmul_block<S>, gpu_grid{across, down, 1}, BLOCK_THREADS, sizeof(block_shared<S>),
            stream, *launch);
}

// Up to 64 rows the weights' bytes are what it costs: narrow blocks while there are too few for the machine.
enum { MATMUL_BLOCKS = 112, MATMUL_MEDIUM = 64 };

template <bool SLICED> static void matmul_many(pr_gpu_stream *stream, matmul_launch *launch)
{
    bool wide = matmul_divide(launch, 128) >= MATMUL_BLOCKS;
    if (launch->rows > MATMUL_MEDIUM && SLICED)
        matmul_block_run<block_shape<128, 64, 32, 4, true>>(stream, launch);
    else if (launch->rows > MATMUL_MEDIUM)
        matmul_block_run<block_shape<128, 128, 32, 2, false>>(stream, launch);
    else if (wide)
        matmul_block_run<block_shape<64, SLICED ? 64 : 128, 32, 2, SLICED>>(stream, launch);
    else
        matmul_block_run<block_shape<64, 32, 64, 4, SLICED>>(stream, launch);
}

static matmul_launch matmul_launch_of(const pr_gpu_matmul_args *args, int32_t count)
{
    matmul_launch launch = {};
    launch.rows = args->rows;
    launch.rows_used = args->rows_used;
    launch.x = args->x;
    launch.rounded = static_cast<const gpu_bf16 *>(args->scratch);
    launch.padded = matmul_padded(args->weights.cols);
    launch.count = count;
    for (int i = 0; i < count; i++) {
        const pr_gpu_weights *weights = &args[i].weights;
        launch.product[i] = {weights->data, args[i].bias,    args[i].y,       weights->rows,
                             weights->cols, weights->stride, weights->slices, 0};
    }
    return launch;
}

size_t pr_gpu_matmul_scratch_bytes(int32_t rows, int32_t cols)
{
    return rows <= STREAM_ROWS ? 0 : (size_t)rows * (size_t)matmul_padded(cols) * sizeof(gpu_bf16);
}

void pr_gpu_matmul(pr_gpu_stream *stream, const pr_gpu_matmul_args *args, int32_t count)
{
    if (args->rows == 0 || count == 0)
        return;
    matmul_launch launch = matmul_launch_of(args, count);
    bool sliced = false;
    for (int i = 0; i < count; i++)
        sliced = sliced || launch.product[i].slices > 1;
    if (!args->weights.is_bf16) {
        unsigned across = (unsigned)matmul_divide(&launch, PLAIN_SIDE);
        unsigned down = (unsigned)((launch.rows + PLAIN_SIDE - 1) / PLAIN_SIDE);
        if (across > 0)
            gpu_launch(
                matmul_plain, gpu_grid{across, down, 1}, PLAIN_THREADS, sizeof(plain_shared),
                stream, launch);
    } else if (launch.rows <= STREAM_ROWS) {
        sliced ? matmul_few<true>(stream, &launch) : matmul_few<false>(stream, &launch);
    } else {
        round_launch(
            stream, round_args{
                        launch.rows, launch.rows_used, 1, nullptr, launch.x, args->weights.cols,
                        launch.padded, static_cast<gpu_bf16 *>(args->scratch)});
        sliced ? matmul_many<true>(stream, &launch) : matmul_many<false>(stream, &launch);
    }
}
