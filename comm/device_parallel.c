// SPDX-License-Identifier: BSD-3-Clause
#include "comm/device_parallel.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/group_ranks.h"
#include "comm/nccl_exchange.h"
#include "comm/watch.h"
#include "runtime/base/log.h"
#include "runtime/parallel_staged.h"

enum { WHY_BYTES = 256 };

typedef struct device_parallel {
    pr_group *group;
    pr_device *device;
    pr_parallel *host, *staged;
    pr_device_exchange *exchange;  // NULL: staged does it
    pr_exchange kind;
} device_parallel;

// ---- Opening the device's exchange -------------------------------------------------------------

#ifdef PR_HAVE_MPI

static const char operation_name[] = "opening of the GPUs' exchange";

// Whether every rank says yes.
static pr_status all_of(pr_group *group, const pr_comm_params *params, bool mine, bool *all)
{
    int64_t no = !mine;
    PR_TRY(pr_group_agree(group, &no, params->timeout_ms));
    *all = no == 0;
    return PR_OK;
}

static pr_status is_one_node(pr_group *group, const pr_comm_params *params, bool *one)
{
    MPI_Comm node;
    int ranks = 0;
    pr_watch_collective(operation_name);
    int code =
        MPI_Comm_split_type(group->comm, MPI_COMM_TYPE_SHARED, group->rank, MPI_INFO_NULL, &node);
    pr_watch_go();
    PR_TRY(pr_mpi_check(code, operation_name, -1));
    MPI_Comm_size(node, &ranks);
    MPI_Comm_free(&node);
    return all_of(group, params, ranks == group->ranks, one);
}

// Tells every rank how to reach this one's memory, and opens theirs.
static pr_status open_others(
    pr_group *group,
    const pr_comm_params *params,
    pr_device_exchange *exchange,
    bool *good,
    char *why)
{
    unsigned char(*reach)[PR_DEVICE_REACH_BYTES] = calloc((size_t)group->ranks, sizeof *reach);
    if (!reach)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the handles of %d ranks", group->ranks);
    pr_watch_collective(operation_name);
    int code = MPI_Allgather(
        exchange->reach, PR_DEVICE_REACH_BYTES, MPI_BYTE, reach, PR_DEVICE_REACH_BYTES, MPI_BYTE,
        group->comm);
    pr_watch_go();
    pr_status status = pr_mpi_check(code, operation_name, -1);
    if (status == PR_OK) {
        bool mine = exchange->open(
            exchange, (const unsigned char(*)[PR_DEVICE_REACH_BYTES])reach, why, WHY_BYTES);
        status = all_of(group, params, mine, good);
    }
    free(reach);
    return status;
}

static pr_status take_together(
    pr_group *group,
    const pr_comm_params *params,
    const pr_device_exchange_params *shape,
    pr_device_exchange **exchange)
{
    bool all;
    pr_status status = params->device->exchange_create(params->device, shape, exchange);
    PR_TRY(all_of(group, params, status == PR_OK, &all));
    if (!all && status == PR_OK)
        return pr_fail(
            PR_ERR_RESOURCE, "the GPU of another rank has no memory for the expert exchange: lower "
                             "--max-num-batched-tokens");
    return status;
}

static pr_status open_together(
    pr_group *group,
    const pr_comm_params *params,
    const pr_device_exchange_params *shape,
    pr_device_exchange **exchange,
    char *why)
{
    bool good;
    snprintf(why, WHY_BYTES, "they are on several nodes");
    PR_TRY(is_one_node(group, params, &good));
    if (!good)
        return PR_OK;
    pr_device_exchange *made = NULL;
    pr_status status = take_together(group, params, shape, &made);
    if (status == PR_OK) {
        snprintf(why, WHY_BYTES, "a GPU of theirs does not share its memory with other processes");
        status = all_of(group, params, made->can_share, &good);
    }
    if (status == PR_OK && good) {
        snprintf(why, WHY_BYTES, "a GPU of another rank cannot reach the others' memory");
        status = open_others(group, params, made, &good, why);
    }
    if (status == PR_OK && good)
        *exchange = made;
    else
        pr_device_parallel_close(group, made);
    return status;
}

static pr_status
open_nccl(pr_group *group, const pr_comm_params *params, pr_device_exchange **exchange)
{
    if (params->device->queue)
        return pr_nccl_exchange_create(group, params, exchange);
    return pr_fail(
        PR_ERR_UNSUPPORTED, "device %s has no exchange by NCCL: leave --exchange nccl out",
        params->device->name);
}

#endif

pr_status pr_device_parallel_open(
    pr_group *group, const pr_comm_params *params, pr_device_exchange **exchange)
{
    const pr_device_exchange_params shape = {
        .ranks = group->ranks,
        .rank = group->rank,
        .tp = group->tp,
        .first_rank = group->first_rank,
        .experts = params->experts,
        .chosen = params->chosen,
        .hidden = params->hidden,
        .max_tokens = params->max_tokens,
        .timeout_ms = params->timeout_ms,
    };
    *exchange = NULL;
    if ((params->experts == 0 && group->tp == 1) || !params->device->exchange_create)
        return PR_OK;
    if (group->ranks == 1)
        return params->device->exchange_create(params->device, &shape, exchange);
#ifdef PR_HAVE_MPI
    if (params->exchange == PR_EXCHANGE_NCCL)
        return open_nccl(group, params, exchange);
    if (params->exchange != PR_EXCHANGE_AUTO && params->exchange != PR_EXCHANGE_DIRECT)
        return PR_OK;
    char why[WHY_BYTES] = "";
    PR_TRY(open_together(group, params, &shape, exchange, why));
    int32_t first = group->first_rank, last = first + group->ranks - 1;
    if (!*exchange && params->exchange == PR_EXCHANGE_DIRECT)
        return pr_fail(
            PR_ERR_RESOURCE, "ranks %d to %d cannot exchange directly between GPUs: %s", first,
            last, why);
    if (group->rank == 0 && !*exchange)
        pr_log(
            PR_LOG_INFO, "ranks %d to %d exchange through the host, not between GPUs: %s", first,
            last, why);
    return PR_OK;
#else
    return pr_fail(PR_ERR_INTERNAL, "a group of %d ranks in a build without MPI", group->ranks);
#endif
}

void pr_device_parallel_close(pr_group *group, pr_device_exchange *exchange)
{
#ifdef PR_HAVE_MPI
    if (exchange && group->ranks > 1) {
        if (group->broken)
            return;
        // Memory that another rank has open is not given back.
        exchange->close(exchange);
        pr_watch_collective(operation_name);
        MPI_Barrier(group->comm);
        pr_watch_go();
    }
#else
    (void)group;
#endif
    if (exchange)
        exchange->destroy(exchange);
}

// ---- The operations ------------------------------------------------------------------------------

// After an error the group's communicators and buffers cannot be used again.
static pr_status checked(device_parallel *state, pr_status status)
{
    if (status != PR_OK)
        state->group->broken = true;
    return status;
}

static float *no_room(pr_parallel *parallel)
{
    (void)parallel;
    return NULL;
}

static pr_parallel *staged_of(const pr_parallel *parallel)
{
    const device_parallel *state = parallel->state;
    state->staged->layer = parallel->layer;
    return state->staged;
}

static pr_status
tensor_reduce(pr_parallel *parallel, const float *branch, float *sum, int32_t tokens, int32_t cols)
{
    device_parallel *state = parallel->state;
    if (parallel->tp > 1 && !state->exchange) {
        pr_parallel *staged = staged_of(parallel);
        return staged->tensor_reduce(staged, branch, sum, tokens, cols);
    }
    if (parallel->tp > 1) {
        pr_watch_begin("tensor reduce", parallel->layer);
        PR_TRY(checked(state, state->exchange->check(state->exchange)));
        return checked(
            state, state->exchange->reduce(state->exchange, branch, sum, (int64_t)tokens * cols));
    }
    size_t size_bytes = (size_t)tokens * (size_t)cols * sizeof(float);
    if (branch != sum && size_bytes > 0)
        state->device->copy(state->device, sum, branch, size_bytes);
    return PR_OK;
}

// The end of a step: its logits go to the host, and the waits of its exchanges are looked at.
static pr_status
tensor_gather(pr_parallel *parallel, const float *part, float *whole, int32_t tokens, int32_t cols)
{
    device_parallel *state = parallel->state;
    size_t size_bytes = (size_t)tokens * (size_t)cols * sizeof(float);
    pr_watch_begin("tensor gather", parallel->layer);
    if (parallel->tp > 1) {
        pr_parallel *staged = staged_of(parallel);
        PR_TRY(staged->tensor_gather(staged, part, whole, tokens, cols));
    } else if (size_bytes > 0) {
        PR_TRY(state->device->copy_out(state->device, whole, part, size_bytes));
    }
    return state->exchange ? checked(state, state->exchange->check(state->exchange)) : PR_OK;
}

static pr_status expert_dispatch(pr_parallel *parallel, pr_dispatch_args *args)
{
    device_parallel *state = parallel->state;
    if (!state->exchange) {
        pr_parallel *staged = staged_of(parallel);
        return staged->expert_dispatch(staged, args);
    }
    pr_watch_begin("expert dispatch", parallel->layer);
    assert(args->tokens >= 0);
    PR_TRY(checked(state, state->exchange->check(state->exchange)));
    return checked(state, state->exchange->dispatch(state->exchange, args));
}

static pr_status expert_combine(pr_parallel *parallel, const pr_return_args *args)
{
    device_parallel *state = parallel->state;
    if (!state->exchange) {
        pr_parallel *staged = staged_of(parallel);
        return staged->expert_combine(staged, args);
    }
    pr_watch_begin("expert combine", parallel->layer);
    return checked(state, state->exchange->combine(state->exchange, args));
}

pr_status pr_device_parallel_create(
    pr_group *group,
    const pr_comm_params *params,
    pr_parallel *host,
    pr_device_exchange *exchange,
    pr_parallel **parallel)
{
    pr_parallel *made = calloc(1, sizeof *made);
    device_parallel *state = calloc(1, sizeof *state);
    if (!made || !state) {
        free(made);
        free(state);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the group's operations");
    }
    const pr_parallel_staged_limits limits = {
        .tokens = params->max_tokens,
        .outputs = params->max_outputs,
        .chosen = exchange ? 0 : params->chosen,
        .hidden = params->hidden,
        .vocabulary = params->vocabulary,
    };
    *state = (device_parallel){
        .group = group,
        .device = params->device,
        .host = host,
        .exchange = exchange,
        .kind = params->exchange == PR_EXCHANGE_NCCL ? PR_EXCHANGE_NCCL : PR_EXCHANGE_DIRECT};
    pr_status status = pr_parallel_staged_create(host, params->device, &limits, &state->staged);
    if (status != PR_OK) {
        free(made);
        free(state);
        return status;
    }
    *made = *host;
    made->experts = params->experts;
    bool waits = exchange ? params->exchange == PR_EXCHANGE_NCCL && group->ranks > 1
                          : params->experts > 0 || group->tp > 1;
    made->on_device = !waits;
    made->state = state;
    made->tensor_room = no_room;
    made->tensor_reduce = tensor_reduce;
    made->tensor_gather = tensor_gather;
    made->expert_dispatch = expert_dispatch;
    made->expert_combine = expert_combine;
    *parallel = made;
    return PR_OK;
}

void pr_device_parallel_destroy(pr_parallel *parallel)
{
    device_parallel *state = parallel->state;
    pr_device_parallel_close(state->group, state->exchange);
    pr_parallel_staged_destroy(state->staged);
    free(state);
    free(parallel);
}

bool pr_device_parallel_is(const pr_parallel *parallel)
{
    return parallel->expert_dispatch == expert_dispatch;
}

pr_parallel *pr_device_parallel_host(const pr_parallel *parallel)
{
    return ((const device_parallel *)parallel->state)->host;
}

pr_exchange pr_device_parallel_exchange(const pr_parallel *parallel)
{
    const device_parallel *state = parallel->state;
    return state->exchange && parallel->ranks > 1 ? state->kind : PR_EXCHANGE_AUTO;
}
