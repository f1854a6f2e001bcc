// SPDX-License-Identifier: BSD-3-Clause
// What both halves of the exchange use: places in a region, and the wait for flags. gpu_exchange.h has the picture.
#ifndef PR_GPU_OPERATIONS_EXCHANGE_REGION_CUH
#define PR_GPU_OPERATIONS_EXCHANGE_REGION_CUH

#include "kernels/gpu/gpu_exchange.h"
#include "kernels/gpu/language/gpu.cuh"

enum { EXCHANGE_THREADS = 256 };

GPU_FUNCTION int32_t exchange_home(const pr_gpu_exchange &at, int32_t expert)
{
    return ((expert + 1) * at.ranks - 1) / at.experts;
}

GPU_FUNCTION int32_t exchange_first_expert(const pr_gpu_exchange &at, int32_t rank)
{
    return (int32_t)((int64_t)at.experts * rank / at.ranks);
}

// The flags of one kind: where they are in a region, and the ranks that raise them for each other.
struct exchange_flags {
    size_t at;
    int32_t first_rank, ranks;
    uint32_t sequence;
};

// The flag of `part` of `source`, counted from the first rank, in a region.
GPU_FUNCTION uint64_t *
exchange_flag(const exchange_flags &flags, unsigned char *region, int source, int part)
{
    int64_t buffer = flags.sequence & 1;
    return (uint64_t *)(region + flags.at) +
           (buffer * flags.ranks + source) * PR_GPU_EXCHANGE_PARTS + part;
}

GPU_FUNCTION exchange_flags exchange_dispatch_flags(const pr_gpu_exchange &at)
{
    return {at.layout.dispatch_flags, 0, at.ranks, at.sequence[0]};
}

GPU_FUNCTION exchange_flags exchange_return_flags(const pr_gpu_exchange &at)
{
    return {at.layout.return_flags, 0, at.ranks, at.sequence[0]};
}

GPU_FUNCTION exchange_flags exchange_reduce_flags(const pr_gpu_exchange &at)
{
    return {at.layout.reduce_flags, at.rank / at.tp * at.tp, at.tp, at.sequence[2]};
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

// Tells the ranks that this block has stored all it had. All threads of the block.
GPU_FUNCTION void
exchange_raise(const pr_gpu_exchange &at, const exchange_flags &flags, const int32_t *rows)
{
    gpu_barrier();  // what the other threads stored comes before the flag, too
    for (int i = gpu_thread(); i < flags.ranks; i += gpu_threads()) {
        int rank = flags.first_rank + i, own = at.rank - flags.first_rank;
        uint64_t value = (uint64_t)flags.sequence << 32 | (uint32_t)(rows ? rows[rank] : 0);
        gpu_store_release(exchange_flag(flags, at.region[rank], own, gpu_block()), value);
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
    const exchange_flags &flags,
    pr_gpu_exchange_operation operation)
{
    uint64_t begin = gpu_clock_ns(), limit = at.sequence[1] ? 0 : at.limit_ns;
    int32_t late = flags.ranks;
    for (int i = gpu_thread(); i < flags.ranks * PR_GPU_EXCHANGE_PARTS; i += gpu_threads()) {
        int source = i / PR_GPU_EXCHANGE_PARTS, part = i % PR_GPU_EXCHANGE_PARTS;
        const uint64_t *flag = exchange_flag(flags, at.own, source, part);
        while ((uint32_t)(gpu_load_acquire(flag) >> 32) != flags.sequence) {
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
            shared.failed = late < flags.ranks || at.sequence[1] != 0;
            if (late < flags.ranks && at.sequence[1] == 0) {
                at.sequence[1] = 1;
                uint64_t rank = (uint64_t)(uint32_t)(flags.first_rank + late);
                gpu_store_release(
                    at.error,
                    (uint64_t)flags.sequence << 32 | (uint64_t)operation << 16 | (rank + 1));
            }
        }
    }
    gpu_barrier();
    return shared.failed == 0;
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
