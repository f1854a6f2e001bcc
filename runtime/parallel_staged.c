// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/parallel_staged.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

typedef struct staged {
    pr_parallel *group;
    pr_device *device;
    pr_parallel_staged_limits limits;
    int32_t local_experts;
    size_t most_received;
    // Of the dispatch in flight:
    int32_t tokens, received;
    float *results_room;  // where the group wants the results, or NULL
    // The host's:
    float
        *floats;  // [max of T * H and outputs * V / tp] what a reduce or gather takes, x of experts
    int32_t *expert;      // [T][K]
    float *results;       // [received][H]
    const float **slot;   // [T][K] where the group says each result is
    float *slot_rows;     // [T][K][H]
    const float **place;  // [T][K] where it will be on the device: does not change
    // The device's:
    float *rows;              // [received][H]
    int32_t *count;           // [local experts]
    float *device_slot_rows;  // [T][K][H]
} staged;

static size_t row_bytes(const staged *state, int64_t rows)
{
    return (size_t)rows * (size_t)state->limits.hidden * sizeof(float);
}

static pr_status
copy_in(const staged *state, void *to_device, const void *from_host, size_t size_bytes)
{
    return size_bytes > 0 ? state->device->copy_in(state->device, to_device, from_host, size_bytes)
                          : PR_OK;
}

static pr_status
copy_out(const staged *state, void *to_host, const void *from_device, size_t size_bytes)
{
    return size_bytes > 0 ? state->device->copy_out(state->device, to_host, from_device, size_bytes)
                          : PR_OK;
}

// The group, told which layer calls.
static pr_parallel *group_of(const pr_parallel *parallel)
{
    const staged *state = parallel->state;
    state->group->layer = parallel->layer;
    return state->group;
}

static float *no_room(pr_parallel *parallel)
{
    (void)parallel;
    return NULL;
}

static float *room_of(const staged *state)
{
    float *room = state->group->tensor_room(state->group);
    return room ? room : state->floats;
}

static pr_status
tensor_reduce(pr_parallel *parallel, const float *branch, float *sum, int32_t tokens, int32_t cols)
{
    const staged *state = parallel->state;
    pr_parallel *group = group_of(parallel);
    size_t size_bytes = (size_t)tokens * (size_t)cols * sizeof(float);
    float *room = room_of(state);
    PR_TRY(copy_out(state, room, branch, size_bytes));
    PR_TRY(group->tensor_reduce(group, room, state->floats, tokens, cols));
    return copy_in(state, sum, state->floats, size_bytes);
}

static pr_status
tensor_gather(pr_parallel *parallel, const float *part, float *whole, int32_t tokens, int32_t cols)
{
    const staged *state = parallel->state;
    pr_parallel *group = group_of(parallel);
    int64_t part_cols = pr_share_begin(cols, group->tp_rank + 1, group->tp) -
                        pr_share_begin(cols, group->tp_rank, group->tp);
    float *room = group->tp > 1 ? room_of(state) : whole;
    PR_TRY(copy_out(state, room, part, (size_t)(tokens * part_cols) * sizeof(float)));
    return group->tensor_gather(group, room, whole, tokens, cols);
}

static pr_status expert_dispatch(pr_parallel *parallel, pr_dispatch_args *args)
{
    staged *state = parallel->state;
    pr_parallel *group = group_of(parallel);
    if (args->tokens > state->limits.tokens || args->chosen != state->limits.chosen ||
        args->hidden != state->limits.hidden)
        return pr_fail(
            PR_ERR_INTERNAL, "dispatch of %d tokens x %d experts x %d, staged for %d x %d x %d",
            args->tokens, args->chosen, args->hidden, state->limits.tokens, state->limits.chosen,
            state->limits.hidden);
    size_t pairs = (size_t)args->tokens * (size_t)args->chosen;
    pr_dispatch_args on_host = {
        .tokens = args->tokens,
        .chosen = args->chosen,
        .hidden = args->hidden,
        .x = state->floats,
        .expert = state->expert,
    };
    PR_TRY(copy_out(state, state->floats, args->x, row_bytes(state, args->tokens)));
    PR_TRY(copy_out(state, state->expert, args->expert, pairs * sizeof(int32_t)));
    PR_TRY(group->expert_dispatch(group, &on_host));
    if ((size_t)on_host.received > state->most_received)
        return pr_fail(
            PR_ERR_INTERNAL, "%d rows arrived for the experts, room for %zu", on_host.received,
            state->most_received);
    state->tokens = args->tokens;
    state->received = on_host.received;
    state->results_room = on_host.results;
    PR_TRY(copy_in(state, state->rows, on_host.rows, row_bytes(state, on_host.received)));
    PR_TRY(copy_in(
        state, state->count, on_host.count, (size_t)state->local_experts * sizeof(int32_t)));
    args->rows = state->rows;
    args->count = state->count;
    args->received = on_host.received;
    args->results = NULL;
    return PR_OK;
}

static pr_status expert_combine(pr_parallel *parallel, const pr_return_args *args)
{
    staged *state = parallel->state;
    pr_parallel *group = group_of(parallel);
    size_t hidden = (size_t)state->limits.hidden;
    int64_t pairs = (int64_t)state->tokens * state->limits.chosen;
    float *results = state->results_room ? state->results_room : state->results;
    const pr_return_args on_host = {.rows = results, .slot = state->slot};
    PR_TRY(copy_out(state, results, args->rows, row_bytes(state, state->received)));
    PR_TRY(group->expert_combine(group, &on_host));
    for (int64_t i = 0; i < pairs; i++)
        memcpy(state->slot_rows + (size_t)i * hidden, state->slot[i], hidden * sizeof(float));
    PR_TRY(copy_in(state, state->device_slot_rows, state->slot_rows, row_bytes(state, pairs)));
    return copy_in(state, args->slot, state->place, (size_t)pairs * sizeof(float *));
}

// ---- Setting up ------------------------------------------------------------------------------

typedef struct wanted_memory {
    bool on_host;
    size_t size_bytes;
    void **memory;
} wanted_memory;

static pr_status take_memory(staged *state, const wanted_memory *wanted)
{
    pr_device *device = state->device;
    return wanted->on_host ? device->host_take(device, wanted->size_bytes, wanted->memory)
                           : device->memory_take(device, wanted->size_bytes, wanted->memory);
}

static pr_status take_buffers(staged *state)
{
    const pr_parallel_staged_limits *limits = &state->limits;
    int32_t tp = state->group->tp;
    size_t rows = row_bytes(state, limits->tokens);
    size_t part = (size_t)limits->outputs *
                  (((size_t)limits->vocabulary + (size_t)tp - 1) / (size_t)tp) * sizeof(float);
    size_t pairs = (size_t)limits->tokens * (size_t)limits->chosen;
    size_t received = row_bytes(state, (int64_t)state->most_received);
    const wanted_memory wanted[] = {
        {true, rows > part ? rows : part, (void **)&state->floats},
        {true, pairs * sizeof(int32_t), (void **)&state->expert},
        {true, received, (void **)&state->results},
        {true, pairs * sizeof(float *), (void **)&state->slot},
        {true, row_bytes(state, (int64_t)pairs), (void **)&state->slot_rows},
        {true, pairs * sizeof(float *), (void **)&state->place},
        {false, received, (void **)&state->rows},
        {false, (size_t)state->local_experts * sizeof(int32_t), (void **)&state->count},
        {false, row_bytes(state, (int64_t)pairs), (void **)&state->device_slot_rows},
    };
    size_t count = limits->chosen > 0 ? sizeof wanted / sizeof *wanted : 1;
    for (size_t i = 0; i < count; i++)
        PR_TRY(take_memory(state, &wanted[i]));
    for (size_t i = 0; i < pairs; i++)
        state->place[i] = state->device_slot_rows + i * (size_t)limits->hidden;
    return PR_OK;
}

pr_status pr_parallel_staged_create(
    pr_parallel *group,
    pr_device *device,
    const pr_parallel_staged_limits *limits,
    pr_parallel **parallel)
{
    pr_parallel *made = calloc(1, sizeof *made);
    staged *state = calloc(1, sizeof *state);
    if (!made || !state) {
        free(made);
        free(state);
        return pr_fail(PR_ERR_RESOURCE, "no memory left for the exchange's copies");
    }
    int64_t local = pr_share_begin(group->experts, group->rank + 1, group->ranks) -
                    pr_share_begin(group->experts, group->rank, group->ranks);
    int64_t per_token = local < limits->chosen ? local : limits->chosen;
    *state = (staged){
        .group = group,
        .device = device,
        .limits = *limits,
        .local_experts = (int32_t)local,
        .most_received = (size_t)((int64_t)group->lanes * limits->tokens * per_token),
    };
    *made = *group;
    made->state = state;
    made->tensor_room = no_room;
    made->tensor_reduce = tensor_reduce;
    made->tensor_gather = tensor_gather;
    made->expert_dispatch = expert_dispatch;
    made->expert_combine = expert_combine;
    pr_status status = take_buffers(state);
    if (status != PR_OK) {
        pr_parallel_staged_destroy(made);
        return status;
    }
    *parallel = made;
    return PR_OK;
}

void pr_parallel_staged_destroy(pr_parallel *parallel)
{
    if (!parallel)
        return;
    staged *state = parallel->state;
    void *of_host[] = {state->floats,       state->expert,    state->results,
                       (void *)state->slot, state->slot_rows, (void *)state->place};
    void *of_device[] = {state->rows, state->count, state->device_slot_rows};
    for (size_t i = 0; i < sizeof of_host / sizeof *of_host; i++)
        state->device->host_release(state->device, of_host[i]);
    for (size_t i = 0; i < sizeof of_device / sizeof *of_device; i++)
        state->device->memory_release(state->device, of_device[i]);
    free(state);
    free(parallel);
}
