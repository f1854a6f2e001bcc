// SPDX-License-Identifier: BSD-3-Clause
#include "tests/kernel/language_kernels.h"

#include "kernels/gpu/backend/operations_table.h"
#include "kernels/gpu/language/tile.cuh"

const pr_gpu_operations pr_gpu_operations_table = {};  // none

// ---- sum ----

struct sum_shared {
    float value[LANGUAGE_THREADS];
};

GPU_KERNEL void sum_kernel(const float *values, float *sum, int fault, int beyond)
{
    sum_shared &shared = gpu_shared<sum_shared>();
    int thread = gpu_thread();
    const float *from = values + gpu_block() * LANGUAGE_THREADS;
    if (fault == LANGUAGE_NO_COPY_WAIT) {
        if (thread % 4 == 0)
            gpu_copy16_begin(&shared.value[thread], &from[thread]);
        gpu_copy16_commit();
    } else
        shared.value[thread] = from[thread];
    if (fault == LANGUAGE_BEYOND_SHARED && thread == 0)
        shared.value[beyond] = 1.0f;
    if (fault == LANGUAGE_THREAD_ENDS && thread == 5)
        return;
    if (fault == LANGUAGE_THREAD_PARTS && thread == 5)
        gpu_barrier();
    else
        gpu_barrier();
    for (int half = LANGUAGE_THREADS / 2; half > 0; half /= 2) {
        if (thread < half)
            shared.value[thread] += shared.value[thread + half];
        if (fault != LANGUAGE_NO_BARRIER)
            gpu_barrier();
    }
    if (thread == 0)
        sum[gpu_block()] = shared.value[0];
}

static void
sum(pr_gpu_stream *stream, int32_t blocks, const float *values, float *sums, language_fault fault)
{
    gpu_launch(
        sum_kernel, gpu_grid{(unsigned)blocks, 1, 1}, LANGUAGE_THREADS, sizeof(sum_shared), stream,
        values, sums, (int)fault, 5 * LANGUAGE_THREADS);
}

// ---- lanes ----

struct lanes_args {
    const uint64_t *value;
    uint64_t *next, *other, *below, *odd;
};

GPU_KERNEL void lanes_kernel(lanes_args args)
{
    int i = gpu_thread(), lane = gpu_lane();
    uint64_t value = args.value[i];
    uint32_t low = (uint32_t)value;
    uint64_t next = gpu_shuffle(value, (lane + 1) % GPU_WARP);
    gpu_warp_barrier();
    args.other[i] = gpu_shuffle_xor(low, 1);
    args.below[i] = gpu_shuffle_up(value, 1);
    args.odd[i] = gpu_ballot(lane % 2 == 1);
    args.next[i] = next;
}

static void lanes(
    pr_gpu_stream *stream,
    const uint64_t *value,
    uint64_t *next,
    uint64_t *other,
    uint64_t *below,
    uint64_t *odd)
{
    const lanes_args args = {value, next, other, below, odd};
    gpu_launch(lanes_kernel, gpu_grid{}, LANGUAGE_THREADS, 0, stream, args);
}

// ---- copy ----

struct copy_shared {
    gpu_bytes16 part[2][LANGUAGE_THREADS];
};

GPU_KERNEL void copy_kernel(const float *from, float *to)
{
    copy_shared &shared = gpu_shared<copy_shared>();
    int thread = gpu_thread();
    int neighbour = (thread + GPU_WARP) % LANGUAGE_THREADS;
    for (int part = 0; part < 2; part++) {
        gpu_copy16_begin(&shared.part[part][thread], from + 4 * (part * LANGUAGE_THREADS + thread));
        gpu_copy16_commit();
    }
    gpu_copy16_wait<1>();
    gpu_barrier();
    gpu_store16(to + 4 * neighbour, shared.part[0][neighbour]);
    gpu_copy16_wait<0>();
    gpu_barrier();
    gpu_store16(to + 4 * (LANGUAGE_THREADS + neighbour), gpu_load16(&shared.part[1][neighbour]));
}

static void copy(pr_gpu_stream *stream, const float *from, float *to)
{
    gpu_launch(copy_kernel, gpu_grid{}, LANGUAGE_THREADS, sizeof(copy_shared), stream, from, to);
}

// ---- ring, answer ----

GPU_KERNEL void ring_kernel(uint32_t *token, uint32_t rounds)
{
    uint32_t blocks = (uint32_t)gpu_blocks(), block = (uint32_t)gpu_block();
    for (uint32_t round = 0; round < rounds; round++) {
        if (gpu_thread() == 0)
            while (gpu_load_acquire(token) != round * blocks + block)
                gpu_pause();
        gpu_barrier();
        if (gpu_thread() == gpu_threads() - 1)
            gpu_store_release(token, round * blocks + block + 1);
    }
}

static bool ring(pr_gpu_stream *stream, int32_t blocks, uint32_t *token, uint32_t rounds)
{
    return gpu_launch_together(
        ring_kernel, gpu_grid{(unsigned)blocks, 1, 1}, GPU_WARP, 0, stream, token, rounds);
}

GPU_KERNEL void
answer_kernel(const uint32_t *flag, uint32_t value, uint32_t *answer, uint32_t *late)
{
    const uint64_t limit_ns = 20000000000u;
    uint64_t begin = gpu_clock_ns();
    while (gpu_load_acquire(flag) < value) {
        if (gpu_clock_ns() - begin > limit_ns) {
            *late = 1;
            return;
        }
        gpu_pause();
    }
    gpu_store_release(answer, value);
}

static void
answer(pr_gpu_stream *stream, const uint32_t *flag, uint32_t value, uint32_t *to, uint32_t *late)
{
    gpu_launch(answer_kernel, gpu_grid{}, 1, 0, stream, flag, value, to, late);
}

GPU_KERNEL void increment_kernel(uint32_t *counter) { ++*counter; }

static void increment(pr_gpu_stream *stream, uint32_t *counter)
{
    gpu_launch(increment_kernel, gpu_grid{}, 1, 0, stream, counter);
}

// ---- tiles ----

enum { TILE_WARPS = 4, TILE_STRIDE = GPU_TILE + 8 };

struct tiles_args {
    const gpu_bf16 *a, *b;
    int k;
    float *c, *again;
};

GPU_FUNCTION void store_tile(const gpu_tile_sum &sum, int tile_row, int tile_column, float *to)
{
    for (int i = 0; i < GPU_TILE_VALUES; i++) {
        int row = tile_row * GPU_TILE + gpu_tile_row(i);
        to[row * LANGUAGE_TILE_ROWS + tile_column * GPU_TILE + gpu_tile_column(i)] = sum.value[i];
    }
}

struct tiles_shared {
    gpu_bf16 a[TILE_WARPS][GPU_TILE][TILE_STRIDE], b[TILE_WARPS][GPU_TILE][TILE_STRIDE];
};

// 16 x 16 of rows into shared memory, or of columns.
GPU_FUNCTION void
stage_tile(const gpu_bf16 *from, int row_step, int column_step, gpu_bf16 (*to)[TILE_STRIDE])
{
    gpu_warp_barrier();
    for (int i = gpu_lane(); i < GPU_TILE * GPU_TILE; i += GPU_WARP)
        to[i / GPU_TILE][i % GPU_TILE] = from[i / GPU_TILE * row_step + i % GPU_TILE * column_step];
    gpu_warp_barrier();
}

// One warp for each of the four tiles, each by another way to load.
GPU_KERNEL void tiles_kernel(tiles_args args)
{
    tiles_shared &shared = gpu_shared<tiles_shared>();
    int tile_row = gpu_warp() / 2, tile_column = gpu_warp() % 2, k_all = args.k;
    const gpu_bf16 *a_rows = args.a + tile_row * GPU_TILE * k_all;
    const gpu_bf16 *b_rows = args.b + tile_column * GPU_TILE * k_all;
    gpu_bf16(*a_tile)[TILE_STRIDE] = shared.a[gpu_warp()],
    (*b_tile)[TILE_STRIDE] = shared.b[gpu_warp()];
    const gpu_bf16 *row[GPU_TILE_A_ROWS];
    for (int i = 0; i < GPU_TILE_A_ROWS; i++)
        row[i] = a_rows + gpu_tile_a_row(i) * k_all;
    gpu_tile_a a;
    gpu_tile_b b;
    gpu_tile_sum sum = {};
    for (int k = 0; k < k_all; k += GPU_TILE) {
        if (tile_row == 0)
            gpu_tile_load_rows(a, row, k);
        else {
            stage_tile(a_rows + k, k_all, 1, a_tile);
            gpu_tile_load_a(a, a_tile[0], TILE_STRIDE);
        }
        if (tile_column == 0) {
            stage_tile(b_rows + k, k_all, 1, b_tile);
            gpu_tile_load_b(b, b_tile[0], TILE_STRIDE);
        } else {
            stage_tile(b_rows + k, 1, k_all, b_tile);
            gpu_tile_load_b_across(b, b_tile[0], TILE_STRIDE);
        }
        gpu_tile_multiply(sum, a, b);
    }
    store_tile(sum, tile_row, tile_column, args.c);
    gpu_tile_a_of_sum(a, sum);
    stage_tile(b_rows, k_all, 1, b_tile);
    gpu_tile_load_b(b, b_tile[0], TILE_STRIDE);
    gpu_tile_sum again = {};
    gpu_tile_multiply(again, a, b);
    store_tile(again, tile_row, tile_column, args.again);
}

static void tiles(
    pr_gpu_stream *stream, const uint16_t *a, const uint16_t *b, int32_t k, float *c, float *again)
{
    const tiles_args args = {a, b, k, c, again};
    gpu_launch(tiles_kernel, gpu_grid{}, TILE_WARPS * GPU_WARP, sizeof(tiles_shared), stream, args);
}

// ---- numbers ----

struct numbers_args {
    int count;
    const float *x;
    float *exp, *sqrt;
    uint32_t *pair;
};

GPU_KERNEL void numbers_kernel(numbers_args args)
{
    int i = gpu_block() * gpu_threads() + gpu_thread();
    if (i >= args.count)
        return;
    args.exp[i] = gpu_exp(args.x[i]);
    args.sqrt[i] = gpu_sqrt(args.x[i]);
    args.pair[i] = gpu_to_bf16_pair(args.x[i], -args.x[i]);
}

static void numbers(
    pr_gpu_stream *stream, int32_t count, const float *x, float *exp, float *sqrt, uint32_t *pair)
{
    const numbers_args args = {count, x, exp, sqrt, pair};
    unsigned blocks = (unsigned)(count + LANGUAGE_THREADS - 1) / LANGUAGE_THREADS;
    gpu_launch(numbers_kernel, gpu_grid{blocks, 1, 1}, LANGUAGE_THREADS, 0, stream, args);
}

static void too_large(pr_gpu_stream *stream)
{
    gpu_launch(increment_kernel, gpu_grid{}, 4096, 0, stream, (uint32_t *)nullptr);
}

#if defined(PR_GPU_EMULATED)
#define SHUFFLE pr_emulated_machine_shuffle
#else
#define SHUFFLE nullptr
#endif

static const language_kernels table = {
    sum, lanes, copy, ring, answer, increment, tiles, numbers, too_large, SHUFFLE,
};

__attribute__((visibility("default"))) const language_kernels *language_kernels_table(void)
{
    return &table;
}
