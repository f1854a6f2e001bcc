// SPDX-License-Identifier: BSD-3-Clause
// Rows to the ranks of their experts: slots by a scan, stores into the others' regions, flags; then the wait and a stable
// counting sort of what came. No atomics: the same tokens get the same slots.
//
//   plan     a block per destination: slot of each token of the share there, and how many
//   send     PR_GPU_EXCHANGE_PARTS blocks: each token read once, stored to each of its ranks; a flag per block and rank
//   wait     one block, so that those who wait leave the multiprocessors to those who store
//   sort     a block per local expert: row numbers and origins of its rows, by source rank and token
#include "kernels/gpu/operations/exchange_region.cuh"
#include "kernels/gpu/rows/block_scan.cuh"

struct exchange_step {
    pr_gpu_exchange at;
    int32_t tokens;
    const int32_t *tokens_used;
    const float *x;
    const int32_t *expert;
    int32_t *count, *total, *row_of, *origin;
    int32_t most_rows;
};

struct exchange_share {
    int32_t begin, end;
};

// This rank's share of the lane's tokens.
GPU_FUNCTION exchange_share exchange_own_share(const exchange_step &step)
{
    int32_t tokens = step.tokens_used ? *step.tokens_used : step.tokens;
    int32_t tp = step.at.tp, tp_rank = step.at.rank % tp;
    exchange_share share;
    share.begin = (int32_t)((int64_t)tokens * tp_rank / tp);
    share.end = (int32_t)((int64_t)tokens * (tp_rank + 1) / tp);
    return share;
}

GPU_KERNEL void exchange_plan(exchange_step step)
{
    pr_block_scan &scan = gpu_shared<pr_block_scan>();
    const pr_gpu_exchange &at = step.at;
    exchange_share share = exchange_own_share(step);
    int destination = gpu_block();
    int32_t *place = at.place + (int64_t)destination * at.layout.share_tokens;
    int32_t rows = 0;
    for (int32_t first = share.begin; first < share.end; first += EXCHANGE_THREADS) {
        int32_t token = first + gpu_thread();
        bool goes = false;
        for (int k = 0; token < share.end && k < at.chosen; k++)
            goes |= exchange_home(at, step.expert[(int64_t)token * at.chosen + k]) == destination;
        int32_t tile_rows, before = pr_block_scan_before(scan, goes ? 1 : 0, tile_rows);
        if (goes)
            place[token - share.begin] = rows + before;
        rows += tile_rows;
    }
    if (gpu_thread() == 0) {
        at.sent[destination] = rows;
        if (destination == 0)
            at.sequence[0]++;
    }
}

struct exchange_send_shared {
    float *to[PR_GPU_EXCHANGE_CHOSEN];
};

// Slot k of a token: if it is the token's first for its rank, writes the header there and says where the row goes.
GPU_FUNCTION float *exchange_address(
    const exchange_step &step, uint32_t sequence, int32_t token, int32_t in_share, int k)
{
    const pr_gpu_exchange &at = step.at;
    const int32_t *expert = step.expert + (int64_t)token * at.chosen;
    int32_t rank = exchange_home(at, expert[k]);
    for (int j = 0; j < k; j++) {
        if (exchange_home(at, expert[j]) == rank)
            return nullptr;
    }
    int32_t slot = at.place[(int64_t)rank * at.layout.share_tokens + in_share];
    int64_t row = exchange_row(at, sequence, at.rank, slot);
    int32_t *header = exchange_header(at, at.region[rank], row);
    int32_t first = exchange_first_expert(at, rank), entries = 0;
    for (int j = k; j < at.chosen; j++) {
        if (exchange_home(at, expert[j]) == rank)
            header[2 + entries++] = (expert[j] - first) * at.chosen + j;
    }
    header[0] = token;
    header[1] = entries;
    return exchange_row_at(at, at.region[rank], row);
}

GPU_KERNEL void exchange_send(exchange_step step)
{
    exchange_send_shared &shared = gpu_shared<exchange_send_shared>();
    const pr_gpu_exchange &at = step.at;
    exchange_share share = exchange_own_share(step);
    uint32_t sequence = at.sequence[0];
    for (int32_t token = share.begin + gpu_block(); token < share.end; token += gpu_blocks()) {
        int k = gpu_thread();
        if (k < at.chosen)
            shared.to[k] = exchange_address(step, sequence, token, token - share.begin, k);
        gpu_barrier();
        exchange_copy(step.x + (int64_t)token * at.hidden, shared.to, at.chosen, at.hidden);
        gpu_barrier();  // the next token's addresses come where these were
    }
    exchange_raise(at, exchange_dispatch_flags(at), at.sent);
}

GPU_KERNEL void exchange_wait_rows(pr_gpu_exchange at)
{
    exchange_wait_shared &shared = gpu_shared<exchange_wait_shared>();
    exchange_flags flags = exchange_dispatch_flags(at);
    bool came = exchange_wait(at, shared, flags, PR_GPU_EXCHANGE_DISPATCH);
    for (int source = gpu_thread(); source < at.ranks; source += gpu_threads()) {
        const uint64_t *flag = exchange_flag(flags, at.own, source, 0);
        int32_t rows = came ? (int32_t)gpu_load_acquire(flag) : 0;
        at.arrived[source] = rows >= 0 && rows <= at.layout.share_tokens ? rows : 0;
    }
}

struct exchange_sort_shared {
    int32_t first[PR_GPU_EXCHANGE_RANKS + 1];  // rows of the sources before
    pr_block_scan scan;
};

// Arrived row i, of all sources' rows one after another.
struct exchange_arrival {
    int32_t source, row;  // row: its number in the region
    const int32_t *header;
};

GPU_FUNCTION exchange_arrival exchange_arrival_of(
    const pr_gpu_exchange &at, const exchange_sort_shared &shared, uint32_t sequence, int32_t i)
{
    int low = 0, high = at.ranks - 1;  // the last source whose first row is not after i
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (shared.first[middle] <= i)
            low = middle;
        else
            high = middle - 1;
    }
    exchange_arrival arrival;
    int64_t row = exchange_row(at, sequence, low, i - shared.first[low]);
    arrival.source = low;
    arrival.row = (int32_t)row;
    arrival.header = exchange_header(at, at.own, row);
    return arrival;
}

GPU_FUNCTION int32_t exchange_entries(const pr_gpu_exchange &at, const int32_t *header)
{
    return header[1] < at.chosen ? header[1] : at.chosen;
}

// Entries of experts before this one: where its rows begin.
GPU_FUNCTION int32_t exchange_entries_before(
    const pr_gpu_exchange &at, exchange_sort_shared &shared, uint32_t sequence, int32_t expert)
{
    int32_t before = 0;
    for (int32_t i = gpu_thread(); i < shared.first[at.ranks]; i += gpu_threads()) {
        const int32_t *header = exchange_arrival_of(at, shared, sequence, i).header;
        int32_t entries = exchange_entries(at, header);
        for (int32_t j = 0; j < entries; j++)
            before += header[2 + j] < expert * at.chosen ? 1 : 0;
    }
    int32_t sum;
    (void)pr_block_scan_before(shared.scan, before, sum);
    return sum;
}

GPU_KERNEL void exchange_sort(exchange_step step)
{
    exchange_sort_shared &shared = gpu_shared<exchange_sort_shared>();
    const pr_gpu_exchange &at = step.at;
    uint32_t sequence = at.sequence[0];
    int32_t expert = gpu_block(), rows = 0;
    if (gpu_thread() == 0) {
        shared.first[0] = 0;
        for (int source = 0; source < at.ranks; source++)
            shared.first[source + 1] = shared.first[source] + at.arrived[source];
    }
    gpu_barrier();
    int32_t begin = exchange_entries_before(at, shared, sequence, expert);
    for (int32_t first = 0; first < shared.first[at.ranks]; first += EXCHANGE_THREADS) {
        int32_t i = first + gpu_thread(), entry = -1;
        exchange_arrival arrival = {};
        if (i < shared.first[at.ranks]) {
            arrival = exchange_arrival_of(at, shared, sequence, i);
            int32_t entries = exchange_entries(at, arrival.header);
            for (int32_t j = 0; j < entries; j++)
                entry = arrival.header[2 + j] / at.chosen == expert ? arrival.header[2 + j] : entry;
        }
        int32_t tile_rows,
            before = pr_block_scan_before(shared.scan, entry >= 0 ? 1 : 0, tile_rows);
        int32_t row = begin + rows + before;
        if (entry >= 0 && row < step.most_rows) {
            step.row_of[row] = arrival.row;
            step.origin[2 * row] = arrival.source;
            step.origin[2 * row + 1] = arrival.header[0] * at.chosen + entry % at.chosen;
        }
        rows += tile_rows;
    }
    if (gpu_thread() == 0) {
        step.count[expert] = rows;
        if (expert == at.local_experts - 1)
            *step.total = begin + rows;
    }
}

static exchange_step exchange_step_of(const pr_gpu_exchange_dispatch_args *args)
{
    exchange_step step = {};
    step.at = *args->exchange;
    step.tokens = args->tokens;
    step.tokens_used = args->tokens_used;
    step.x = args->x;
    step.expert = args->expert;
    step.count = args->count;
    step.total = args->total;
    step.row_of = args->row_of;
    step.origin = args->origin;
    step.most_rows = args->most_rows;
    return step;
}

void pr_gpu_exchange_dispatch_send(pr_gpu_stream *stream, const pr_gpu_exchange_dispatch_args *args)
{
    exchange_step step = exchange_step_of(args);
    gpu_launch(
        exchange_plan, gpu_grid{(unsigned)step.at.ranks}, EXCHANGE_THREADS, sizeof(pr_block_scan),
        stream, step);
    gpu_launch(
        exchange_send, gpu_grid{PR_GPU_EXCHANGE_PARTS}, EXCHANGE_THREADS,
        sizeof(exchange_send_shared), stream, step);
}

void pr_gpu_exchange_dispatch_receive(
    pr_gpu_stream *stream, const pr_gpu_exchange_dispatch_args *args)
{
    exchange_step step = exchange_step_of(args);
    gpu_launch(
        exchange_wait_rows, gpu_grid{1}, EXCHANGE_THREADS, sizeof(exchange_wait_shared), stream,
        step.at);
    if (step.at.local_experts > 0)
        gpu_launch(
            exchange_sort, gpu_grid{(unsigned)step.at.local_experts}, EXCHANGE_THREADS,
            sizeof(exchange_sort_shared), stream, step);
}
