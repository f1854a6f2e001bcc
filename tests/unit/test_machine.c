// SPDX-License-Identifier: BSD-3-Clause
// What a machine's constants predict, held against what was measured.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/plan/plan_command.h"
#include "runtime/base/log.h"

static size_t matrix_bytes(int64_t rows, int64_t cols, pr_dtype dtype, pr_quantization quantization)
{
    (void)quantization;
    return (size_t)(rows * cols) * pr_dtype_bytes(dtype);
}

static pr_model llama_70b(void)
{
    return (pr_model){
        .hidden = 8192,
        .layers = 80,
        .query_heads = 64,
        .kv_heads = 8,
        .head_size = 128,
        .inner = 28672,
        .vocabulary = 128256,
        .max_positions = 131072,
    };
}

static pr_model dense_600m(void)
{
    return (pr_model){
        .hidden = 1024,
        .layers = 28,
        .query_heads = 16,
        .kv_heads = 8,
        .head_size = 128,
        .inner = 3072,
        .vocabulary = 151936,
        .max_positions = 40960,
    };
}

static pr_cost_model
cost_of(const char *name, const pr_model *model, int32_t ranks, int32_t tp, pr_options *options)
{
    pr_machine machine;
    pr_cost_model cost;
    pr_group_layout group = {.ranks = ranks, .tp = tp};
    pr_memory_facts facts = {
        .options = options,
        .model = model,
        .weight_dtype = PR_BF16,
        .matrix_bytes = matrix_bytes,
        .memory_bytes = INT64_C(72) << 30,
        .max_model_len = 8192,
    };
    assert_true(pr_machine_find(name, &machine));
    options->kv_cache_dtype = machine.number == PR_BF16 ? "bfloat16" : "float32";
    options->block_size = 16;
    pr_machine_cost_of(&machine, &facts, &group, ranks, 1000000, &cost);
    return cost;
}

static void assert_within(const char *what, double predicted, double measured, double part)
{
    print_message("%-30s predicted %.4g, measured %.4g\n", what, predicted, measured);
    assert_true(fabs(predicted / measured - 1) <= part);
}

// The named cost models are fits to measured operators (c and d2: analytic there, too).
static void gpus_agree_with_the_fits_of_a_70b_model(void **state)
{
    (void)state;
    static const char *const NAME[] = {"a100", "h100"};
    static const char *const FIT[] = {"a100-llama3-70b", "h100-llama3-70b"};
    pr_model model = llama_70b();
    for (int i = 0; i < 2; i++) {
        pr_options options = {.max_num_seqs = 256, .max_num_batched_tokens = 8192};
        pr_cost_model cost = cost_of(NAME[i], &model, 8, 8, &options);
        const pr_cost_model *fit = pr_cost_model_named(FIT[i]);
        assert_within("a", cost.chunk_s, fit->chunk_s, 0.2);
        assert_within("b", cost.chunk_token_s, fit->chunk_token_s, 0.2);
        assert_within("c", cost.chunk_pair_s, fit->chunk_pair_s, 0.01);
        assert_within("d0", cost.step_s, fit->step_s, 0.2);
        assert_within("d2", cost.step_context_s, fit->step_context_s, 0.01);
        assert_within(
            "step of 32 x 2000", pr_cost_model_step_s(&cost, 32, 64000),
            pr_cost_model_step_s(fit, 32, 64000), 0.2);
        assert_within(
            "prefill of 12035", pr_cost_model_prefill_s(&cost, 12035, 0),
            pr_cost_model_prefill_s(fit, 12035, 0), 0.2);
        assert_true(cost.kv_bytes_per_token == fit->kv_bytes_per_token);
    }
}

// benchmarks/results/2026-11-24-first-light.json: tokens/s, prompts of 512, decodes of short contexts.
static void the_cpu_agrees_with_the_first_light_record(void **state)
{
    (void)state;
    static const struct {
        int32_t ranks;
        double prefill, decode, decode_of_8;
    } RECORD[] = {{1, 88, 20.2, 54}, {2, 169, 23.9, 106}};
    pr_model model = dense_600m();
    for (int i = 0; i < 2; i++) {
        pr_options options = {.max_num_seqs = 8, .max_num_batched_tokens = 512};
        int32_t ranks = RECORD[i].ranks;
        pr_cost_model cost = cost_of("cpu", &model, ranks, ranks, &options);
        assert_within(
            "prefill", 512 / pr_cost_model_prefill_s(&cost, 512, 0), RECORD[i].prefill, 0.3);
        assert_within("decode", 1 / pr_cost_model_step_s(&cost, 1, 40), RECORD[i].decode, 0.3);
        assert_within(
            "decode of 8", 8 / pr_cost_model_step_s(&cost, 8, 320), RECORD[i].decode_of_8, 0.3);
    }
}

static void threads_of_a_rank_are_cores_of_the_machine(void **state)
{
    (void)state;
    pr_machine core, gpu;
    assert_true(pr_machine_find("cpu", &core) && pr_machine_find("h100", &gpu));
    assert_int_equal(pr_machine_threads(&core, 1, 0), 2);
    assert_int_equal(pr_machine_threads(&core, 2, 0), 1);
    assert_int_equal(pr_machine_threads(&core, 16, 0), 1);
    assert_int_equal(pr_machine_threads(&core, 1, 1), 1);
    assert_int_equal(pr_machine_threads(&core, 1, 64), 2);  // a node has no more
    assert_int_equal(pr_machine_threads(&gpu, 1, 4), 1);
    pr_machine both = pr_machine_with_threads(&core, 2);
    assert_int_equal(both.node_devices, 1);
    assert_true(both.arithmetic_rate == 2 * core.arithmetic_rate);
    assert_true(both.memory_rate == core.node_memory_rate);
    // One rank with both cores does what two ranks with one each do, less their exchange.
    pr_model model = dense_600m();
    pr_options options = {
        .max_num_seqs = 8,
        .max_num_batched_tokens = 512,
        .block_size = 16,
        .kv_cache_dtype = "float32"};
    pr_memory_facts facts = {
        .options = &options,
        .model = &model,
        .weight_dtype = PR_BF16,
        .matrix_bytes = matrix_bytes,
        .memory_bytes = INT64_C(8) << 30,
        .max_model_len = 8192};
    pr_cost_model ranks = cost_of("cpu", &model, 2, 2, &options), threads;
    pr_group_layout alone = {.ranks = 1, .tp = 1};
    pr_machine_cost_of(&both, &facts, &alone, 1, 1000000, &threads);
    double two_s = pr_cost_model_step_s(&ranks, 1, 40),
           one_s = pr_cost_model_step_s(&threads, 1, 40);
    assert_true(one_s < two_s);
    assert_within("decode on two threads", one_s, two_s, 0.1);
    assert_within(
        "prefill on two threads", pr_cost_model_prefill_s(&threads, 512, 0),
        pr_cost_model_prefill_s(&ranks, 512, 0), 0.15);
}

static void every_machine_has_a_name_and_a_sensible_order(void **state)
{
    (void)state;
    char names[] = PR_MACHINE_NAMES;
    pr_model model = llama_70b();
    double before = 0;
    pr_machine machine;
    int32_t machines = 0;
    for (char *name = strtok(names, "|"); name; name = strtok(NULL, "|"), machines++) {
        assert_true(pr_machine_find(name, &machine));
        assert_string_equal(machine.name, name);
        pr_options options = {.max_num_seqs = 64, .max_num_batched_tokens = 512};
        pr_cost_model one = cost_of(name, &model, 1, 1, &options);
        pr_cost_model two = cost_of(name, &model, 2, 2, &options);
        assert_true(two.chunk_token_s < one.chunk_token_s && two.step_s < one.step_s);
        assert_true(one.step_s > 0 && one.transfer_bytes_per_s > 0 && isfinite(one.chunk_s));
        if (strcmp(name, "h200") == 0)
            assert_true(one.step_s < before);  // more bandwidth than h100
        before = one.step_s;
    }
    assert_int_equal(machines, 9);
    assert_false(pr_machine_find("v100", &machine));
}

static void experts_are_read_as_far_as_the_batch_hits_them(void **state)
{
    (void)state;
    pr_model model = dense_600m();
    bool moe[28];
    memset(moe, true, sizeof moe);
    model.experts = 64;
    model.experts_chosen = 4;
    model.expert_inner = 512;
    model.layer_is_moe = moe;
    pr_options options = {.max_num_seqs = 64, .max_num_batched_tokens = 512};
    pr_cost_model cost = cost_of("h100", &model, 8, 1, &options);
    pr_options alone = {.max_num_seqs = 1, .max_num_batched_tokens = 512};
    pr_cost_model one = cost_of("h100", &model, 8, 1, &alone);
    assert_true(cost.step_s == one.step_s);
    assert_true(cost.step_sequence_s > one.step_sequence_s);
    assert_true(cost.chunk_s > cost.step_s);
}

static void plan_forecasts_the_demo_model(void **state)
{
    (void)state;
    pr_options options = {
        .model = PR_SOURCE_DIR "/models/demo",
        .device = "cpu",
        .cpu_isa = "auto",
        .kv_cache_dtype = "auto",
        .block_size = 16,
        .max_num_seqs = 64,
        .max_num_batched_tokens = 512,
        .ranks = 4,
        .prefill = "1x2",
        .decode = "1x2",
        .prompt_tokens = 1000,
        .output_tokens = 100,
    };
    pr_prediction forecast;
    pr_error_capture_begin();
    assert_int_equal(pr_plan_forecast(&options, &forecast), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    options.machine = "h100";
    assert_int_equal(pr_plan_forecast(&options, &forecast), PR_OK);
    assert_true(forecast.split && forecast.handover_s > 0);
    assert_true(forecast.first_token_s == pr_cost_model_prefill_s(&forecast.prefill, 1000, 0));
    assert_int_equal(forecast.batch[forecast.batches - 1], 64);
    assert_true(forecast.step_s[0] == pr_cost_model_step_s(&forecast.decode, 1, 1050));
    // As many prefill lanes as decode lanes: the balance says which side is slower.
    assert_true(
        (forecast.balanced > 1) ==
        (forecast.prefill_requests_per_s < forecast.decode_requests_per_s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpus_agree_with_the_fits_of_a_70b_model),
        cmocka_unit_test(the_cpu_agrees_with_the_first_light_record),
        cmocka_unit_test(threads_of_a_rank_are_cores_of_the_machine),
        cmocka_unit_test(every_machine_has_a_name_and_a_sensible_order),
        cmocka_unit_test(experts_are_read_as_far_as_the_batch_hits_them),
        cmocka_unit_test(plan_forecasts_the_demo_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
