// SPDX-License-Identifier: BSD-3-Clause
// pr_shard on every committed model: who holds what, what is read, and bad checkpoints.
// The device here only keeps what it is given, widened to float32, so that parts can be compared.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/shard.h"

#define MODELS PR_SOURCE_DIR "/tests/data/models/"

struct pr_matrix {
    pr_quantization quantization;
    int64_t rows, cols;
    int32_t slices;
    float *value;  // [rows][cols]
};

// ---- a device that remembers -----------------------------------------------------------------

// Calls of memory_take and matrix_create that still succeed; counts down.
static int calls_left;

static pr_status take_call(void)
{
    if (calls_left == 0)
        return pr_fail(PR_ERR_RESOURCE, "the device is full");
    calls_left--;
    return PR_OK;
}

static pr_status device_take(pr_device *device, size_t size_bytes, void **memory)
{
    (void)device;
    PR_TRY(take_call());
    *memory = calloc(1, size_bytes);
    assert_non_null(*memory);
    return PR_OK;
}

static void device_release(pr_device *device, void *memory)
{
    (void)device;
    free(memory);
}

static pr_status
device_create(pr_device *device, const pr_matrix_source *source, pr_matrix **matrix)
{
    (void)device;
    PR_TRY(take_call());
    pr_matrix *made = calloc(1, sizeof *made);
    assert_non_null(made);
    made->rows = source->row_end - source->row_begin;
    made->cols = source->col_end - source->col_begin;
    made->slices = source->slices;
    made->quantization = source->quantization;
    assert_true(made->rows >= 0 && made->cols > 0 && source->col_end <= source->stride);
    made->value = calloc((size_t)(made->rows * made->cols) + 1, sizeof *made->value);
    assert_non_null(made->value);
    for (int64_t row = 0; row < made->rows; row++) {
        for (int64_t col = 0; col < made->cols; col++) {
            int64_t at = (source->row_begin + row) * source->stride + source->col_begin + col;
            made->value[row * made->cols + col] =
                pr_dtype_load(source->dtype, source->data, (size_t)at);
        }
    }
    *matrix = made;
    return PR_OK;
}

static pr_status
device_copy_in(pr_device *device, void *to_device, const void *from_host, size_t size_bytes)
{
    (void)device;
    memcpy(to_device, from_host, size_bytes);
    return PR_OK;
}

static pr_status
device_table(pr_device *device, const pr_matrix_source *source, const void **table, pr_dtype *dtype)
{
    (void)device;
    *table = source->data;
    *dtype = source->dtype;
    return PR_OK;
}

static void device_leave_table(pr_device *device, const void *table)
{
    (void)device;
    (void)table;
}

static void device_destroy(pr_device *device, pr_matrix *matrix)
{
    (void)device;
    free(matrix->value);
    free(matrix);
}

static size_t device_packed_bytes(const pr_packed_shape *shape)
{
    return (size_t)(shape->rows * shape->cols) * 4;
}

static pr_device recorder = {
    .name = "recorder",
    .memory_take = device_take,
    .memory_release = device_release,
    .copy_in = device_copy_in,
    .table_create = device_table,
    .table_destroy = device_leave_table,
    .matrix_create = device_create,
    .matrix_destroy = device_destroy,
    .packed_bytes = device_packed_bytes,
};

// ---- models and shards -----------------------------------------------------------------------

static const char *const model_names[] = {
    "llama-tiny",        "llama-llama3",    "llama-linear",     "qwen2",
    "qwen2-yarn",        "qwen3",           "qwen3-yarn",       "qwen3-moe",
    "qwen3-moe-sharded", "qwen3-moe-fused", "qwen3-moe-nonorm", "mixtral-tiny",
    "mixtral-fused",
};
enum { MODEL_COUNT = sizeof model_names / sizeof *model_names, MAX_RANKS = 12 };

static const struct {
    int32_t tp, ranks;
} layouts[] = {{1, 1}, {1, 3}, {2, 2}, {2, 6}, {4, 4}, {4, 8}, {1, 12}};
enum { LAYOUT_COUNT = sizeof layouts / sizeof *layouts };

typedef struct opened {
    pr_model *model;
    pr_weights *weights;
} opened;

static opened open_named(const char *name)
{
    char path[512];
    opened files;
    snprintf(path, sizeof path, MODELS "%s", name);
    assert_int_equal(pr_model_open(path, &files.model), PR_OK);
    assert_int_equal(pr_weights_open(path, &files.weights), PR_OK);
    return files;
}

static void close_opened(opened *files)
{
    pr_weights_close(files->weights);
    pr_model_close(files->model);
}

static pr_place place_of(int32_t tp, int32_t ranks, int32_t rank)
{
    return (pr_place){.tp = tp, .tp_rank = rank % tp, .ranks = ranks, .rank = rank};
}

static pr_status load(const opened *files, pr_place place, pr_quantization kind, pr_shard **shard)
{
    pr_shard_params params = {
        .model = files->model,
        .weights = files->weights,
        .place = place,
        .quantization = kind,
        .device = &recorder,
    };
    return pr_shard_load(&params, shard);
}

static pr_shard *load_good(const opened *files, pr_place place)
{
    pr_shard *shard = NULL;
    calls_left = 1 << 30;
    assert_int_equal(load(files, place, PR_QUANTIZATION_NONE, &shard), PR_OK);
    return shard;
}

// ---- parts against the whole -----------------------------------------------------------------

static void expect_rows(const pr_matrix *whole, const pr_matrix *rows, int64_t *next)
{
    assert_int_equal(rows->cols, whole->cols);
    assert_int_equal(rows->slices, 1);
    assert_true(*next + rows->rows <= whole->rows);
    assert_memory_equal(
        rows->value, whole->value + *next * whole->cols,
        (size_t)(rows->rows * rows->cols) * sizeof(float));
    *next += rows->rows;
}

static void expect_columns(const pr_matrix *whole, const pr_matrix *cols, int32_t tp, int64_t *next)
{
    assert_int_equal(cols->rows, whole->rows);
    assert_int_equal(cols->slices, PR_SLICES / tp);
    assert_true(*next + cols->cols <= whole->cols);
    for (int64_t row = 0; row < whole->rows; row++) {
        assert_memory_equal(
            cols->value + row * cols->cols, whole->value + row * whole->cols + *next,
            (size_t)cols->cols * sizeof(float));
    }
    *next += cols->cols;
}

static void expect_vector(const float *whole, const float *vector, int64_t begin, int64_t length)
{
    if (!whole) {
        assert_null(vector);
        return;
    }
    assert_memory_equal(vector, whole + begin, (size_t)length * sizeof(float));
}

// What one layer's ranks hold together; ends where the whole ends.
typedef struct progress {
    int64_t q, k, v, o, gate, up, down, experts;
} progress;

static void expect_attention(
    const pr_model *model,
    const pr_layer_weights *whole,
    const pr_layer_weights *got,
    int32_t tp,
    progress *next)
{
    int64_t queries = next->q, keys = next->k, values = next->v;
    expect_rows(whole->q, got->q, &next->q);
    expect_rows(whole->k, got->k, &next->k);
    expect_rows(whole->v, got->v, &next->v);
    expect_columns(whole->o, got->o, tp, &next->o);
    assert_int_equal(got->q->rows, model->query_heads / tp * model->head_size);
    expect_vector(whole->q_bias, got->q_bias, queries, got->q->rows);
    expect_vector(whole->k_bias, got->k_bias, keys, got->k->rows);
    expect_vector(whole->v_bias, got->v_bias, values, got->v->rows);
    expect_vector(whole->o_bias, got->o_bias, 0, model->hidden);
    expect_vector(whole->q_norm, got->q_norm, 0, model->head_size);
    expect_vector(whole->k_norm, got->k_norm, 0, model->head_size);
    expect_vector(whole->attention_norm, got->attention_norm, 0, model->hidden);
    expect_vector(whole->mlp_norm, got->mlp_norm, 0, model->hidden);
}

static void
expect_experts(const pr_layer_weights *whole, const pr_layer_weights *got, progress *next)
{
    int64_t from_first = 0;
    expect_rows(whole->expert_gate, got->expert_gate, &from_first);
    assert_int_equal(from_first, whole->expert_gate->rows);
    assert_true(next->experts + got->experts <= whole->experts);
    for (int32_t e = 0; e < got->experts; e++, next->experts++) {
        int64_t gate = 0, up = 0, down = 0;
        expect_rows(whole->expert_gate_proj[next->experts], got->expert_gate_proj[e], &gate);
        expect_rows(whole->expert_up_proj[next->experts], got->expert_up_proj[e], &up);
        expect_rows(whole->expert_down_proj[next->experts], got->expert_down_proj[e], &down);
        assert_true(gate == whole->expert_gate_proj[0]->rows && gate == up);
    }
}

// The layer of all ranks; those of the first tp ranks make the cut matrices whole.
static void expect_layer(
    const pr_model *model,
    const pr_layer_weights *whole,
    pr_shard **shard,
    int32_t layer,
    int32_t ranks,
    int32_t tp)
{
    progress next = {0};
    for (int32_t rank = 0; rank < ranks; rank++) {
        const pr_layer_weights *got = &shard[rank]->layer[layer];
        int64_t experts = next.experts;
        if (rank % tp == 0)  // each tp group holds one copy
            next = (progress){.experts = experts};
        expect_attention(model, whole, got, tp, &next);
        if (model->layer_is_moe[layer]) {
            assert_true(!got->gate && !got->up && !got->down);
            expect_experts(whole, got, &next);
        } else {
            assert_true(!got->expert_gate && got->experts == 0);
            expect_rows(whole->gate, got->gate, &next.gate);
            expect_rows(whole->up, got->up, &next.up);
            expect_columns(whole->down, got->down, tp, &next.down);
        }
    }
    assert_true(next.q == whole->q->rows && next.k == whole->k->rows);
    assert_true(next.v == whole->v->rows && next.o == whole->o->cols);
    assert_int_equal(next.experts, whole->experts);
    assert_true(model->layer_is_moe[layer] || next.gate == model->inner);
    assert_true(model->layer_is_moe[layer] || next.down == model->inner);
}

static void check_layout(const opened *files, int32_t tp, int32_t ranks)
{
    pr_shard *shard[MAX_RANKS], *whole = load_good(files, place_of(1, 1, 0));
    int64_t head = 0;
    for (int32_t rank = 0; rank < ranks; rank++)
        shard[rank] = load_good(files, place_of(tp, ranks, rank));
    for (int32_t layer = 0; layer < files->model->layers; layer++)
        expect_layer(files->model, &whole->layer[layer], shard, layer, ranks, tp);
    for (int32_t rank = 0; rank < ranks; rank++) {
        head = rank % tp == 0 ? 0 : head;
        expect_rows(whole->head, shard[rank]->head, &head);
        expect_vector(whole->final_norm, shard[rank]->final_norm, 0, files->model->hidden);
        assert_ptr_equal(shard[rank]->embedding, whole->embedding);
    }
    assert_int_equal(head, files->model->vocabulary);
    for (int32_t rank = 0; rank < ranks; rank++)
        pr_shard_unload(shard[rank]);
    pr_shard_unload(whole);
}

static void shards_together_hold_every_row_and_expert_once(void **state)
{
    (void)state;
    for (int i = 0; i < MODEL_COUNT; i++) {
        opened files = open_named(model_names[i]);
        for (int k = 0; k < LAYOUT_COUNT; k++)
            check_layout(&files, layouts[k].tp, layouts[k].ranks);
        close_opened(&files);
    }
}

static void predicted_bytes_are_the_bytes_read(void **state)
{
    (void)state;
    for (int i = 0; i < MODEL_COUNT; i++) {
        opened files = open_named(model_names[i]);
        for (int k = 0; k < LAYOUT_COUNT; k++) {
            for (int32_t rank = 0; rank < layouts[k].ranks; rank++) {
                pr_place place = place_of(layouts[k].tp, layouts[k].ranks, rank);
                pr_shard *shard = load_good(&files, place);
                assert_int_equal(
                    shard->read_bytes,
                    pr_shard_predict_bytes(files.model, &place, shard->embedding_dtype));
                pr_shard_unload(shard);
            }
        }
        close_opened(&files);
    }
}

// One rank alone reads the whole file but the embedding, which it reads as lm_head when tied.
static void a_rank_alone_reads_the_whole_file(void **state)
{
    (void)state;
    for (int i = 0; i < MODEL_COUNT; i++) {
        opened files = open_named(model_names[i]);
        pr_shard *shard = load_good(&files, place_of(1, 1, 0));
        int64_t embedding = (int64_t)files.model->vocabulary * files.model->hidden *
                            (int64_t)pr_dtype_bytes(shard->embedding_dtype);
        assert_int_equal(
            shard->read_bytes + (files.model->tied_embeddings ? 0 : embedding),
            pr_weights_total_bytes(files.weights));
        pr_shard_unload(shard);
        close_opened(&files);
    }
}

// ---- the whole against the file --------------------------------------------------------------

static void
expect_tensor(const opened *files, const char *name, int64_t skipped_rows, const pr_matrix *matrix)
{
    const pr_tensor *tensor = pr_weights_find(files->weights, name);
    assert_non_null(tensor);
    for (int64_t i = 0; i < matrix->rows * matrix->cols; i++) {
        size_t at = (size_t)(skipped_rows * matrix->cols + i);
        assert_true(matrix->value[i] == pr_dtype_load(tensor->dtype, tensor->data, at));
    }
}

static void every_part_comes_from_its_tensor(void **state)
{
    (void)state;
    opened files = open_named("mixtral-tiny");
    pr_shard *shard = load_good(&files, place_of(1, 1, 0));
    const pr_layer_weights *layer = &shard->layer[1];
    expect_tensor(&files, "model.layers.1.self_attn.q_proj.weight", 0, layer->q);
    expect_tensor(&files, "model.layers.1.self_attn.k_proj.weight", 0, layer->k);
    expect_tensor(&files, "model.layers.1.self_attn.v_proj.weight", 0, layer->v);
    expect_tensor(&files, "model.layers.1.self_attn.o_proj.weight", 0, layer->o);
    expect_tensor(&files, "model.layers.1.block_sparse_moe.gate.weight", 0, layer->expert_gate);
    expect_tensor(
        &files, "model.layers.1.block_sparse_moe.experts.5.w1.weight", 0,
        layer->expert_gate_proj[5]);
    expect_tensor(
        &files, "model.layers.1.block_sparse_moe.experts.5.w3.weight", 0, layer->expert_up_proj[5]);
    expect_tensor(
        &files, "model.layers.1.block_sparse_moe.experts.5.w2.weight", 0,
        layer->expert_down_proj[5]);
    expect_tensor(&files, "lm_head.weight", 0, shard->head);
    const pr_tensor *norm =
        pr_weights_find(files.weights, "model.layers.1.post_attention_layernorm.weight");
    assert_memory_equal(layer->mlp_norm, norm->data, (size_t)norm->size_bytes);
    norm = pr_weights_find(files.weights, "model.layers.1.input_layernorm.weight");
    assert_memory_equal(layer->attention_norm, norm->data, (size_t)norm->size_bytes);
    norm = pr_weights_find(files.weights, "model.norm.weight");
    assert_memory_equal(shard->final_norm, norm->data, (size_t)norm->size_bytes);
    pr_shard_unload(shard);
    close_opened(&files);
}

static void fused_experts_are_taken_apart(void **state)
{
    (void)state;
    opened files = open_named("qwen3-moe-fused");
    pr_shard *shard = load_good(&files, place_of(1, 2, 1));  // experts 4..7
    const pr_layer_weights *layer = &shard->layer[2];
    int64_t hidden = files.model->hidden, inner = files.model->expert_inner;
    assert_int_equal(layer->experts, 4);
    for (int32_t local = 0; local < 4; local++) {
        int64_t e = 4 + local;
        expect_tensor(
            &files, "model.layers.2.mlp.experts.gate_up_proj", e * 2 * inner,
            layer->expert_gate_proj[local]);
        expect_tensor(
            &files, "model.layers.2.mlp.experts.gate_up_proj", e * 2 * inner + inner,
            layer->expert_up_proj[local]);
        expect_tensor(
            &files, "model.layers.2.mlp.experts.down_proj", e * hidden,
            layer->expert_down_proj[local]);
    }
    pr_shard_unload(shard);
    close_opened(&files);
}

static void tied_models_take_lm_head_from_the_embedding(void **state)
{
    (void)state;
    opened files = open_named("llama-tiny");
    pr_shard *shard = load_good(&files, place_of(4, 4, 3));
    assert_int_equal(shard->head->rows, files.model->vocabulary / 4);
    expect_tensor(
        &files, "model.embed_tokens.weight", files.model->vocabulary / 4 * 3, shard->head);
    pr_shard_unload(shard);
    close_opened(&files);
}

// ---- quantisation ----------------------------------------------------------------------------

static pr_shard *load_quantized(const opened *files, pr_quantization quantization)
{
    pr_shard *shard = NULL;
    calls_left = 1 << 30;
    assert_int_equal(load(files, place_of(1, 1, 0), quantization, &shard), PR_OK);
    return shard;
}

static void matrices_are_quantised_but_not_what_chooses_experts(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen3", "qwen3-moe", "qwen3-moe-fused", "mixtral-tiny"};
    for (int i = 0; i < 4 * 3; i++) {
        pr_quantization kind = (pr_quantization)(i % 3);
        opened files = open_named(names[i / 3]);
        pr_shard *shard = load_quantized(&files, kind);
        for (int32_t layer = 0; layer < shard->layers; layer++) {
            const pr_layer_weights *w = &shard->layer[layer];
            const pr_matrix *matrices[] = {w->q, w->k, w->v, w->o, w->gate, w->up, w->down};
            for (int m = 0; m < 7; m++)
                assert_true(matrices[m] == NULL || matrices[m]->quantization == kind);
            for (int32_t e = 0; e < w->experts; e++) {
                assert_int_equal(w->expert_gate_proj[e]->quantization, kind);
                assert_int_equal(w->expert_up_proj[e]->quantization, kind);
                assert_int_equal(w->expert_down_proj[e]->quantization, kind);
            }
            if (w->expert_gate)
                assert_int_equal(w->expert_gate->quantization, PR_QUANTIZATION_NONE);
        }
        assert_int_equal(
            shard->head->quantization, kind == PR_QUANTIZATION_INT4 ? PR_QUANTIZATION_INT8 : kind);
        pr_shard_unload(shard);
        close_opened(&files);
    }
}

// ---- what is refused -------------------------------------------------------------------------

static void expect_refusal(const pr_model *model, pr_place place, const char *text)
{
    pr_error_capture_begin();
    assert_int_equal(pr_shard_check(model, &place), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    if (!strstr(pr_error_text(), text))
        fail_msg("'%s', not '%s'", pr_error_text(), text);
}

static void a_layout_that_does_not_fit_is_refused_with_the_nearest(void **state)
{
    (void)state;
    opened files = open_named("llama-tiny");
    expect_refusal(files.model, place_of(3, 3, 0), "tp is 3: 1, 2, 4 and 8 are possible");
    expect_refusal(
        files.model, place_of(8, 8, 0),
        "num_key_value_heads is 4, not divisible by tp 8: tp 4 fits this model");
    expect_refusal(files.model, place_of(4, 6, 0), "a group of 6 ranks cannot be cut by tp 4");
    expect_refusal(files.model, place_of(2, 2, 2), "does not exist");
    files.model->inner = 6;
    expect_refusal(
        files.model, place_of(4, 4, 0), "intermediate_size is 6, not divisible by tp 4: tp 2 fits");
    files.model->query_heads = 7;
    expect_refusal(files.model, place_of(2, 2, 0), "num_attention_heads is 7");
    close_opened(&files);
}

static void experts_are_not_cut_by_tp(void **state)
{
    (void)state;
    opened files = open_named("mixtral-tiny");
    pr_place place = place_of(4, 4, 0);
    files.model->inner = files.model->expert_inner = 7;
    assert_int_equal(pr_shard_check(files.model, &place), PR_OK);
    close_opened(&files);
}

static void expect_load_error(const opened *files, const char *text)
{
    pr_shard *shard = NULL;
    calls_left = 1 << 30;
    pr_error_capture_begin();
    pr_status status = load(files, place_of(1, 1, 0), PR_QUANTIZATION_NONE, &shard);
    pr_error_capture_end();
    assert_null(shard);
    if (status != PR_ERR_FORMAT || !strstr(pr_error_text(), text))
        fail_msg("%s: '%s', not '%s'", pr_status_name(status), pr_error_text(), text);
}

static void missing_tensors_are_named(void **state)
{
    (void)state;
    opened files = open_named("llama-tiny");
    files.model->tied_embeddings = false;
    expect_load_error(&files, "tensor 'lm_head.weight' is missing");
    files.model->qkv_bias = true;
    expect_load_error(&files, "tensor 'model.layers.0.self_attn.q_proj.bias' is missing");
    files.model->qk_norm = true;
    expect_load_error(&files, "tensor 'model.layers.0.self_attn.q_norm.weight' is missing");
    close_opened(&files);
    files = open_named("qwen3-moe-fused");
    files.model->layer_is_moe[0] = false;
    expect_load_error(&files, "tensor 'model.layers.0.mlp.gate_proj.weight' is missing");
    files.model->layer_is_moe[0] = files.model->layer_is_moe[1] = true;
    expect_load_error(&files, "tensor 'model.layers.1.mlp.gate.weight' is missing");
    close_opened(&files);
}

static void wrong_shapes_are_named_with_both_shapes(void **state)
{
    (void)state;
    opened files = open_named("mixtral-tiny");
    files.model->expert_inner = 32;
    expect_load_error(
        &files, "tensor 'model.layers.0.block_sparse_moe.experts.0.w1.weight' has shape [24, 64], "
                "config.json asks for [32, 64]");
    files.model->kv_heads = 8;
    expect_load_error(
        &files, "tensor 'model.layers.0.self_attn.k_proj.weight' has shape [64, 64], "
                "config.json asks for [128, 64]");
    files.model->vocabulary = 300;
    expect_load_error(
        &files, "tensor 'model.embed_tokens.weight' has shape [320, 64], "
                "config.json asks for [300, 64]");
    close_opened(&files);
    files = open_named("mixtral-fused");
    files.model->experts = 9;
    expect_load_error(
        &files, "tensor 'model.layers.0.mlp.gate.weight' has shape [8, 64], "
                "config.json asks for [9, 64]");
    files.model->experts = 8;
    files.model->expert_inner = 12;
    expect_load_error(
        &files, "tensor 'model.layers.0.mlp.experts.gate_up_proj' has shape [8, 48, 64], "
                "config.json asks for [8, 24, 64]");
    close_opened(&files);
}

static void a_full_device_leaves_nothing_behind(void **state)
{
    (void)state;
    opened files = open_named("qwen3-moe-nonorm");
    pr_shard *shard = NULL;
    int limit = 0;
    pr_error_capture_begin();
    for (;; limit++) {  // leaks are the sanitizer's to find
        calls_left = limit;
        pr_status status = load(&files, place_of(1, 1, 0), PR_QUANTIZATION_NONE, &shard);
        if (status == PR_OK)
            break;
        assert_int_equal(status, PR_ERR_RESOURCE);
        assert_null(shard);
    }
    pr_error_capture_end();
    assert_true(limit > 50);
    pr_shard_unload(shard);
    close_opened(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_together_hold_every_row_and_expert_once),
        cmocka_unit_test(predicted_bytes_are_the_bytes_read),
        cmocka_unit_test(a_rank_alone_reads_the_whole_file),
        cmocka_unit_test(every_part_comes_from_its_tensor),
        cmocka_unit_test(fused_experts_are_taken_apart),
        cmocka_unit_test(tied_models_take_lm_head_from_the_embedding),
        cmocka_unit_test(matrices_are_quantised_but_not_what_chooses_experts),
        cmocka_unit_test(a_layout_that_does_not_fit_is_refused_with_the_nearest),
        cmocka_unit_test(experts_are_not_cut_by_tp),
        cmocka_unit_test(missing_tensors_are_named),
        cmocka_unit_test(wrong_shapes_are_named_with_both_shapes),
        cmocka_unit_test(a_full_device_leaves_nothing_behind),
    };
    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}
