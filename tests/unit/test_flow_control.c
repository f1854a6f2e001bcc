// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <string.h>

#include "runtime/base/log.h"
#include "scheduler/dispatch/flow_control.h"

static pr_job_queue *make(double guard_s)
{
    pr_job_queue *queue;
    assert_int_equal(
        pr_job_queue_create(
            &(pr_job_queue_params){
                .fair = true,
                .prompt_weight = 1,
                .output_weight = 2,
                .guard_s = guard_s,
                .most_jobs = 1000,
                .most_tenants = 10},
            &queue),
        PR_OK);
    return queue;
}

static void put(pr_job_queue *queue, pr_job *job)
{
    assert_int_equal(pr_job_queue_put(queue, job), PR_OK);
}

static const pr_flow_params unbounded = {.sheddable_above = INT32_MAX};
static const pr_flow_view one_lane = {.lanes = 1, .most_jobs = 1000};

static void bounds_count_jobs_and_prompt_tokens(void **state)
{
    (void)state;
    pr_job_queue *queue = make((double)INFINITY);
    pr_flow_params params = {.most_prompt_tokens = 100};
    pr_flow_view view = one_lane;
    pr_job large = {.id = 1, .prompt_tokens = 500}, small = {.id = 2, .prompt_tokens = 1};
    assert_int_equal(pr_flow_arrive(&params, queue, &view, &large), PR_FLOW_PASS);  // alone
    view.jobs = 1;
    view.prompt_tokens = 100;
    assert_int_equal(pr_flow_arrive(&params, queue, &view, &small), PR_FLOW_QUEUE_TOKENS);
    view.prompt_tokens = 99;
    assert_int_equal(pr_flow_arrive(&params, queue, &view, &small), PR_FLOW_PASS);
    view.most_jobs = 1;
    assert_int_equal(pr_flow_arrive(&params, queue, &view, &small), PR_FLOW_QUEUE_JOBS);
    pr_job_queue_destroy(queue);
}

static void a_time_to_live_is_given_to_jobs_without(void **state)
{
    (void)state;
    pr_job_queue *queue = make((double)INFINITY);
    pr_flow_params params = {.ttl_s = 30};
    pr_job a = {.id = 1, .arrival_s = 2}, b = {.id = 2, .arrival_s = 1, .expires_s = 5};
    assert_int_equal(pr_flow_arrive(&params, queue, &one_lane, &a), PR_FLOW_PASS);
    assert_int_equal(pr_flow_arrive(&params, queue, &one_lane, &b), PR_FLOW_PASS);
    assert_true(a.expires_s == 32 && b.expires_s == 5);
    pr_job_queue_destroy(queue);
}

static void a_band_is_held_back_at_its_ceiling(void **state)
{
    (void)state;
    pr_job_queue *queue = make(100);
    pr_flow_params params = unbounded;
    params.ceilings = 2;
    params.ceiling[0] = (pr_flow_ceiling){.priority = 1, .saturation = 0.8};
    params.ceiling[1] = (pr_flow_ceiling){.priority = 5, .saturation = 0.5};
    assert_int_equal(pr_flow_params_check(&params), PR_OK);
    pr_job high = {.id = 1, .priority = 0, .arrival_s = 50};
    pr_job middle = {.id = 2, .priority = 4}, low = {.id = 3, .priority = 5};
    put(queue, &low);
    assert_ptr_equal(pr_flow_next(&params, queue, 60, 0.4), &low);
    assert_null(pr_flow_next(&params, queue, 60, 0.5));
    put(queue, &middle);
    assert_ptr_equal(pr_flow_next(&params, queue, 60, 0.7), &middle);
    assert_null(pr_flow_next(&params, queue, 60, 0.8));
    put(queue, &high);
    assert_ptr_equal(pr_flow_next(&params, queue, 60, 0.99), &high);
    assert_null(pr_flow_next(&params, queue, 60, 1));  // full for everyone
    // The guard would start `middle` (waiting longest): a higher band passes it while it is held.
    assert_ptr_equal(pr_flow_next(&params, queue, 101, 0.7), &middle);
    assert_ptr_equal(pr_flow_next(&params, queue, 101, 0.8), &high);
    pr_job_queue_destroy(queue);
}

static void only_what_misses_its_target_in_the_actual_order_is_rejected(void **state)
{
    (void)state;
    pr_job_queue *queue = make((double)INFINITY);
    pr_flow_params params = {.sheddable_above = 0};
    static pr_job before[20];
    for (int32_t i = 0; i < 20; i++) {  // 10 jobs of 1 s and 10 of 5 s: 60 s
        double work_s = i % 2 == 0 ? 1 : 5;
        before[i] = (pr_job){
            .id = (uint64_t)i,
            .priority = 1,
            .prompt_tokens = 100,
            .remaining_s = work_s,
            .key = work_s};
        put(queue, &before[i]);
    }
    pr_job small = {
        .id = 90,
        .priority = 1,
        .prompt_tokens = 100,
        .remaining_s = 2,
        .key = 2,
        .ttft_target_s = 12};
    assert_int_equal(pr_flow_arrive(&params, queue, &one_lane, &small), PR_FLOW_PASS);  // 10 + 2
    small.ttft_target_s = 11.9;
    assert_int_equal(pr_flow_arrive(&params, queue, &one_lane, &small), PR_FLOW_TARGET);
    small.priority = 0;  // not to be rejected, and before the others
    assert_int_equal(pr_flow_arrive(&params, queue, &one_lane, &small), PR_FLOW_PASS);
    pr_job large = {
        .id = 91,
        .priority = 2,
        .prompt_tokens = 100,
        .remaining_s = 6,
        .key = 6,
        .ttft_target_s = 36};
    pr_flow_view view = one_lane;
    assert_int_equal(pr_flow_arrive(&params, queue, &view, &large), PR_FLOW_TARGET);  // 60 + 6
    view.lanes = 2;
    assert_int_equal(pr_flow_arrive(&params, queue, &view, &large), PR_FLOW_PASS);  // 30 + 6
    view.free_s = 1;
    assert_int_equal(pr_flow_arrive(&params, queue, &view, &large), PR_FLOW_TARGET);
    large.ttft_target_s = 0;  // none
    assert_int_equal(pr_flow_arrive(&params, queue, &view, &large), PR_FLOW_PASS);
    pr_job_queue_destroy(queue);
}

static void a_target_that_has_become_hopeless_is_given_up_before_the_start(void **state)
{
    (void)state;
    pr_job_queue *queue = make((double)INFINITY);
    pr_flow_params params = {.sheddable_above = 0};
    pr_job job = {.id = 1, .priority = 1, .remaining_s = 2, .ttft_target_s = 10};
    put(queue, &job);
    assert_ptr_equal(pr_flow_next(&params, queue, 8, 0), &job);
    assert_false(pr_flow_is_late(&params, &job, 8));
    assert_true(pr_flow_is_late(&params, &job, 8.1));
    job.outputs = 1;  // had started before: its target is met or missed already
    assert_false(pr_flow_is_late(&params, &job, 8.1));
    pr_job_queue_destroy(queue);
}

static void every_reason_has_a_line_and_a_status(void **state)
{
    (void)state;
    static const int32_t status[PR_FLOW_REASONS] = {200, 429, 429, 429, 503};
    for (int32_t i = 0; i < PR_FLOW_REASONS; i++) {
        assert_int_equal(pr_flow_reason_http_status((pr_flow_reason)i), status[i]);
        assert_true(strlen(pr_flow_reason_text((pr_flow_reason)i)) > 0);
    }
}

static void ceilings_out_of_order_are_refused(void **state)
{
    (void)state;
    pr_error_capture_begin();
    pr_flow_params params = unbounded;
    params.ceilings = 2;
    params.ceiling[0] = (pr_flow_ceiling){.priority = 5, .saturation = 0.5};
    params.ceiling[1] = (pr_flow_ceiling){.priority = 1, .saturation = 0.4};
    assert_int_equal(pr_flow_params_check(&params), PR_ERR_ARGUMENT);
    params.ceiling[1] = (pr_flow_ceiling){.priority = 6, .saturation = 0.6};
    assert_int_equal(pr_flow_params_check(&params), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "ceiling 0.6 of priority 6"));
    params.ceilings = PR_MAX_CEILINGS + 1;
    assert_int_equal(pr_flow_params_check(&params), PR_ERR_ARGUMENT);
    params = (pr_flow_params){.ttl_s = -1};
    assert_int_equal(pr_flow_params_check(&params), PR_ERR_ARGUMENT);
    pr_error_capture_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_count_jobs_and_prompt_tokens),
        cmocka_unit_test(a_time_to_live_is_given_to_jobs_without),
        cmocka_unit_test(a_band_is_held_back_at_its_ceiling),
        cmocka_unit_test(only_what_misses_its_target_in_the_actual_order_is_rejected),
        cmocka_unit_test(a_target_that_has_become_hopeless_is_given_up_before_the_start),
        cmocka_unit_test(every_reason_has_a_line_and_a_status),
        cmocka_unit_test(ceilings_out_of_order_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
