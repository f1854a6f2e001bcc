// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/gpu_direct.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

_Static_assert(
    (int)PR_GPU_IPC_BYTES == (int)PR_DEVICE_REACH_BYTES,
    "a handle of memory is what others are told");

typedef struct direct {
    pr_device_exchange exchange;
    const pr_gpu_backend *gpu;
    pr_gpu_stream *stream;
    pr_device_exchange_params params;
    int32_t tokens;     // of the dispatch in flight
    int32_t most_rows;  // that can arrive
    // The device's, for any number of ranks:
    int32_t *count;   // [local experts]
    int32_t *total;   // [1]
    int32_t *row_of;  // [most_rows]
    // Alone:
    int32_t *place;  // [T][K]
    void *scratch;
    // With others:
    pr_gpu_exchange end;
    int32_t *origin;                // [most_rows][2]
    unsigned char **regions;        // [R], device memory
    unsigned char **region_opened;  // [R], the host's; NULL for this rank's own
} direct;

static direct *direct_of(pr_device_exchange *exchange) { return exchange->state; }

static pr_status fail_memory(const direct *state, size_t size_bytes)
{
    const char *why = state->gpu->error();
    return pr_fail(
        PR_ERR_RESOURCE,
        "no device memory left for the expert exchange (%zu bytes: %s): lower "
        "--max-num-batched-tokens",
        size_bytes, why[0] ? why : "refused");
}

typedef struct wanted_memory {
    void **memory;
    size_t size_bytes;
} wanted_memory;

static pr_status take(const direct *state, const wanted_memory *wanted, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t size_bytes = wanted[i].size_bytes ? wanted[i].size_bytes : 1;
        *wanted[i].memory = state->gpu->memory_take(size_bytes);
        if (!*wanted[i].memory)
            return fail_memory(state, size_bytes);
    }
    return PR_OK;
}

// ---- Alone ------------------------------------------------------------------------------------

static pr_status alone_dispatch(pr_device_exchange *exchange, pr_dispatch_args *args)
{
    direct *state = direct_of(exchange);
    assert(args->tokens <= state->params.max_tokens && args->chosen == state->params.chosen);
    const pr_gpu_permute_args permute = {
        .tokens = args->tokens,
        .chosen = args->chosen,
        .experts = state->params.experts,
        .expert = args->expert,
        .count = state->count,
        .total = state->total,
        .row_of = state->row_of,
        .place = state->place,
        .scratch = state->scratch,
    };
    state->gpu->operations->permute(state->stream, &permute);
    args->rows = args->x;
    args->row_of = state->row_of;
    args->place = state->place;
    args->count = state->count;
    args->received = args->tokens * args->chosen;
    args->results = NULL;
    return PR_OK;
}

static pr_status alone_combine(pr_device_exchange *exchange, const pr_return_args *args)
{
    (void)exchange;
    (void)args;
    return PR_OK;  // dispatch has said where the results will be
}

static pr_status alone_check(pr_device_exchange *exchange)
{
    (void)exchange;
    return PR_OK;
}

static pr_status take_alone(direct *state)
{
    const pr_device_exchange_params *params = &state->params;
    size_t pairs = (size_t)params->max_tokens * (size_t)params->chosen;
    size_t scratch_bytes = state->gpu->operations->permute_scratch_bytes(
        params->max_tokens, params->chosen, params->experts);
    const wanted_memory wanted[] = {
        {(void **)&state->place, pairs * sizeof(int32_t)},
        {&state->scratch, scratch_bytes},
    };
    return take(state, wanted, sizeof wanted / sizeof *wanted);
}

// ---- With others ------------------------------------------------------------------------------

static pr_status direct_check(pr_device_exchange *exchange)
{
    const direct *state = direct_of(exchange);
    uint64_t word = __atomic_load_n(state->end.error, __ATOMIC_ACQUIRE);
    if (word == 0)
        return PR_OK;
    pr_gpu_exchange_error error = pr_gpu_exchange_error_of(word);
    return pr_fail(
        PR_ERR_TIMEOUT, "rank %d did not answer within %d ms in %s (number %u, between GPUs)",
        state->params.first_rank + error.rank, state->params.timeout_ms,
        error.operation == PR_GPU_EXCHANGE_DISPATCH  ? "expert dispatch"
        : error.operation == PR_GPU_EXCHANGE_COMBINE ? "expert combine"
                                                     : "tensor reduce",
        (unsigned)error.sequence);
}

static pr_status
direct_reduce(pr_device_exchange *exchange, const float *branch, float *sum, int64_t elements)
{
    const direct *state = direct_of(exchange);
    int64_t piece = state->end.layout.piece;
    for (int64_t begin = 0; begin < elements; begin += piece) {
        const pr_gpu_exchange_reduce_args reduce = {
            .exchange = &state->end,
            .elements = elements - begin < piece ? elements - begin : piece,
            .branch = branch + begin,
            .sum = sum + begin,
        };
        state->gpu->operations->exchange_reduce_send(state->stream, &reduce);
        state->gpu->operations->exchange_reduce_receive(state->stream, &reduce);
    }
    return PR_OK;
}

static pr_status direct_dispatch(pr_device_exchange *exchange, pr_dispatch_args *args)
{
    direct *state = direct_of(exchange);
    assert(args->tokens <= state->params.max_tokens && args->chosen == state->params.chosen);
    const pr_gpu_exchange_dispatch_args dispatch = {
        .exchange = &state->end,
        .tokens = args->tokens,
        .x = args->x,
        .expert = args->expert,
        .count = state->count,
        .total = state->total,
        .row_of = state->row_of,
        .origin = state->origin,
        .most_rows = state->most_rows,
    };
    state->gpu->operations->exchange_dispatch_send(state->stream, &dispatch);
    state->gpu->operations->exchange_dispatch_receive(state->stream, &dispatch);
    state->tokens = args->tokens;
    args->rows = pr_gpu_exchange_rows(&state->end);
    args->row_of = state->row_of;
    args->place = NULL;
    args->count = state->count;
    args->received = state->most_rows;
    args->results = NULL;
    return PR_OK;
}

static pr_status direct_combine(pr_device_exchange *exchange, const pr_return_args *args)
{
    direct *state = direct_of(exchange);
    const pr_gpu_exchange_combine_args combine = {
        .exchange = &state->end,
        .total = state->total,
        .origin = state->origin,
        .results = args->rows,
        .tokens = state->tokens,
        .slot = args->slot,
    };
    state->gpu->operations->exchange_combine_send(state->stream, &combine);
    state->gpu->operations->exchange_combine_receive(state->stream, &combine);
    return PR_OK;
}

static bool direct_open(
    pr_device_exchange *exchange,
    const unsigned char (*reach)[PR_DEVICE_REACH_BYTES],
    char *why,
    size_t why_bytes)
{
    direct *state = direct_of(exchange);
    const pr_gpu_backend *gpu = state->gpu;
    size_t table_bytes = (size_t)state->params.ranks * sizeof *state->region_opened;
    unsigned char **table = malloc(table_bytes);
    bool good = table != NULL;
    for (int32_t rank = 0; good && rank < state->params.ranks; rank++) {
        table[rank] = state->end.own;
        if (rank == state->params.rank)
            continue;
        pr_gpu_ipc ipc;
        memcpy(ipc.handle, reach[rank], sizeof ipc.handle);
        table[rank] = state->region_opened[rank] = gpu->ipc_open(&ipc);
        good = table[rank] != NULL;
    }
    good = good && gpu->copy(state->regions, table, table_bytes, state->stream) &&
           gpu->wait(state->stream);
    free(table);
    if (!good) {
        const char *error = gpu->error();
        snprintf(
            why, why_bytes, "a GPU cannot reach another's memory (%s)",
            error[0] ? error : "refused");
    }
    return good;
}

static void fill_end(direct *state)
{
    const pr_device_exchange_params *params = &state->params;
    pr_gpu_exchange *end = &state->end;
    int64_t first = pr_share_begin(params->experts, params->rank, params->ranks);
    end->ranks = params->ranks;
    end->rank = params->rank;
    end->tp = params->tp;
    end->experts = params->experts;
    end->chosen = params->chosen;
    end->hidden = params->hidden;
    end->most_tokens = params->max_tokens;
    end->first_expert = (int32_t)first;
    end->local_experts =
        (int32_t)(pr_share_begin(params->experts, params->rank + 1, params->ranks) - first);
    end->layout = pr_gpu_exchange_lay_out(
        params->ranks, params->tp, params->chosen, params->hidden, params->max_tokens);
    end->limit_ns = (uint64_t)params->timeout_ms * 1000000;
}

static pr_status take_with_others(direct *state)
{
    const pr_gpu_backend *gpu = state->gpu;
    pr_gpu_exchange *end = &state->end;
    size_t ranks = (size_t)end->ranks, word = sizeof(int32_t);
    const wanted_memory wanted[] = {
        {(void **)&end->sequence, 3 * sizeof(uint32_t)},
        {(void **)&end->place, ranks * (size_t)end->layout.share_tokens * word},
        {(void **)&end->sent, ranks * word},
        {(void **)&end->arrived, ranks * word},
        {(void **)&state->origin, 2 * (size_t)state->most_rows * word},
        {(void **)&state->regions, ranks * sizeof *state->regions},
    };
    PR_TRY(take(state, wanted, sizeof wanted / sizeof *wanted));
    end->own = gpu->region_take(end->layout.size_bytes);
    if (!end->own)
        return fail_memory(state, end->layout.size_bytes);
    end->region = state->regions;
    end->error = gpu->pinned_take(sizeof *end->error);
    state->region_opened = calloc(ranks, sizeof *state->region_opened);
    if (!end->error || !state->region_opened)
        return fail_memory(state, ranks * sizeof *state->region_opened);
    __atomic_store_n(end->error, 0, __ATOMIC_RELEASE);
    pr_gpu_ipc ipc;
    state->exchange.can_share = gpu->ipc_share(end->own, &ipc);
    if (state->exchange.can_share)
        memcpy(state->exchange.reach, ipc.handle, sizeof ipc.handle);
    return PR_OK;
}

// ---- Both -------------------------------------------------------------------------------------

static void direct_close(pr_device_exchange *exchange)
{
    direct *state = direct_of(exchange);
    for (int32_t rank = 0; state->region_opened && rank < state->params.ranks; rank++) {
        if (state->region_opened[rank])
            state->gpu->ipc_close(state->region_opened[rank]);
        state->region_opened[rank] = NULL;
    }
}

static void direct_destroy(pr_device_exchange *exchange)
{
    direct *state = direct_of(exchange);
    const pr_gpu_backend *gpu = state->gpu;
    direct_close(exchange);
    free(state->region_opened);
    void *taken[] = {state->count,        state->total,     state->row_of,   state->place,
                     state->scratch,      state->origin,    state->regions,  state->end.own,
                     state->end.sequence, state->end.place, state->end.sent, state->end.arrived};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        if (taken[i])
            gpu->memory_release(taken[i]);
    }
    if (state->end.error)
        gpu->pinned_release(state->end.error);
    free(state);
}

static pr_status check_bounds(const pr_device_exchange_params *params)
{
    if (params->ranks <= PR_GPU_EXCHANGE_RANKS && params->chosen <= PR_GPU_EXCHANGE_CHOSEN &&
        params->tp <= 8)
        return PR_OK;
    return pr_fail(
        PR_ERR_ARGUMENT,
        "an exchange between %d GPUs, tp %d, with %d experts per token: at most %d, 8 and %d",
        params->ranks, params->tp, params->chosen, PR_GPU_EXCHANGE_RANKS, PR_GPU_EXCHANGE_CHOSEN);
}

pr_status pr_gpu_direct_create(
    const pr_gpu_backend *gpu,
    pr_gpu_stream *stream,
    const pr_device_exchange_params *params,
    pr_device_exchange **exchange)
{
    PR_TRY(check_bounds(params));
    direct *state = calloc(1, sizeof *state);
    if (!state)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for the expert exchange");
    state->gpu = gpu;
    state->stream = stream;
    state->params = *params;
    bool alone = params->ranks == 1;
    state->exchange = (pr_device_exchange){
        .state = state,
        .open = direct_open,
        .dispatch = alone ? alone_dispatch : direct_dispatch,
        .combine = alone ? alone_combine : direct_combine,
        .reduce = direct_reduce,
        .check = alone ? alone_check : direct_check,
        .close = direct_close,
        .destroy = direct_destroy,
    };
    fill_end(state);
    int32_t local = state->end.local_experts, chosen = params->chosen;
    state->most_rows =
        params->ranks / params->tp * params->max_tokens * (local < chosen ? local : chosen);
    const wanted_memory wanted[] = {
        {(void **)&state->count, (size_t)local * sizeof(int32_t)},
        {(void **)&state->total, sizeof(int32_t)},
        {(void **)&state->row_of, (size_t)state->most_rows * sizeof(int32_t)},
    };
    pr_status status = take(state, wanted, sizeof wanted / sizeof *wanted);
    if (status == PR_OK)
        status = alone ? take_alone(state) : take_with_others(state);
    if (status != PR_OK) {
        direct_destroy(&state->exchange);
        return status;
    }
    *exchange = &state->exchange;
    return PR_OK;
}
