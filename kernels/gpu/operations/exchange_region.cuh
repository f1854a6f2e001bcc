// SPDX-License-Identifier: BSD-3-Clause
// What both halves of the exchange use: places in a region, and the wait for flags. gpu_exchange.h has the picture.
#ifndef PR_GPU_OPERATIONS_EXCHANGE_REGION_CUH
#define PR_GPU_OPERATIONS_EXCHANGE_REGION_CUH

#include "kernels/gpu/gpu_exchange.h"
#include "kernels/gpu/language/gpu.cuh"

enum { EXCHANGE_THREADS = 256, EXCHANGE_WARPS = EXCHANGE_THREADS / GPU_WARP };

GPU_FUNCTION int32_t exchange_home(const pr_gpu_exchange &at, int32_t expert)
{
    return ((expert + 1) * at.ranks - 1) / at.experts;
}

GPU_FUNCTION int32_t exchange_first_expert(const pr_gpu_exchange &at, int32_t rank)
{
    return (int32_t)((int64_t)at.experts * rank / at.ranks);
}

// The flag of `part` of `source` in a region.
GPU_FUNCTION uint64_t *exchange_flag(
    const pr_gpu_exchange &at,
    unsigned char *region,
    size_t flags,
    uint32_t sequence,
    int source,
    int part)
{
    int64_t buffer = sequence & 1;
    return (uint64_t *)(region + flags) + (buffer * at.ranks + source) * PR_GPU_EXCHANGE_PARTS +
           part;
}

// The number of row `slot` of `source`, of both buffers' rows.
GPU_FUNCTION int64_t
exchange_row(const pr_gpu_exchange &at, uint32_t sequence, int source, int32_t slot)
{
    int64_t buffer = sequence & 1;
    return (buffer * at.ranks + source) * at.layout.share_tokens + slot;
}

GPU_FUNCTION int32_t *exchange_header(const pr_gpu_exchange &at, unsigned char *region, int64_t row)
{
    return (int32_t *)(region + at.layout.headers) + row * at.layout.header_words;
}

GPU_FUNCTION float *exchange_row_at(const pr_gpu_exchange &at, unsigned char *region, int64_t row)
{
    return (float *)(region + at.layout.rows) + row * at.hidden;
}

GPU_FUNCTION float *
exchange_returned(const pr_gpu_exchange &at, unsigned char *region, uint32_t sequence, int64_t slot)
{
    int64_t buffer = sequence & 1;
    int64_t slots = (int64_t)at.most_tokens * at.chosen;
    return (float *)(region + at.layout.returned) + (buffer * slots + slot) * at.hidden;
}

// Tells every rank that this block has stored all it had. All threads of the block.
GPU_FUNCTION void
exchange_raise(const pr_gpu_exchange &at, size_t flags, uint32_t sequence, const int32_t *rows)
{
    gpu_barrier();  // what the other threads stored comes before the flag, too
    for (int rank = gpu_thread(); rank < at.ranks; rank += gpu_threads()) {
        uint64_t value = (uint64_t)sequence << 32 | (uint32_t)(rows ? rows[rank] : 0);
        gpu_store_release(
            exchange_flag(at, at.region[rank], flags, sequence, at.rank, gpu_block()), value);
    }
}

struct exchange_wait_shared {
    int32_t late[EXCHANGE_THREADS];
    int32_t failed;
};

// Waits until all flags of the sequence are there: true. Or not, and the error word says why. One block, all its threads.
GPU_FUNCTION bool exchange_wait(
    const pr_gpu_exchange &at,
    exchange_wait_shared &shared,
    size_t flags,
    uint32_t sequence,
    pr_gpu_exchange_operation operation)
{
    uint64_t begin = gpu_clock_ns(), limit = at.sequence[1] ? 0 : at.limit_ns;
    int32_t late = at.ranks;
    for (int i = gpu_thread(); i < at.ranks * PR_GPU_EXCHANGE_PARTS; i += gpu_threads()) {
        int source = i / PR_GPU_EXCHANGE_PARTS, part = i % PR_GPU_EXCHANGE_PARTS;
        const uint64_t *flag = exchange_flag(at, at.own, flags, sequence, source, part);
        while ((uint32_t)(gpu_load_acquire(flag) >> 32) != sequence) {
            if (gpu_clock_ns() - begin >= limit) {
                late = late < source ? late : source;
                break;
            }
            gpu_pause();
        }
    }
    shared.late[gpu_thread()] = late;
    // Lanes wait for different flags: what each has acquired is everyone's after the barrier.
    gpu_barrier();
    if (gpu_thread() < GPU_WARP) {
        for (int i = gpu_thread(); i < gpu_threads(); i += GPU_WARP)
            late = late < shared.late[i] ? late : shared.late[i];
        for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) {
            int32_t other = gpu_shuffle_xor(late, mask);
            late = late < other ? late : other;
        }
        if (gpu_thread() == 0) {
            shared.failed = late < at.ranks || at.sequence[1] != 0;
            if (late < at.ranks && at.sequence[1] == 0) {
                at.sequence[1] = 1;
                gpu_store_release(
                    at.error, (uint64_t)sequence << 32 | (uint64_t)operation << 16 |
                                  (uint64_t)(uint32_t)(late + 1));
            }
        }
    }
    gpu_barrier();
    return shared.failed == 0;
}

GPU_FUNCTION int32_t exchange_ones(uint64_t bits)
{
    bits -= bits >> 1 & 0x5555555555555555u;
    bits = (bits & 0x3333333333333333u) + (bits >> 2 & 0x3333333333333333u);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int32_t)(bits * 0x0101010101010101u >> 56);
}

// Of the threads of the block for which the condition holds, how many come before this one; *total: how many in all.
// `warp_total` is of the block, [EXCHANGE_WARPS]. All threads.
GPU_FUNCTION int32_t exchange_scan(bool condition, int32_t *warp_total, int32_t *total)
{
    uint64_t lanes = gpu_ballot(condition);
    int32_t before = exchange_ones(lanes & (((uint64_t)1 << gpu_lane()) - 1));
    if (gpu_lane() == 0)
        warp_total[gpu_warp()] = exchange_ones(lanes);
    gpu_barrier();
    int32_t sum = 0;
    for (int warp = 0; warp < EXCHANGE_WARPS; warp++) {
        before += warp < gpu_warp() ? warp_total[warp] : 0;
        sum += warp_total[warp];
    }
    gpu_barrier();  // before the next call writes
    *total = sum;
    return before;
}

// Copies a row to up to `count` places, all threads of the block; NULL places are left out.
GPU_FUNCTION void exchange_copy(const float *from, float *const *to, int count, int32_t hidden)
{
    if (hidden % 4 != 0) {  // rows are not aligned
        for (int32_t i = gpu_thread(); i < hidden; i += gpu_threads()) {
            for (int k = 0; k < count; k++)
                if (to[k])
                    to[k][i] = from[i];
        }
        return;
    }
    for (int32_t i = 4 * gpu_thread(); i < hidden; i += 4 * gpu_threads()) {
        gpu_bytes16 piece = gpu_load16(from + i);
        for (int k = 0; k < count; k++) {
            if (to[k])
                gpu_store16(to[k] + i, piece);
        }
    }
}

#endif
