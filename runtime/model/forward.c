// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/forward.h"

#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/model/layer_attention.h"
#include "runtime/model/layer_mlp.h"
#include "runtime/model/layer_moe.h"
#include "runtime/model/padded_batch.h"

struct pr_forward {
    const pr_model *model;
    const pr_shard *shard;
    pr_device *device;
    pr_kv_store *store;
    pr_parallel *parallel;
    pr_forward_limits limits;
    int32_t tokens;  // T of the step whose residual stream is in x
    pr_layer_attention *attention;
    pr_layer_mlp *mlp;        // NULL if every layer is MoE
    pr_layer_moe *moe;        // NULL if none is
    pr_padded_batch *padded;  // NULL: the device makes no graphs, or a step waits for the host
    float *x;                 // [T][H] the residual stream
    float *normed;            // [T][H]
    float *y;                 // [T][H] what a block adds to x
    float *last;              // [S][H] final norm of the output rows
    float
        *part;  // [S][V of this rank]; NULL where a rank alone has its logits in the host's memory
    float *logits;  // [S][V], the host's
};

static pr_status
check_setup(const pr_shard *shard, const pr_parallel *parallel, const pr_forward_limits *limits)
{
    if (limits->max_tokens < 1 || limits->max_outputs < 1 || limits->max_positions < 1)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "steps of %d tokens, %d outputs, %d positions: each must be at least 1",
            limits->max_tokens, limits->max_outputs, limits->max_positions);
    if (shard->place.tp != parallel->tp || shard->place.tp_rank != parallel->tp_rank ||
        shard->place.ranks != parallel->ranks || shard->place.rank != parallel->rank)
        return pr_fail(
            PR_ERR_INTERNAL, "weights and communicator disagree about this rank's place");
    return PR_OK;
}

static pr_status take_rows(pr_forward *forward, int32_t rows, int64_t cols, float **floats)
{
    void *memory;
    size_t size_bytes = (size_t)rows * (size_t)cols * sizeof(float);
    PR_TRY(forward->device->memory_take(forward->device, size_bytes, &memory));
    *floats = memory;
    return PR_OK;
}

static pr_status take_logits(pr_forward *forward, int64_t vocabulary)
{
    void *memory;
    size_t size_bytes = (size_t)forward->limits.max_outputs * (size_t)vocabulary * sizeof(float);
    PR_TRY(forward->device->host_take(forward->device, size_bytes, &memory));
    forward->logits = memory;
    return PR_OK;
}

static pr_status take_buffers(pr_forward *forward)
{
    const pr_forward_limits *limits = &forward->limits;
    int32_t hidden = forward->model->hidden;
    int64_t vocabulary = forward->model->vocabulary;
    int32_t tp = forward->parallel->tp, tp_rank = forward->parallel->tp_rank;
    PR_TRY(take_rows(forward, limits->max_tokens, hidden, &forward->x));
    PR_TRY(take_rows(forward, limits->max_tokens, hidden, &forward->normed));
    PR_TRY(take_rows(forward, limits->max_tokens, hidden, &forward->y));
    PR_TRY(take_rows(forward, limits->max_outputs, hidden, &forward->last));
    PR_TRY(forward->device->reserve(forward->device, limits->max_outputs, hidden, 0));
    PR_TRY(take_logits(forward, vocabulary));
    if (tp == 1 && forward->device->is_host)
        return PR_OK;
    int64_t part =
        pr_share_begin(vocabulary, tp_rank + 1, tp) - pr_share_begin(vocabulary, tp_rank, tp);
    return take_rows(forward, limits->max_outputs, part, &forward->part);
}

static pr_status create_layers(pr_forward *forward)
{
    const pr_model *model = forward->model;
    const pr_shard *shard = forward->shard;
    const pr_forward_limits *limits = &forward->limits;
    int32_t moe_layers = 0;
    for (int32_t layer = 0; layer < model->layers; layer++)
        moe_layers += model->layer_is_moe[layer];
    PR_TRY(pr_layer_attention_create(model, shard, forward->store, limits, &forward->attention));
    if (moe_layers < model->layers)
        PR_TRY(pr_layer_mlp_create(model, shard, limits, &forward->mlp));
    if (moe_layers > 0)
        PR_TRY(pr_layer_moe_create(model, shard, forward->parallel, limits, &forward->moe));
    return PR_OK;
}

pr_status pr_forward_create(
    const pr_model *model,
    const pr_shard *shard,
    pr_kv_store *store,
    pr_parallel *parallel,
    const pr_forward_limits *limits,
    pr_forward **forward)
{
    PR_TRY(check_setup(shard, parallel, limits));
    pr_forward *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for the forward pass");
    made->model = model;
    made->shard = shard;
    made->device = shard->device;
    made->store = store;
    made->parallel = parallel;
    made->limits = *limits;
    pr_status status = take_buffers(made);
    if (status == PR_OK)
        status = create_layers(made);
    if (status == PR_OK && made->device->graph_rows && parallel->on_device)
        status = pr_padded_batch_create(limits->max_outputs, &made->padded);
    if (status != PR_OK) {
        pr_forward_destroy(made);
        return status;
    }
    *forward = made;
    return PR_OK;
}

void pr_forward_destroy(pr_forward *forward)
{
    if (forward == NULL)
        return;
    pr_layer_attention_destroy(forward->attention);
    pr_layer_mlp_destroy(forward->mlp);
    pr_layer_moe_destroy(forward->moe);
    pr_padded_batch_destroy(forward->padded);
    float *taken[] = {forward->x, forward->normed, forward->y, forward->last, forward->part};
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        forward->device->memory_release(forward->device, taken[i]);
    forward->device->host_release(forward->device, forward->logits);
    free(forward);
}

static void embed(pr_forward *forward, const pr_forward_batch *batch)
{
    pr_embed_args args = {
        .tokens = batch->tokens,
        .token = batch->token,
        .table = forward->shard->embedding,
        .dtype = forward->shard->embedding_dtype,
        .hidden = forward->model->hidden,
        .x = forward->x,
    };
    forward->device->embed(forward->device, &args);
}

// x += addend (unless NULL), y = norm(x).
static void norm(
    pr_forward *forward, int32_t rows, float *x, const float *addend, const float *weight, float *y)
{
    pr_rmsnorm_args args = {
        .tokens = rows,
        .hidden = forward->model->hidden,
        .x = x,
        .addend = addend,
        .weight = weight,
        .epsilon = forward->model->norm_epsilon,
        .y = y,
    };
    forward->device->rmsnorm(forward->device, &args);
}

// period: of y, 0 if it is as long as x.
static void add(pr_forward *forward, int64_t elements, float *x, const float *y, int64_t period)
{
    const pr_add_args args = {.elements = elements, .x = x, .y = y, .period = period};
    forward->device->add(forward->device, &args);
}

// Where to compute what the lane's ranks then reduce or gather.
static float *room(pr_forward *forward, float *otherwise)
{
    pr_parallel *parallel = forward->parallel;
    float *shared = parallel->tp > 1 ? parallel->tensor_room(parallel) : NULL;
    return shared != NULL ? shared : otherwise;
}

// Branch sums of the lane's ranks become the whole sum, in y on each of them.
static pr_status reduce(pr_forward *forward, const float *branch, int32_t tokens)
{
    pr_parallel *parallel = forward->parallel;
    if (parallel->tp == 1)
        return PR_OK;
    return parallel->tensor_reduce(parallel, branch, forward->y, tokens, forward->model->hidden);
}

// What the block before added stays in y until the next norm takes it into x.

// x += y unless this is the first layer; y = attention(norm(x))
static pr_status attention_block(pr_forward *forward, int32_t layer, const pr_forward_batch *batch)
{
    const pr_layer_weights *weights = &forward->shard->layer[layer];
    int32_t tokens = batch->tokens, hidden = forward->model->hidden;
    const float *addend = layer > 0 ? forward->y : NULL;
    float *branch = room(forward, forward->y);
    norm(forward, tokens, forward->x, addend, weights->attention_norm, forward->normed);
    pr_layer_attention_run(forward->attention, layer, batch, forward->normed, branch);
    if (batch->layer_done != NULL)
        batch->layer_done(batch->context, layer);
    PR_TRY(reduce(forward, branch, tokens));
    if (weights->o_bias != NULL)
        add(forward, (int64_t)tokens * hidden, forward->y, weights->o_bias, hidden);
    return PR_OK;
}

// x += y; y = mlp(norm(x)), dense or of experts
static pr_status mlp_block(pr_forward *forward, int32_t layer, int32_t tokens)
{
    const pr_layer_weights *weights = &forward->shard->layer[layer];
    norm(forward, tokens, forward->x, forward->y, weights->mlp_norm, forward->normed);
    if (forward->model->layer_is_moe[layer])
        return pr_layer_moe_run(forward->moe, layer, tokens, forward->normed, forward->y);
    float *branch = room(forward, forward->y);
    pr_layer_mlp_run(forward->mlp, layer, tokens, forward->normed, branch);
    return reduce(forward, branch, tokens);
}

// Where the logits of this rank's part of the vocabulary come.
static float *part_of(pr_forward *forward)
{
    return room(forward, forward->part != NULL ? forward->part : forward->logits);
}

static void project_rows(pr_forward *forward, const int32_t *row, int32_t rows)
{
    pr_device *device = forward->device;
    const pr_model *model = forward->model;
    pr_rmsnorm_args last = {
        .tokens = rows,
        .hidden = model->hidden,
        .x = forward->x,
        .weight = forward->shard->final_norm,
        .epsilon = model->norm_epsilon,
        .row = row,
        .y = forward->last,
    };
    device->rmsnorm(device, &last);
    pr_matmul_args head = {
        .rows = rows,
        .x = forward->last,
        .matrix = forward->shard->head,
        .y = part_of(forward),
    };
    device->matmul(device, &head, 1);
}

static pr_status gather_logits(pr_forward *forward, int32_t rows, float **logits)
{
    pr_parallel *parallel = forward->parallel;
    float *part = part_of(forward);
    if (part != forward->logits)
        PR_TRY(parallel->tensor_gather(
            parallel, part, forward->logits, rows, forward->model->vocabulary));
    *logits = forward->logits;
    return PR_OK;
}

// The plan comes from another rank: what would write outside our memory is refused here.
static pr_status check_batch(const pr_forward *forward, const pr_forward_batch *batch)
{
    const pr_forward_limits *limits = &forward->limits;
    int32_t next_row = 0;
    bool good = batch->tokens >= 0 && batch->tokens <= limits->max_tokens && batch->outputs >= 0 &&
                batch->outputs <= limits->max_outputs &&
                (limits->max_segments == 0 || batch->segments <= limits->max_segments);
    for (int32_t s = 0; good && s < batch->segments; s++) {
        const pr_segment *segment = &batch->segment[s];
        good = segment->first_row == next_row && segment->rows > 0 &&
               segment->rows <= batch->tokens - next_row && segment->start_position >= 0 &&
               segment->rows <= limits->max_positions - segment->start_position;
        for (int32_t i = 0; good && i < segment->rows; i++)
            good = batch->position[next_row + i] == segment->start_position + i;
        int32_t end = segment->start_position + segment->rows;
        int32_t b = forward->store->block_tokens;
        for (int32_t i = 0; good && i < (end + b - 1) / b; i++)
            good = segment->block[i] >= 0 && segment->block[i] < forward->store->blocks;
        next_row += segment->rows;
    }
    good = good && next_row == batch->tokens;
    for (int32_t t = 0; good && t < batch->tokens; t++)
        good = batch->token[t] >= 0 && batch->token[t] < forward->model->vocabulary;
    for (int32_t s = 0; good && s < batch->outputs; s++)
        good = batch->output_row[s] >= 0 && batch->output_row[s] < batch->tokens;
    if (!good)
        return pr_fail(
            PR_ERR_INTERNAL,
            "a step of %d tokens in %d segments with %d outputs does not fit together",
            batch->tokens, batch->segments, batch->outputs);
    return PR_OK;
}

// From tokens to the logits of this rank.
static pr_status run_layers(pr_forward *forward, const pr_forward_batch *batch)
{
    embed(forward, batch);
    for (int32_t layer = 0; layer < forward->model->layers; layer++) {
        forward->parallel->layer = layer;
        PR_TRY(attention_block(forward, layer, batch));
        PR_TRY(mlp_block(forward, layer, batch->tokens));
    }
    forward->parallel->layer = -1;
    add(forward, (int64_t)batch->tokens * forward->model->hidden, forward->x, forward->y, 0);
    project_rows(forward, batch->output_row, batch->outputs);
    return PR_OK;
}

static pr_status begin_step(pr_forward *forward, const pr_forward_batch *batch)
{
    const pr_step_tables tables = {
        .tokens = batch->tokens,
        .token = batch->token,
        .position = batch->position,
        .block = pr_layer_attention_begin(forward->attention, batch),
        .segments = batch->segments,
        .block_tokens = forward->store->block_tokens,
        .segment = batch->segment,
        .outputs = batch->outputs,
        .output_row = batch->output_row,
    };
    return forward->device->step_begin(forward->device, &tables);
}

// A step of `rows` rows as a graph of the device, recorded on the way if it is not yet; without one where the host has
// to be told of layers, which is this rank's own affair, but with the same rows.
static pr_status run_padded(pr_forward *forward, const pr_forward_batch *batch, int32_t rows)
{
    pr_device *device = forward->device;
    const pr_forward_batch *padded = pr_padded_batch_fill(forward->padded, batch, rows);
    PR_TRY(begin_step(forward, padded));
    if (padded->layer_done != NULL)
        return run_layers(forward, padded);
    if (device->graph_begin(device))
        return PR_OK;
    pr_status status = run_layers(forward, padded);
    bool ran = device->graph_end(device);
    PR_TRY(status);
    return ran ? PR_OK : run_layers(forward, padded);
}

pr_status pr_forward_run(pr_forward *forward, const pr_forward_batch *batch, float **logits)
{
    PR_TRY(check_batch(forward, batch));
    forward->tokens = batch->tokens;
    int32_t rows = forward->padded && pr_padded_batch_can(batch)
                       ? forward->device->graph_rows(forward->device, batch->tokens)
                       : 0;
    if (rows > 0) {
        PR_TRY(run_padded(forward, batch, rows));
    } else {
        PR_TRY(begin_step(forward, batch));
        PR_TRY(run_layers(forward, batch));
    }
    return gather_logits(forward, batch->outputs, logits);
}

pr_status pr_forward_logits(pr_forward *forward, const int32_t *row, int32_t rows, float **logits)
{
    bool good = rows >= 0 && rows <= forward->limits.max_outputs;
    for (int32_t i = 0; good && i < rows; i++)
        good = row[i] >= 0 && row[i] < forward->tokens;
    if (!good)
        return pr_fail(
            PR_ERR_INTERNAL, "logits of %d rows were asked for, of a step of %d", rows,
            forward->tokens);
    project_rows(forward, row, rows);
    return gather_logits(forward, rows, logits);
}
