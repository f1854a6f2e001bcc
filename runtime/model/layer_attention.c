// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/layer_attention.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/elementary.h"
#include "runtime/base/log.h"

struct pr_layer_attention {
    pr_device *device;
    const pr_shard *shard;
    const pr_kv_store *store;
    int32_t query_heads, kv_heads, head_size;  // of this rank
    float scale, norm_epsilon;
    float *cosine, *sine;  // [max_positions][d/2]
    float *q, *out;        // [T][h][d]
    float *k, *v;          // [T][g][d]
    int32_t *block;        // [T], the host's
};

static pr_status take_floats(pr_device *device, size_t rows, size_t cols, float **floats)
{
    void *memory;
    PR_TRY(device->memory_take(device, rows * cols * sizeof(float), &memory));
    *floats = memory;
    return PR_OK;
}

// Positions whose tables are made before they are copied to the device.
enum { POSITIONS_AT_ONCE = 1024 };

// Of one chunk of positions.
typedef struct rotary_chunk {
    double *frequency;     // [d/2]
    float *cosine, *sine;  // [POSITIONS_AT_ONCE][d/2]
} rotary_chunk;

static pr_status take_rotary_chunk(size_t half, rotary_chunk *chunk)
{
    size_t floats = POSITIONS_AT_ONCE * half;
    *chunk = (rotary_chunk){
        .frequency = malloc(half * sizeof(double)),
        .cosine = malloc(floats * sizeof(float)),
        .sine = malloc(floats * sizeof(float)),
    };
    if (chunk->frequency == NULL || chunk->cosine == NULL || chunk->sine == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for rotary tables");
    return PR_OK;
}

static void release_rotary_chunk(rotary_chunk *chunk)
{
    free(chunk->frequency);
    free(chunk->cosine);
    free(chunk->sine);
}

// Angles are products of floats, as the models were trained with.
static void
fill_rotary_chunk(rotary_chunk *chunk, size_t half, float factor, int32_t first, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        for (size_t j = 0; j < half; j++) {
            float angle = (float)(first + i) * (float)chunk->frequency[j];
            double sine, cosine;
            pr_sin_cos((double)angle, &sine, &cosine);
            chunk->cosine[(size_t)i * half + j] = (float)cosine * factor;
            chunk->sine[(size_t)i * half + j] = (float)sine * factor;
        }
    }
}

static pr_status copy_rotary_tables(
    pr_layer_attention *attention, const pr_rope *rope, int32_t positions, rotary_chunk *chunk)
{
    pr_device *device = attention->device;
    size_t half = (size_t)attention->head_size / 2;
    for (int32_t first = 0; first < positions; first += POSITIONS_AT_ONCE) {
        int32_t left = positions - first;
        int32_t count = left < POSITIONS_AT_ONCE ? left : POSITIONS_AT_ONCE;
        size_t at = (size_t)first * half, size_bytes = (size_t)count * half * sizeof(float);
        fill_rotary_chunk(chunk, half, (float)rope->attention_factor, first, count);
        PR_TRY(device->copy_in(device, attention->cosine + at, chunk->cosine, size_bytes));
        PR_TRY(device->copy_in(device, attention->sine + at, chunk->sine, size_bytes));
    }
    return PR_OK;
}

static pr_status
fill_rotary_tables(pr_layer_attention *attention, const pr_rope *rope, int32_t positions)
{
    rotary_chunk chunk;
    pr_status status = take_rotary_chunk((size_t)attention->head_size / 2, &chunk);
    if (status == PR_OK) {
        pr_rope_frequencies(rope, attention->head_size, chunk.frequency);
        status = copy_rotary_tables(attention, rope, positions, &chunk);
    }
    release_rotary_chunk(&chunk);
    return status;
}

static pr_status
take_buffers(pr_layer_attention *attention, const pr_forward_limits *limits, int64_t hidden)
{
    pr_device *device = attention->device;
    size_t d = (size_t)attention->head_size, tokens = (size_t)limits->max_tokens;
    size_t query = (size_t)attention->query_heads * d, kv = (size_t)attention->kv_heads * d;
    size_t positions = (size_t)limits->max_positions;
    PR_TRY(take_floats(device, positions, d / 2, &attention->cosine));
    PR_TRY(take_floats(device, positions, d / 2, &attention->sine));
    PR_TRY(take_floats(device, tokens, query, &attention->q));
    PR_TRY(take_floats(device, tokens, query, &attention->out));
    PR_TRY(take_floats(device, tokens, kv, &attention->k));
    PR_TRY(take_floats(device, tokens, kv, &attention->v));
    int64_t columns = (int64_t)query > hidden ? (int64_t)query : hidden;
    PR_TRY(device->reserve(device, limits->max_tokens, columns, 0));
    attention->block = calloc(tokens, sizeof(int32_t));
    if (attention->block == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for the blocks of %zu rows", tokens);
    const pr_step_limits step = {
        .tokens = limits->max_tokens,
        .segments = limits->max_segments > 0 ? limits->max_segments : limits->max_tokens,
        .outputs = limits->max_outputs,
        .positions = limits->max_positions,
        .block_tokens = attention->store->block_tokens,
        .query_heads = attention->query_heads,
        .head_size = attention->head_size,
    };
    return device->step_reserve(device, &step);
}

pr_status pr_layer_attention_create(
    const pr_model *model,
    const pr_shard *shard,
    pr_kv_store *store,
    const pr_forward_limits *limits,
    pr_layer_attention **attention)
{
    int32_t tp = shard->place.tp;
    if (store->kv_heads != model->kv_heads / tp || store->head_size != model->head_size ||
        store->layers != model->layers || store->device != shard->device)
        return pr_fail(PR_ERR_INTERNAL, "the KV store was made for another model or device");
    pr_layer_attention *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for attention");
    made->device = shard->device;
    made->shard = shard;
    made->store = store;
    made->query_heads = model->query_heads / tp;
    made->kv_heads = model->kv_heads / tp;
    made->head_size = model->head_size;
    made->scale = (float)(1.0 / sqrt((double)model->head_size));
    made->norm_epsilon = model->norm_epsilon;
    pr_status status = take_buffers(made, limits, model->hidden);
    if (status == PR_OK)
        status = fill_rotary_tables(made, &model->rope, limits->max_positions);
    if (status != PR_OK) {
        pr_layer_attention_destroy(made);
        return status;
    }
    *attention = made;
    return PR_OK;
}

void pr_layer_attention_destroy(pr_layer_attention *attention)
{
    if (attention == NULL)
        return;
    pr_device *device = attention->device;
    void *taken[] = {
        attention->cosine, attention->sine, attention->q,
        attention->out,    attention->k,    attention->v,
    };
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        device->memory_release(device, taken[i]);
    free(attention->block);
    free(attention);
}

const int32_t *
pr_layer_attention_begin(pr_layer_attention *attention, const pr_forward_batch *batch)
{
    int32_t block_tokens = attention->store->block_tokens;
    for (int32_t s = 0; s < batch->segments; s++) {
        const pr_segment *segment = &batch->segment[s];
        for (int32_t i = 0; i < segment->rows; i++) {
            int32_t position = segment->start_position + i;
            attention->block[segment->first_row + i] = segment->block[position / block_tokens];
        }
    }
    return attention->block;
}

static void project(
    pr_layer_attention *attention, const pr_layer_weights *weights, int32_t tokens, const float *x)
{
    pr_device *device = attention->device;
    const pr_matmul_args args[] = {
        {.rows = tokens, .x = x, .matrix = weights->q, .bias = weights->q_bias, .y = attention->q},
        {.rows = tokens, .x = x, .matrix = weights->k, .bias = weights->k_bias, .y = attention->k},
        {.rows = tokens, .x = x, .matrix = weights->v, .bias = weights->v_bias, .y = attention->v},
    };
    device->matmul(device, args, 3);
}

void pr_layer_attention_run(
    pr_layer_attention *attention,
    int32_t layer,
    const pr_forward_batch *batch,
    const float *x,
    float *y)
{
    pr_device *device = attention->device;
    const pr_layer_weights *weights = &attention->shard->layer[layer];
    const pr_kv_store *store = attention->store;
    project(attention, weights, batch->tokens, x);
    pr_rope_store_args rope_store = {
        .tokens = batch->tokens,
        .query_heads = attention->query_heads,
        .kv_heads = attention->kv_heads,
        .head_size = attention->head_size,
        .q = attention->q,
        .k = attention->k,
        .v = attention->v,
        .q_norm = weights->q_norm,
        .k_norm = weights->k_norm,
        .epsilon = attention->norm_epsilon,
        .cosine = attention->cosine,
        .sine = attention->sine,
        .position = batch->position,
        .block = attention->block,
        .block_tokens = store->block_tokens,
        .kv_dtype = store->dtype,
        .k_pages = pr_kv_store_pages(store, layer, 0),
        .v_pages = pr_kv_store_pages(store, layer, 1),
    };
    device->rope_store(device, &rope_store);
    pr_attention_args scores = {
        .segments = batch->segments,
        .segment = batch->segment,
        .query_heads = attention->query_heads,
        .kv_heads = attention->kv_heads,
        .head_size = attention->head_size,
        .block_tokens = store->block_tokens,
        .scale = attention->scale,
        .q = attention->q,
        .kv_dtype = store->dtype,
        .k_pages = rope_store.k_pages,
        .v_pages = rope_store.v_pages,
        .out = attention->out,
    };
    device->attention(device, &scores);
    pr_matmul_args output = {
        .rows = batch->tokens, .x = attention->out, .matrix = weights->o, .y = y};
    device->matmul(device, &output, 1);
}
