// SPDX-License-Identifier: BSD-3-Clause
// The end of the run's time: who starts, who is left or refused, what an end that moves does, what is cut.
// The groups of these runs get plans and never report, so that every estimate is the prior's.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
// clang-format on
#include "scheduler/scheduler.h"

enum { SECOND = 1000000000, MOST = 16 };

typedef struct fixture {
    pr_layout layout;
    pr_scheduler *scheduler;
    // Of the last decide.
    int32_t admitted, left, rejected, drops;
    uint64_t admitted_id[MOST], left_id[MOST], rejected_id[MOST];
    char reason[256];
    int32_t http_status;
} fixture;

// A token takes 10 ms, whatever else there is.
static void begin(fixture *of, int32_t seats)
{
    *of = (fixture){.layout = {.ranks = 1, .groups = 1}};
    of->layout.group[0] = (pr_group_layout){.role = PR_ROLE_MIXED, .ranks = 1, .tp = 1};
    pr_scheduler_params params = {
        .layout = &of->layout,
        .kv_blocks = 256,
        .block_tokens = 16,
        .max_model_len = 2048,
        .max_num_batched_tokens = 64,
        .max_num_seqs = seats,
        .lease_steps = 8,
        .policy = "lps",
        .queue = {.most_jobs = 100, .most_tenants = 1, .guard_s = 60},
        .cost =
            {
                .chunk_s = 0.01,
                .step_s = 0.01,
                .transfer_bytes_per_s = 1e9,
                .chunk_tokens = 64,
                .max_batch = 8,
                .capacity_tokens = 4096,
            },
    };
    assert_int_equal(pr_scheduler_create(&params, &of->scheduler), PR_OK);
    pr_scheduler_advance(of->scheduler, SECOND);
}

static void submit(fixture *of, uint64_t id, int32_t max_tokens)
{
    pr_request *request = calloc(1, sizeof *request);
    assert_non_null(request);
    request->id = request->sibling_of = id;
    request->sampling.max_tokens = max_tokens;
    request->sampling.top_logprobs = request->sampling.prompt_logprobs = -1;
    request->prompt_tokens = 4;
    request->prompt = calloc(4, sizeof *request->prompt);
    assert_non_null(request->prompt);
    assert_int_equal(pr_scheduler_submit(of->scheduler, request), PR_OK);
}

static void note_plan(fixture *of, const pr_plan *plan)
{
    of->drops += plan->drops;
    for (int32_t i = 0; i < plan->admissions; i++)
        of->admitted_id[of->admitted++] = plan->admission[i].request->id;
}

static void decide(fixture *of)
{
    pr_decision decision;
    of->admitted = of->left = of->rejected = of->drops = 0;
    do {
        pr_scheduler_next(of->scheduler, &decision);
        if (decision.kind == PR_DECISION_PLAN)
            note_plan(of, decision.plan);
        if (decision.kind == PR_DECISION_LEFT)
            of->left_id[of->left++] = decision.id;
        if (decision.kind == PR_DECISION_REJECTED) {
            of->rejected_id[of->rejected++] = decision.id;
            of->http_status = decision.http_status;
            snprintf(of->reason, sizeof of->reason, "%s", decision.reason);
        }
        pr_scheduler_check(of->scheduler);
    } while (decision.kind != PR_DECISION_NONE);
}

static void set_end(fixture *of, double after_s, pr_at_end at_end)
{
    pr_scheduler_set_end(of->scheduler, SECOND + (int64_t)(after_s * 1e9), at_end);
}

static void without_an_end_everything_starts(void **state)
{
    (void)state;
    fixture of;
    pr_walltime_state time;
    begin(&of, 4);
    submit(&of, 1, 2000);
    decide(&of);
    assert_int_equal(of.admitted, 1);
    pr_scheduler_walltime(of.scheduler, &time);
    assert_true(time.end_ns == 0 && !time.drains && time.kept == 0);
    assert_true(pr_scheduler_wakes_ns(of.scheduler) == INT64_MAX);
    pr_scheduler_destroy(of.scheduler);
}

static void what_cannot_end_in_time_is_refused_and_the_rest_starts(void **state)
{
    (void)state;
    fixture of;
    pr_scheduler_counts counts;
    begin(&of, 4);
    set_end(&of, 10, PR_AT_END_REJECT);
    submit(&of, 1, 1500);
    submit(&of, 2, 20);
    decide(&of);
    assert_true(of.rejected == 1 && of.rejected_id[0] == 1 && of.left == 0);
    assert_int_equal(of.http_status, 503);
    assert_memory_equal(of.reason, "rejected-walltime: ", 19);
    assert_non_null(strstr(of.reason, "10.0 s"));
    assert_true(of.admitted == 1 && of.admitted_id[0] == 2);
    pr_scheduler_count(of.scheduler, &counts);
    assert_true(counts.rejected == 1 && counts.rejected_walltime == 1 && counts.left == 0);
    pr_scheduler_destroy(of.scheduler);
}

static void what_waits_too_long_for_a_seat_is_refused_while_it_waits(void **state)
{
    (void)state;
    fixture of;
    begin(&of, 1);
    set_end(&of, 20, PR_AT_END_REJECT);
    submit(&of, 1, 20);
    submit(&of, 2, 400);
    decide(&of);
    assert_true(of.admitted == 1 && of.admitted_id[0] == 1 && of.rejected == 0);
    // 400 tokens take 4 s, and a prior that nothing confirms counts twice.
    int64_t wakes_ns = 0;
    for (int32_t i = 0; i < 1000 && of.rejected == 0; i++) {
        wakes_ns = pr_scheduler_wakes_ns(of.scheduler);
        assert_true(wakes_ns < INT64_MAX);
        pr_scheduler_advance(of.scheduler, wakes_ns);
        decide(&of);
    }
    assert_true(of.rejected == 1 && of.rejected_id[0] == 2);
    assert_true(wakes_ns > 11 * (int64_t)SECOND && wakes_ns < 14 * (int64_t)SECOND);
    pr_scheduler_destroy(of.scheduler);
}

static void when_nothing_else_is_there_the_rest_is_left(void **state)
{
    (void)state;
    fixture of;
    pr_walltime_state time;
    begin(&of, 4);
    set_end(&of, 10, PR_AT_END_LEAVE);
    submit(&of, 1, 1500);
    submit(&of, 2, 1000);
    submit(&of, 3, 20);
    decide(&of);
    assert_true(of.admitted == 1 && of.admitted_id[0] == 3 && of.left == 0);
    assert_int_equal(pr_scheduler_waiting(of.scheduler), 2);
    pr_scheduler_cancel(of.scheduler, 3);
    decide(&of);
    assert_int_equal(of.left, 2);
    assert_int_equal(pr_scheduler_unfinished(of.scheduler), 0);
    pr_scheduler_walltime(of.scheduler, &time);
    assert_true(time.shortest_left_s > 20 && time.longest_left_s > time.shortest_left_s);
    assert_true(time.idle_tail_ns == 10 * (int64_t)SECOND);
    pr_scheduler_destroy(of.scheduler);
}

static void an_end_that_moves_away_starts_what_was_to_be_left(void **state)
{
    (void)state;
    fixture of;
    begin(&of, 4);
    set_end(&of, 10, PR_AT_END_LEAVE);
    submit(&of, 1, 20);
    submit(&of, 2, 1500);
    decide(&of);
    assert_true(of.admitted == 1 && of.admitted_id[0] == 1);
    set_end(&of, 3600, PR_AT_END_LEAVE);
    decide(&of);
    assert_true(of.admitted == 1 && of.admitted_id[0] == 2 && of.left == 0);
    pr_scheduler_destroy(of.scheduler);
}

static void without_an_end_again_all_that_waits_starts(void **state)
{
    (void)state;
    fixture of;
    begin(&of, 4);
    set_end(&of, 10, PR_AT_END_LEAVE);
    submit(&of, 1, 20);
    submit(&of, 2, 1500);
    submit(&of, 3, 900);
    decide(&of);
    assert_int_equal(of.admitted, 1);
    pr_scheduler_set_end(of.scheduler, 0, PR_AT_END_LEAVE);
    decide(&of);
    assert_int_equal(of.admitted, 2);
    pr_scheduler_destroy(of.scheduler);
}

static void what_runs_at_the_end_is_cut(void **state)
{
    (void)state;
    static const pr_at_end ends[] = {PR_AT_END_LEAVE, PR_AT_END_REJECT};
    for (size_t i = 0; i < 2; i++) {
        fixture of;
        pr_scheduler_counts counts;
        begin(&of, 4);
        set_end(&of, 10, ends[i]);
        submit(&of, 1, 20);
        submit(&of, 2, 20);
        decide(&of);
        assert_true(of.admitted >= 1);
        assert_true(pr_scheduler_wakes_ns(of.scheduler) <= 11 * (int64_t)SECOND);
        pr_scheduler_advance(of.scheduler, 11 * (int64_t)SECOND);
        decide(&of);
        assert_int_equal(ends[i] == PR_AT_END_LEAVE ? of.left : of.rejected, 2);
        assert_int_equal(pr_scheduler_unfinished(of.scheduler), 0);
        pr_scheduler_count(of.scheduler, &counts);
        assert_true(counts.cut >= 1 && counts.left + counts.rejected_walltime == 2);
        // And from now on everybody.
        submit(&of, 3, 1);
        decide(&of);
        assert_int_equal(ends[i] == PR_AT_END_LEAVE ? of.left : of.rejected, 1);
        pr_scheduler_destroy(of.scheduler);
    }
}

static void before_a_step_is_measured_only_one_starts_unless_there_is_plenty_of_time(void **state)
{
    (void)state;
    fixture of;
    begin(&of, 4);
    set_end(&of, 10, PR_AT_END_LEAVE);
    for (uint64_t id = 1; id <= 3; id++)
        submit(&of, id, 200);
    decide(&of);
    assert_int_equal(of.admitted, 1);
    set_end(&of, 1000, PR_AT_END_LEAVE);
    decide(&of);
    assert_int_equal(of.admitted, 2);
    pr_scheduler_destroy(of.scheduler);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(without_an_end_everything_starts),
    cmocka_unit_test(what_cannot_end_in_time_is_refused_and_the_rest_starts),
    cmocka_unit_test(what_waits_too_long_for_a_seat_is_refused_while_it_waits),
    cmocka_unit_test(when_nothing_else_is_there_the_rest_is_left),
    cmocka_unit_test(an_end_that_moves_away_starts_what_was_to_be_left),
    cmocka_unit_test(without_an_end_again_all_that_waits_starts),
    cmocka_unit_test(what_runs_at_the_end_is_cut),
    cmocka_unit_test(before_a_step_is_measured_only_one_starts_unless_there_is_plenty_of_time),
};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }
