// SPDX-License-Identifier: BSD-3-Clause
// The operations of runtime/operation.h, put into the device's stream: what the step's tables say is read from
// the device's copy of them.
#include <assert.h>

#include "kernels/gpu/gpu_matrix.h"
#include "kernels/gpu/gpu_state.h"
#include "runtime/base/log.h"

static const pr_gpu_operations *begin(pr_device *device, const char *operation)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    state->last = operation;
    return state->backend->operations;
}

static pr_gpu_stream *stream_of(pr_device *device) { return pr_gpu_state_of(device)->stream; }

static void embed(pr_device *device, const pr_embed_args *args)
{
    const pr_gpu_tables *tables = &pr_gpu_state_of(device)->tables;
    assert(args->token == tables->step.token);
    const pr_gpu_embed_args embed = {
        .tokens = args->tokens,
        .token = tables->device + tables->token,
        .table = args->table,
        .table_is_bf16 = args->dtype == PR_BF16,
        .hidden = args->hidden,
        .x = args->x,
    };
    begin(device, "embed")->embed(stream_of(device), &embed);
}

static void rmsnorm(pr_device *device, const pr_rmsnorm_args *args)
{
    const int32_t *row =
        args->row && args->tokens > 0 ? pr_gpu_tables_rows(device, args->row, args->tokens) : NULL;
    const pr_gpu_rmsnorm_args norm = {
        .tokens = args->tokens,
        .hidden = args->hidden,
        .x = args->x,
        .addend = args->addend,
        .weight = args->weight,
        .epsilon = args->epsilon,
        .row = row,
        .y = args->y,
    };
    begin(device, "rmsnorm")->rmsnorm(stream_of(device), &norm);
}

static void matmul(pr_device *device, const pr_matmul_args *args, int32_t count)
{
    pr_gpu_matmul_args product[PR_MATMUL_MOST];
    assert(count <= PR_MATMUL_MOST);
    for (int32_t i = 0; i < count; i++)
        product[i] = (pr_gpu_matmul_args){
            .rows = args[i].rows,
            .x = args[i].x,
            .weights = args[i].matrix->weights,
            .bias = args[i].bias,
            .y = args[i].y,
            .scratch = pr_gpu_state_of(device)->products,
        };
    begin(device, "matmul")->matmul(stream_of(device), product, count);
}

static void gated(pr_device *device, const pr_gated_args *args)
{
    const pr_matmul_args products[] = {
        {.rows = args->rows, .x = args->x, .matrix = args->gate, .y = args->y},
        {.rows = args->rows, .x = args->x, .matrix = args->up, .y = args->scratch},
    };
    const pr_gpu_gated_args both = {
        .elements = (int64_t)args->rows * args->gate->weights.rows,
        .gate = args->y,
        .up = args->scratch,
        .y = args->y,
    };
    matmul(device, products, 2);
    begin(device, "gated")->gated(stream_of(device), &both);
}

static void rope_store(pr_device *device, const pr_rope_store_args *args)
{
    const pr_gpu_tables *tables = &pr_gpu_state_of(device)->tables;
    assert(args->position == tables->step.position && args->block == tables->step.block);
    const pr_gpu_rope_store_args rope = {
        .tokens = args->tokens,
        .query_heads = args->query_heads,
        .kv_heads = args->kv_heads,
        .head_size = args->head_size,
        .q = args->q,
        .k = args->k,
        .v = args->v,
        .q_norm = args->q_norm,
        .k_norm = args->k_norm,
        .epsilon = args->epsilon,
        .cosine = args->cosine,
        .sine = args->sine,
        .position = tables->device + tables->position,
        .block = tables->device + tables->block,
        .block_tokens = args->block_tokens,
        .kv_is_bf16 = args->kv_dtype == PR_BF16,
        .k_pages = args->k_pages,
        .v_pages = args->v_pages,
    };
    begin(device, "rope_store")->rope_store(stream_of(device), &rope);
}

static void attention(pr_device *device, const pr_attention_args *args)
{
    const pr_gpu_state *state = pr_gpu_state_of(device);
    const pr_gpu_tables *tables = &state->tables;
    assert(args->segment == tables->step.segment);
    const pr_gpu_attention_args scores = {
        .tokens = tables->step.tokens,
        .segments = args->segments,
        .segment = (const pr_gpu_segment *)(const void *)(tables->device + tables->segment),
        .segment_of = tables->device + tables->segment_of,
        .position = tables->device + tables->position,
        .blocks = tables->device + tables->blocks,
        .most_positions = tables->most_positions,
        .most_rows = tables->most_rows,
        .query_heads = args->query_heads,
        .kv_heads = args->kv_heads,
        .head_size = args->head_size,
        .block_tokens = args->block_tokens,
        .scale = args->scale,
        .q = args->q,
        .kv_is_bf16 = args->kv_dtype == PR_BF16,
        .k_pages = args->k_pages,
        .v_pages = args->v_pages,
        .partial = state->partial,
        .out = args->out,
    };
    if (scores.tokens > 0)
        begin(device, "attention")->attention(stream_of(device), &scores);
}

static void topk(pr_device *device, const pr_topk_args *args)
{
    const pr_gpu_topk_args choice = {
        .tokens = args->tokens,
        .experts = args->experts,
        .chosen = args->chosen,
        .logits = args->logits,
        .renormalise = args->renormalise,
        .expert = args->expert,
        .weight = args->weight,
    };
    begin(device, "topk")->topk(stream_of(device), &choice);
}

static void experts(pr_device *device, const pr_experts_args *args)
{
    if (args->experts == 0 || args->rows == 0)
        return;
    const pr_gpu_weights *gate = &args->gate[0]->weights, *down = &args->down[0]->weights;
    const pr_gpu_experts_args all = {
        .experts = args->experts,
        .most_rows = args->rows,
        .count = args->count,
        .gate = gate->data,
        .up = args->up[0]->weights.data,
        .down = down->data,
        .is_bf16 = gate->is_bf16,
        .hidden = args->hidden,
        .inner = args->inner,
        .hidden_padded = gate->stride,
        .inner_padded = down->stride,
        .row_of = args->row_of,
        .x = args->x,
        .scratch = pr_gpu_state_of(device)->products,
        .y = args->y,
    };
    begin(device, "experts")->experts(stream_of(device), &all);
}

static void combine(pr_device *device, const pr_combine_args *args)
{
    const pr_gpu_combine_args sum = {
        .tokens = args->tokens,
        .chosen = args->chosen,
        .hidden = args->hidden,
        .rows = args->rows,
        .place = args->place,
        .slot = args->row,
        .weight = args->weight,
        .y = args->y,
    };
    begin(device, "combine")->combine(stream_of(device), &sum);
}

static void add(pr_device *device, const pr_add_args *args)
{
    const pr_gpu_add_args sum = {
        .elements = args->elements,
        .x = args->x,
        .y = args->y,
        .period = args->period,
    };
    begin(device, "add")->add(stream_of(device), &sum);
}

static void gather(pr_device *device, const pr_gather_args *args)
{
    const pr_gpu_gather_args rows = {
        .rows = args->rows,
        .hidden = args->cols,
        .row_of = args->row_of,
        .from = args->from,
        .to = args->to,
    };
    begin(device, "gather")->gather(stream_of(device), &rows);
}

static void *queue(pr_device *device) { return stream_of(device); }

// What products put between their launches: experts' the most, of bfloat16 or float32 weights.
static size_t
products_bytes(const pr_gpu_operations *operations, int32_t rows, int32_t cols, int32_t experts)
{
    int32_t padded = (cols + PR_GPU_PADDED_COLS - 1) / PR_GPU_PADDED_COLS * PR_GPU_PADDED_COLS;
    pr_gpu_experts_args all = {
        .most_rows = rows,
        .is_bf16 = true,
        .hidden = cols,
        .inner = cols,
        .hidden_padded = padded,
        .inner_padded = padded,
    };
    size_t one = operations->matmul_scratch_bytes(rows, cols);
    if (experts == 0)
        return one;
    size_t rounded = operations->experts_scratch_bytes(&all);
    all.is_bf16 = false;
    size_t whole = operations->experts_scratch_bytes(&all);
    one = one > rounded ? one : rounded;
    return one > whole ? one : whole;
}

static pr_status reserve(pr_device *device, int64_t rows, int64_t cols, int32_t local_experts)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    size_t wanted =
        products_bytes(state->backend->operations, (int32_t)rows, (int32_t)cols, local_experts);
    void *products;
    if (wanted <= state->products_bytes)
        return PR_OK;
    PR_TRY(device->memory_take(device, wanted, &products));
    device->memory_release(device, state->products);
    state->products = products;
    state->products_bytes = wanted;
    return PR_OK;
}

void pr_gpu_calls_fill(pr_device *device)
{
    device->reserve = reserve;
    device->embed = embed;
    device->rmsnorm = rmsnorm;
    device->matmul = matmul;
    device->gated = gated;
    device->rope_store = rope_store;
    device->attention = attention;
    device->topk = topk;
    device->experts = experts;
    device->combine = combine;
    device->add = add;
    device->gather = gather;
    device->queue = queue;
}
