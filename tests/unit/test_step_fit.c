// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "scheduler/cost/step_fit.h"

static uint64_t seed;

static double uniform(void)
{
    uint64_t x = seed += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

static double normal(void)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += uniform();
    return sum;
}

static int32_t between(int32_t low, int32_t high)
{
    return low + (int32_t)(uniform() * (high - low + 1));
}

// a = d0 = 5 ms, b = 20 us, c = 1 ns, d1 = 80 us, d2 = 30 ns
static const pr_cost_model TRUTH = {
    .chunk_s = 5e-3,
    .chunk_token_s = 2e-5,
    .chunk_pair_s = 1e-9,
    .step_s = 5e-3,
    .step_sequence_s = 8e-5,
    .step_context_s = 3e-8,
};

static pr_step_work chunk_work(void)
{
    int64_t rows = between(16, 8192), before = between(0, 1) * between(0, 100000);
    return (pr_step_work){
        .prefill_rows = (int32_t)rows,
        .prefill_pairs = rows * before + rows * (rows + 1) / 2,
    };
}

static void add_decode(pr_step_work *work)
{
    work->decode_sequences = between(1, 128);
    work->decode_context = (int64_t)work->decode_sequences * between(100, 20000);
}

// A mixed group's step: a chunk, decodes, or both.
static pr_step_work some_work(void)
{
    double kind = uniform();
    pr_step_work work = kind < 0.4 ? chunk_work() : (pr_step_work){0};
    if (kind > 0.2)
        add_decode(&work);
    return work;
}

static double true_seconds(const pr_step_work *work)
{
    return TRUTH.step_s + TRUTH.chunk_token_s * work->prefill_rows +
           TRUTH.chunk_pair_s * ((double)work->prefill_pairs - 0.5 * work->prefill_rows) +
           TRUTH.step_sequence_s * work->decode_sequences +
           TRUTH.step_context_s * (double)work->decode_context;
}

static void observe(pr_step_fit *fit, int64_t observations, double noise)
{
    for (int64_t i = 0; i < observations; i++) {
        pr_step_work work = some_work();
        pr_step_fit_add(fit, &work, true_seconds(&work) * (1 + noise * normal()));
    }
}

static void assert_model(const pr_step_fit *fit, double within)
{
    pr_cost_model model = {0};
    pr_step_fit_apply(fit, &model);
    assert_true(fabs(model.chunk_s / TRUTH.chunk_s - 1) < within);
    assert_true(fabs(model.chunk_token_s / TRUTH.chunk_token_s - 1) < within);
    assert_true(fabs(model.chunk_pair_s / TRUTH.chunk_pair_s - 1) < within);
    assert_true(fabs(model.step_s / TRUTH.step_s - 1) < within);
    assert_true(fabs(model.step_sequence_s / TRUTH.step_sequence_s - 1) < within);
    assert_true(fabs(model.step_context_s / TRUTH.step_context_s - 1) < within);
}

static void exact_times_give_the_constants_back(void **state)
{
    (void)state;
    pr_step_fit fit;
    pr_fit_quality quality;
    seed = 1;
    pr_step_fit_begin(&fit, NULL);
    observe(&fit, 2000, 0);
    assert_model(&fit, 1e-4);
    pr_step_fit_quality(&fit, &quality);
    assert_int_equal(quality.observations, 2000);
    assert_true(quality.r2 > 0.999999 && quality.error_p50 < 1e-3 && quality.error_p99 < 0.01);
    pr_step_work work = some_work();
    assert_true(fabs(pr_step_fit_predict_s(&fit, &work) / true_seconds(&work) - 1) < 1e-4);
}

static void noisy_times_give_the_constants_within_their_noise(void **state)
{
    (void)state;
    pr_step_fit fit;
    pr_fit_quality quality;
    seed = 2;
    pr_step_fit_begin(&fit, NULL);
    observe(&fit, 20000, 0.05);
    assert_model(&fit, 0.03);
    pr_step_fit_quality(&fit, &quality);
    print_message(
        "5 %% noise: R2 %.4f, errors mean %.5f p50 %.4f p99 %.4f\n", quality.r2, quality.error_mean,
        quality.error_p50, quality.error_p99);
    assert_true(quality.r2 > 0.98 && fabs(quality.error_mean) < 0.005);
    assert_true(fabs(quality.error_p50 / (0.6745 * 0.05) - 1) < 0.15);
    assert_true(fabs(quality.error_p99 / (2.576 * 0.05) - 1) < 0.2);
}

static void a_stopped_process_moves_nothing(void **state)
{
    (void)state;
    pr_step_fit fit;
    seed = 3;
    pr_step_fit_begin(&fit, NULL);
    for (int32_t i = 0; i < 20000; i++) {
        pr_step_work work = some_work();
        double seconds = true_seconds(&work) * (1 + 0.05 * normal());
        if (i % 100 == 7)
            seconds += 10 * uniform();  // also among the first observations
        pr_step_fit_add(&fit, &work, seconds);
    }
    assert_model(&fit, 0.05);
}

static void what_is_never_seen_keeps_the_prior(void **state)
{
    (void)state;
    pr_step_fit fit;
    pr_cost_model prior = TRUTH, model = {.step_s = 77, .chunk_s = 1, .chunk_token_s = 2};
    prior.chunk_token_s = 0.25;
    seed = 4;
    pr_step_fit_begin(&fit, &prior);
    for (int32_t i = 0; i < 100000; i++) {
        pr_step_work work = {0};
        add_decode(&work);
        pr_step_fit_add(&fit, &work, true_seconds(&work));
    }
    assert_true(fit.constant[1] == 0.25);
    pr_step_fit_apply(&fit, &model);
    assert_true(model.chunk_s == 1 && model.chunk_token_s == 2);
    assert_true(fabs(model.step_s / TRUTH.step_s - 1) < 1e-4);
}

static void what_is_no_longer_seen_keeps_its_last_value(void **state)
{
    (void)state;
    pr_step_fit fit;
    seed = 5;
    pr_step_fit_begin(&fit, NULL);
    observe(&fit, 5000, 0.02);
    double token_s = fit.constant[1];
    for (int32_t i = 0; i < 200000; i++) {
        pr_step_work work = {0};
        add_decode(&work);
        pr_step_fit_add(&fit, &work, true_seconds(&work) * (1 + 0.02 * normal()));
    }
    assert_true(fabs(fit.constant[1] / token_s - 1) < 0.05);
    assert_true(fabs(fit.constant[1] / TRUTH.chunk_token_s - 1) < 0.05);
}

static void a_machine_that_changes_is_followed(void **state)
{
    (void)state;
    pr_step_fit fit;
    seed = 6;
    pr_step_fit_begin(&fit, NULL);
    observe(&fit, 10000, 0.02);
    for (int32_t i = 0; i < 60000; i++) {
        pr_step_work work = some_work();
        pr_step_fit_add(&fit, &work, 2 * true_seconds(&work) * (1 + 0.02 * normal()));
    }
    pr_step_work work = some_work();
    assert_true(fabs(pr_step_fit_predict_s(&fit, &work) / (2 * true_seconds(&work)) - 1) < 0.05);
}

static void no_constant_is_negative(void **state)
{
    (void)state;
    pr_step_fit fit;
    seed = 7;
    pr_step_fit_begin(&fit, NULL);
    for (int32_t i = 0; i < 3000; i++) {  // the more sequences, the faster: nothing real
        pr_step_work work = {0};
        add_decode(&work);
        pr_step_fit_add(&fit, &work, 0.1 / (1 + work.decode_sequences) * (1 + uniform()));
        for (int32_t k = 0; k < PR_FIT_COLUMNS; k++)
            assert_true(fit.constant[k] >= 0);
    }
}

static void columns_that_move_together_still_predict(void **state)
{
    (void)state;
    pr_step_fit fit;
    seed = 8;
    pr_step_fit_begin(&fit, NULL);
    for (int32_t i = 0; i < 5000; i++) {
        pr_step_work work = {.decode_sequences = between(1, 64)};
        work.decode_context = 1000 * (int64_t)work.decode_sequences;
        pr_step_fit_add(&fit, &work, true_seconds(&work) * (1 + 0.01 * normal()));
    }
    pr_step_work work = {.decode_sequences = 30, .decode_context = 30000};
    assert_true(fabs(pr_step_fit_predict_s(&fit, &work) / true_seconds(&work) - 1) < 0.01);
}

static void ten_million_observations_change_no_digit_that_counts(void **state)
{
    (void)state;
    static pr_step_fit fit;
    static pr_step_work work[1024];
    static double seconds[1024];
    seed = 9;
    for (int32_t i = 0; i < 1024; i++) {
        work[i] = some_work();
        seconds[i] = true_seconds(&work[i]) * (1 + 0.05 * normal());
    }
    pr_step_fit_begin(&fit, NULL);
    double early[PR_FIT_COLUMNS] = {0};
    for (int32_t i = 0; i < 10 * 1000 * 1024; i++) {
        pr_step_fit_add(&fit, &work[i % 1024], seconds[i % 1024]);
        if (i == 100 * 1024 - 1)
            memcpy(early, fit.constant, sizeof early);
    }
    for (int32_t k = 0; k < PR_FIT_COLUMNS; k++)
        assert_true(fabs(fit.constant[k] / early[k] - 1) < 1e-3);
    assert_model(&fit, 0.1);
}

static void the_same_observations_give_the_same_bits(void **state)
{
    (void)state;
    static pr_step_fit fit[2];
    for (int32_t i = 0; i < 2; i++) {
        seed = 10;
        pr_step_fit_begin(&fit[i], NULL);
        observe(&fit[i], 5000, 0.1);
    }
    assert_memory_equal(fit[0].constant, fit[1].constant, sizeof fit[0].constant);
}

static void empty_work_and_no_time_are_ignored(void **state)
{
    (void)state;
    pr_step_fit fit;
    pr_step_work none = {0}, work = {.prefill_rows = 3, .prefill_pairs = 6};
    pr_step_fit_begin(&fit, NULL);
    pr_step_fit_add(&fit, &none, 1);
    pr_step_fit_add(&fit, &work, 0);
    pr_step_fit_add(&fit, &work, -1);
    pr_step_fit_add(&fit, &work, (double)NAN);
    pr_step_fit_transfer_add(&fit, 0, 1);
    assert_int_equal(fit.observations, 0);
    pr_fit_quality quality;
    pr_step_fit_quality(&fit, &quality);
    assert_true(quality.r2 == 0 && quality.error_p99 == 0);
}

static void a_transfer_has_a_start_and_a_rate(void **state)
{
    (void)state;
    pr_step_fit fit;
    pr_cost_model model = {.transfer_bytes_per_s = 7};
    seed = 11;
    pr_step_fit_transfer_begin(&fit, NULL);
    pr_step_fit_transfer_apply(&fit, &model);
    assert_true(model.transfer_bytes_per_s == 7);
    for (int32_t i = 0; i < 5000; i++) {
        int64_t bytes = between(1, 1000) * INT64_C(1000000);
        double seconds = 2e-3 + (double)bytes / 25e9;
        pr_step_fit_transfer_add(&fit, bytes, seconds * (1 + 0.05 * normal()));
    }
    pr_step_fit_transfer_apply(&fit, &model);
    assert_true(fabs(model.transfer_s / 2e-3 - 1) < 0.05);
    assert_true(fabs(model.transfer_bytes_per_s / 25e9 - 1) < 0.02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_times_give_the_constants_back),
        cmocka_unit_test(noisy_times_give_the_constants_within_their_noise),
        cmocka_unit_test(a_stopped_process_moves_nothing),
        cmocka_unit_test(what_is_never_seen_keeps_the_prior),
        cmocka_unit_test(what_is_no_longer_seen_keeps_its_last_value),
        cmocka_unit_test(a_machine_that_changes_is_followed),
        cmocka_unit_test(no_constant_is_negative),
        cmocka_unit_test(columns_that_move_together_still_predict),
        cmocka_unit_test(ten_million_observations_change_no_digit_that_counts),
        cmocka_unit_test(the_same_observations_give_the_same_bits),
        cmocka_unit_test(empty_work_and_no_time_are_ignored),
        cmocka_unit_test(a_transfer_has_a_start_and_a_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
