// SPDX-License-Identifier: BSD-3-Clause
// runtime/parallel.h over MPI: tensor reduce and gather here, experts in expert_exchange.c.
// Cost of a reduce: log2(tp) exchanges of T * cols floats. Recursive doubling and not an allreduce,
// because the branches must be added in the order of the fixed tree on every rank.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "comm/device_parallel.h"
#include "comm/expert_exchange.h"
#include "comm/group_ranks.h"
#include "comm/shared_exchange.h"
#include "comm/watch.h"
#include "runtime/base/log.h"

#ifdef PR_HAVE_MPI

typedef struct parallel_state {
    pr_group *group;
    pr_comm_params params;
    pr_comm_counts counts;
    pr_expert_exchange *exchange;  // NULL for a dense model
    pr_shared_exchange *shared;    // NULL: messages
    float *arrived;                // [max of T * H and max_outputs * V]: the other ranks' parts
    size_t capacity;               // floats
    MPI_Request *request;          // [2 tp]
    int32_t *peer;                 // [2 tp]
} parallel_state;

static int32_t lane_peer(const pr_group *group, int32_t tp_rank)
{
    return group->first_rank + group->lane * group->tp + tp_rank;
}

// Adds the branch of the neighbour at distance `step` to x: lower branch + upper branch.
static pr_status
add_branch(parallel_state *state, float *x, int32_t tokens, int32_t cols, int32_t step)
{
    const pr_group *group = state->group;
    int32_t other = group->tp_rank ^ step, world_peer = lane_peer(group, other);
    int64_t elements = (int64_t)tokens * cols;
    float *y = state->arrived;
    for (int32_t i = 0; i < 2; i++)
        state->peer[i] = world_peer;
    int count = (int)elements;
    int code =
        MPI_Irecv(y, count, MPI_FLOAT, other, PR_TAG_REDUCE, group->lane_comm, &state->request[0]);
    if (code == MPI_SUCCESS)
        code = MPI_Isend(
            x, count, MPI_FLOAT, other, PR_TAG_REDUCE, group->lane_comm, &state->request[1]);
    PR_TRY(pr_mpi_check(code, "tensor reduce", world_peer));
    state->counts.reduce_bytes += elements * (int64_t)sizeof(float);
    state->counts.messages++;
    PR_TRY(
        pr_mpi_wait_all(state->request, state->peer, 2, "tensor reduce", state->params.timeout_ms));
    bool lower = (group->tp_rank & step) == 0;
    for (int64_t i = 0; i < elements; i++)
        x[i] = lower ? x[i] + y[i] : y[i] + x[i];
    return PR_OK;
}

// After an error the group's communicators and buffers cannot be used again.
static pr_status checked(parallel_state *state, pr_status status)
{
    state->group->broken = status != PR_OK;
    return status;
}

static float *tensor_room(pr_parallel *parallel)
{
    parallel_state *state = parallel->state;
    return state->shared && parallel->tp > 1 ? pr_shared_exchange_room(state->shared) : NULL;
}

static pr_status
tensor_reduce(pr_parallel *parallel, const float *branch, float *sum, int32_t tokens, int32_t cols)
{
    parallel_state *state = parallel->state;
    pr_status status = PR_OK;
    pr_watch_begin("tensor reduce", parallel->layer);
    assert(!state->group->broken);
    assert((size_t)tokens * (size_t)cols <= state->capacity);
    if (state->shared && tokens > 0 && parallel->tp > 1)
        return checked(state, pr_shared_exchange_reduce(state->shared, branch, sum, tokens, cols));
    if (branch != sum)
        memcpy(sum, branch, (size_t)tokens * (size_t)cols * sizeof(float));
    for (int32_t step = 1; tokens > 0 && step < parallel->tp && status == PR_OK; step *= 2)
        status = add_branch(state, sum, tokens, cols, step);
    return checked(state, status);
}

// Columns [begin, end) of tp rank r, from its own dense rows.
static void place_columns(
    const float *part, float *whole, int32_t tokens, int32_t cols, int32_t tp_rank, int32_t tp)
{
    int64_t begin = pr_share_begin(cols, tp_rank, tp), end = pr_share_begin(cols, tp_rank + 1, tp);
    for (int64_t t = 0; t < tokens; t++)
        memcpy(
            whole + t * cols + begin, part + t * (end - begin),
            (size_t)(end - begin) * sizeof(float));
}

static pr_status
exchange_parts(parallel_state *state, const float *part, int32_t tokens, int32_t cols)
{
    const pr_group *group = state->group;
    int32_t requests = 0;
    for (int32_t r = 0; r < group->tp; r++) {
        int64_t begin = pr_share_begin(cols, r, group->tp);
        int64_t count = (pr_share_begin(cols, r + 1, group->tp) - begin) * tokens;
        if (r == group->tp_rank)
            continue;
        state->peer[requests] = lane_peer(group, r);
        PR_TRY(pr_mpi_check(
            MPI_Irecv(
                state->arrived + begin * tokens, (int)count, MPI_FLOAT, r, PR_TAG_GATHER,
                group->lane_comm, &state->request[requests]),
            "tensor gather", state->peer[requests]));
        requests++;
    }
    int64_t begin = pr_share_begin(cols, group->tp_rank, group->tp);
    int64_t count = (pr_share_begin(cols, group->tp_rank + 1, group->tp) - begin) * tokens;
    for (int32_t step = 1; step < group->tp; step++) {
        int32_t r = (group->tp_rank + step) % group->tp;
        state->peer[requests] = lane_peer(group, r);
        PR_TRY(pr_mpi_check(
            MPI_Isend(
                part, (int)count, MPI_FLOAT, r, PR_TAG_GATHER, group->lane_comm,
                &state->request[requests]),
            "tensor gather", state->peer[requests]));
        state->counts.gather_bytes += count * (int64_t)sizeof(float);
        state->counts.messages++;
        requests++;
    }
    return pr_mpi_wait_all(
        state->request, state->peer, requests, "tensor gather", state->params.timeout_ms);
}

static pr_status
tensor_gather(pr_parallel *parallel, const float *part, float *whole, int32_t tokens, int32_t cols)
{
    parallel_state *state = parallel->state;
    pr_watch_begin("tensor gather", parallel->layer);
    assert(!state->group->broken);
    assert((size_t)tokens * (size_t)cols <= state->capacity);
    if (tokens == 0)
        return PR_OK;
    if (state->shared && parallel->tp > 1)
        return checked(state, pr_shared_exchange_gather(state->shared, part, whole, tokens, cols));
    if (parallel->tp > 1)
        PR_TRY(checked(state, exchange_parts(state, part, tokens, cols)));
    for (int32_t r = 0; r < parallel->tp; r++) {
        const float *from = r == parallel->tp_rank
                                ? part
                                : state->arrived + pr_share_begin(cols, r, parallel->tp) * tokens;
        place_columns(from, whole, tokens, cols, r, parallel->tp);
    }
    return PR_OK;
}

static pr_status expert_dispatch(pr_parallel *parallel, pr_dispatch_args *args)
{
    parallel_state *state = parallel->state;
    pr_watch_begin("expert dispatch", parallel->layer);
    if (state->shared)
        return checked(state, pr_shared_exchange_dispatch(state->shared, args));
    return pr_expert_exchange_dispatch(state->exchange, args);
}

static pr_status expert_combine(pr_parallel *parallel, const pr_return_args *args)
{
    parallel_state *state = parallel->state;
    pr_watch_begin("expert combine", parallel->layer);
    if (state->shared)
        return checked(state, pr_shared_exchange_combine(state->shared, args));
    return pr_expert_exchange_combine(state->exchange, args);
}

static pr_status take_buffers(parallel_state *state)
{
    const pr_comm_params *params = &state->params;
    size_t tp = (size_t)state->group->tp;
    size_t reduce = (size_t)params->max_tokens * (size_t)params->hidden;
    size_t gather = (size_t)params->max_outputs * (size_t)params->vocabulary;
    state->capacity = reduce > gather ? reduce : gather;
    size_t floats = tp > 1 ? state->capacity : 0;
    if (state->capacity > INT32_MAX)
        return pr_fail(
            PR_ERR_ARGUMENT, "%zu floats are more than one message holds: lower %s",
            state->capacity, gather > reduce ? "--max-num-seqs" : "--max-num-batched-tokens");
    state->arrived = malloc((floats ? floats : 1) * sizeof(float));
    state->request = malloc(2 * tp * sizeof *state->request);
    state->peer = malloc(2 * tp * sizeof *state->peer);
    if (!state->arrived || !state->request || !state->peer)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %zu floats of tensor parallelism", floats);
    return PR_OK;
}

static void
fill_parallel(pr_parallel *parallel, const pr_group *group, const pr_comm_params *params)
{
    parallel->tp = group->tp;
    parallel->tp_rank = group->tp_rank;
    parallel->lanes = group->ranks / group->tp;
    parallel->lane = group->lane;
    parallel->ranks = group->ranks;
    parallel->rank = group->rank;
    parallel->experts = params->experts;
    parallel->layer = -1;
    parallel->tensor_room = tensor_room;
    parallel->tensor_reduce = tensor_reduce;
    parallel->tensor_gather = tensor_gather;
    parallel->expert_dispatch = expert_dispatch;
    parallel->expert_combine = expert_combine;
}

static pr_status open_shared(parallel_state *state)
{
    const pr_group *group = state->group;
    char why[PR_SHARED_WHY_BYTES] = "";
    if (state->params.exchange == PR_EXCHANGE_MESSAGES)
        return PR_OK;
    PR_TRY(pr_shared_exchange_create(
        state->group, &state->params, &state->counts, &state->shared, why));
    int32_t first = group->first_rank, last = first + group->ranks - 1;
    if (!state->shared && state->params.exchange == PR_EXCHANGE_SHARED)
        return pr_fail(
            PR_ERR_RESOURCE, "ranks %d to %d cannot exchange through shared memory: %s", first,
            last, why);
    if (group->rank == 0 && !state->shared)
        pr_log(PR_LOG_INFO, "ranks %d to %d exchange by messages: %s", first, last, why);
    return PR_OK;
}

static pr_status
create_with_mpi(pr_group *group, const pr_comm_params *params, pr_parallel **parallel)
{
    pr_parallel *created = calloc(1, sizeof *created);
    parallel_state *state = calloc(1, sizeof *state);
    pr_status status = PR_OK;
    if (!created || !state) {
        free(created);
        free(state);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the group's operations");
    }
    fill_parallel(created, group, params);
    created->state = state;
    state->group = group;
    state->params = *params;
    PR_TRY_GOTO(take_buffers(state), destroy_created);
    PR_TRY_GOTO(open_shared(state), destroy_created);
    if (params->experts > 0 && !state->shared)
        PR_TRY_GOTO(
            pr_expert_exchange_create(group, params, &state->counts, &state->exchange),
            destroy_created);
    *parallel = created;
    return PR_OK;
destroy_created:
    pr_comm_parallel_destroy(created);
    return status;
}

#endif

static pr_status
create_on_host(pr_group *group, const pr_comm_params *params, pr_parallel **parallel)
{
    if (group->ranks == 1)
        return pr_parallel_alone_create(
            params->experts, params->chosen, params->hidden, params->max_tokens, parallel);
#ifdef PR_HAVE_MPI
    return create_with_mpi(group, params, parallel);
#else
    return pr_fail(PR_ERR_INTERNAL, "a group of %d ranks in a build without MPI", group->ranks);
#endif
}

// Around the host's, which need no room for experts where the devices exchange their rows themselves.
static pr_status
create_on_device(pr_group *group, const pr_comm_params *params, pr_parallel **parallel)
{
    pr_device_exchange *exchange = NULL;
    pr_parallel *host = NULL;
    pr_status status;
    PR_TRY(pr_device_parallel_open(group, params, &exchange));
    pr_comm_params on_host = *params;
    on_host.device = NULL;
    if (exchange)
        on_host.experts = on_host.chosen = 0;
    if (params->exchange >= PR_EXCHANGE_NCCL)
        on_host.exchange = PR_EXCHANGE_AUTO;
    PR_TRY_GOTO(create_on_host(group, &on_host, &host), leave_group);
    PR_TRY_GOTO(pr_device_parallel_create(group, params, host, exchange, parallel), leave_group);
    return PR_OK;
leave_group:
    pr_group_abandon(group);  // this rank fails, perhaps alone: the others may have its memory open
    pr_comm_parallel_destroy(host);
    pr_device_parallel_close(group, exchange);
    return status;
}

pr_status
pr_comm_parallel_create(pr_group *group, const pr_comm_params *params, pr_parallel **parallel)
{
    if (params->device && !params->device->is_host)
        return create_on_device(group, params, parallel);
    if (params->exchange >= PR_EXCHANGE_NCCL)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--exchange %s is between GPUs, and this device's memory is the host's: leave it out",
            params->exchange == PR_EXCHANGE_NCCL ? "nccl" : "direct");
    return create_on_host(group, params, parallel);
}

void pr_comm_parallel_destroy(pr_parallel *parallel)
{
    if (parallel && pr_device_parallel_is(parallel)) {
        pr_parallel *host = pr_device_parallel_host(parallel);
        pr_device_parallel_destroy(parallel);
        pr_comm_parallel_destroy(host);
        return;
    }
    if (parallel && parallel->ranks == 1) {
        pr_parallel_alone_destroy(parallel);
        return;
    }
#ifdef PR_HAVE_MPI
    if (!parallel)
        return;
    parallel_state *state = parallel->state;
    pr_expert_exchange_destroy(state->exchange);
    pr_shared_exchange_destroy(state->shared);
    if (!state->group->broken) {  // else MPI may still write to them
        free(state->arrived);
        free(state->request);
    }
    free(state->peer);
    free(state);
    free(parallel);
#endif
}

pr_exchange pr_comm_parallel_exchange(const pr_parallel *parallel)
{
    if (pr_device_parallel_is(parallel)) {
        pr_exchange between = pr_device_parallel_exchange(parallel);
        if (between != PR_EXCHANGE_AUTO)
            return between;
        return pr_comm_parallel_exchange(pr_device_parallel_host(parallel));
    }
#ifdef PR_HAVE_MPI
    if (parallel->ranks > 1)
        return ((const parallel_state *)parallel->state)->shared ? PR_EXCHANGE_SHARED
                                                                 : PR_EXCHANGE_MESSAGES;
#else
    (void)parallel;
#endif
    return PR_EXCHANGE_AUTO;
}

void pr_comm_parallel_count(const pr_parallel *parallel, pr_comm_counts *counts)
{
    if (pr_device_parallel_is(parallel)) {
        pr_comm_parallel_count(pr_device_parallel_host(parallel), counts);
        return;
    }
    memset(counts, 0, sizeof *counts);
#ifdef PR_HAVE_MPI
    if (parallel->ranks > 1)
        *counts = ((const parallel_state *)parallel->state)->counts;
#else
    (void)parallel;
#endif
}
