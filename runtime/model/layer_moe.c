// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/layer_moe.h"

#include <stdlib.h>

#include "runtime/base/log.h"

struct pr_layer_moe {
    pr_device *device;
    const pr_shard *shard;
    pr_parallel *parallel;
    int32_t hidden, experts, chosen, inner;
    bool renormalise;
    size_t max_received;
    float *logits;       // [T][E]
    int32_t *expert;     // [T][K]
    float *weight;       // [T][K]
    const float **slot;  // [T][K], each [H]; as the others the device's
    float *scratch;      // [2][received][I]
    float *result;       // [received][H]
};

// Most rows that can arrive: each token of each lane sends at most min(K, local experts).
static size_t most_received(const pr_layer_moe *moe, int32_t max_tokens)
{
    const pr_place *place = &moe->shard->place;
    int64_t local = pr_share_begin(moe->experts, place->rank + 1, place->ranks) -
                    pr_share_begin(moe->experts, place->rank, place->ranks);
    size_t per_token = (size_t)(local < moe->chosen ? local : moe->chosen);
    return (size_t)moe->parallel->lanes * (size_t)max_tokens * per_token;
}

static pr_status take_buffers(pr_layer_moe *moe, size_t tokens)
{
    size_t hidden = (size_t)moe->hidden, pairs = tokens * (size_t)moe->chosen;
    size_t received = moe->max_received;
    struct {
        size_t size_bytes;
        void **memory;
    } wanted[] = {
        {tokens * (size_t)moe->experts * sizeof(float), (void **)&moe->logits},
        {pairs * sizeof(int32_t), (void **)&moe->expert},
        {pairs * sizeof(float), (void **)&moe->weight},
        {pairs * sizeof(float *), (void **)&moe->slot},
        {received * 2 * (size_t)moe->inner * sizeof(float), (void **)&moe->scratch},
        {received * hidden * sizeof(float), (void **)&moe->result},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        PR_TRY(moe->device->memory_take(moe->device, wanted[i].size_bytes, wanted[i].memory));
    size_t rows = received > tokens ? received : tokens;
    int32_t columns = moe->inner > moe->hidden ? moe->inner : moe->hidden;
    return moe->device->reserve(moe->device, (int64_t)rows, columns, moe->experts);
}

pr_status pr_layer_moe_create(
    const pr_model *model,
    const pr_shard *shard,
    pr_parallel *parallel,
    const pr_forward_limits *limits,
    pr_layer_moe **moe)
{
    pr_layer_moe *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for the MoE layers");
    made->device = shard->device;
    made->shard = shard;
    made->parallel = parallel;
    made->hidden = model->hidden;
    made->experts = model->experts;
    made->chosen = model->experts_chosen;
    made->inner = model->expert_inner;
    made->renormalise = model->renormalise;
    made->max_received = most_received(made, limits->max_tokens);
    pr_status status = take_buffers(made, (size_t)limits->max_tokens);
    if (status != PR_OK) {
        pr_layer_moe_destroy(made);
        return status;
    }
    *moe = made;
    return PR_OK;
}

void pr_layer_moe_destroy(pr_layer_moe *moe)
{
    if (moe == NULL)
        return;
    void *taken[] = {moe->logits, moe->expert, moe->weight, moe->slot, moe->scratch, moe->result};
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        moe->device->memory_release(moe->device, taken[i]);
    free(moe);
}

static void choose(pr_layer_moe *moe, const pr_matrix *gate, int32_t tokens, const float *x)
{
    pr_device *device = moe->device;
    pr_matmul_args matmul = {.rows = tokens, .x = x, .matrix = gate, .y = moe->logits};
    pr_topk_args topk = {
        .tokens = tokens,
        .experts = moe->experts,
        .chosen = moe->chosen,
        .logits = moe->logits,
        .renormalise = moe->renormalise,
        .expert = moe->expert,
        .weight = moe->weight,
    };
    device->matmul(device, &matmul, 1);
    device->topk(device, &topk);
}

static void
compute_experts(pr_layer_moe *moe, const pr_layer_weights *weights, const pr_dispatch_args *arrived)
{
    pr_experts_args experts = {
        .experts = weights->experts,
        .rows = arrived->received,
        .count = arrived->count,
        .gate = (const pr_matrix *const *)weights->expert_gate_proj,
        .up = (const pr_matrix *const *)weights->expert_up_proj,
        .down = (const pr_matrix *const *)weights->expert_down_proj,
        .hidden = moe->hidden,
        .inner = moe->inner,
        .row_of = arrived->row_of,
        .x = arrived->rows,
        .scratch = moe->scratch,
        .y = arrived->results ? arrived->results : moe->result,
    };
    moe->device->experts(moe->device, &experts);
}

pr_status
pr_layer_moe_run(pr_layer_moe *moe, int32_t layer, int32_t tokens, const float *x, float *y)
{
    pr_parallel *parallel = moe->parallel;
    const pr_layer_weights *weights = &moe->shard->layer[layer];
    choose(moe, weights->expert_gate, tokens, x);

    pr_dispatch_args dispatch = {
        .tokens = tokens,
        .chosen = moe->chosen,
        .hidden = moe->hidden,
        .x = x,
        .expert = moe->expert,
    };
    PR_TRY(parallel->expert_dispatch(parallel, &dispatch));
    if ((size_t)dispatch.received > moe->max_received)
        return pr_fail(
            PR_ERR_INTERNAL, "%d rows arrived for the experts, room for %zu", dispatch.received,
            moe->max_received);
    compute_experts(moe, weights, &dispatch);
    pr_return_args back = {
        .rows = dispatch.results ? dispatch.results : moe->result, .slot = moe->slot};
    if (dispatch.place == NULL)
        PR_TRY(parallel->expert_combine(parallel, &back));

    pr_combine_args combine = {
        .tokens = tokens,
        .chosen = moe->chosen,
        .hidden = moe->hidden,
        .row = dispatch.place == NULL ? moe->slot : NULL,
        .place = dispatch.place,
        .rows = back.rows,
        .weight = moe->weight,
        .y = y,
    };
    moe->device->combine(moe->device, &combine);
    return PR_OK;
}
