// SPDX-License-Identifier: BSD-3-Clause
// "Alone": the group of one rank. The reduce and the gather have nothing to add; experts are all
// here, so dispatch sorts rows by expert (a stable counting sort: tokens ascending within an
// expert, slots by prefix sum) and combine says where the result of each slot is.
#include "runtime/parallel.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

typedef struct alone {
    int32_t chosen, hidden, max_tokens;
    int32_t pairs;    // tokens * chosen of the dispatch in flight
    int32_t *count;   // [E]
    int32_t *next;    // [E] where the expert's next row goes
    int32_t *sorted;  // [max_tokens * K] row of each (token, slot) pair
    float *rows;      // [max_tokens * K][H]
} alone;

static float *alone_room(pr_parallel *parallel)
{
    (void)parallel;
    return NULL;
}

// Reduce and gather: the branch is the sum, the part is the whole.
static pr_status alone_take_whole(
    pr_parallel *parallel, const float *part, float *whole, int32_t tokens, int32_t cols)
{
    (void)parallel;
    if (part != whole)
        memcpy(whole, part, (size_t)tokens * (size_t)cols * sizeof(float));
    return PR_OK;
}

static pr_status alone_dispatch(pr_parallel *parallel, pr_dispatch_args *args)
{
    alone *state = parallel->state;
    if (args->tokens > state->max_tokens || args->chosen != state->chosen ||
        args->hidden != state->hidden)
        return pr_fail(
            PR_ERR_INTERNAL, "dispatch of %d tokens x %d experts x %d, made for %d x %d x %d",
            args->tokens, args->chosen, args->hidden, state->max_tokens, state->chosen,
            state->hidden);
    state->pairs = args->tokens * args->chosen;
    memset(state->count, 0, (size_t)parallel->experts * sizeof(int32_t));
    for (int32_t i = 0; i < state->pairs; i++)
        state->count[args->expert[i]]++;
    int32_t begin = 0;
    for (int32_t e = 0; e < parallel->experts; e++) {
        state->next[e] = begin;
        begin += state->count[e];
    }
    size_t row_elements = (size_t)args->hidden;
    for (int32_t i = 0; i < state->pairs; i++) {
        int32_t row = state->next[args->expert[i]]++;
        state->sorted[i] = row;
        memcpy(
            state->rows + (size_t)row * row_elements,
            args->x + (size_t)(i / args->chosen) * row_elements, row_elements * sizeof(float));
    }
    args->rows = state->rows;
    args->count = state->count;
    args->results = NULL;
    args->received = state->pairs;
    return PR_OK;
}

static pr_status alone_combine(pr_parallel *parallel, const pr_return_args *args)
{
    const alone *state = parallel->state;
    size_t row_elements = (size_t)state->hidden;
    for (int32_t i = 0; i < state->pairs; i++)
        args->slot[i] = args->rows + (size_t)state->sorted[i] * row_elements;
    return PR_OK;
}

pr_status pr_parallel_alone_create(
    int32_t experts, int32_t chosen, int32_t hidden, int32_t max_tokens, pr_parallel **parallel)
{
    if (experts < 0 || chosen < 0 || chosen > experts || hidden < 1 || max_tokens < 1)
        return pr_fail(
            PR_ERR_ARGUMENT, "%d of %d experts, hidden %d, %d tokens a step: out of bounds", chosen,
            experts, hidden, max_tokens);
    size_t pairs = (size_t)max_tokens * (size_t)chosen;
    if (pairs > INT32_MAX)
        return pr_fail(PR_ERR_ARGUMENT, "%zu expert rows in one step: too many", pairs);

    pr_parallel *made = calloc(1, sizeof(*made));
    alone *state = calloc(1, sizeof(*state));
    if (made == NULL || state == NULL) {
        free(made);
        free(state);
        return pr_fail(PR_ERR_RESOURCE, "no memory left for the expert exchange");
    }
    *made = (pr_parallel){
        .tp = 1,
        .lanes = 1,
        .ranks = 1,
        .experts = experts,
        .state = state,
        .tensor_room = alone_room,
        .tensor_reduce = alone_take_whole,
        .tensor_gather = alone_take_whole,
        .expert_dispatch = alone_dispatch,
        .expert_combine = alone_combine,
    };
    *state = (alone){.chosen = chosen, .hidden = hidden, .max_tokens = max_tokens};
    if (experts > 0) {
        state->count = calloc((size_t)experts, sizeof(int32_t));
        state->next = calloc((size_t)experts, sizeof(int32_t));
        state->sorted = calloc(pairs, sizeof(int32_t));
        state->rows = calloc(pairs, (size_t)hidden * sizeof(float));
        if (!state->count || !state->next || !state->sorted || !state->rows) {
            pr_parallel_alone_destroy(made);
            return pr_fail(
                PR_ERR_RESOURCE, "no memory left for %zu expert rows: use a smaller batch", pairs);
        }
    }
    *parallel = made;
    return PR_OK;
}

void pr_parallel_alone_destroy(pr_parallel *parallel)
{
    if (parallel == NULL)
        return;
    alone *state = parallel->state;
    free(state->count);
    free(state->next);
    free(state->sorted);
    free(state->rows);
    free(state);
    free(parallel);
}
