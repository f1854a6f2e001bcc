// SPDX-License-Identifier: BSD-3-Clause
// Flow control as dispatch applies it, with late binding (lps) and early binding (least-tokens).
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <string.h>

#include "scheduler/dispatch/dispatch.h"

static pr_dispatch *make(const char *policy, const pr_flow_params *flow, int32_t most_jobs)
{
    pr_dispatch *dispatch;
    pr_dispatch_params params = {
        .prefill_lanes = 2,
        .decode_lanes = 1,
        .block_tokens = 512,
        .cache_blocks = 100,
        .cost = pr_cost_model_named("a100-llama3-70b"),
        .policy = policy,
        .seed = 1,
        .queue =
            {.fair = true,
             .prompt_weight = 1,
             .output_weight = 2,
             .guard_s = (double)INFINITY,
             .most_jobs = most_jobs,
             .most_tenants = 10},
        .flow = *flow};
    assert_int_equal(pr_dispatch_create(&params, &dispatch), PR_OK);
    return dispatch;
}

static pr_job job_of(uint64_t id, int32_t priority, int32_t prompt_tokens)
{
    return (pr_job){.id = id, .priority = priority, .prompt_tokens = prompt_tokens};
}

static pr_verdict next(pr_dispatch *dispatch, double now_s)
{
    pr_verdict verdict;
    pr_dispatch_next(dispatch, now_s, &verdict);
    pr_dispatch_check(dispatch);
    return verdict;
}

static const char *const policies[] = {"lps", "least-tokens"};

static void a_full_queue_refuses_and_says_why(void **state)
{
    (void)state;
    for (int32_t i = 0; i < 2; i++) {
        pr_dispatch *dispatch = make(policies[i], &(pr_flow_params){.most_prompt_tokens = 1000}, 2);
        pr_job a = job_of(1, 0, 900), b = job_of(2, 0, 200), c = job_of(3, 0, 50);
        pr_job d = job_of(4, 0, 1);
        assert_int_equal(pr_dispatch_arrive(dispatch, &a, 0), PR_OK);
        assert_int_equal(pr_dispatch_arrive(dispatch, &b, 0), PR_ERR_RESOURCE);
        assert_int_equal(b.refused, PR_FLOW_QUEUE_TOKENS);
        assert_int_equal(pr_dispatch_arrive(dispatch, &c, 0), PR_OK);
        assert_int_equal(pr_dispatch_arrive(dispatch, &d, 0), PR_ERR_RESOURCE);
        assert_int_equal(d.refused, PR_FLOW_QUEUE_JOBS);
        assert_int_equal(pr_dispatch_waiting(dispatch), 2);
        pr_dispatch_open(dispatch, 0, true);
        pr_dispatch_open(dispatch, 1, true);
        assert_int_equal(next(dispatch, 0).kind, PR_VERDICT_START);
        assert_int_equal(pr_dispatch_arrive(dispatch, &d, 0), PR_OK);
        pr_dispatch_destroy(dispatch);
    }
}

static void a_job_that_comes_back_finds_a_place_in_a_full_queue(void **state)
{
    (void)state;
    for (int32_t i = 0; i < 2; i++) {
        pr_dispatch *dispatch = make(policies[i], &(pr_flow_params){.ttl_s = 5}, 1);
        pr_job a = job_of(1, 0, 900), b = job_of(2, 0, 200);
        pr_dispatch_open(dispatch, 0, true);
        pr_dispatch_open(dispatch, 1, true);
        assert_int_equal(pr_dispatch_arrive(dispatch, &a, 0), PR_OK);
        assert_ptr_equal(next(dispatch, 0).job, &a);
        pr_dispatch_open(dispatch, 0, false);
        pr_dispatch_open(dispatch, 1, false);
        assert_int_equal(pr_dispatch_arrive(dispatch, &b, 1), PR_OK);
        pr_dispatch_put_back(dispatch, &a, 2);
        assert_int_equal(pr_dispatch_waiting(dispatch), 2);
        // Of the two only b, which has never started, expires.
        assert_true(pr_dispatch_wakes_s(dispatch) == 5);
        assert_ptr_equal(next(dispatch, 20).job, &b);
        assert_int_equal(next(dispatch, 20).kind, PR_VERDICT_NONE);
        assert_true(isinf(pr_dispatch_wakes_s(dispatch)));
        pr_dispatch_destroy(dispatch);
    }
}

static void a_job_expires_wherever_it_waits(void **state)
{
    (void)state;
    for (int32_t i = 0; i < 2; i++) {
        pr_dispatch *dispatch = make(policies[i], &(pr_flow_params){.ttl_s = 30}, 10);
        pr_job a = job_of(1, 0, 10), b = job_of(2, 0, 10000);
        b.expires_s = 7;
        assert_int_equal(pr_dispatch_arrive(dispatch, &a, 0), PR_OK);
        assert_int_equal(pr_dispatch_arrive(dispatch, &b, 0), PR_OK);
        assert_true(pr_dispatch_wakes_s(dispatch) == 7);
        assert_int_equal(next(dispatch, 6.9).kind, PR_VERDICT_NONE);  // no lane is open
        pr_verdict verdict = next(dispatch, 7);
        assert_int_equal(verdict.kind, PR_VERDICT_REJECT);
        assert_ptr_equal(verdict.job, &b);
        assert_int_equal(b.refused, PR_FLOW_EXPIRED);
        assert_string_equal(verdict.reason, pr_flow_reason_text(PR_FLOW_EXPIRED));
        assert_true(pr_dispatch_wakes_s(dispatch) == 30);
        pr_dispatch_cancel(dispatch, &a);
        assert_true(isinf(pr_dispatch_wakes_s(dispatch)));
        pr_dispatch_destroy(dispatch);
    }
}

static void targets_are_judged_at_arrival_and_at_the_start(void **state)
{
    (void)state;
    for (int32_t i = 0; i < 2; i++) {
        pr_dispatch *dispatch = make(policies[i], &(pr_flow_params){0}, 100);
        pr_job before[20], urgent = job_of(50, 1, 12035), kept = job_of(51, 0, 12035);
        for (int32_t j = 0; j < 20; j++) {  // 1.53 s each, on two lanes
            before[j] = job_of((uint64_t)j, 0, 12035);
            assert_int_equal(pr_dispatch_arrive(dispatch, &before[j], 0), PR_OK);
        }
        urgent.ttft_target_s = kept.ttft_target_s = 15;
        assert_int_equal(pr_dispatch_arrive(dispatch, &kept, 0), PR_OK);  // not sheddable
        assert_int_equal(pr_dispatch_arrive(dispatch, &urgent, 0), PR_ERR_RESOURCE);
        assert_int_equal(urgent.refused, PR_FLOW_TARGET);
        urgent.ttft_target_s = 20;
        assert_int_equal(pr_dispatch_arrive(dispatch, &urgent, 0), PR_OK);
        for (int32_t j = 0; j < 20; j++)
            pr_dispatch_cancel(dispatch, &before[j]);
        pr_dispatch_cancel(dispatch, &kept);
        pr_dispatch_open(dispatch, 0, true);
        pr_dispatch_open(dispatch, 1, true);
        assert_int_equal(next(dispatch, 18.6).kind, PR_VERDICT_REJECT);
        assert_int_equal(urgent.refused, PR_FLOW_TARGET);
        pr_dispatch_destroy(dispatch);
    }
}

static void a_low_band_leaves_lanes_to_the_high_one(void **state)
{
    (void)state;
    pr_flow_params flow = {.ceilings = 1, .ceiling = {{.priority = 1, .saturation = 0.5}}};
    pr_dispatch *dispatch = make("lps", &flow, 100);
    pr_job low = job_of(1, 1, 100), other = job_of(2, 1, 100), high = job_of(3, 0, 100);
    assert_int_equal(pr_dispatch_arrive(dispatch, &low, 0), PR_OK);
    assert_int_equal(pr_dispatch_arrive(dispatch, &other, 0), PR_OK);
    pr_dispatch_open(dispatch, 0, true);
    pr_dispatch_open(dispatch, 1, true);
    pr_verdict verdict = next(dispatch, 0);
    assert_int_equal(verdict.kind, PR_VERDICT_START);
    pr_dispatch_open(dispatch, verdict.lane, false);
    assert_int_equal(next(dispatch, 0).kind, PR_VERDICT_NONE);  // one lane of two is busy
    assert_int_equal(pr_dispatch_arrive(dispatch, &high, 0), PR_OK);
    pr_dispatch_saturate(dispatch, 1);
    assert_int_equal(next(dispatch, 0).kind, PR_VERDICT_NONE);  // the decode side is full
    pr_dispatch_saturate(dispatch, 0);
    assert_ptr_equal(next(dispatch, 0).job, &high);
    pr_dispatch_destroy(dispatch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_queue_refuses_and_says_why),
        cmocka_unit_test(a_job_that_comes_back_finds_a_place_in_a_full_queue),
        cmocka_unit_test(a_job_expires_wherever_it_waits),
        cmocka_unit_test(targets_are_judged_at_arrival_and_at_the_start),
        cmocka_unit_test(a_low_band_leaves_lanes_to_the_high_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
