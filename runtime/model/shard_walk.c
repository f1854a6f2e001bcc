// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/shard_walk.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/shard_cut.h"

enum { NAME_BYTES = 160 };

// What the functions below share on one walk.
typedef struct loader {
    const pr_model *model;
    const pr_weights *weights;
    pr_place place;
    pr_quantization quantization;  // of the matrices visited with this
    const pr_shard_visitor *visitor;
    // Of the expert's matrix that is loaded: pr_shard_matrix.
    pr_matrix_stack **stack;
    int32_t stack_place, stacked;
} loader;

static loader quantizing(const loader *load, pr_quantization quantization)
{
    loader changed = *load;
    changed.quantization = quantization;
    return changed;
}

static loader
stacking(const loader *load, pr_matrix_stack **stack, pr_shard_range of, int64_t place)
{
    loader changed = *load;
    changed.stack = stack;
    changed.stack_place = (int32_t)place;
    changed.stacked = (int32_t)(of.end - of.begin);
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

static pr_status load_vector(
    const loader *load, const char *name, int64_t length, pr_shard_range wanted, float **vector)
{
    pr_shard_vector part = {.name = name, .begin = wanted.begin, .end = wanted.end};
    PR_TRY(need_tensor(load, name, 1, &length, &part.tensor));
    return load->visitor->vector(load->visitor->context, &part, vector);
}

// A matrix of the model under its names in stored and in converted weights.
typedef struct matrix_names {
    const char *stored, *packed;
} matrix_names;

static pr_status
need_packed(const loader *load, const char *name, int64_t rows, int64_t cols, pr_shard_matrix *part)
{
    const pr_packed_tensor *packed = pr_weights_find_packed(load->weights, name);
    if (!packed)
        return pr_fail(
            PR_ERR_FORMAT, "%s: matrix '%s' is missing from the weights", load->model->path, name);
    if (packed->shape.rows != rows || packed->shape.cols != cols)
        return pr_fail(
            PR_ERR_FORMAT,
            "%s: matrix '%s' has shape [%lld, %lld], config.json asks for [%lld, %lld]",
            load->model->path, name, (long long)packed->shape.rows, (long long)packed->shape.cols,
            (long long)rows, (long long)cols);
    part->packed = packed;
    part->source.data = packed->data;
    part->source.dtype = packed->shape.dtype;
    part->source.quantization = packed->shape.quantization;
    return PR_OK;
}

// Finds a [rows][cols] matrix; which part of it is wanted is the caller's to say.
static pr_status need_matrix(
    const loader *load,
    const matrix_names *names,
    int64_t rows,
    int64_t cols,
    pr_shard_matrix *part)
{
    const pr_tensor *tensor;
    const int64_t shape[] = {rows, cols};
    *part = (pr_shard_matrix){
        .name = names->packed,
        .source = {.stride = cols, .row_end = rows, .col_end = cols, .slices = 1},
        .stack = load->stack,
        .stack_place = load->stack_place,
        .stacked = load->stacked,
    };
    if (pr_weights_layout(load->weights))
        return need_packed(load, names->packed, rows, cols, part);
    PR_TRY(need_tensor(load, names->stored, 2, shape, &tensor));
    part->source.data = tensor->data;
    part->source.dtype = tensor->dtype;
    part->source.quantization = load->quantization;
    return PR_OK;
}

// Rows `wanted` of a [rows][cols] matrix.
static pr_status load_named_rows(
    const loader *load,
    const matrix_names *names,
    int64_t rows,
    int64_t cols,
    pr_shard_range wanted,
    pr_matrix **matrix)
{
    pr_shard_matrix part;
    PR_TRY(need_matrix(load, names, rows, cols, &part));
    part.source.row_begin = wanted.begin;
    part.source.row_end = wanted.end;
    part.slice_end = 1;
    return load->visitor->matrix(load->visitor->context, &part, matrix);
}

static pr_status load_rows(
    const loader *load,
    const char *name,
    int64_t rows,
    int64_t cols,
    pr_shard_range wanted,
    pr_matrix **matrix)
{
    return load_named_rows(load, &(matrix_names){name, name}, rows, cols, wanted, matrix);
}

// This tp rank's columns of a [rows][cols] matrix, in its share of the PR_SLICES slices.
static pr_status
load_columns(const loader *load, const char *name, int64_t rows, int64_t cols, pr_matrix **matrix)
{
    pr_shard_matrix part;
    const pr_place *place = &load->place;
    pr_shard_range wanted = pr_shard_cut(place, cols);
    PR_TRY(need_matrix(load, &(matrix_names){name, name}, rows, cols, &part));
    part.source.col_begin = wanted.begin;
    part.source.col_end = wanted.end;
    part.source.slices = PR_SLICES / place->tp;
    part.slice_begin = place->tp_rank * part.source.slices;
    part.slice_end = part.slice_begin + part.source.slices;
    return load->visitor->matrix(load->visitor->context, &part, matrix);
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

static const char *
expert_name(char *name, int32_t layer, const expert_names *names, int64_t expert, const char *part)
{
    return layer_name(
        name, layer, "%s.experts.%lld.%s.weight", names->block, (long long)expert, part);
}

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
            pr_matrix_stack **stack;
        } parts[] = {
            {names->gate, inner, hidden, &weights->expert_gate_proj[local], &weights->gate_stack},
            {names->up, inner, hidden, &weights->expert_up_proj[local], &weights->up_stack},
            {names->down, hidden, inner, &weights->expert_down_proj[local], &weights->down_stack},
        };
        for (int i = 0; i < 3; i++) {
            const loader one = stacking(load, parts[i].stack, experts, local);
            expert_name(name, layer, names, e, parts[i].name);
            PR_TRY(load_rows(
                &one, name, parts[i].rows, parts[i].cols, (pr_shard_range){0, parts[i].rows},
                parts[i].matrix));
        }
    }
    return PR_OK;
}

// Rows `wanted` of matrix `number` of a [.][rows][cols] tensor; name is what it is called on its own.
static pr_status load_fused_rows(
    const loader *load,
    const pr_tensor *tensor,
    int64_t number,
    pr_shard_range wanted,
    const char *name,
    pr_matrix **matrix)
{
    int64_t rows = tensor->shape[1], cols = tensor->shape[2];
    size_t skipped = (size_t)(number * rows * cols) * pr_dtype_bytes(tensor->dtype);
    const pr_shard_matrix part = {
        .name = name,
        .source =
            {
                .data = (const char *)tensor->data + skipped,
                .dtype = tensor->dtype,
                .stride = cols,
                .row_begin = wanted.begin,
                .row_end = wanted.end,
                .col_end = cols,
                .slices = 1,
                .quantization = load->quantization,
            },
        .slice_end = 1,
        .stack = load->stack,
        .stack_place = load->stack_place,
        .stacked = load->stacked,
    };
    return load->visitor->matrix(load->visitor->context, &part, matrix);
}

// gate_up_proj [E][2I][H], an expert's gate rows first, and down_proj [E][H][I].
static pr_status load_fused_experts(
    const loader *load,
    int32_t layer,
    const expert_names *names,
    pr_shard_range experts,
    pr_layer_weights *weights)
{
    char name[NAME_BYTES];
    const pr_tensor *gate_up, *down;
    int64_t hidden = load->model->hidden, inner = load->model->expert_inner;
    const int64_t gate_up_shape[] = {load->model->experts, 2 * inner, hidden};
    const int64_t down_shape[] = {load->model->experts, hidden, inner};
    layer_name(name, layer, "%s.experts.gate_up_proj", names->block);
    PR_TRY(need_tensor(load, name, 3, gate_up_shape, &gate_up));
    layer_name(name, layer, "%s.experts.down_proj", names->block);
    PR_TRY(need_tensor(load, name, 3, down_shape, &down));
    for (int64_t e = experts.begin; e < experts.end; e++) {
        int64_t local = e - experts.begin;
        const struct {
            const char *name;
            const pr_tensor *tensor;
            pr_shard_range rows;
            pr_matrix **matrix;
            pr_matrix_stack **stack;
        } parts[] = {
            {names->gate,
             gate_up,
             {0, inner},
             &weights->expert_gate_proj[local],
             &weights->gate_stack},
            {names->up,
             gate_up,
             {inner, 2 * inner},
             &weights->expert_up_proj[local],
             &weights->up_stack},
            {names->down,
             down,
             {0, hidden},
             &weights->expert_down_proj[local],
             &weights->down_stack},
        };
        for (int i = 0; i < 3; i++) {
            const loader one = stacking(load, parts[i].stack, experts, local);
            expert_name(name, layer, names, e, parts[i].name);
            PR_TRY(load_fused_rows(&one, parts[i].tensor, e, parts[i].rows, name, parts[i].matrix));
        }
    }
    return PR_OK;
}

static pr_status take_expert_tables(const loader *load, int64_t count, pr_layer_weights *weights)
{
    size_t room = (size_t)count + 1;  // never zero
    if (weights->expert_gate_proj)
        return PR_OK;  // by an earlier walk
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
    if (pr_weights_find(load->weights, name) || pr_weights_find_packed(load->weights, name))
        names.block = common_names.block;
    PR_TRY(take_expert_tables(load, experts.end - experts.begin, weights));
    layer_name(name, layer, "%s.gate.weight", names.block);
    const loader stored = quantizing(load, PR_QUANTIZATION_NONE);
    PR_TRY(load_rows(
        &stored, name, model->experts, model->hidden, (pr_shard_range){0, model->experts},
        &weights->expert_gate));
    layer_name(name, layer, "%s.experts.gate_up_proj", names.block);
    if (pr_weights_find(load->weights, name))
        return load_fused_experts(load, layer, &names, experts, weights);
    return load_separate_experts(load, layer, &names, experts, weights);
}

// ---- the walk --------------------------------------------------------------------------------

static pr_status load_layer(const loader *load, int32_t layer, pr_layer_weights *weights)
{
    PR_TRY(load_norms(load, layer, weights));
    PR_TRY(load_attention(load, layer, weights));
    if (load->model->layer_is_moe[layer])
        return load_experts(load, layer, weights);
    return load_dense(load, layer, weights);
}

pr_status
pr_shard_walk(const pr_shard_params *params, const pr_shard_visitor *visitor, pr_shard *shard)
{
    static const char embedding_name[] = "model.embed_tokens.weight";
    static const char head_name[] = "lm_head.weight";
    const pr_model *model = params->model;
    const int64_t shape[] = {model->vocabulary, model->hidden};
    const matrix_names head_names = {
        .stored = model->tied_embeddings ? embedding_name : head_name,
        .packed = head_name,
    };
    const loader load = {
        .model = model,
        .weights = params->weights,
        .place = params->place,
        .quantization = params->quantization,
        .visitor = visitor,
    };
    const loader head = quantizing(&load, pr_shard_head_quantization(load.quantization));
    const pr_tensor *embedding;
    PR_TRY(need_tensor(&load, embedding_name, 2, shape, &embedding));
    PR_TRY(visitor->table(visitor->context, embedding));
    for (int32_t layer = 0; layer < model->layers; layer++)
        PR_TRY(load_layer(&load, layer, &shard->layer[layer]));
    PR_TRY(load_vector(
        &load, "model.norm.weight", model->hidden, (pr_shard_range){0, model->hidden},
        &shard->final_norm));
    return load_named_rows(
        &head, &head_names, model->vocabulary, model->hidden,
        pr_shard_cut(&load.place, model->vocabulary), &shard->head);
}

// Errors of lm_head go into the answer as they are; the others are averaged by what follows.
pr_quantization pr_shard_head_quantization(pr_quantization quantization)
{
    return quantization == PR_QUANTIZATION_INT4 ? PR_QUANTIZATION_INT8 : quantization;
}
