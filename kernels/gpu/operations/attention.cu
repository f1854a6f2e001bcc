// SPDX-License-Identifier: BSD-3-Clause
// Paged attention of a step: rows that decode, rows that prefill, or both in one batch.
//
//   short segments  (one row; in a small step up to 8) row by row: a block has 16 query heads of a KV head of one row,
//                   and, if the step is small, one part of its positions; then attend_merge adds the parts
//   long segments   a block has 128 packed rows of a KV head, and all their parts
//   float32 KV      every segment is short, a block is one warp that goes over all positions
//
// Which of these a row takes does not show in its bits (attention_part.cuh, attention_tile.cuh).
#include "kernels/gpu/attention/attention_part.cuh"
#include "kernels/gpu/attention/attention_plain.cuh"
#include "kernels/gpu/attention/attention_tile.cuh"
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/language/gpu.cuh"

enum {
    ATTENTION_TOKEN_SLOTS = 128,       // so many tokens are slots of their own
    ATTENTION_PARTIAL_ROWS = 1 << 18,  // of `partial`: slots x query heads x parts
    ATTENTION_SHORT_ROWS = 8,
    ATTENTION_MERGE_THREADS = 128,
};

// D as it is compiled. The ring is as deep as lets two blocks or more share a multiprocessor; one piece where copies do
// not run beside the arithmetic: then other blocks hide their latency.
template <int D> struct attention_short_shape {
    static constexpr int COLUMNS = D < 64 ? D / GPU_TILE : 4;
    static constexpr int DEPTH = !GPU_COPY_OVERLAPS || D > 128 ? 1 : 4;
    typedef attention_shape<D, COLUMNS, 1, 1, DEPTH> shape;
};
template <int D> struct attention_long_shape {
    static constexpr int TALL = GPU_COPY_OVERLAPS ? 2 : 1;  // also the depth
    typedef attention_shape<D, 1, 8 / TALL, TALL, TALL> shape;
};
template <> struct attention_long_shape<256> {
    typedef attention_shape<256, 2, 4, 1, 1> shape;
};

// ---- Short segments ----

// False: nothing to do for this block. row: the first packed row.
GPU_FUNCTION bool
attention_short_work(const attention_plan &plan, int slot, int part, attention_work &work)
{
    int token;
    if (!attention_slot_of(plan, slot, token, work.segment))
        return false;
    work.slot = slot;
    work.group = plan.args.query_heads / plan.args.kv_heads;
    work.begin = token * work.group;
    work.end = work.begin + work.group;
    work.positions = plan.args.position[token] + 1;
    work.partial = plan.split;
    int parts = (work.positions + PR_GPU_ATTENTION_PART - 1) / PR_GPU_ATTENTION_PART;
    work.part_begin = plan.split ? part : 0;
    work.part_end = plan.split ? part + 1 : parts;
    return work.part_begin < parts;
}

template <class S> GPU_KERNEL_OF(S::THREADS) void attend_short(attention_plan plan)
{
    attention_work work;
    if (!attention_short_work(plan, gpu_block(), gpu_block_z(), work))
        return;
    int tiles = (work.group + GPU_TILE - 1) / GPU_TILE;
    work.kv_head = gpu_block_y() / tiles;
    work.begin += gpu_block_y() % tiles * GPU_TILE;
    work.end = work.end < work.begin + GPU_TILE ? work.end : work.begin + GPU_TILE;
    attention_tiles<S>(plan, work);
}

GPU_KERNEL_OF(GPU_WARP) void attend_plain(attention_plan plan)
{
    attention_work work;
    if (!attention_short_work(plan, gpu_block(), 0, work))
        return;
    work.kv_head = gpu_block_y() / work.group;
    work.begin += gpu_block_y() % work.group;
    work.end = work.begin + 1;
    plain_row(plan.args, work);
}

// The parts of one query head of one slot, ascending.
GPU_KERNEL_OF(ATTENTION_MERGE_THREADS) void attend_merge(attention_plan plan)
{
    const pr_gpu_attention_args &args = plan.args;
    int token, segment, head = gpu_block_y(), d = args.head_size;
    if (!attention_slot_of(plan, gpu_block(), token, segment))
        return;
    int parts = args.position[token] / PR_GPU_ATTENTION_PART + 1;
    int64_t first = attention_partial(plan, gpu_block(), head, 0);
    const float *sums = attention_partial_sums(plan) + 2 * first;
    float *out = args.out + ((int64_t)token * args.query_heads + head) * d;
    for (int e = gpu_thread(); e < d; e += ATTENTION_MERGE_THREADS) {
        const float *partial = args.partial + first * d + e;
        attention_total total = {attention_nothing(), 0.0f};
        float o = 0.0f;
        for (int part = 0; part < parts; part++) {
            attention_weights weights =
                attention_total_add(total, sums[2 * part], sums[2 * part + 1]);
            o = part == 0 ? partial[0] : attention_merged(weights, o, partial[(int64_t)part * d]);
        }
        out[e] = attention_finished(o, 1.0f / total.sum);
    }
}

// ---- Long segments ----

// A block has packed rows [first, first + PACKED) of the step, segment after segment. Later rows see more: they go first.
template <class S> GPU_KERNEL_OF(S::THREADS) void attend_long(attention_plan plan)
{
    const pr_gpu_attention_args &args = plan.args;
    attention_work work = {};
    work.kv_head = gpu_block_y();
    work.group = args.query_heads / args.kv_heads;
    int first = (gpu_blocks() - 1 - gpu_block()) * S::PACKED, last = first + S::PACKED;
    last = last < args.tokens * work.group ? last : args.tokens * work.group;
    for (work.begin = first; work.begin < last; work.begin = work.end) {
        work.segment = args.segment_of[work.begin / work.group];
        pr_gpu_segment segment = args.segment[work.segment];
        work.end = (segment.first_row + segment.rows) * work.group;
        work.end = work.end < last ? work.end : last;
        if (work.end <= work.begin)
            return;
        work.positions = args.position[(work.end - 1) / work.group] + 1;
        work.part_end = (work.positions + PR_GPU_ATTENTION_PART - 1) / PR_GPU_ATTENTION_PART;
        if (segment.rows > plan.short_rows)
            attention_tiles<S>(plan, work);
    }
}

// ---- Launch ----

template <class S>
static void attention_launch_short(pr_gpu_stream *stream, const attention_plan &plan)
{
    int kv = plan.args.kv_heads, group = plan.args.query_heads / kv;
    gpu_grid grid;
    grid.x = (unsigned)plan.slots;
    grid.y = (unsigned)(kv * ((group + GPU_TILE - 1) / GPU_TILE));
    grid.z = plan.split ? (unsigned)plan.parts : 1u;
    gpu_launch(
        attend_short<S>, grid, (unsigned)S::THREADS, (unsigned)sizeof(attention_shared<S>), stream,
        plan);
}

template <class S>
static void attention_launch_long(pr_gpu_stream *stream, const attention_plan &plan)
{
    int packed = plan.args.tokens * (plan.args.query_heads / plan.args.kv_heads);
    gpu_grid grid;
    grid.x = (unsigned)((packed + S::PACKED - 1) / S::PACKED);
    grid.y = (unsigned)plan.args.kv_heads;
    gpu_launch(
        attend_long<S>, grid, (unsigned)S::THREADS, (unsigned)sizeof(attention_shared<S>), stream,
        plan);
}

template <int D>
static void attention_launch_tiles(pr_gpu_stream *stream, const attention_plan &plan)
{
    attention_launch_short<typename attention_short_shape<D>::shape>(stream, plan);
    if (plan.args.most_rows > plan.short_rows)
        attention_launch_long<typename attention_long_shape<D>::shape>(stream, plan);
}

static void attention_launch_plain(pr_gpu_stream *stream, const attention_plan &plan)
{
    gpu_grid grid;
    grid.x = (unsigned)plan.slots;
    grid.y = (unsigned)plan.args.query_heads;
    gpu_launch(attend_plain, grid, GPU_WARP, (unsigned)sizeof(plain_shared), stream, plan);
}

static int32_t attention_parts(int32_t most_positions)
{
    return (most_positions + PR_GPU_ATTENTION_PART - 1) / PR_GPU_ATTENTION_PART;
}

static int64_t attention_partial_rows(int32_t slots, int32_t query_heads, int32_t parts)
{
    return (int64_t)slots * query_heads * parts;
}

static attention_plan attention_plan_of(const pr_gpu_attention_args *args)
{
    attention_plan plan = {};
    plan.args = *args;
    plan.slot_is_token = !args->kv_is_bf16 || args->tokens <= ATTENTION_TOKEN_SLOTS;
    plan.slots = plan.slot_is_token ? args->tokens : args->segments;
    plan.short_rows = plan.slot_is_token ? ATTENTION_SHORT_ROWS : 1;
    if (!args->kv_is_bf16)
        plan.short_rows = args->tokens;
    plan.parts = attention_parts(args->most_positions);
    int64_t partial_rows = attention_partial_rows(plan.slots, args->query_heads, plan.parts);
    plan.split = args->kv_is_bf16 && plan.parts > 1 && partial_rows <= ATTENTION_PARTIAL_ROWS;
    return plan;
}

size_t pr_gpu_attention_scratch_bytes(
    int32_t tokens, int32_t query_heads, int32_t head_size, int32_t most_positions)
{
    int32_t parts = attention_parts(most_positions);
    int64_t rows = attention_partial_rows(tokens, query_heads, parts);
    if (rows > ATTENTION_PARTIAL_ROWS)
        rows = ATTENTION_PARTIAL_ROWS;
    return parts > 1 ? (size_t)(rows * (head_size + 2)) * sizeof(float) : 0;
}

void pr_gpu_attention(pr_gpu_stream *stream, const pr_gpu_attention_args *args)
{
    if (args->tokens == 0)
        return;
    attention_plan plan = attention_plan_of(args);
    if (!args->kv_is_bf16)
        attention_launch_plain(stream, plan);
    else if (args->head_size <= 16)
        attention_launch_tiles<16>(stream, plan);
    else if (args->head_size <= 32)
        attention_launch_tiles<32>(stream, plan);
    else if (args->head_size <= 64)
        attention_launch_tiles<64>(stream, plan);
    else if (args->head_size <= 128)
        attention_launch_tiles<128>(stream, plan);
    else
        attention_launch_tiles<256>(stream, plan);
    if (!plan.split)
        return;
    gpu_grid grid;
    grid.x = (unsigned)plan.slots;
    grid.y = (unsigned)args->query_heads;
    gpu_launch(attend_merge, grid, ATTENTION_MERGE_THREADS, 0, stream, plan);
}
