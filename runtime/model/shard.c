// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/shard.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/packed_table.h"
#include "runtime/model/read_ahead.h"
#include "runtime/model/shard_walk.h"

// What loading one shard needs at every part.
typedef struct shard_load {
    const pr_shard_params *params;
    pr_shard *shard;
    const pr_byte_reader *reader;  // NULL: bytes are used in the mapping
    pr_read_ahead *ahead;
} shard_load;

// ---- first: what will be needed, and that it is there ----------------------------------------

static size_t stored_bytes(const pr_shard_matrix *part)
{
    const pr_matrix_source *source = &part->source;
    return (size_t)((source->row_end - source->row_begin) * (source->col_end - source->col_begin)) *
           pr_dtype_bytes(source->dtype);
}

// Where the part's bytes are in the file, from its first to its last.
static void find_bytes(const pr_shard_matrix *part, const char **from, size_t *size_bytes)
{
    const pr_matrix_source *source = &part->source;
    int64_t rows = part->packed ? part->packed->shape.rows : source->row_end;
    size_t row_bytes = part->packed ? (size_t)part->packed->size_bytes / (size_t)(rows + !rows)
                                    : (size_t)source->stride * pr_dtype_bytes(source->dtype);
    *from = (const char *)source->data + (size_t)source->row_begin * row_bytes;
    *size_bytes = (size_t)(source->row_end - source->row_begin) * row_bytes;
}

static pr_status list_matrix(void *context, const pr_shard_matrix *part, pr_matrix **matrix)
{
    const shard_load *load = context;
    const char *from;
    size_t size_bytes;
    (void)matrix;
    find_bytes(part, &from, &size_bytes);
    return pr_read_ahead_add(load->ahead, from, size_bytes);
}

static pr_status list_vector(void *context, const pr_shard_vector *part, float **vector)
{
    (void)context;
    (void)part;
    (void)vector;
    return PR_OK;
}

static pr_status list_table(void *context, const pr_tensor *tensor)
{
    (void)context;
    (void)tensor;
    return PR_OK;
}

// ---- then: the parts themselves --------------------------------------------------------------

static pr_status
load_stored(const shard_load *load, const pr_shard_matrix *part, pr_matrix **matrix)
{
    pr_device *device = load->params->device;
    pr_matrix_source source = part->source;
    source.reader = load->reader;
    if (part->stack && device->stack_create) {
        const pr_packed_shape shape = pr_packed_shape_of(&source);
        if (!*part->stack)
            PR_TRY(device->stack_create(device, &shape, part->stacked, part->stack));
        source.stack = *part->stack;
        source.stack_place = part->stack_place;
    }
    load->shard->read_bytes += (int64_t)stored_bytes(part);
    return device->matrix_create(device, &source, matrix);
}

static pr_status
load_packed(const shard_load *load, const pr_shard_matrix *part, pr_matrix **matrix)
{
    pr_device *device = load->params->device;
    const pr_packed_tensor *packed = part->packed;
    if (device->packed_bytes(&packed->shape) != (size_t)packed->size_bytes)
        return pr_fail(
            PR_ERR_FORMAT, "%s: matrix '%s' has %lld bytes, not %zu: convert the model again",
            load->params->model->path, packed->name, (long long)packed->size_bytes,
            device->packed_bytes(&packed->shape));
    const pr_packed_source source = {
        .shape = packed->shape,
        .data = packed->data,
        .reader = load->reader,
        .row_begin = part->source.row_begin,
        .row_end = part->source.row_end,
        .slice_begin = part->slice_begin,
        .slice_end = part->slice_end,
    };
    return device->matrix_load(device, &source, matrix);
}

static pr_status load_matrix(void *context, const pr_shard_matrix *part, pr_matrix **matrix)
{
    const shard_load *load = context;
    const pr_packed_shape shape = pr_packed_shape_of(&part->source);
    const char *from;
    size_t size_bytes;
    if (load->params->stop && atomic_load(load->params->stop) != 0)
        return PR_ERR_INTERRUPTED;
    pr_status status =
        part->packed ? load_packed(load, part, matrix) : load_stored(load, part, matrix);
    if (status == PR_ERR_IO)
        return pr_weights_fail_read(load->params->weights);
    PR_TRY(status);
    size_t packed_bytes = load->params->device->packed_bytes(&shape);
    load->shard->packed_bytes += (int64_t)packed_bytes;
    if (part->packed)
        load->shard->read_bytes += (int64_t)packed_bytes;
    find_bytes(part, &from, &size_bytes);
    pr_read_ahead_used(load->ahead, size_bytes);
    if (load->params->loaded_bytes)
        atomic_fetch_add(load->params->loaded_bytes, (int64_t)size_bytes);
    return PR_OK;
}

// The wanted elements, widened to float32.
static pr_status load_vector(void *context, const pr_shard_vector *part, float **vector)
{
    const shard_load *load = context;
    pr_device *device = load->params->device;
    const pr_tensor *tensor = part->tensor;
    size_t count = (size_t)(part->end - part->begin);
    void *memory;
    float *value = malloc(count * sizeof *value + 1);
    if (!value)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the %zu elements of %s", count, part->name);
    for (size_t i = 0; i < count; i++)
        value[i] = pr_dtype_load(tensor->dtype, tensor->data, (size_t)part->begin + i);
    pr_status status = device->memory_take(device, count * sizeof *value, &memory);
    if (status == PR_OK) {
        *vector = memory;
        status = device->copy_in(device, memory, value, count * sizeof *value);
    }
    free(value);
    PR_TRY(status);
    load->shard->read_bytes += (int64_t)(count * pr_dtype_bytes(tensor->dtype));
    return PR_OK;
}

static pr_status load_table(void *context, const pr_tensor *tensor)
{
    const shard_load *load = context;
    pr_shard *shard = load->shard;
    const pr_matrix_source source = {
        .data = tensor->data,
        .reader = load->reader,
        .dtype = tensor->dtype,
        .stride = tensor->shape[1],
        .row_end = tensor->shape[0],
        .col_end = tensor->shape[1],
        .slices = 1,
    };
    pr_status status = shard->device->table_create(
        shard->device, &source, &shard->embedding, &shard->embedding_dtype);
    return status == PR_ERR_IO ? pr_weights_fail_read(load->params->weights) : status;
}

// ---- the shard -------------------------------------------------------------------------------

static pr_status check_converted(const pr_shard_params *params)
{
    const char *layout = pr_weights_layout(params->weights), *path = params->model->path;
    if (!layout)
        return PR_OK;
    const char *ours = params->device->packed_layout;
    if (!ours)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "%s was converted for --device cpu: give the model it was converted from, or that "
            "device",
            path);
    if (strcmp(layout, ours) != 0)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "%s was converted for the layout %s, this program has %s: run polyreme convert again",
            path, layout, ours);
    pr_quantization quantization = pr_weights_quantization(params->weights);
    if (params->quantization != PR_QUANTIZATION_NONE && params->quantization != quantization)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%s was converted with quantization %s: leave --quantization and --dtype away, or "
            "convert the original again",
            path, pr_quantization_name(quantization));
    return PR_OK;
}

pr_status pr_shard_make(const pr_shard_params *params, pr_shard **shard)
{
    PR_TRY(pr_shard_check(params->model, &params->place));
    pr_shard *made = calloc(1, sizeof *made);
    pr_layer_weights *layer = calloc((size_t)params->model->layers, sizeof *layer);
    if (!made || !layer) {
        free(made);
        free(layer);
        return pr_fail(PR_ERR_RESOURCE, "%s: no memory for the shard", params->model->path);
    }
    *made = (pr_shard){
        .device = params->device,
        .place = params->place,
        .layers = params->model->layers,
        .layer = layer,
    };
    *shard = made;
    return PR_OK;
}

static pr_status load_parts(shard_load *load)
{
    const pr_shard_visitor list = {load, list_matrix, list_vector, list_table};
    const pr_shard_visitor visitor = {load, load_matrix, load_vector, load_table};
    PR_TRY(pr_shard_walk(load->params, &list, load->shard));
    pr_read_ahead_start(load->ahead);
    return pr_shard_walk(load->params, &visitor, load->shard);
}

pr_status pr_shard_load(const pr_shard_params *params, pr_shard **shard)
{
    pr_load_mode mode = pr_weights_load_mode(params->weights, params->load);
    shard_load load = {
        .params = params,
        .reader = mode == PR_LOAD_READ ? pr_weights_reader(params->weights) : NULL,
    };
    PR_TRY(check_converted(params));
    PR_TRY(pr_shard_make(params, &load.shard));
    pr_status status = pr_read_ahead_create(params->weights, &load.ahead);
    if (status == PR_OK)
        status = load_parts(&load);
    if (status == PR_OK && !load.reader && pr_weights_layout(params->weights))
        load.shard->ahead = load.ahead;  // nothing was read yet
    else
        pr_read_ahead_destroy(load.ahead);
    if (status != PR_OK) {
        pr_shard_unload(load.shard);
        return status;
    }
    *shard = load.shard;
    return PR_OK;
}

static void destroy_matrix(pr_device *device, pr_matrix *matrix)
{
    if (matrix)
        device->matrix_destroy(device, matrix);
}

static void unload_experts(pr_device *device, pr_layer_weights *weights)
{
    pr_matrix_stack *stacks[] = {weights->gate_stack, weights->up_stack, weights->down_stack};
    for (int32_t e = 0; e < weights->experts; e++) {
        if (weights->expert_gate_proj)
            destroy_matrix(device, weights->expert_gate_proj[e]);
        if (weights->expert_up_proj)
            destroy_matrix(device, weights->expert_up_proj[e]);
        if (weights->expert_down_proj)
            destroy_matrix(device, weights->expert_down_proj[e]);
    }
    for (size_t i = 0; i < sizeof stacks / sizeof *stacks; i++)
        if (stacks[i])
            device->stack_destroy(device, stacks[i]);
    free(weights->expert_gate_proj);
    free(weights->expert_up_proj);
    free(weights->expert_down_proj);
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
    unload_experts(device, weights);
}

void pr_shard_unload(pr_shard *shard)
{
    if (!shard)
        return;
    pr_read_ahead_destroy(shard->ahead);
    for (int32_t layer = 0; shard->layer && layer < shard->layers; layer++)
        unload_layer(shard->device, &shard->layer[layer]);
    if (shard->final_norm)
        shard->device->memory_release(shard->device, shard->final_norm);
    destroy_matrix(shard->device, shard->head);
    if (shard->embedding)
        shard->device->table_destroy(shard->device, shard->embedding);
    free(shard->layer);
    free(shard);
}
