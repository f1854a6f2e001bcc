// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "launcher/engine/layout_choice.h"
#include "runtime/base/log.h"

static const int64_t MiB = 1 << 20;
static bool moe_layers[] = {true, true}, dense_layers[] = {false, false};

// 2 layers, 8 query and 8 KV heads of 32, hidden 256, V 1024: small enough to add up by hand.
static pr_model dense = {
    .hidden = 256,
    .layers = 2,
    .query_heads = 8,
    .kv_heads = 8,
    .head_size = 32,
    .inner = 512,
    .vocabulary = 1024,
    .max_positions = 1024,
    .layer_is_moe = dense_layers};
static pr_model experts = {
    .hidden = 256,
    .layers = 2,
    .query_heads = 8,
    .kv_heads = 4,
    .head_size = 32,
    .inner = 512,
    .vocabulary = 1024,
    .max_positions = 1024,
    .experts = 8,
    .experts_chosen = 2,
    .expert_inner = 128,
    .layer_is_moe = moe_layers};

static size_t stored_bytes(int64_t rows, int64_t cols, pr_dtype dtype, pr_quantization quantization)
{
    if (quantization != PR_QUANTIZATION_NONE)
        return (size_t)(rows * cols) / (quantization == PR_QUANTIZATION_INT8 ? 1 : 2);
    return (size_t)(rows * cols) * pr_dtype_bytes(dtype);
}

static pr_options options;
static pr_layout layout;
static char why[PR_LAYOUT_TEXT_BYTES], flags[PR_LAYOUT_TEXT_BYTES];

static pr_memory_facts facts_of(const pr_model *model)
{
    return (pr_memory_facts){
        .options = &options,
        .model = model,
        .weight_dtype = PR_BF16,
        .matrix_bytes = stored_bytes,
        .memory_bytes = 4096 * MiB,
        .max_model_len = model->max_positions};
}

// The options as without any flag.
static int reset_options(void **state)
{
    (void)state;
    options = (pr_options){
        .block_size = 16,
        .max_num_batched_tokens = 512,
        .max_num_seqs = 64,
        .kv_cache_dtype = "auto"};
    return 0;
}

static const char *choose(const pr_model *model, int32_t ranks)
{
    pr_memory_facts facts = facts_of(model);
    pr_error_capture_begin();
    pr_status status = pr_layout_choose(&facts, ranks, &layout, why);
    pr_error_capture_end();
    if (status != PR_OK) {
        assert_int_equal(status, PR_ERR_ARGUMENT);
        return pr_error_text();
    }
    // Whatever was chosen, every rank is in exactly one group, in order.
    int32_t next = layout.dedicated_controller;
    for (int32_t i = 0; i < layout.groups; i++) {
        assert_int_equal(layout.group[i].first_rank, next);
        assert_int_equal(layout.group[i].ranks % layout.group[i].tp, 0);
        next += layout.group[i].ranks;
    }
    assert_int_equal(next, ranks);
    assert_int_equal(layout.ranks, ranks);
    pr_layout_describe(&layout, flags);
    return flags;
}

static void without_flags_a_dense_model_gets_a_group_per_rank(void **state)
{
    (void)state;
    assert_string_equal(choose(&dense, 1), "--mixed 1x1");
    assert_string_equal(choose(&dense, 3), "--mixed 3x1");
    assert_string_equal(choose(&dense, 2048), "--mixed 1024x2");
    assert_non_null(strstr(why, "tp 1: the smallest that fits"));
}

static void without_flags_experts_are_spread_over_all_ranks(void **state)
{
    (void)state;
    assert_string_equal(choose(&experts, 1), "--mixed 1x1");
    assert_string_equal(choose(&experts, 3), "--mixed 1x3");
    assert_string_equal(choose(&experts, 16), "--mixed 1x16");
}

static void too_little_memory_raises_tp(void **state)
{
    (void)state;
    pr_memory_budget one, two;
    pr_memory_facts facts = facts_of(&dense);
    pr_memory_budget_of(&facts, 1, 1, &one);
    pr_memory_budget_of(&facts, 2, 2, &two);
    facts.memory_bytes = two.weight_bytes + two.work_bytes + two.blocks_least * two.block_bytes;
    assert_true(
        facts.memory_bytes <
        one.weight_bytes + one.work_bytes + one.blocks_least * one.block_bytes);
    assert_int_equal(pr_layout_choose(&facts, 4, &layout, why), PR_OK);
    pr_layout_describe(&layout, flags);
    assert_string_equal(flags, "--mixed 2x2:tp=2");
    // Three ranks cannot be paired: tp 1 stays, and the reason says that it does not fit.
    assert_int_equal(pr_layout_choose(&facts, 3, &layout, why), PR_OK);
    assert_int_equal(layout.group[0].tp, 1);
    assert_non_null(strstr(why, "does not fit"));
}

static void tp_alone_applies_to_every_group(void **state)
{
    (void)state;
    options.tensor_parallel_size = 4;
    assert_string_equal(choose(&dense, 8), "--mixed 2x4:tp=4");
    assert_string_equal(choose(&experts, 8), "--mixed 1x8:tp=4");
    assert_string_equal(
        choose(&dense, 6), "-tp 4: 6 ranks are not a multiple of it; nearest that fits: -tp 2");
    options.tensor_parallel_size = 3;
    assert_string_equal(choose(&dense, 6), "--tensor-parallel-size 3: use 1, 2, 4 or 8");
    options.tensor_parallel_size = 2;
    options.prefill = "1x4";
    options.decode = "1x2:tp=1,1x2";
    assert_string_equal(choose(&dense, 8), "--prefill 1x4:tp=2 --decode 1x2,1x2:tp=2");
}

static void flags_are_read_as_written(void **state)
{
    (void)state;
    options.prefill = "2x4:tp=2";
    options.decode = "1x8";
    assert_string_equal(choose(&dense, 16), "--prefill 2x4:tp=2 --decode 1x8");
    assert_int_equal(layout.group[1].first_rank, 4);
    assert_int_equal(layout.group[2].role, PR_ROLE_DECODE);
    assert_int_equal(pr_layout_lanes(&layout, 0), 2);
    options.dedicated_controller = true;
    assert_string_equal(
        choose(&dense, 17), "--prefill 2x4:tp=2 --decode 1x8 --dedicated-controller");
    assert_int_equal(pr_layout_group_of(&layout, 0), -1);
}

static void a_layout_that_does_not_fit_says_what_does(void **state)
{
    (void)state;
    options.mixed = "1x6:tp=4";
    assert_string_equal(
        choose(&dense, 6),
        "--mixed 1x6:tp=4: 6 ranks are not a multiple of tp 4; nearest that fits: "
        "--mixed 1x4:tp=4 or 1x6:tp=2");
    options.mixed = "1x2:tp=4";
    assert_string_equal(
        choose(&dense, 2), "--mixed 1x2:tp=4: 2 ranks are fewer than tp 4; nearest that fits: "
                           "--mixed 1x2:tp=2");
    options.mixed = "2x4";
    assert_string_equal(
        choose(&dense, 6), "--mixed 2x4 names 8 ranks, the run has 6: --mixed 1x6 fits");
    options.mixed = NULL;
    options.prefill = "1x2";
    assert_string_equal(
        choose(&dense, 6), "--prefill and --decode come together: --decode is missing");
    options.decode = "1x2";
    assert_string_equal(
        choose(&dense, 6),
        "--prefill 1x2 --decode 1x2 name 4 ranks, the run has 6: --decode 1x4 fits "
        "beside this prefill");
    assert_string_equal(
        choose(&dense, 2),
        "--prefill 1x2 --decode 1x2 name 4 ranks, the run has 2: start more ranks");
    options.mixed = "1x6";
    assert_string_equal(
        choose(&dense, 6), "--mixed excludes --prefill and --decode: give one or the other");
    reset_options(NULL);
    options.dedicated_controller = true;
    assert_string_equal(
        choose(&dense, 1), "--dedicated-controller needs at least two ranks, the run has 1");
}

static void a_malformed_layout_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",        "x",       "2",
                                        "2x",      "x4",      "0x4",
                                        "2x0",     "-1x4",    "2x4:",
                                        "2x4:tp",  "2x4:tp=", "2x4:tp=0",
                                        "2x4,",    "2x4 ",    "2x4:tp=2:tp=2",
                                        "2x4;1x1", "2X4",     "99999999999999999999x1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        options.mixed = wrong[i];
        assert_non_null(strstr(choose(&dense, 8), "is not a layout: use NxR"));
    }
    options.mixed = "2x3:tp=3";
    assert_string_equal(choose(&dense, 6), "--mixed 2x3:tp=3: tp 3: use 1, 2, 4 or 8");
    options.mixed = "1025x1";
    assert_string_equal(choose(&dense, 1025), "--mixed 1025x1: more than 1024 groups");
}

static void a_model_that_cannot_be_cut_so_is_refused(void **state)
{
    (void)state;
    options.mixed = "1x8:tp=8";
    assert_non_null(strstr(choose(&experts, 8), "8"));  // 4 KV heads: model/shard says it
    assert_null(strstr(choose(&experts, 8), "--mixed 1x8:tp=8 "));
    assert_string_equal(choose(&dense, 8), "--mixed 1x8:tp=8");
}

static void kv_blocks_are_what_is_useful_or_what_fits(void **state)
{
    (void)state;
    int32_t blocks = 0;
    pr_memory_facts facts = facts_of(&dense);
    pr_memory_budget budget;
    choose(&dense, 2);
    assert_int_equal(pr_memory_budget_blocks(&facts, &layout, &blocks), PR_OK);
    assert_int_equal(blocks, 64 * 1024 / 16);
    pr_memory_budget_of(&facts, 1, 1, &budget);
    // K and V of 2 layers, 8 heads of 32, 16 tokens, bfloat16 as the weights are.
    assert_int_equal(budget.block_bytes, 2 * 2 * 8 * 32 * 16 * 2);
    // q k v o, gate up down of 2 layers, the head, bfloat16; two norms a layer.
    assert_int_equal(
        budget.weight_bytes, 2 * (2 * (4 * 256 * 256 + 3 * 512 * 256) + 1024 * 256) + 2 * 8 * 256);
    facts.memory_bytes = budget.weight_bytes + budget.work_bytes + 200 * budget.block_bytes;
    assert_int_equal(pr_memory_budget_blocks(&facts, &layout, &blocks), PR_OK);
    assert_int_equal(blocks, 200);
    options.kv_cache_dtype = "float32";
    assert_int_equal(pr_memory_budget_blocks(&facts, &layout, &blocks), PR_OK);
    assert_int_equal(blocks, 100);
    options.kv_cache_dtype = "auto";
    facts.weight_dtype = PR_F32;
    pr_memory_budget_of(&facts, 1, 1, &budget);
    assert_int_equal(budget.block_bytes, 2 * 2 * 8 * 32 * 16 * 4);
    facts.weight_dtype = PR_F16;
    pr_memory_budget_of(&facts, 1, 1, &budget);
    assert_int_equal(budget.block_bytes, 2 * 2 * 8 * 32 * 16 * 2);
    facts.weight_dtype = PR_BF16;
    options.kv_blocks = 64;
    assert_int_equal(pr_memory_budget_blocks(&facts, &layout, &blocks), PR_OK);
    assert_int_equal(blocks, 64);
}

static void memory_for_less_than_one_sequence_is_refused_with_what_to_lower(void **state)
{
    (void)state;
    int32_t blocks = 0;
    pr_memory_facts facts = facts_of(&dense);
    pr_memory_budget budget;
    choose(&dense, 1);
    pr_memory_budget_of(&facts, 1, 1, &budget);
    pr_error_capture_begin();
    facts.memory_bytes = budget.weight_bytes + budget.work_bytes + 63 * budget.block_bytes;
    assert_int_equal(pr_memory_budget_blocks(&facts, &layout, &blocks), PR_ERR_RESOURCE);
    assert_non_null(strstr(pr_error_text(), "lower --max-model-len to 1008"));
    facts.memory_bytes = budget.weight_bytes;
    assert_int_equal(pr_memory_budget_blocks(&facts, &layout, &blocks), PR_ERR_RESOURCE);
    assert_non_null(strstr(pr_error_text(), "use more ranks or a larger tp"));
    options.kv_blocks = 63;
    assert_int_equal(pr_memory_budget_blocks(&facts, &layout, &blocks), PR_ERR_ARGUMENT);
    pr_error_capture_end();
}

static void quantised_weights_are_counted_as_they_are_packed(void **state)
{
    (void)state;
    pr_memory_facts facts = facts_of(&experts);
    const int64_t head = 1024 * 256, gates = 2 * 8 * 256 * 2, norms = 2 * 8 * 256;
    const int64_t rest = 2 * (3 * 256 * 256 + 8 * 3 * 128 * 256);
    options.quantization = "int8";
    assert_int_equal(pr_memory_weight_bytes(&facts, 8, 1), rest + gates + head + norms);
    options.quantization = "int4";
    assert_int_equal(pr_memory_weight_bytes(&facts, 8, 1), rest / 2 + gates + head + norms);
}

static void experts_of_the_fullest_rank_are_counted(void **state)
{
    (void)state;
    pr_memory_facts facts = facts_of(&experts);
    pr_memory_budget alone, three;
    pr_memory_budget_of(&facts, 1, 1, &alone);
    pr_memory_budget_of(&facts, 3, 1, &three);
    assert_int_equal(alone.experts, 8);
    assert_int_equal(three.experts, 3);
    assert_int_equal(alone.weight_bytes - three.weight_bytes, 2 * 5 * 3 * 128 * 256 * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_flags_a_dense_model_gets_a_group_per_rank, reset_options),
        cmocka_unit_test_setup(without_flags_experts_are_spread_over_all_ranks, reset_options),
        cmocka_unit_test_setup(too_little_memory_raises_tp, reset_options),
        cmocka_unit_test_setup(tp_alone_applies_to_every_group, reset_options),
        cmocka_unit_test_setup(flags_are_read_as_written, reset_options),
        cmocka_unit_test_setup(a_layout_that_does_not_fit_says_what_does, reset_options),
        cmocka_unit_test_setup(a_malformed_layout_is_refused, reset_options),
        cmocka_unit_test_setup(a_model_that_cannot_be_cut_so_is_refused, reset_options),
        cmocka_unit_test_setup(kv_blocks_are_what_is_useful_or_what_fits, reset_options),
        cmocka_unit_test_setup(
            memory_for_less_than_one_sequence_is_refused_with_what_to_lower, reset_options),
        cmocka_unit_test_setup(quantised_weights_are_counted_as_they_are_packed, reset_options),
        cmocka_unit_test_setup(experts_of_the_fullest_rank_are_counted, reset_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
