// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/log.h"
#include "scheduler/dispatch/dispatch.h"
#include "scheduler/policy/policy.h"

enum { BLOCK = 512, LANES = 4 };

static pr_dispatch *make(const char *policy)
{
    pr_dispatch_params params = {
        .prefill_lanes = LANES,
        .decode_lanes = LANES,
        .block_tokens = BLOCK,
        .cache_blocks = 64,
        .cost = pr_cost_model_named("a100-llama3-70b"),
        .policy = policy,
        .seed = 1,
        .queue =
            {
                .prompt_weight = 1,
                .output_weight = 2,
                .guard_s = (double)INFINITY,
                .most_jobs = 1000,
                .most_tenants = 8,
            },
        .flow = {.sheddable_above = INT32_MAX},
    };
    pr_dispatch *dispatch;
    assert_int_equal(pr_dispatch_create(&params, &dispatch), PR_OK);
    return dispatch;
}

static pr_job job_of(uint64_t id, int32_t tokens, const uint64_t *block)
{
    return (pr_job){
        .id = id,
        .prompt_tokens = tokens,
        .outputs_expected = 100,
        .blocks = (tokens + BLOCK - 1) / BLOCK,
        .block = block,
    };
}

static void arrive(pr_dispatch *dispatch, pr_job *job, double now_s)
{
    job->arrival_s = now_s;
    assert_int_equal(pr_dispatch_arrive(dispatch, job, now_s), PR_OK);
    pr_dispatch_check(dispatch);
}

static pr_verdict next(pr_dispatch *dispatch, double now_s)
{
    pr_verdict verdict;
    pr_dispatch_next(dispatch, now_s, &verdict);
    pr_dispatch_check(dispatch);
    return verdict;
}

static void hold(pr_dispatch *dispatch, int32_t lane, const uint64_t *block, int32_t blocks)
{
    for (int32_t i = 0; i < blocks; i++)
        assert_int_equal(pr_cache_map_add(pr_dispatch_cache_map(dispatch), block[i], lane), PR_OK);
}

static const uint64_t A[] = {1, 2, 3, 4, 5, 6, 7, 8}, B[] = {11, 12, 13, 14, 15, 16, 17, 18};

static void nothing_starts_before_a_lane_opens(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("lps");
    pr_job job = job_of(1, 4096, A);
    arrive(dispatch, &job, 0);
    assert_int_equal(next(dispatch, 0).kind, PR_VERDICT_NONE);
    pr_dispatch_open(dispatch, 2, true);
    pr_verdict verdict = next(dispatch, 1);
    assert_int_equal(verdict.kind, PR_VERDICT_START);
    assert_int_equal(verdict.lane, 2);
    assert_int_equal(verdict.depth, 0);
    assert_int_equal(pr_dispatch_lane(dispatch, 2)->miss_tokens, 4096);
    assert_int_equal(next(dispatch, 1).kind, PR_VERDICT_NONE);
    pr_dispatch_destroy(dispatch);
}

static void lps_starts_the_job_with_least_left_to_compute(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("lps/srpt");
    pr_job cold = job_of(1, 2048, B), warm = job_of(2, 4096, A);
    hold(dispatch, 0, A, 7);
    arrive(dispatch, &cold, 0);
    arrive(dispatch, &warm, 0);
    pr_dispatch_open(dispatch, 3, true);
    assert_ptr_equal(next(dispatch, 0).job, &warm);
    pr_dispatch_open(dispatch, 3, false);
    assert_int_equal(next(dispatch, 0).kind, PR_VERDICT_NONE);
    pr_dispatch_open(dispatch, 3, true);
    assert_ptr_equal(next(dispatch, 0).job, &cold);
    pr_dispatch_destroy(dispatch);
}

static void a_long_wait_makes_up_for_a_long_prompt(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("lps:ageing=8");
    pr_job big = job_of(1, 4096, A), small = job_of(2, 512, B);
    arrive(dispatch, &big, 0);
    arrive(dispatch, &small, 10);  // 10 s / 8 is more than 4,096 tokens take longer than 512
    pr_dispatch_open(dispatch, 0, true);
    assert_ptr_equal(next(dispatch, 10).job, &big);
    pr_dispatch_destroy(dispatch);
}

static void a_long_wait_weighs_less_when_much_waits(void **state)
{
    (void)state;
    enum { CROWD = 300 };
    static pr_job crowd[CROWD];
    pr_dispatch *dispatch = make("lps:ageing=8");
    for (uint64_t i = 0; i < CROWD; i++) {
        crowd[i] = job_of(10 + i, 4096, A);
        arrive(dispatch, &crowd[i], 0);
    }
    pr_job small = job_of(2, 512, B);
    arrive(dispatch, &small, 10);
    pr_dispatch_open(dispatch, 0, true);
    assert_ptr_equal(next(dispatch, 10).job, &small);
    assert_ptr_equal(next(dispatch, 10).job, &crowd[0]);
    // Another band has few that wait: there a wait counts in full.
    pr_job big = job_of(3, 4096, A), late = job_of(4, 512, B);
    big.priority = late.priority = -1;
    arrive(dispatch, &big, 20);
    arrive(dispatch, &late, 30);
    assert_ptr_equal(next(dispatch, 30).job, &big);
    pr_dispatch_destroy(dispatch);
}

static void a_lane_helps_where_least_is_left_unless_something_shorter_waits(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("lps/srpt");
    pr_job big = job_of(1, 4096, A), small = job_of(2, 1024, B);
    arrive(dispatch, &big, 0);
    pr_dispatch_open(dispatch, 0, true);
    assert_ptr_equal(next(dispatch, 0).job, &big);
    pr_dispatch_open(dispatch, 0, false);
    pr_dispatch_open(dispatch, 1, true);
    assert_true(pr_dispatch_helps(dispatch, &big, 1, 0));
    arrive(dispatch, &small, 0);
    assert_false(pr_dispatch_helps(dispatch, &big, 1, 0));
    pr_dispatch_progress(dispatch, &big, 3584, 1);
    assert_true(pr_dispatch_helps(dispatch, &big, 1, 1));
    pr_dispatch_destroy(dispatch);
}

static void missing_blocks_come_from_whoever_holds_them(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("lps");
    pr_job job = job_of(1, 4096, A);
    hold(dispatch, 0, A, 3);
    hold(dispatch, 1, A + 3, 2);
    hold(dispatch, 2, A + 5, 1);
    hold(dispatch, 3, A, 1);
    hold(dispatch, 3, A + 4, 1);  // behind a gap
    arrive(dispatch, &job, 0);
    pr_dispatch_open(dispatch, 3, true);
    pr_verdict verdict = next(dispatch, 0);
    assert_int_equal(verdict.lane, 3);
    assert_int_equal(verdict.local_blocks, 1);
    assert_int_equal(verdict.depth, 6);
    assert_int_equal(verdict.gathers, 3);
    const pr_gather want[] = {{0, 1, 2}, {1, 3, 1}, {2, 5, 1}};
    assert_memory_equal(verdict.gather, want, sizeof want);
    assert_false(verdict.keep);
    assert_int_equal(job.computed_tokens, 6 * BLOCK);
    pr_dispatch_destroy(dispatch);
}

static void on_a_slow_fabric_nothing_is_fetched(void **state)
{
    (void)state;
    pr_cost_model slow = *pr_cost_model_named("a100-llama3-70b");
    pr_dispatch *dispatch = make("lps");
    pr_dispatch_params params = {
        .prefill_lanes = 2,
        .decode_lanes = 1,
        .block_tokens = BLOCK,
        .cache_blocks = 64,
        .cost = &slow,
        .policy = "lps",
        .queue = {.most_jobs = 10, .most_tenants = 1, .guard_s = (double)INFINITY},
    };
    const struct {
        double bytes_per_s;
        bool fetches, keeps;
    } fabric[] = {{80e9, true, false}, {10e9, true, true}, {2e9, false, false}};
    pr_dispatch_destroy(dispatch);
    for (int i = 0; i < 3; i++) {
        slow.transfer_bytes_per_s = fabric[i].bytes_per_s;
        assert_int_equal(pr_dispatch_create(&params, &dispatch), PR_OK);
        pr_job job = job_of(1, 4096, A);
        hold(dispatch, 0, A, 6);
        arrive(dispatch, &job, 0);
        pr_dispatch_open(dispatch, 1, true);
        pr_verdict verdict = next(dispatch, 0);
        assert_int_equal(verdict.gathers > 0, fabric[i].fetches);
        assert_int_equal(verdict.keep, fabric[i].keeps);
        pr_dispatch_destroy(dispatch);
    }
}

static void an_arrival_goes_to_the_open_lane_with_its_prefix(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("lps");
    pr_job job = job_of(1, 4096, A);
    hold(dispatch, 2, A, 8);
    for (int32_t l = 0; l < LANES; l++)
        pr_dispatch_open(dispatch, l, true);
    arrive(dispatch, &job, 0);
    pr_verdict verdict = next(dispatch, 0);
    assert_int_equal(verdict.lane, 2);
    assert_int_equal(job.computed_tokens, 4095);  // the last token is always computed
    pr_dispatch_destroy(dispatch);
}

static void early_binding_spreads_by_tokens_and_keeps_the_lane(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("least-tokens");
    pr_job job[3] = {job_of(1, 4096, A), job_of(2, 512, B), job_of(3, 512, B)};
    for (int i = 0; i < 3; i++)
        arrive(dispatch, &job[i], 0);
    assert_int_equal(job[0].bound_lane, 0);
    assert_int_equal(job[1].bound_lane, 1);
    assert_int_equal(job[2].bound_lane, 2);
    pr_dispatch_open(dispatch, 3, true);
    assert_int_equal(next(dispatch, 0).kind, PR_VERDICT_NONE);
    pr_dispatch_open(dispatch, 1, true);
    assert_ptr_equal(next(dispatch, 0).job, &job[1]);
    pr_dispatch_destroy(dispatch);
}

static void jobs_of_a_retired_lane_are_bound_anew(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("rr");
    pr_job job[LANES];
    for (int i = 0; i < LANES; i++) {
        job[i] = job_of((uint64_t)i, 512, A);
        arrive(dispatch, &job[i], 0);
    }
    assert_int_equal(job[1].bound_lane, 1);
    pr_dispatch_retire(dispatch, 1, true, 1);
    pr_dispatch_check(dispatch);
    assert_int_not_equal(job[1].bound_lane, 1);
    pr_dispatch_open(dispatch, 1, true);
    assert_false(pr_dispatch_lane(dispatch, 1)->open);
    assert_int_equal(pr_dispatch_waiting(dispatch), LANES);
    pr_dispatch_destroy(dispatch);
}

static void a_job_that_made_way_goes_on_where_it_was(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("mpxp");
    uint64_t long_block[40];
    for (uint64_t i = 0; i < 40; i++)
        long_block[i] = 100 + i;
    pr_job large = job_of(1, 20000, long_block), small = job_of(2, 512, A);
    pr_dispatch_open(dispatch, 1, true);
    arrive(dispatch, &large, 0);
    assert_ptr_equal(next(dispatch, 0).job, &large);
    pr_dispatch_open(dispatch, 1, false);
    arrive(dispatch, &small, 1);
    pr_dispatch_progress(dispatch, &large, 8192, 2);
    assert_true(pr_dispatch_yields(dispatch, &large, 2));
    pr_dispatch_open(dispatch, 1, true);
    assert_ptr_equal(next(dispatch, 2).job, &small);
    pr_dispatch_open(dispatch, 1, false);
    pr_dispatch_open(dispatch, 0, true);
    assert_int_equal(next(dispatch, 2).kind, PR_VERDICT_NONE);  // its blocks are on lane 1
    pr_dispatch_prefilled(dispatch, &small, 3);
    pr_dispatch_open(dispatch, 1, true);
    pr_verdict verdict = next(dispatch, 3);
    assert_ptr_equal(verdict.job, &large);
    assert_int_equal(verdict.lane, 1);
    assert_int_equal(large.computed_tokens, 8192);
    pr_dispatch_destroy(dispatch);
}

static void decode_goes_where_steps_are_shortest_among_those_with_room(void **state)
{
    (void)state;
    pr_dispatch *dispatch = make("lps");
    pr_job job[LANES + 1];
    for (int i = 0; i <= LANES; i++) {
        job[i] = job_of((uint64_t)i, 512 * (i + 1), A);
        arrive(dispatch, &job[i], 0);
    }
    for (int32_t i = 0; i < LANES; i++) {
        assert_int_equal(pr_dispatch_decode_lane(dispatch, &job[i], NULL), i);
        pr_dispatch_joined(dispatch, &job[i], i);
    }
    assert_int_equal(pr_dispatch_decode_lane(dispatch, &job[LANES], NULL), 0);
    int64_t room[LANES] = {100, -1, 1 << 20, 1 << 20};
    assert_int_equal(pr_dispatch_decode_lane(dispatch, &job[LANES], room), 2);
    room[2] = room[3] = 0;
    assert_int_equal(pr_dispatch_decode_lane(dispatch, &job[LANES], room), -1);
    pr_dispatch_generated(dispatch, &job[0], 5000);
    assert_int_equal(pr_dispatch_decode_lane(dispatch, &job[LANES], NULL), 1);
    pr_dispatch_left(dispatch, &job[0]);
    assert_int_equal(pr_dispatch_decode(dispatch, 0)->sequences, 0);
    assert_int_equal(pr_dispatch_decode(dispatch, 0)->context_tokens, 0);
    assert_int_equal(pr_dispatch_decode_lane(dispatch, &job[LANES], NULL), 0);
    pr_dispatch_destroy(dispatch);
}

static void a_spec_says_name_order_and_options(void **state)
{
    (void)state;
    static const char *const good[] = {
        "lps",       "lps:ageing=16",    "lps/srpt",          "llmd:prefix=3,queue=2,kv=2",
        "conductor", "mpxlnr/aged",      "lps/aged:gather=0", "conductorg/srpt:threshold=2",
        "rr",        "round-robin/fifo",
    };
    static const char *const bad[] = {
        "",
        "lpsx",
        "lps/",
        "lps/lifo",
        "lps:",
        "lps:ageing",
        "lps:ageing=x",
        "lps:ageing=0",
        "lps:prefix=1",
        "llmd:prefix=3,",
        "llmd:prefix=-1",
        "llmd:queue=nan",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(pr_policy_check_spec(good[i], false), PR_OK);
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(pr_policy_check_spec(bad[i], false), PR_ERR_ARGUMENT);
    assert_int_equal(pr_policy_check_spec("lps:prefix=1", false), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "prefix"));
    assert_int_equal(pr_policy_check_spec("pooled", true), PR_ERR_ARGUMENT);
    pr_error_capture_end();
}

// ---- Random events ----

enum { JOBS = 96, STEPS = 3000, PROMPT_BLOCKS = 24 };

typedef struct world {
    pr_dispatch *dispatch;
    pr_job job[JOBS];
    uint64_t block[JOBS][PROMPT_BLOCKS];
    pr_job *running[LANES];
    uint64_t random, hash;
    int64_t arrived, over;
} world;

static uint64_t draw(world *w, uint64_t n)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (w->random >> 33) % n;
}

static void note(world *w, uint64_t value) { w->hash = (w->hash ^ value) * 0x100000001b3u; }

static void some_job_arrives(world *w, double now_s)
{
    int at = (int)draw(w, JOBS);
    pr_job *job = &w->job[at];
    if (job->state != PR_JOB_NEW || job->blocks > 0)
        return;
    uint64_t family = draw(w, 6);
    int32_t blocks = (int32_t)draw(w, PROMPT_BLOCKS) + 1;
    for (int32_t i = 0; i < blocks; i++)
        w->block[at][i] = 1 + (i < 8 ? family * 100 : (uint64_t)at * 10000) + (uint64_t)i;
    *job = job_of((uint64_t)w->arrived++, blocks * BLOCK - (int32_t)draw(w, BLOCK), w->block[at]);
    job->priority = (int32_t)draw(w, 3);
    job->tenant = draw(w, 3);
    arrive(w->dispatch, job, now_s);
}

static void is_over(world *w, pr_job *job)
{
    job->blocks = 0;
    w->over++;
}

static void lane_goes_on(world *w, int32_t lane, double now_s)
{
    pr_job *job = w->running[lane];
    if (!job)
        return;
    int32_t computed = job->computed_tokens + 8192;
    if (computed < job->prompt_tokens) {
        pr_dispatch_progress(w->dispatch, job, computed, now_s);
        if (!pr_dispatch_yields(w->dispatch, job, now_s))
            return;
    } else {
        pr_dispatch_progress(w->dispatch, job, job->prompt_tokens, now_s);
        int32_t decode = pr_dispatch_decode_lane(w->dispatch, job, NULL);
        note(w, (uint64_t)decode);
        pr_dispatch_joined(w->dispatch, job, decode);
        pr_dispatch_prefilled(w->dispatch, job, now_s);
        hold(w->dispatch, lane, job->block, job->blocks);
        if (draw(w, 2))
            for (int32_t i = 0; i < job->blocks; i++)
                pr_cache_map_remove(
                    pr_dispatch_cache_map(w->dispatch), job->block[i], (int32_t)draw(w, LANES));
    }
    w->running[lane] = NULL;
    pr_dispatch_open(w->dispatch, lane, true);
}

static void some_job_is_disturbed(world *w, double now_s)
{
    pr_job *job = &w->job[draw(w, JOBS)];
    uint64_t what = draw(w, 4);
    if (job->blocks == 0)
        return;
    for (int32_t l = 0; l < LANES; l++) {
        if (w->running[l] != job || what == 0)
            continue;
        w->running[l] = NULL;
        if (what == 1)
            pr_dispatch_put_back(w->dispatch, job, now_s);
        else
            pr_dispatch_cancel(w->dispatch, job);
        pr_dispatch_open(w->dispatch, l, true);
        if (what > 1)
            is_over(w, job);
        return;
    }
    if (job->state == PR_JOB_DECODING) {
        pr_dispatch_generated(w->dispatch, job, 300);
        pr_dispatch_left(w->dispatch, job);
        is_over(w, job);
    } else if (job->state == PR_JOB_WAITING && what == 2) {
        pr_dispatch_cancel(w->dispatch, job);
        is_over(w, job);
    }
}

static void decide_all(world *w, double now_s)
{
    for (;;) {
        pr_verdict verdict = next(w->dispatch, now_s);
        if (verdict.kind == PR_VERDICT_NONE)
            return;
        assert_int_equal(verdict.kind, PR_VERDICT_START);
        assert_true(pr_dispatch_lane(w->dispatch, verdict.lane)->open);
        assert_null(w->running[verdict.lane]);
        w->running[verdict.lane] = verdict.job;
        pr_dispatch_open(w->dispatch, verdict.lane, false);
        note(w, verdict.job->id * LANES + (uint64_t)verdict.lane);
        note(w, (uint64_t)verdict.depth);
        for (int32_t i = 0; i < verdict.gathers; i++)
            assert_int_not_equal(verdict.gather[i].lane, verdict.lane);
    }
}

static uint64_t run_random_events(const char *policy)
{
    static world w;
    w = (world){.dispatch = make(policy), .random = 7};
    double now_s = 0;
    for (int32_t l = 0; l < LANES; l++)
        pr_dispatch_open(w.dispatch, l, true);
    for (int step = 0; step < STEPS; step++) {
        now_s += (double)draw(&w, 100) / 1000;
        if (draw(&w, 3) == 0)
            some_job_arrives(&w, now_s);
        else if (draw(&w, 2))
            lane_goes_on(&w, (int32_t)draw(&w, LANES), now_s);
        else
            some_job_is_disturbed(&w, now_s);
        decide_all(&w, now_s);
    }
    for (int step = 0; w.over < w.arrived; step++) {
        assert_true(step < 100000);  // every accepted job ends
        for (int32_t l = 0; l < LANES; l++)
            lane_goes_on(&w, l, now_s);
        some_job_is_disturbed(&w, now_s);
        decide_all(&w, now_s);
    }
    assert_int_equal(pr_dispatch_waiting(w.dispatch), 0);
    for (int32_t l = 0; l < LANES; l++) {
        assert_int_equal(pr_dispatch_lane(w.dispatch, l)->prompt_tokens, 0);
        assert_int_equal(pr_dispatch_decode(w.dispatch, l)->committed_tokens, 0);
    }
    pr_dispatch_destroy(w.dispatch);
    return w.hash;
}

static void every_policy_keeps_its_books_and_decides_alike_twice(void **state)
{
    (void)state;
    for (int32_t i = 0; pr_policy_kind_at(i); i++) {
        const char *policy = pr_policy_kind_at(i)->name;
        assert_true(run_random_events(policy) == run_random_events(policy));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_starts_before_a_lane_opens),
        cmocka_unit_test(lps_starts_the_job_with_least_left_to_compute),
        cmocka_unit_test(a_long_wait_makes_up_for_a_long_prompt),
        cmocka_unit_test(a_long_wait_weighs_less_when_much_waits),
        cmocka_unit_test(a_lane_helps_where_least_is_left_unless_something_shorter_waits),
        cmocka_unit_test(missing_blocks_come_from_whoever_holds_them),
        cmocka_unit_test(on_a_slow_fabric_nothing_is_fetched),
        cmocka_unit_test(an_arrival_goes_to_the_open_lane_with_its_prefix),
        cmocka_unit_test(early_binding_spreads_by_tokens_and_keeps_the_lane),
        cmocka_unit_test(jobs_of_a_retired_lane_are_bound_anew),
        cmocka_unit_test(a_job_that_made_way_goes_on_where_it_was),
        cmocka_unit_test(decode_goes_where_steps_are_shortest_among_those_with_room),
        cmocka_unit_test(a_spec_says_name_order_and_options),
        cmocka_unit_test(every_policy_keeps_its_books_and_decides_alike_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
