// SPDX-License-Identifier: BSD-3-Clause
// pr_model_open on good and bad config.json, and the RoPE frequencies against known values.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/model/model.h"

#define MODELS PR_SOURCE_DIR "/tests/data/models/"

static char folder[] = "/tmp/pr_test_model_XXXXXX";

static const char llama_text[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 2,"
    " \"intermediate_size\": 48, \"vocab_size\": 256, \"max_position_embeddings\": 128,"
    " \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"rms_norm_eps\": 1e-5,"
    " \"rope_theta\": 5e5, \"eos_token_id\": 7}";

static const char moe_text[] =
    "{\"model_type\": \"qwen3_moe\", \"hidden_size\": 64, \"num_hidden_layers\": 5,"
    " \"intermediate_size\": 48, \"vocab_size\": 256, \"max_position_embeddings\": 128,"
    " \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"head_dim\": 16,"
    " \"rms_norm_eps\": 1e-6, \"num_experts\": 8, \"num_experts_per_tok\": 2,"
    " \"moe_intermediate_size\": 24}";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static void write_text(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void remove_text(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static int remove_folder(void **state)
{
    (void)state;
    remove_text("config.json");
    remove_text("generation_config.json");
    return rmdir(folder);
}

// config.json = base with the fields of `change` put over it; null takes a field away.
static pr_status open_changed(const char *base, const char *change, pr_model **model)
{
    json_t *root = json_loads(base, 0, NULL), *fields = json_loads(change, 0, NULL);
    assert_non_null(root);
    assert_non_null(fields);
    json_object_update(root, fields);
    char *text = json_dumps(root, 0);
    write_text("config.json", text);
    free(text);
    json_decref(root);
    json_decref(fields);
    pr_error_capture_begin();
    pr_status status = pr_model_open(folder, model);
    pr_error_capture_end();
    return status;
}

static void expect_error(const char *base, const char *change, pr_status wanted, const char *text)
{
    pr_model *model = NULL;
    pr_status status = open_changed(base, change, &model);
    if (status != wanted || !strstr(pr_error_text(), text)) {
        fail_msg(
            "%s gave %s: '%s', not '%s'", change, pr_status_name(status), pr_error_text(), text);
    }
    assert_null(model);
}

static pr_model *open_good(const char *base, const char *change)
{
    pr_model *model = NULL;
    pr_status status = open_changed(base, change, &model);
    if (status != PR_OK)
        fail_msg("%s gave '%s'", change, pr_error_text());
    return model;
}

// ---- what is read ----------------------------------------------------------------------------

static void llama_config_is_read(void **state)
{
    (void)state;
    pr_model *model = open_good(llama_text, "{}");
    assert_int_equal(model->family, PR_FAMILY_LLAMA);
    assert_string_equal(pr_family_name(model->family), "llama");
    assert_int_equal(model->hidden, 64);
    assert_int_equal(model->layers, 2);
    assert_int_equal(model->query_heads, 8);
    assert_int_equal(model->kv_heads, 4);
    assert_int_equal(model->head_size, 8);  // H / h, head_dim is absent
    assert_int_equal(model->inner, 48);
    assert_int_equal(model->vocabulary, 256);
    assert_int_equal(model->max_positions, 128);
    assert_true(model->norm_epsilon == 1e-5f);
    assert_true(model->rope.theta == 5e5);
    assert_false(model->tied_embeddings || model->qkv_bias || model->output_bias);
    assert_false(model->qk_norm || model->layer_is_moe[0] || model->layer_is_moe[1]);
    assert_int_equal(model->experts, 0);
    assert_int_equal(model->eos_count, 1);
    assert_int_equal(model->eos[0], 7);
    assert_int_equal(model->bos, -1);
    pr_model_close(model);
}

static void missing_kv_heads_mean_one_per_head(void **state)
{
    (void)state;
    pr_model *model = open_good(llama_text, "{\"num_key_value_heads\": null}");
    assert_int_equal(model->kv_heads, 8);
    pr_model_close(model);
}

static void attention_bias_is_also_on_the_output(void **state)
{
    (void)state;
    pr_model *model = open_good(llama_text, "{\"attention_bias\": true}");
    assert_true(model->qkv_bias && model->output_bias);
    pr_model_close(model);
    model = open_good(llama_text, "{\"model_type\": \"qwen2\"}");
    assert_true(model->qkv_bias && !model->output_bias);
    pr_model_close(model);
}

static void dense_layers_of_a_moe_model_are_marked(void **state)
{
    (void)state;
    pr_model *model =
        open_good(moe_text, "{\"decoder_sparse_step\": 2, \"mlp_only_layers\": [3, 77]}");
    const bool expected[] = {false, true, false, false, false};
    assert_memory_equal(model->layer_is_moe, expected, sizeof expected);
    assert_true(model->qk_norm);
    assert_false(model->renormalise);
    assert_int_equal(model->expert_inner, 24);
    pr_model_close(model);
}

static void both_names_of_the_expert_count_are_read(void **state)
{
    (void)state;
    pr_model *model = open_good(
        moe_text, "{\"num_experts\": null, \"num_local_experts\": 6, \"norm_topk_prob\": true}");
    assert_int_equal(model->experts, 6);
    assert_true(model->renormalise && model->layer_is_moe[0]);
    pr_model_close(model);
}

static void mixtral_takes_the_inner_size_for_its_experts(void **state)
{
    (void)state;
    pr_model *model = open_good(
        moe_text, "{\"model_type\": \"mixtral\", \"num_experts\": null, \"num_local_experts\": 8,"
                  " \"sliding_window\": 128}");
    assert_int_equal(model->expert_inner, 48);
    assert_true(model->renormalise && model->layer_is_moe[4]);
    assert_true(model->rope.theta == 1e6);
    pr_model_close(model);
}

static void generation_config_goes_before_config(void **state)
{
    (void)state;
    write_text(
        "generation_config.json",
        "{\"eos_token_id\": [3, 4], \"bos_token_id\": 9, \"temperature\": 0.6, \"top_p\": 0.95,"
        " \"top_k\": 20, \"repetition_penalty\": 1.05}");
    pr_model *model = open_good(llama_text, "{\"bos_token_id\": 1}");
    assert_int_equal(model->eos_count, 2);
    assert_int_equal(model->eos[0], 3);
    assert_int_equal(model->eos[1], 4);
    assert_int_equal(model->bos, 9);
    assert_true(model->default_temperature == 0.6 && model->default_top_p == 0.95);
    assert_true(model->default_top_k == 20 && model->default_repetition_penalty == 1.05);
    pr_model_close(model);
    write_text("generation_config.json", "{\"eos_token_id\": null, \"top_k\": -1}");
    model = open_good(llama_text, "{\"bos_token_id\": 1}");
    assert_int_equal(model->eos[0], 7);
    assert_int_equal(model->bos, 1);
    assert_true(model->default_temperature == 1 && model->default_top_p == 1);
    assert_true(model->default_top_k == 0 && model->default_repetition_penalty == 1);
    pr_model_close(model);
    remove_text("generation_config.json");
}

static void an_unused_sliding_window_is_no_obstacle(void **state)
{
    (void)state;
    pr_model *model = open_good(
        llama_text, "{\"model_type\": \"qwen2\", \"sliding_window\": 16,"
                    " \"use_sliding_window\": false, \"max_window_layers\": 1,"
                    " \"layer_types\": [\"full_attention\", \"full_attention\"]}");
    pr_model_close(model);
}

static void every_committed_model_opens(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        pr_family family;
        pr_rope_type rope;
        int32_t head_size, experts;
    } models[] = {
        {"llama-tiny", PR_FAMILY_LLAMA, PR_ROPE_DEFAULT, 16, 0},
        {"llama-llama3", PR_FAMILY_LLAMA, PR_ROPE_LLAMA3, 16, 0},
        {"llama-linear", PR_FAMILY_LLAMA, PR_ROPE_LINEAR, 16, 0},
        {"qwen2", PR_FAMILY_QWEN2, PR_ROPE_DEFAULT, 8, 0},
        {"qwen2-yarn", PR_FAMILY_QWEN2, PR_ROPE_YARN, 16, 0},
        {"qwen3", PR_FAMILY_QWEN3, PR_ROPE_DEFAULT, 16, 0},
        {"qwen3-yarn", PR_FAMILY_QWEN3, PR_ROPE_YARN, 16, 0},
        {"qwen3-moe", PR_FAMILY_QWEN3_MOE, PR_ROPE_DEFAULT, 16, 8},
        {"qwen3-moe-sharded", PR_FAMILY_QWEN3_MOE, PR_ROPE_DEFAULT, 16, 8},
        {"qwen3-moe-fused", PR_FAMILY_QWEN3_MOE, PR_ROPE_DEFAULT, 16, 8},
        {"qwen3-moe-nonorm", PR_FAMILY_QWEN3_MOE, PR_ROPE_DEFAULT, 16, 6},
        {"mixtral-tiny", PR_FAMILY_MIXTRAL, PR_ROPE_DEFAULT, 16, 6},
        {"mixtral-fused", PR_FAMILY_MIXTRAL, PR_ROPE_DEFAULT, 16, 8},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[512];
        pr_model *model;
        snprintf(path, sizeof path, MODELS "%s", models[i].name);
        assert_int_equal(pr_model_open(path, &model), PR_OK);
        assert_string_equal(model->path, path);
        assert_int_equal(model->family, models[i].family);
        assert_int_equal(model->rope.type, models[i].rope);
        assert_int_equal(model->head_size, models[i].head_size);
        assert_int_equal(model->experts, models[i].experts);
        pr_model_close(model);
    }
}

// ---- what is refused -------------------------------------------------------------------------

static void missing_directory_and_config_are_named(void **state)
{
    (void)state;
    pr_model *model = NULL;
    pr_error_capture_begin();
    assert_int_equal(pr_model_open("/nonexistent/model", &model), PR_ERR_NOT_FOUND);
    assert_non_null(strstr(pr_error_text(), "/nonexistent/model: there is no such model"));
    remove_text("config.json");
    assert_int_equal(pr_model_open(folder, &model), PR_ERR_NOT_FOUND);
    assert_non_null(strstr(pr_error_text(), "no config.json"));
    pr_error_capture_end();
}

static void text_that_is_no_json_object_is_refused(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"{\"a\": ", "config.json: line 1"},
        {"[]", "not a JSON object"},
        {"", "config.json: line 1"},
        {"{\"a\": 1, \"a\": 2}", "duplicate"},
    };
    for (int i = 0; i < 4; i++) {
        pr_model *model = NULL;
        write_text("config.json", texts[i][0]);
        pr_error_capture_begin();
        assert_int_equal(pr_model_open(folder, &model), PR_ERR_FORMAT);
        pr_error_capture_end();
        assert_non_null(strstr(pr_error_text(), texts[i][1]));
    }
}

static void unsupported_things_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"{\"model_type\": \"gemma2\"}",
         "model_type 'gemma2' is not supported: llama, qwen2, qwen3, qwen3_moe and mixtral are"},
        {"{\"quantization_config\": {\"quant_method\": \"fp8\"}}", "quantised weights"},
        {"{\"hidden_act\": \"gelu\"}", "hidden_act 'gelu' is not supported, only silu is"},
        {"{\"mlp_bias\": true}", "mlp_bias true is not supported"},
        {"{\"model_type\": \"qwen2\", \"use_sliding_window\": true, \"sliding_window\": 64}",
         "sliding_window 64 is in use"},
        {"{\"model_type\": \"mixtral\", \"sliding_window\": 64}", "sliding_window 64 is in use"},
        {"{\"layer_types\": [\"full_attention\", \"sliding_attention\"]}",
         "'sliding_attention' for layer 1"},
        {"{\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2}}",
         "rope type 'dynamic' is not supported: default, linear, llama3 and yarn are"},
        {"{\"rope_scaling\": {\"type\": \"mrope\"}}", "rope type 'mrope'"},
        {"{\"rope_parameters\": {\"partial_rotary_factor\": 0.5}}", "partial_rotary_factor 0.5"},
        {"{\"partial_rotary_factor\": 0.5}", "partial_rotary_factor 0.5"},
        {"{\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e4}}}",
         "one set of RoPE parameters per layer type"},
        {"{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}", "more than 8 entries"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        expect_error(llama_text, changes[i][0], PR_ERR_UNSUPPORTED, changes[i][1]);
}

static void wrong_types_and_bounds_are_refused(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"{\"model_type\": null}", "model_type is missing"},
        {"{\"model_type\": 3}", "model_type must be a string"},
        {"{\"hidden_size\": null}", "hidden_size is missing"},
        {"{\"hidden_size\": \"64\"}", "hidden_size must be an integer"},
        {"{\"hidden_size\": 64.5}", "hidden_size must be an integer"},
        {"{\"hidden_size\": 0}", "hidden_size is 0, allowed are 1 to 16777216"},
        {"{\"hidden_size\": 9999999999}", "hidden_size is 9999999999"},
        {"{\"num_hidden_layers\": -1}", "num_hidden_layers is -1"},
        {"{\"vocab_size\": 4294967297}", "vocab_size is 4294967297"},
        {"{\"max_position_embeddings\": 0}", "max_position_embeddings is 0"},
        {"{\"num_attention_heads\": 7}", "not a multiple of num_key_value_heads 4"},
        {"{\"num_attention_heads\": 12}", "does not give it"},
        {"{\"head_dim\": 15}", "RoPE needs an even one"},
        {"{\"hidden_size\": 24}", "RoPE needs an even one"},
        {"{\"rms_norm_eps\": null}", "rms_norm_eps is missing"},
        {"{\"rms_norm_eps\": -1e-5}", "rms_norm_eps is -1e-05"},
        {"{\"tie_word_embeddings\": 1}", "tie_word_embeddings must be true or false"},
        {"{\"rope_theta\": 0}", "rope_theta is 0"},
        {"{\"rope_theta\": \"big\"}", "rope_theta must be a number"},
        {"{\"rope_scaling\": 4}", "rope_scaling must be an object"},
        {"{\"rope_scaling\": {\"type\": \"linear\"}}", "rope_scaling: factor is missing"},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "factor is 0"},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8}}", "low_freq_factor is missing"},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
         " \"high_freq_factor\": 4}}",
         "high_freq_factor 4 must be above low_freq_factor 4"},
        {"{\"eos_token_id\": 256}", "eos_token_id is 256, allowed are 0 to 255"},
        {"{\"eos_token_id\": [1, \"2\"]}", "eos_token_id must be an integer or a list"},
        {"{\"bos_token_id\": -2}", "bos_token_id is -2"},
        {"{\"hidden_size\": 16777216, \"intermediate_size\": 16777216,"
         " \"num_hidden_layers\": 4096, \"head_dim\": 16}",
         "weights, which is no real model"},
        {"{\"layer_types\": \"full_attention\"}", "layer_types must be a list"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        expect_error(llama_text, changes[i][0], PR_ERR_FORMAT, changes[i][1]);
}

static void wrong_expert_numbers_are_refused(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"{\"num_experts\": null}", "num_local_experts is missing"},
        {"{\"num_experts\": 0}", "num_experts is 0"},
        {"{\"num_experts_per_tok\": 9}", "num_experts_per_tok is 9, allowed are 1 to 8"},
        {"{\"moe_intermediate_size\": null}", "moe_intermediate_size is missing"},
        {"{\"decoder_sparse_step\": 0}", "decoder_sparse_step is 0"},
        {"{\"mlp_only_layers\": 1}", "mlp_only_layers must be a list"},
        {"{\"mlp_only_layers\": [1.5]}", "mlp_only_layers must be a list of integers"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        expect_error(moe_text, changes[i][0], PR_ERR_FORMAT, changes[i][1]);
}

static void wrong_sampling_defaults_are_refused(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"{\"temperature\": -1}", "generation_config.json: temperature is -1"},
        {"{\"top_p\": 2}", "top_p is 2"},
        {"{\"top_k\": 1.5}", "top_k must be an integer"},
        {"{\"repetition_penalty\": 0}", "repetition_penalty is 0"},
        {"{\"eos_token_id\": {}}", "generation_config.json: eos_token_id must be an integer"},
        {"nonsense", "generation_config.json: line 1"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_text("generation_config.json", texts[i][0]);
        expect_error(llama_text, "{}", PR_ERR_FORMAT, texts[i][1]);
    }
    remove_text("generation_config.json");
}

// ---- rope ------------------------------------------------------------------------------------

typedef struct golden_rope {
    const char *fields;  // of config.json
    int32_t head_size;
    double attention_factor;
    struct {
        int32_t i;
        double value;
    } point[12];  // value 0 ends
} golden_rope;

// Computed in float64 from the formulas of docs/models.md, eight or more digits kept.
static const golden_rope golden[] = {
    {"{\"rope_theta\": 150000, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 32,"
     " \"beta_fast\": 32, \"beta_slow\": 1, \"original_max_position_embeddings\": 4096,"
     " \"truncate\": false}}",
     64,
     1.3465736,
     {{0, 1},
      {1, 0.68904431},
      {8, 0.050813275},
      {16, 4.5648392e-4},
      {24, 4.0999785e-6},
      {31, 3.0235114e-7}}},
    {"{\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000, \"factor\": 40,"
     " \"mscale\": 1.0, \"mscale_all_dim\": 1.0, \"original_max_position_embeddings\": 4096}}",
     64,
     1,
     {{0, 1}, {1, 0.74989421}, {8, 0.1}, {16, 0.0055}, {24, 2.5e-5}, {31, 3.3338036e-6}}},
    {"{\"rope_theta\": 1000000, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4,"
     " \"original_max_position_embeddings\": 32768}}",
     128,
     1.1386294,
     {{0, 1},
      {1, 0.80584219},
      {16, 0.031622777},
      {32, 6.0294118e-4},
      {48, 7.9056942e-6},
      {63, 3.1023444e-7}}},
    {"{\"rope_theta\": 500000, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8,"
     " \"low_freq_factor\": 1, \"high_freq_factor\": 4,"
     " \"original_max_position_embeddings\": 8192}}",
     128,
     1,
     {{0, 1},
      {1, 0.81461723},
      {28, 0.003211446},
      {29, 0.0021665708},
      {30, 0.0013718936},
      {31, 8.5675141e-4},
      {32, 5.2484616e-4},
      {33, 3.1269375e-4},
      {34, 1.7850781e-4},
      {35, 9.5562124e-5},
      {63, 3.068926e-7}}},
    {"{\"rope_theta\": 500000, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 32,"
     " \"low_freq_factor\": 1, \"high_freq_factor\": 4,"
     " \"original_max_position_embeddings\": 8192}}",
     64,
     1,
     {{0, 1},
      {1, 0.66360124},
      {13, 0.0048394213},
      {14, 0.003211446},
      {15, 0.0012905479},
      {16, 4.295568e-4},
      {17, 9.7082878e-5},
      {18, 1.9461638e-5},
      {31, 9.4183067e-8}}},
    {"{\"rope_theta\": 10000}", 64, 1, {{0, 1}, {8, 0.1}, {16, 0.01}, {24, 0.001}}},
    {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}, \"rope_theta\": 10000}",
     64,
     1,
     {{0, 0.25}, {8, 0.025}, {16, 0.0025}, {24, 0.00025}}},
};

static void rope_frequencies_equal_known_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        double frequency[64];
        pr_model *model = open_good(llama_text, golden[i].fields);
        pr_rope_frequencies(&model->rope, golden[i].head_size, frequency);
        assert_true(fabs(model->rope.attention_factor - golden[i].attention_factor) < 1e-7);
        for (int k = 0; k < 12 && golden[i].point[k].value > 0; k++) {
            double value = golden[i].point[k].value, got = frequency[golden[i].point[k].i];
            if (fabs(got - value) > 1e-7 * value)
                fail_msg(
                    "golden %zu, pair %d: %.10g not %.10g", i, golden[i].point[k].i, got, value);
        }
        pr_model_close(model);
    }
}

static void yarn_without_a_factor_takes_the_ratio_of_lengths(void **state)
{
    (void)state;
    pr_model *model = open_good(
        llama_text, "{\"rope_scaling\": {\"type\": \"yarn\", "
                    "\"original_max_position_embeddings\": 32}}");
    assert_true(model->rope.factor == 4);
    assert_true(fabs(model->rope.attention_factor - 1.1386294361119891) < 1e-12);
    assert_true(model->rope.beta_fast == 32 && model->rope.beta_slow == 1 && model->rope.truncate);
    pr_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_config_is_read),
        cmocka_unit_test(missing_kv_heads_mean_one_per_head),
        cmocka_unit_test(attention_bias_is_also_on_the_output),
        cmocka_unit_test(dense_layers_of_a_moe_model_are_marked),
        cmocka_unit_test(both_names_of_the_expert_count_are_read),
        cmocka_unit_test(mixtral_takes_the_inner_size_for_its_experts),
        cmocka_unit_test(generation_config_goes_before_config),
        cmocka_unit_test(an_unused_sliding_window_is_no_obstacle),
        cmocka_unit_test(every_committed_model_opens),
        cmocka_unit_test(missing_directory_and_config_are_named),
        cmocka_unit_test(text_that_is_no_json_object_is_refused),
        cmocka_unit_test(unsupported_things_are_refused_by_name),
        cmocka_unit_test(wrong_types_and_bounds_are_refused),
        cmocka_unit_test(wrong_expert_numbers_are_refused),
        cmocka_unit_test(wrong_sampling_defaults_are_refused),
        cmocka_unit_test(rope_frequencies_equal_known_values),
        cmocka_unit_test(yarn_without_a_factor_takes_the_ratio_of_lengths),
    };
    return cmocka_run_group_tests_name("model", tests, make_folder, remove_folder);
}
