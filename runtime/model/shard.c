// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/shard.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/shard_cut.h"

enum { NAME_BYTES = 160 };

// What the functions below share while one shard is loaded.
typedef struct loader {
    const pr_model *model;
    const pr_weights *weights;
    pr_place place;
    pr_quantization quantization;  // of the matrices loaded with this
    pr_device *device;
    pr_shard *shard;
} loader;

static loader quantizing(const loader *load, pr_quantization quantization)
{
    loader changed = *load;
    changed.quantization = quantization;
    return changed;
}

// How a checkpoint calls the parts of its experts.
typedef struct expert_names {
    const char *block;  // "mlp" or "block_sparse_moe"
    const char *gate, *up, *down;
} expert_names;

static const expert_names common_names = {"mlp", "gate_proj", "up_proj", "down_proj"};
static const expert_names mixtral_names = {"block_sparse_moe", "w1", "w3", "w2"};

// ---- tensors ---------------------------------------------------------------------------------

static void print_shape(char *text, size_t text_bytes, int32_t dimensions, const int64_t *shape)
{
    size_t used = (size_t)snprintf(text, text_bytes, "[");
    for (int32_t i = 0; i < dimensions && used < text_bytes; i++) {
        used += (size_t)snprintf(
            text + used, text_bytes - used, "%s%lld", i > 0 ? ", " : "", (long long)shape[i]);
    }
    if (used < text_bytes)
        snprintf(text + used, text_bytes - used, "]");
}

static pr_status
check_shape(const loader *load, const pr_tensor *tensor, int32_t dimensions, const int64_t *shape)
{
    char found[128], expected[128];
    if (tensor->dimensions == dimensions &&
        memcmp(tensor->shape, shape, (size_t)dimensions * sizeof *shape) == 0)
        return PR_OK;
    print_shape(found, sizeof found, tensor->dimensions, tensor->shape);
    print_shape(expected, sizeof expected, dimensions, shape);
    return pr_fail(
        PR_ERR_FORMAT, "%s: tensor '%s' has shape %s, config.json asks for %s", load->model->path,
        tensor->name, found, expected);
}

static pr_status need_tensor(
    const loader *load,
    const char *name,
    int32_t dimensions,
    const int64_t *shape,
    const pr_tensor **tensor)
{
    *tensor = pr_weights_find(load->weights, name);
    if (!*tensor) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: tensor '%s' is missing from the weights", load->model->path, name);
    }
    return check_shape(load, *tensor, dimensions, shape);
}

// The wanted elements of a vector, widened to float32.
static pr_status load_vector(
    const loader *load, const char *name, int64_t length, pr_shard_range wanted, float **vector)
{
    const pr_tensor *tensor;
    void *memory;
    size_t count = (size_t)(wanted.end - wanted.begin);
    PR_TRY(need_tensor(load, name, 1, &length, &tensor));
    PR_TRY(load->device->memory_take(load->device, count * sizeof **vector, &memory));
    float *value = memory;
    for (size_t i = 0; i < count; i++)
        value[i] = pr_dtype_load(tensor->dtype, tensor->data, (size_t)wanted.begin + i);
    *vector = value;
    load->shard->read_bytes += (int64_t)(count * pr_dtype_bytes(tensor->dtype));
    return PR_OK;
}

// source: data and stride of the stored matrix, and the wanted part.
static pr_status load_part(const loader *load, const pr_matrix_source *source, pr_matrix **matrix)
{
    PR_TRY(load->device->matrix_create(load->device, source, matrix));
    load->shard->read_bytes += (source->row_end - source->row_begin) *
                               (source->col_end - source->col_begin) *
                               (int64_t)pr_dtype_bytes(source->dtype);
    return PR_OK;
}

// Rows `wanted` of a [rows][cols] tensor.
static pr_status load_rows(
    const loader *load,
    const char *name,
    int64_t rows,
    int64_t cols,
    pr_shard_range wanted,
    pr_matrix **matrix)
{
    const pr_tensor *tensor;
    const int64_t shape[] = {rows, cols};
    PR_TRY(need_tensor(load, name, 2, shape, &tensor));
    const pr_matrix_source source = {
        .data = tensor->data,
        .dtype = tensor->dtype,
        .stride = cols,
        .row_begin = wanted.begin,
        .row_end = wanted.end,
        .col_end = cols,
        .slices = 1,
        .quantization = load->quantization,
    };
    return load_part(load, &source, matrix);
}

// This tp rank's columns of a [rows][cols] tensor, in its share of the PR_SLICES slices.
static pr_status
load_columns(const loader *load, const char *name, int64_t rows, int64_t cols, pr_matrix **matrix)
{
    const pr_tensor *tensor;
    const int64_t shape[] = {rows, cols};
    pr_shard_range wanted = pr_shard_cut(&load->place, cols);
    PR_TRY(need_tensor(load, name, 2, shape, &tensor));
    const pr_matrix_source source = {
        .data = tensor->data,
        .dtype = tensor->dtype,
        .stride = cols,
        .row_end = rows,
        .col_begin = wanted.begin,
        .col_end = wanted.end,
        .slices = PR_SLICES / load->place.tp,
        .quantization = load->quantization,
    };
    return load_part(load, &source, matrix);
}

static const char *layer_name(char *name, int32_t layer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// "model.layers.N." and the rest, in the caller's NAME_BYTES.
static const char *layer_name(char *name, int32_t layer, const char *format, ...)
{
    va_list arguments;
    int used = snprintf(name, NAME_BYTES, "model.layers.%d.", layer);
    va_start(arguments, format);
    vsnprintf(name + used, NAME_BYTES - (size_t)used, format, arguments);
    va_end(arguments);
    return name;
}

// ---- layers ----------------------------------------------------------------------------------

static pr_status load_norms(const loader *load, int32_t layer, pr_layer_weights *weights)
{
    char name[NAME_BYTES];
    int64_t hidden = load->model->hidden, head_size = load->model->head_size;
    pr_shard_range whole = {0, hidden}, head = {0, head_size};
    layer_name(name, layer, "input_layernorm.weight");
    PR_TRY(load_vector(load, name, hidden, whole, &weights->attention_norm));
    layer_name(name, layer, "post_attention_layernorm.weight");
    PR_TRY(load_vector(load, name, hidden, whole, &weights->mlp_norm));
    if (!load->model->qk_norm)
        return PR_OK;
    layer_name(name, layer, "self_attn.q_norm.weight");
    PR_TRY(load_vector(load, name, head_size, head, &weights->q_norm));
    layer_name(name, layer, "self_attn.k_norm.weight");
    return load_vector(load, name, head_size, head, &weights->k_norm);
}

// q, k or v: this tp rank's heads, with their bias if the model has one.
static pr_status load_heads(
    const loader *load, int32_t layer, char letter, int32_t heads, pr_matrix **matrix, float **bias)
{
    char name[NAME_BYTES];
    int64_t rows = (int64_t)heads * load->model->head_size;
    pr_shard_range wanted = pr_shard_cut(&load->place, rows);
    layer_name(name, layer, "self_attn.%c_proj.weight", letter);
    PR_TRY(load_rows(load, name, rows, load->model->hidden, wanted, matrix));
    if (!load->model->qkv_bias)
        return PR_OK;
    layer_name(name, layer, "self_attn.%c_proj.bias", letter);
    return load_vector(load, name, rows, wanted, bias);
}

static pr_status load_attention(const loader *load, int32_t layer, pr_layer_weights *weights)
{
    char name[NAME_BYTES];
    const pr_model *model = load->model;
    int64_t hidden = model->hidden, queries = (int64_t)model->query_heads * model->head_size;
    PR_TRY(load_heads(load, layer, 'q', model->query_heads, &weights->q, &weights->q_bias));
    PR_TRY(load_heads(load, layer, 'k', model->kv_heads, &weights->k, &weights->k_bias));
    PR_TRY(load_heads(load, layer, 'v', model->kv_heads, &weights->v, &weights->v_bias));
    layer_name(name, layer, "self_attn.o_proj.weight");
    PR_TRY(load_columns(load, name, hidden, queries, &weights->o));
    if (!model->output_bias)
        return PR_OK;
    layer_name(name, layer, "self_attn.o_proj.bias");
    return load_vector(load, name, hidden, (pr_shard_range){0, hidden}, &weights->o_bias);
}

static pr_status load_dense(const loader *load, int32_t layer, pr_layer_weights *weights)
{
    char name[NAME_BYTES];
    int64_t hidden = load->model->hidden, inner = load->model->inner;
    pr_shard_range wanted = pr_shard_cut(&load->place, inner);
    layer_name(name, layer, "mlp.gate_proj.weight");
    PR_TRY(load_rows(load, name, inner, hidden, wanted, &weights->gate));
    layer_name(name, layer, "mlp.up_proj.weight");
    PR_TRY(load_rows(load, name, inner, hidden, wanted, &weights->up));
    layer_name(name, layer, "mlp.down_proj.weight");
    return load_columns(load, name, hidden, inner, &weights->down);
}

// ---- experts ---------------------------------------------------------------------------------

static pr_status load_separate_experts(
    const loader *load,
    int32_t layer,
    const expert_names *names,
    pr_shard_range experts,
    pr_layer_weights *weights)
{
    char name[NAME_BYTES];
    int64_t hidden = load->model->hidden, inner = load->model->expert_inner;
    for (int64_t e = experts.begin; e < experts.end; e++) {
        int64_t local = e - experts.begin;
        const struct {
            const char *name;
            int64_t rows, cols;
            pr_matrix **matrix;
        } parts[] = {
            {names->gate, inner, hidden, &weights->expert_gate_proj[local]},
            {names->up, inner, hidden, &weights->expert_up_proj[local]},
            {names->down, hidden, inner, &weights->expert_down_proj[local]},
        };
        for (int i = 0; i < 3; i++) {
            layer_name(
                name, layer, "%s.experts.%lld.%s.weight", names->block, (long long)e,
                parts[i].name);
            PR_TRY(load_rows(
                load, name, parts[i].rows, parts[i].cols, (pr_shard_range){0, parts[i].rows},
                parts[i].matrix));
        }
    }
    return PR_OK;
}

// Rows `wanted` of matrix `number` of a [.][rows][cols] tensor.
static pr_status load_fused_rows(
    const loader *load,
    const pr_tensor *tensor,
    int64_t number,
    pr_shard_range wanted,
    pr_matrix **matrix)
{
    int64_t rows = tensor->shape[1], cols = tensor->shape[2];
    size_t skipped = (size_t)(number * rows * cols) * pr_dtype_bytes(tensor->dtype);
    const pr_matrix_source source = {
        .data = (const char *)tensor->data + skipped,
        .dtype = tensor->dtype,
        .stride = cols,
        .row_begin = wanted.begin,
        .row_end = wanted.end,
        .col_end = cols,
        .slices = 1,
        .quantization = load->quantization,
    };
    return load_part(load, &source, matrix);
}

// gate_up_proj [E][2I][H], an expert's gate rows first, and down_proj [E][H][I].
static pr_status load_fused_experts(
    const loader *load,
    int32_t layer,
    const char *block,
    pr_shard_range experts,
    pr_layer_weights *weights)
{
    char name[NAME_BYTES];
    const pr_tensor *gate_up, *down;
    int64_t hidden = load->model->hidden, inner = load->model->expert_inner;
    const int64_t gate_up_shape[] = {load->model->experts, 2 * inner, hidden};
    const int64_t down_shape[] = {load->model->experts, hidden, inner};
    layer_name(name, layer, "%s.experts.gate_up_proj", block);
    PR_TRY(need_tensor(load, name, 3, gate_up_shape, &gate_up));
    layer_name(name, layer, "%s.experts.down_proj", block);
    PR_TRY(need_tensor(load, name, 3, down_shape, &down));
    for (int64_t e = experts.begin; e < experts.end; e++) {
        int64_t local = e - experts.begin;
        pr_shard_range gate_rows = {0, inner}, up_rows = {inner, 2 * inner},
                       down_rows = {0, hidden};
        PR_TRY(load_fused_rows(load, gate_up, e, gate_rows, &weights->expert_gate_proj[local]));
        PR_TRY(load_fused_rows(load, gate_up, e, up_rows, &weights->expert_up_proj[local]));
        PR_TRY(load_fused_rows(load, down, e, down_rows, &weights->expert_down_proj[local]));
    }
    return PR_OK;
}

static pr_status take_expert_tables(const loader *load, int64_t count, pr_layer_weights *weights)
{
    size_t room = (size_t)count + 1;  // never zero
    weights->experts = (int32_t)count;
    weights->expert_gate_proj = calloc(room, sizeof(pr_matrix *));
    weights->expert_up_proj = calloc(room, sizeof(pr_matrix *));
    weights->expert_down_proj = calloc(room, sizeof(pr_matrix *));
    if (!weights->expert_gate_proj || !weights->expert_up_proj || !weights->expert_down_proj) {
        return pr_fail(
            PR_ERR_RESOURCE, "%s: no memory for %lld experts", load->model->path, (long long)count);
    }
    return PR_OK;
}

// Hub checkpoints have one tensor per expert; transformers v5 may save one per layer, and names
// Mixtral's block "mlp" then.
static pr_status load_experts(const loader *load, int32_t layer, pr_layer_weights *weights)
{
    char name[NAME_BYTES];
    const pr_model *model = load->model;
    pr_shard_range experts = pr_shard_cut_experts(&load->place, model->experts);
    expert_names names = model->family == PR_FAMILY_MIXTRAL ? mixtral_names : common_names;
    layer_name(name, layer, "mlp.gate.weight");
    if (pr_weights_find(load->weights, name))
        names.block = common_names.block;
    PR_TRY(take_expert_tables(load, experts.end - experts.begin, weights));
    layer_name(name, layer, "%s.gate.weight", names.block);
    const loader stored = quantizing(load, PR_QUANTIZATION_NONE);
    PR_TRY(load_rows(
        &stored, name, model->experts, model->hidden, (pr_shard_range){0, model->experts},
        &weights->expert_gate));
    layer_name(name, layer, "%s.experts.gate_up_proj", names.block);
    if (pr_weights_find(load->weights, name))
        return load_fused_experts(load, layer, names.block, experts, weights);
    return load_separate_experts(load, layer, &names, experts, weights);
}

// ---- the shard -------------------------------------------------------------------------------

static pr_status load_layer(const loader *load, int32_t layer, pr_layer_weights *weights)
{
    PR_TRY(load_norms(load, layer, weights));
    PR_TRY(load_attention(load, layer, weights));
    if (load->model->layer_is_moe[layer])
        return load_experts(load, layer, weights);
    return load_dense(load, layer, weights);
}

static pr_status load_all(const loader *load)
{
    static const char embedding_name[] = "model.embed_tokens.weight";
    const pr_model *model = load->model;
    const int64_t shape[] = {model->vocabulary, model->hidden};
    const pr_tensor *embedding;
    pr_shard *shard = load->shard;
    PR_TRY(need_tensor(load, embedding_name, 2, shape, &embedding));
    shard->embedding = embedding->data;
    shard->embedding_dtype = embedding->dtype;
    for (int32_t layer = 0; layer < model->layers; layer++)
        PR_TRY(load_layer(load, layer, &shard->layer[layer]));
    PR_TRY(load_vector(
        load, "model.norm.weight", model->hidden, (pr_shard_range){0, model->hidden},
        &shard->final_norm));
    const loader head = quantizing(load, pr_shard_head_quantization(load->quantization));
    return load_rows(
        &head, model->tied_embeddings ? embedding_name : "lm_head.weight", model->vocabulary,
        model->hidden, pr_shard_cut(&load->place, model->vocabulary), &shard->head);
}

// Errors of lm_head go into the answer as they are; the others are averaged by what follows.
pr_quantization pr_shard_head_quantization(pr_quantization quantization)
{
    return quantization == PR_QUANTIZATION_INT4 ? PR_QUANTIZATION_INT8 : quantization;
}

pr_status pr_shard_load(
    const pr_model *model,
    const pr_weights *weights,
    const pr_place *place,
    pr_quantization quantization,
    pr_device *device,
    pr_shard **shard)
{
    PR_TRY(pr_shard_check(model, place));
    pr_shard *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "%s: no memory for the shard", model->path);
    *made = (pr_shard){.device = device, .place = *place, .layers = model->layers};
    const loader load = {model, weights, *place, quantization, device, made};
    made->layer = calloc((size_t)model->layers, sizeof *made->layer);
    pr_status status = made->layer
                           ? load_all(&load)
                           : pr_fail(PR_ERR_RESOURCE, "%s: no memory for the layers", model->path);
    if (status != PR_OK) {
        pr_shard_unload(made);
        return status;
    }
    *shard = made;
    return PR_OK;
}

static void destroy_matrix(pr_device *device, pr_matrix *matrix)
{
    if (matrix)
        device->matrix_destroy(device, matrix);
}

static void unload_layer(pr_device *device, pr_layer_weights *weights)
{
    float *vectors[] = {
        weights->attention_norm, weights->mlp_norm, weights->q_bias, weights->k_bias,
        weights->v_bias,         weights->o_bias,   weights->q_norm, weights->k_norm,
    };
    pr_matrix *matrices[] = {
        weights->q,    weights->k,  weights->v,    weights->o,
        weights->gate, weights->up, weights->down, weights->expert_gate,
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        if (vectors[i])
            device->memory_release(device, vectors[i]);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        destroy_matrix(device, matrices[i]);
    for (int32_t e = 0; e < weights->experts; e++) {
        if (weights->expert_gate_proj)
            destroy_matrix(device, weights->expert_gate_proj[e]);
        if (weights->expert_up_proj)
            destroy_matrix(device, weights->expert_up_proj[e]);
        if (weights->expert_down_proj)
            destroy_matrix(device, weights->expert_down_proj[e]);
    }
    free(weights->expert_gate_proj);
    free(weights->expert_up_proj);
    free(weights->expert_down_proj);
}

void pr_shard_unload(pr_shard *shard)
{
    if (!shard)
        return;
    for (int32_t layer = 0; shard->layer && layer < shard->layers; layer++)
        unload_layer(shard->device, &shard->layer[layer]);
    if (shard->final_norm)
        shard->device->memory_release(shard->device, shard->final_norm);
    destroy_matrix(shard->device, shard->head);
    free(shard->layer);
    free(shard);
}
