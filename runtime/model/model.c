// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/log.h"
#include "runtime/model/config_field.h"
#include "runtime/model/rope.h"

// Bounds of single numbers; check_total bounds what they give together, so that later arithmetic
// on sizes in bytes cannot overflow 64 bits.
enum {
    MAX_DIMENSION = 1 << 24,
    MAX_LAYERS = 4096,
    MAX_HEADS = 4096,
    MAX_HEAD_SIZE = 1024,
    MAX_EXPERTS = 16384,
};

typedef struct family_fact {
    const char *name;   // model_type
    double theta;       // the family's default where config.json has none
    int32_t head_size;  // likewise; 0: H / h
} family_fact;

static const family_fact families[] = {
    [PR_FAMILY_LLAMA] = {"llama", 1e4, 0},     [PR_FAMILY_QWEN2] = {"qwen2", 1e4, 0},
    [PR_FAMILY_QWEN3] = {"qwen3", 1e4, 128},   [PR_FAMILY_QWEN3_MOE] = {"qwen3_moe", 1e4, 0},
    [PR_FAMILY_MIXTRAL] = {"mixtral", 1e6, 0},
};

const char *pr_family_name(pr_family family) { return families[family].name; }

static bool is_qwen(pr_family family)
{
    return family == PR_FAMILY_QWEN2 || family == PR_FAMILY_QWEN3 || family == PR_FAMILY_QWEN3_MOE;
}

// ---- what is refused -------------------------------------------------------------------------

static pr_status read_family(const pr_config *config, pr_family *family)
{
    const char *name = NULL;
    PR_TRY(pr_config_require(config, "model_type"));
    PR_TRY(pr_config_string(config, "model_type", &name));
    for (int i = PR_FAMILY_LLAMA; i <= PR_FAMILY_MIXTRAL; i++) {
        if (strcmp(name, families[i].name) == 0) {
            *family = (pr_family)i;
            return PR_OK;
        }
    }
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "%s: model_type '%s' is not supported: llama, qwen2, qwen3, qwen3_moe and mixtral are",
        config->path, name);
}

static pr_status refuse_layer_types(const pr_config *config)
{
    if (!pr_config_has(config, "layer_types"))
        return PR_OK;
    const json_t *types = json_object_get(config->object, "layer_types");
    size_t i;
    json_t *type;
    if (!json_is_array(types))
        return pr_fail(PR_ERR_FORMAT, "%s: layer_types must be a list", config->path);
    json_array_foreach(types, i, type)
    {
        const char *name = json_string_value(type);
        if (!name || strcmp(name, "full_attention") != 0) {
            return pr_fail(
                PR_ERR_UNSUPPORTED,
                "%s: layer_types has '%s' for layer %zu: only full_attention is supported",
                config->path, name ? name : "?", i);
        }
    }
    return PR_OK;
}

// A window that no position can leave is no window.
static pr_status refuse_sliding_window(const pr_config *config, const pr_model *model)
{
    bool in_use = model->family == PR_FAMILY_MIXTRAL;
    int32_t window = model->max_positions;
    if (is_qwen(model->family))
        PR_TRY(pr_config_bool(config, "use_sliding_window", &in_use));
    PR_TRY(refuse_layer_types(config));
    if (!in_use)
        return PR_OK;
    PR_TRY(pr_config_integer(config, "sliding_window", 0, INT32_MAX, &window));
    if (window >= model->max_positions)
        return PR_OK;
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "%s: sliding_window %d is in use and not supported, only full attention is", config->path,
        window);
}

static pr_status refuse_unsupported(const pr_config *config, const pr_model *model)
{
    const char *activation = "silu";
    bool mlp_bias = false;
    if (pr_config_has(config, "quantization_config")) {
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "%s: quantization_config: quantised weights are not supported, "
            "float32, bfloat16 and float16 are",
            config->path);
    }
    PR_TRY(pr_config_string(config, "hidden_act", &activation));
    if (strcmp(activation, "silu") != 0) {
        return pr_fail(
            PR_ERR_UNSUPPORTED, "%s: hidden_act '%s' is not supported, only silu is", config->path,
            activation);
    }
    PR_TRY(pr_config_bool(config, "mlp_bias", &mlp_bias));
    if (mlp_bias) {
        return pr_fail(
            PR_ERR_UNSUPPORTED, "%s: mlp_bias true is not supported, only false is", config->path);
    }
    return refuse_sliding_window(config, model);
}

// ---- dimensions ------------------------------------------------------------------------------

static pr_status read_heads(const pr_config *config, pr_model *model)
{
    PR_TRY(
        pr_config_need_integer(config, "num_attention_heads", 1, MAX_HEADS, &model->query_heads));
    model->kv_heads = model->query_heads;
    PR_TRY(pr_config_integer(config, "num_key_value_heads", 1, MAX_HEADS, &model->kv_heads));
    if (model->query_heads % model->kv_heads != 0) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: num_attention_heads %d is not a multiple of num_key_value_heads %d",
            config->path, model->query_heads, model->kv_heads);
    }
    model->head_size = families[model->family].head_size;
    PR_TRY(pr_config_integer(config, "head_dim", 2, MAX_HEAD_SIZE, &model->head_size));
    if (model->head_size == 0) {
        model->head_size = model->hidden / model->query_heads;
        if (model->hidden % model->query_heads != 0 || model->head_size > MAX_HEAD_SIZE) {
            return pr_fail(
                PR_ERR_FORMAT,
                "%s: head_dim is missing and hidden_size %d over num_attention_heads %d does not "
                "give it",
                config->path, model->hidden, model->query_heads);
        }
    }
    if (model->head_size % 2 != 0 || model->head_size == 0) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: head_dim is %d, but RoPE needs an even one", config->path,
            model->head_size);
    }
    return PR_OK;
}

static pr_status read_biases(const pr_config *config, pr_model *model)
{
    bool bias = false;
    model->qk_norm = model->family == PR_FAMILY_QWEN3 || model->family == PR_FAMILY_QWEN3_MOE;
    model->qkv_bias = model->family == PR_FAMILY_QWEN2;
    if (model->family == PR_FAMILY_QWEN2 || model->family == PR_FAMILY_MIXTRAL)
        return PR_OK;  // their code does not look at attention_bias
    PR_TRY(pr_config_bool(config, "attention_bias", &bias));
    model->qkv_bias = model->output_bias = bias;
    return PR_OK;
}

static pr_status read_dimensions(const pr_config *config, pr_model *model)
{
    PR_TRY(pr_config_need_integer(config, "hidden_size", 1, MAX_DIMENSION, &model->hidden));
    PR_TRY(pr_config_need_integer(config, "num_hidden_layers", 1, MAX_LAYERS, &model->layers));
    PR_TRY(pr_config_need_integer(config, "intermediate_size", 1, MAX_DIMENSION, &model->inner));
    PR_TRY(pr_config_need_integer(config, "vocab_size", 1, MAX_DIMENSION, &model->vocabulary));
    PR_TRY(pr_config_need_integer(
        config, "max_position_embeddings", 1, 1 << 28, &model->max_positions));
    return read_heads(config, model);
}

static pr_status read_norm_and_head(const pr_config *config, pr_model *model)
{
    double epsilon = 0;
    PR_TRY(pr_config_require(config, "rms_norm_eps"));
    PR_TRY(pr_config_number(config, "rms_norm_eps", 1e-30, 1, &epsilon));
    model->norm_epsilon = (float)epsilon;
    return pr_config_bool(config, "tie_word_embeddings", &model->tied_embeddings);
}

// ---- experts ---------------------------------------------------------------------------------

static pr_status mark_dense_layers(const pr_config *config, pr_model *model)
{
    const json_t *layers = json_object_get(config->object, "mlp_only_layers");
    size_t i;
    json_t *layer;
    if (!pr_config_has(config, "mlp_only_layers"))
        return PR_OK;
    if (!json_is_array(layers))
        return pr_fail(PR_ERR_FORMAT, "%s: mlp_only_layers must be a list", config->path);
    json_array_foreach(layers, i, layer)
    {
        if (!json_is_integer(layer)) {
            return pr_fail(
                PR_ERR_FORMAT, "%s: mlp_only_layers must be a list of integers", config->path);
        }
        int64_t number = json_integer_value(layer);
        if (number >= 0 && number < model->layers)  // others name no layer of this model
            model->layer_is_moe[number] = false;
    }
    return PR_OK;
}

static pr_status read_expert_count(const pr_config *config, pr_model *model)
{
    // transformers v5 writes both families with Mixtral's name.
    const char *key = model->family == PR_FAMILY_MIXTRAL || !pr_config_has(config, "num_experts")
                          ? "num_local_experts"
                          : "num_experts";
    PR_TRY(pr_config_need_integer(config, key, 1, MAX_EXPERTS, &model->experts));
    return pr_config_need_integer(
        config, "num_experts_per_tok", 1, model->experts, &model->experts_chosen);
}

static pr_status read_experts(const pr_config *config, pr_model *model)
{
    int32_t step = 1;
    model->layer_is_moe = calloc((size_t)model->layers, sizeof *model->layer_is_moe);
    if (!model->layer_is_moe)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %d layers", model->layers);
    if (model->family != PR_FAMILY_MIXTRAL && model->family != PR_FAMILY_QWEN3_MOE)
        return PR_OK;
    PR_TRY(read_expert_count(config, model));
    if (model->family == PR_FAMILY_MIXTRAL) {
        model->expert_inner = model->inner;
        model->renormalise = true;
    } else {
        PR_TRY(pr_config_need_integer(
            config, "moe_intermediate_size", 1, MAX_DIMENSION, &model->expert_inner));
        PR_TRY(pr_config_bool(config, "norm_topk_prob", &model->renormalise));
        PR_TRY(pr_config_integer(config, "decoder_sparse_step", 1, INT32_MAX, &step));
    }
    for (int32_t layer = 0; layer < model->layers; layer++)
        model->layer_is_moe[layer] = (layer + 1) % step == 0;
    return model->family == PR_FAMILY_MIXTRAL ? PR_OK : mark_dense_layers(config, model);
}

static pr_status check_total(const pr_config *config, const pr_model *model)
{
    double hidden = model->hidden;
    double attention = 2.0 * (model->query_heads + model->kv_heads) * model->head_size;
    double experts = (double)model->experts * (1 + 3.0 * model->expert_inner);
    double layer = hidden * (attention + experts + 3.0 * model->inner);
    double total = model->layers * layer + 2 * hidden * model->vocabulary;
    if (total > 0x1p50) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: the dimensions give %.2g weights, which is no real model",
            config->path, total);
    }
    return PR_OK;
}

// ---- tokens and sampling defaults ------------------------------------------------------------

static pr_status add_eos(const pr_config *config, const json_t *field, pr_model *model)
{
    int64_t token = json_integer_value(field);
    if (!json_is_integer(field)) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: eos_token_id must be an integer or a list of them", config->path);
    }
    if (token < 0 || token >= model->vocabulary) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: eos_token_id is %lld, allowed are 0 to %d", config->path,
            (long long)token, model->vocabulary - 1);
    }
    if (model->eos_count == PR_MAX_EOS) {
        return pr_fail(
            PR_ERR_UNSUPPORTED, "%s: eos_token_id has more than %d entries", config->path,
            PR_MAX_EOS);
    }
    model->eos[model->eos_count++] = (int32_t)token;
    return PR_OK;
}

static pr_status read_eos(const pr_config *config, pr_model *model)
{
    const json_t *field = json_object_get(config->object, "eos_token_id");
    size_t i;
    json_t *entry;
    if (!json_is_array(field))
        return add_eos(config, field, model);
    json_array_foreach(field, i, entry) PR_TRY(add_eos(config, entry, model));
    return PR_OK;
}

// generation_config.json goes before config.json; it may be absent (object NULL).
static pr_status read_tokens(const pr_config *config, const pr_config *generation, pr_model *model)
{
    model->bos = -1;
    PR_TRY(pr_config_integer(config, "bos_token_id", 0, model->vocabulary - 1, &model->bos));
    PR_TRY(pr_config_integer(generation, "bos_token_id", 0, model->vocabulary - 1, &model->bos));
    if (pr_config_has(generation, "eos_token_id"))
        return read_eos(generation, model);
    return pr_config_has(config, "eos_token_id") ? read_eos(config, model) : PR_OK;
}

static pr_status read_sampling_defaults(const pr_config *generation, pr_model *model)
{
    int32_t top_k = 0;
    model->default_temperature = model->default_top_p = model->default_repetition_penalty = 1;
    PR_TRY(pr_config_number(generation, "temperature", 0, 1e3, &model->default_temperature));
    PR_TRY(pr_config_number(generation, "top_p", 1e-6, 1, &model->default_top_p));
    PR_TRY(pr_config_integer(generation, "top_k", -1, INT32_MAX, &top_k));
    model->default_top_k = top_k > 0 ? top_k : 0;
    return pr_config_number(
        generation, "repetition_penalty", 1e-3, 1e3, &model->default_repetition_penalty);
}

// ---- files -----------------------------------------------------------------------------------

static pr_status read_object(const char *path, json_t **object)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: line %d: %s", path, error.line > 0 ? error.line : 1, error.text);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return pr_fail(PR_ERR_FORMAT, "%s: not a JSON object", path);
    }
    *object = root;
    return PR_OK;
}

static pr_status read_config(const pr_config *config, pr_model *model)
{
    PR_TRY(read_family(config, &model->family));
    PR_TRY(read_dimensions(config, model));
    PR_TRY(read_biases(config, model));
    PR_TRY(read_norm_and_head(config, model));
    PR_TRY(refuse_unsupported(config, model));
    PR_TRY(read_experts(config, model));
    PR_TRY(check_total(config, model));
    return pr_rope_read(config, families[model->family].theta, model->max_positions, &model->rope);
}

static pr_status read_files(const char *path, pr_model *model)
{
    char config_path[4096], generation_path[4096];
    struct stat info;
    json_t *config_json = NULL, *generation_json = NULL;
    pr_status status;
    snprintf(config_path, sizeof config_path, "%s/config.json", path);
    snprintf(generation_path, sizeof generation_path, "%s/generation_config.json", path);
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return pr_fail(PR_ERR_NOT_FOUND, "%s: there is no such model directory", path);
    if (stat(config_path, &info) != 0)
        return pr_fail(PR_ERR_NOT_FOUND, "%s: there is no config.json in this directory", path);
    PR_TRY_GOTO(read_object(config_path, &config_json), release);
    if (stat(generation_path, &info) == 0)
        PR_TRY_GOTO(read_object(generation_path, &generation_json), release);
    const pr_config config = {config_path, config_json};
    const pr_config generation = {generation_path, generation_json};
    PR_TRY_GOTO(read_config(&config, model), release);
    PR_TRY_GOTO(read_tokens(&config, &generation, model), release);
    status = read_sampling_defaults(&generation, model);
release:
    json_decref(generation_json);
    json_decref(config_json);
    return status;
}

pr_status pr_model_open(const char *path, pr_model **model)
{
    if (strlen(path) > 4000)
        return pr_fail(PR_ERR_ARGUMENT, "the path of the model has %zu bytes", strlen(path));
    pr_model *made = calloc(1, sizeof *made);
    if (!made || !(made->path = strdup(path))) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a model's description");
    }
    pr_status status = read_files(path, made);
    if (status != PR_OK) {
        pr_model_close(made);
        return status;
    }
    *model = made;
    return PR_OK;
}

void pr_model_close(pr_model *model)
{
    if (!model)
        return;
    free(model->layer_is_moe);
    free(model->path);
    free(model);
}
