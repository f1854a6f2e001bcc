// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "runtime/base/log.h"
#include "scheduler/cost/cost_model.h"

static bool near(double value, double right, double within)
{
    return fabs(value - right) <= within;
}

static void a100_gives_the_published_check_values(void **state)
{
    (void)state;
    const pr_cost_model *a100 = pr_cost_model_named("a100-llama3-70b");
    assert_non_null(a100);
    assert_true(near(pr_cost_model_prefill_s(a100, 12035, 0), 1.530215440, 1e-9));
    assert_true(near(pr_cost_model_prefill_s(a100, 12035, 6144), 0.781102386, 1e-9));
    assert_true(near(pr_cost_model_prefill_s(a100, 126195, 0), 28.558877, 1e-6));
    assert_true(near(pr_cost_model_step_s(a100, 32, 400000), 0.032227600, 1e-9));
    assert_true(near(pr_cost_model_transfer_s(a100, 12035), 0.051295360, 1e-9));
}

static void a_prefill_is_the_sum_of_its_chunks(void **state)
{
    (void)state;
    const pr_cost_model *h100 = pr_cost_model_named("h100-llama3-70b");
    double sum = pr_cost_model_chunk_s(h100, 8192, 100) + pr_cost_model_chunk_s(h100, 8192, 8292) +
                 pr_cost_model_chunk_s(h100, 16, 16484);
    assert_true(pr_cost_model_prefill_s(h100, 16500, 100) == sum);
    assert_true(pr_cost_model_prefill_s(h100, 16500, 16500) == 0);
}

static void an_unknown_name_has_no_model(void **state)
{
    (void)state;
    pr_cost_model model;
    assert_null(pr_cost_model_named("a100"));
    pr_error_capture_begin();
    assert_int_equal(pr_cost_model_parse("a100,a=1", &model), PR_ERR_ARGUMENT);
    pr_error_capture_end();
}

static void overrides_replace_only_what_they_name(void **state)
{
    (void)state;
    pr_cost_model model;
    assert_int_equal(
        pr_cost_model_parse("a100-llama3-70b,beta=25e9,chunk=2048,capacity=1e6", &model), PR_OK);
    assert_true(model.transfer_bytes_per_s == 25e9);
    assert_int_equal(model.chunk_tokens, 2048);
    assert_int_equal(model.capacity_tokens, 1000000);
    assert_true(model.chunk_s == 19.10e-3);
    assert_int_equal(model.max_batch, 256);
}

static void a_wrong_override_changes_nothing(void **state)
{
    (void)state;
    static const char *const WRONG[] = {
        "a",      "a=",      "=1",        "a=1x",      "gamma=1",   "a=-1", "beta=0",   "a=inf",
        "d1=nan", "chunk=0", "chunk=1.5", "batch=3e9", "capacity=", ",a=1", "a=2,,b=1",
    };
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        pr_cost_model model = *pr_cost_model_named("a100-llama3-70b");
        pr_error_capture_begin();
        assert_int_equal(pr_cost_model_override(WRONG[i], &model), PR_ERR_ARGUMENT);
        pr_error_capture_end();
        assert_true(model.chunk_s == 19.10e-3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a100_gives_the_published_check_values),
        cmocka_unit_test(a_prefill_is_the_sum_of_its_chunks),
        cmocka_unit_test(an_unknown_name_has_no_model),
        cmocka_unit_test(overrides_replace_only_what_they_name),
        cmocka_unit_test(a_wrong_override_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
