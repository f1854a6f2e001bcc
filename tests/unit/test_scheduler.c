// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "runtime/base/log.h"
#include "sim_run.h"

static const sim_config base = {
    .layout = "mixed 1x1:1",
    .kv_blocks = 64,
    .block_tokens = 4,
    .max_model_len = 96,
    .budget = 32,
    .max_seqs = 8,
    .lease = 4,
    .requests = 60,
    .max_prompt = 40,
    .max_tokens = 40,
    .prefix_caching = true,
};

static const char *const layouts[] = {
    "mixed 1x1:1",
    "mixed 1x4:1",
    "mixed 2x2:1",
    "prefill 1x2:2 decode 1x4:1",
    "prefill 2x1:1 decode 2x1:1",
    "prefill 1x1:1 decode 1x4:2",
    "mixed 1x2:1 prefill 1x1:1 decode 1x2:1",
    "mixed 1x4:2 mixed 2x1:1",
    "prefill 2x2:2 prefill 2x1:1 decode 2x2:2",
};

enum { LAYOUTS = sizeof layouts / sizeof layouts[0] };

// Runs the configuration on every layout with several seeds; the sums of what happened.
static sim_result run_everywhere(sim_config config, int32_t seeds)
{
    sim_result sum = {0};
    for (int32_t l = 0; l < LAYOUTS; l++) {
        for (int32_t seed = 0; seed < seeds; seed++) {
            config.layout = layouts[l];
            config.seed = (uint64_t)(l * 100 + seed);
            sim_result result = sim_run_all(&config);
            sum.cancelled += result.cancelled;
            sum.stopped += result.stopped;
            sum.rejected += result.rejected;
            sum.counts.preemptions += result.counts.preemptions;
            sum.counts.handovers += result.counts.handovers;
            sum.counts.handovers_lost += result.counts.handovers_lost;
            sum.counts.cached_tokens += result.counts.cached_tokens;
            sum.counts.gathers += result.counts.gathers;
            sum.counts.short_cuts += result.counts.short_cuts;
            sum.counts.gathered_tokens += result.counts.gathered_tokens;
            sum.counts.gathers_lost += result.counts.gathers_lost;
        }
    }
    return sum;
}

static void every_request_finishes_on_every_layout(void **state)
{
    (void)state;
    sim_result sum = run_everywhere(base, 3);
    assert_true(sum.stopped > 0);
    assert_true(sum.counts.handovers > 0);
    assert_true(sum.counts.cached_tokens > 0);
    assert_true(sum.counts.gathers > 0 && sum.counts.gathers_lost == 0);
    assert_true(sum.counts.short_cuts > 0);
    assert_true(sum.counts.gathered_tokens >= sum.counts.gathers * base.block_tokens);
    assert_int_equal(sum.rejected, 0);
    sim_config config = base;
    config.policy = "lps:gather=0";
    assert_int_equal(run_everywhere(config, 1).counts.gathers, 0);
}

static void scarce_blocks_preempt_and_tokens_stay_the_same(void **state)
{
    (void)state;
    sim_config config = base;
    config.kv_blocks = 24;  // exactly one request of max_model_len
    sim_result sum = run_everywhere(config, 2);
    assert_true(sum.counts.preemptions > 60);
    config.prefix_caching = false;
    sum = run_everywhere(config, 2);
    assert_true(sum.counts.preemptions > 60);
    assert_int_equal(sum.counts.cached_tokens, 0);
}

static void prompts_longer_than_the_budget_go_in_chunks(void **state)
{
    (void)state;
    sim_config config = base;
    config.budget = 5;
    config.kv_blocks = 30;
    run_everywhere(config, 4);
    config.budget = 1;
    config.requests = 15;
    run_everywhere(config, 2);
}

static void odd_sizes_work(void **state)
{
    (void)state;
    sim_config config = base;
    config.block_tokens = 1;
    config.kv_blocks = 96;
    config.lease = 1;
    run_everywhere(config, 2);
    config.block_tokens = 7;
    config.kv_blocks = 14;
    config.lease = 30;
    config.max_seqs = 3;
    run_everywhere(config, 2);
    config.max_tokens = 1;  // prefill only
    config.max_seqs = 1;
    assert_int_equal(run_everywhere(config, 2).counts.handovers, 0);
}

static void requests_may_be_cancelled_at_any_moment(void **state)
{
    (void)state;
    sim_config config = base;
    config.kv_blocks = 24;
    config.cancel_percent = 40;  // of a thousand actions
    sim_result sum = run_everywhere(config, 5);
    assert_true(sum.cancelled > 100);
}

static void priorities_and_siblings_finish_under_pressure(void **state)
{
    (void)state;
    sim_config config = base;
    config.priorities = 3;
    config.siblings = 3;
    config.kv_blocks = 30;
    config.cancel_percent = 5;
    run_everywhere(config, 4);
}

// A token that came twice, or with another index, would not go through.
static void requests_with_outputs_of_an_earlier_run_go_on_after_them(void **state)
{
    (void)state;
    sim_config config = base;
    config.resumed_percent = 70;
    config.siblings = 3;
    config.cancel_percent = 10;
    for (int tight = 0; tight < 2; tight++) {
        int64_t outputs = 0, outputs_before = 0;
        config.kv_blocks = tight ? 24 : 64;
        for (int32_t l = 0; l < LAYOUTS; l++) {
            config.layout = layouts[l];
            config.seed = (uint64_t)l;
            config.damage_percent = l % 3 == 0 ? 20 : 0;
            sim_result result = sim_run_all(&config);
            assert_int_equal(result.rejected, 0);
            outputs += result.counts.output_tokens;
            outputs_before += result.outputs_before;
        }
        assert_true(outputs_before > 1000 && outputs > 1000);
    }
}

static void damaged_handovers_and_gathers_are_computed_again(void **state)
{
    (void)state;
    sim_config config = base;
    config.kv_blocks = 40;
    config.damage_percent = 20;
    config.cancel_percent = 10;
    sim_result sum = run_everywhere(config, 4);
    assert_true(sum.counts.handovers_lost > 50);
    assert_true(sum.counts.gathers_lost > 50);
    config.damage_percent = 100;
    config.layout = "prefill 1x1:1 decode 1x1:1";
    sim_result lost = sim_run_all(&config);
    assert_true(lost.rejected > 0);
}

static void gathers_survive_cancels_damage_and_scarce_blocks(void **state)
{
    (void)state;
    sim_config config = base;
    config.siblings = 2;
    config.priorities = 2;
    config.cancel_percent = 20;
    config.damage_percent = 10;
    config.max_prompt = 60;
    config.max_tokens = 12;
    config.kv_blocks = 26;
    sim_result scarce = run_everywhere(config, 4);
    assert_true(scarce.counts.gathers > 200);
    assert_true(scarce.counts.gathers_lost > 0 && scarce.counts.preemptions > 0);
    config.kv_blocks = 80;
    config.budget = 8;
    config.max_seqs = 3;
    assert_true(run_everywhere(config, 4).counts.gathers > 200);
}

static void the_same_seed_gives_the_same_decisions(void **state)
{
    (void)state;
    sim_config config = base;
    config.kv_blocks = 30;
    config.cancel_percent = 10;
    config.damage_percent = 10;
    for (int32_t l = 0; l < LAYOUTS; l++) {
        config.layout = layouts[l];
        config.seed = 7;
        uint64_t hash = sim_run_all(&config).hash;
        assert_true(hash == sim_run_all(&config).hash);
        config.seed = 8;
        assert_true(hash != sim_run_all(&config).hash);
    }
}

// Every 30 ms of virtual time, about as many actions, one group changes its role.
static void groups_change_roles_and_tokens_stay_the_same(void **state)
{
    (void)state;
    static const char *const splits[] = {
        "prefill 2x1:1 decode 2x1:1",
        "prefill 1x2:2 decode 1x4:1 decode 1x2:2",
        "prefill 2x2:2 prefill 2x1:1 decode 2x2:2",
        "prefill 1x1:1 decode 2x4:2",
    };
    sim_config config = base;
    config.balance = (pr_balance_params){.period_s = 0.03, .tpot_target_s = 0.1, .rotate = true};
    sim_result sum = {0};
    for (int32_t i = 0; i < 4 * 32; i++) {
        config.layout = splits[i % 4];
        config.seed = (uint64_t)i;
        config.kv_blocks = i & 4 ? 64 : 26;
        config.cancel_percent = i & 8 ? 20 : 0;
        config.damage_percent = i & 16 ? 10 : 0;
        config.priorities = config.siblings = i & 32 ? 2 : 0;
        config.policy = i & 64 ? "least-tokens" : "lps";
        sim_result result = sim_run_all(&config);
        sum.counts.role_changes += result.counts.role_changes;
        sum.counts.gathers += result.counts.gathers;
        sum.counts.preemptions += result.counts.preemptions;
    }
    assert_true(sum.counts.role_changes > 4 * 32 * 5);
    assert_true(sum.counts.gathers > 50 && sum.counts.preemptions > 50);
    config.layout = "prefill 1x1:1 decode 1x1:1";  // each role keeps one
    assert_int_equal(sim_run_all(&config).counts.role_changes, 0);
}

static void a_listener_knows_what_every_lane_holds_and_changes_no_decision(void **state)
{
    (void)state;
    sim_config config = base;
    config.kv_blocks = 30;
    config.cancel_percent = 10;
    config.damage_percent = 10;
    config.siblings = 2;
    kv_mirror *mirror = calloc(1, sizeof *mirror);
    assert_non_null(mirror);
    int64_t evicted = 0;
    for (int32_t l = 0; l < 2 * LAYOUTS; l++) {
        config.layout = layouts[l % LAYOUTS];
        config.seed = (uint64_t)l;
        bool rotates = l >= LAYOUTS && strncmp(config.layout, "prefill", 7) == 0;
        config.balance = (pr_balance_params){
            .period_s = rotates ? 0.03 : 0, .tpot_target_s = 0.1, .rotate = rotates};
        config.mirror = NULL;
        uint64_t hash = sim_run_all(&config).hash;
        *mirror = (kv_mirror){0};
        config.mirror = mirror;
        assert_true(hash == sim_run_all(&config).hash);
        assert_true(mirror->stored > 0);
        evicted += mirror->evicted;
    }
    assert_true(evicted > 1000);
    free(mirror);
}

// With messages faster than steps and blocks for everyone, grants are always there in time.
static void a_decoding_sequence_never_stalls_while_blocks_are_free(void **state)
{
    (void)state;
    sim_config config = base;
    config.kv_blocks = 400;
    config.prompt_delivery = true;
    for (int32_t l = 0; l < LAYOUTS; l++) {
        config.layout = layouts[l];
        sim_result result = sim_run_all(&config);
        assert_int_equal(result.stalls, 0);
        assert_int_equal(result.counts.preemptions, 0);
        // Plans are needed for new requests and every few steps, not for every token.
        assert_true(result.counts.plans < result.steps + 4 * config.requests);
    }
}

// One scheduler by hand: requests and reports of a mixed group of one lane.

typedef struct hand {
    pr_layout layout;
    pr_scheduler *scheduler;
} hand;

static void hand_create(hand *at, const char *layout, int32_t blocks)
{
    sim_parse_layout(layout, &at->layout);
    pr_scheduler_params params = {
        .layout = &at->layout,
        .kv_blocks = blocks,
        .block_tokens = 4,
        .max_model_len = 64,
        .max_num_batched_tokens = 16,
        .max_num_seqs = 4,
        .lease_steps = 4,
        .prefix_caching = true,
        .policy = "lps",
        .queue = sim_queue,
        .cost = sim_cost,
    };
    assert_int_equal(pr_scheduler_create(&params, &at->scheduler), PR_OK);
}

static pr_request *hand_request(uint64_t id, int32_t prompt_tokens, int32_t max_tokens)
{
    pr_request *request = calloc(1, sizeof *request);
    request->id = request->sibling_of = id;
    request->prompt_tokens = prompt_tokens;
    request->prompt = malloc((size_t)prompt_tokens * sizeof(int32_t) + 1);
    for (int32_t i = 0; i < prompt_tokens; i++)
        request->prompt[i] = (int32_t)id * 100 + i;
    request->sampling.max_tokens = max_tokens;
    return request;
}

static void hand_submit(hand *at, pr_request *request)
{
    assert_int_equal(pr_scheduler_submit(at->scheduler, request), PR_OK);
}

static const pr_plan *hand_plan(hand *at)
{
    pr_decision decision;
    pr_scheduler_next(at->scheduler, &decision);
    assert_int_equal(decision.kind, PR_DECISION_PLAN);
    return decision.plan;
}

static void hand_nothing(hand *at)
{
    pr_decision decision;
    pr_scheduler_next(at->scheduler, &decision);
    assert_int_equal(decision.kind, PR_DECISION_NONE);
}

static void an_idle_scheduler_makes_no_plan(void **state)
{
    (void)state;
    hand at;
    hand_create(&at, "mixed 1x2:1", 16);
    hand_nothing(&at);
    for (int64_t now = 1; now < 10; now++) {
        pr_scheduler_advance(at.scheduler, now);
        hand_nothing(&at);
    }
    hand_submit(&at, hand_request(1, 5, 2));
    hand_plan(&at);
    hand_nothing(&at);
    pr_scheduler_advance(at.scheduler, 20);
    hand_nothing(&at);
    pr_scheduler_destroy(at.scheduler);
}

static void a_chunk_goes_out_while_the_one_before_runs_but_no_third(void **state)
{
    (void)state;
    hand at;
    hand_create(&at, "mixed 1x1:1", 16);
    hand_submit(&at, hand_request(1, 40, 2));
    const pr_plan *plan = hand_plan(&at);
    assert_int_equal(plan->number, 1);
    assert_int_equal(plan->admissions, 1);
    assert_int_equal(plan->admission[0].blocks, 11);
    assert_int_equal(plan->chunk[0].count, 16);
    assert_int_equal(plan->max_steps, 1);
    plan = hand_plan(&at);
    assert_int_equal(plan->number, 2);
    assert_int_equal(plan->chunk[0].start, 16);
    hand_nothing(&at);
    pr_scheduler_advance(at.scheduler, 2);
    hand_nothing(&at);
    pr_chunk_report chunk = {1, 1, 16};
    pr_report report = {.plan = 1, .plan_finished = true, .chunks = 1, .chunk = &chunk};
    pr_scheduler_report(at.scheduler, &report);
    plan = hand_plan(&at);
    assert_int_equal(plan->chunk[0].start, 32);
    assert_int_equal(plan->chunk[0].count, 8);
    assert_int_equal(plan->max_steps, 4);
    pr_scheduler_destroy(at.scheduler);
}

static void a_groups_load_counts_the_seats_and_blocks_of_its_lanes(void **state)
{
    (void)state;
    hand at;
    pr_group_load load;
    hand_create(&at, "mixed 1x1:1 mixed 1x2:1", 16);
    pr_scheduler_group_load(at.scheduler, 1, &load);
    assert_int_equal(load.blocks, 32);
    assert_int_equal(load.sequences + load.used_blocks + load.cached_blocks, 0);
    assert_int_equal(load.role, PR_ROLE_MIXED);
    hand_submit(&at, hand_request(1, 9, 2));
    hand_plan(&at);
    pr_scheduler_group_load(at.scheduler, 0, &load);
    assert_int_equal(load.blocks, 16);
    assert_int_equal(load.sequences, 1);
    assert_int_equal(load.used_blocks, 3);
    assert_int_equal(load.cached_blocks, 0);
    pr_chunk_report chunk = {1, 1, 9};
    pr_report report = {.plan = 1, .plan_finished = true, .chunks = 1, .chunk = &chunk};
    pr_scheduler_report(at.scheduler, &report);
    pr_scheduler_group_load(at.scheduler, 0, &load);
    assert_int_equal(load.cached_blocks, 2);
    pr_scheduler_cancel(at.scheduler, 1);
    pr_scheduler_group_load(at.scheduler, 0, &load);
    assert_int_equal(load.sequences + load.used_blocks, 0);
    assert_int_equal(load.cached_blocks, 2);
    pr_scheduler_destroy(at.scheduler);
}

static void lower_priority_numbers_go_first_then_first_come(void **state)
{
    (void)state;
    hand at;
    hand_create(&at, "mixed 1x1:1", 64);
    const int32_t priority[] = {5, 0, 5, -1};
    for (int32_t i = 0; i < 4; i++) {
        pr_request *request = hand_request((uint64_t)i, 4, 2);
        request->priority = priority[i];
        hand_submit(&at, request);
    }
    const pr_plan *plan = hand_plan(&at);
    assert_int_equal(plan->chunks, 4);
    const uint64_t order[] = {3, 1, 0, 2};
    for (int32_t i = 0; i < 4; i++)
        assert_int_equal(plan->chunk[i].id, order[i]);
    pr_scheduler_destroy(at.scheduler);
}

static void requests_spread_over_lanes_and_follow_their_prefix(void **state)
{
    (void)state;
    hand at;
    hand_create(&at, "mixed 1x2:1", 64);
    hand_submit(&at, hand_request(1, 8, 1));
    hand_submit(&at, hand_request(2, 8, 1));
    const pr_plan *plan = hand_plan(&at);
    assert_int_equal(plan->admission[0].lane, 0);
    assert_int_equal(plan->admission[1].lane, 1);
    for (int32_t lane = 0; lane < 2; lane++) {
        uint64_t id = (uint64_t)lane + 1;
        pr_chunk_report chunk = {id, 1, 8};
        pr_token_report token = {.id = id, .generation = 1, .finish = PR_FINISH_LENGTH};
        pr_report report = {
            .plan = 1,
            .lane = lane,
            .plan_finished = true,
            .tokens = 1,
            .token = &token,
            .chunks = 1,
            .chunk = &chunk,
        };
        pr_scheduler_report(at.scheduler, &report);
    }
    pr_request *again = hand_request(2, 8, 1);
    again->id = again->sibling_of = 3;
    hand_submit(&at, again);
    pr_decision decision;
    pr_scheduler_next(at.scheduler, &decision);
    assert_int_equal(decision.kind, PR_DECISION_TOKEN);
    pr_scheduler_next(at.scheduler, &decision);
    assert_int_equal(decision.kind, PR_DECISION_TOKEN);
    plan = hand_plan(&at);
    assert_int_equal(plan->admission[0].lane, 1);
    assert_int_equal(plan->admission[0].computed, 7);
    assert_int_equal(plan->chunk[0].count, 1);
    pr_scheduler_destroy(at.scheduler);
}

static void further_choices_wait_for_the_first_and_share_its_prompt(void **state)
{
    (void)state;
    hand at;
    hand_create(&at, "mixed 1x1:1", 64);
    hand_submit(&at, hand_request(1, 10, 4));
    pr_request *second = hand_request(1, 10, 4);
    second->id = 2;
    second->sampling.choice = 1;
    hand_submit(&at, second);
    const pr_plan *plan = hand_plan(&at);
    assert_int_equal(plan->admissions, 1);
    assert_int_equal(plan->admission[0].request->id, 1);
    hand_nothing(&at);
    pr_chunk_report chunk = {1, 1, 10};
    pr_report report = {.plan = 1, .chunks = 1, .chunk = &chunk};
    pr_scheduler_report(at.scheduler, &report);
    plan = hand_plan(&at);
    assert_int_equal(plan->admission[0].request->id, 2);
    assert_int_equal(plan->admission[0].computed, 8);
    pr_scheduler_destroy(at.scheduler);
}

static void what_can_never_run_is_refused_with_numbers(void **state)
{
    (void)state;
    hand at;
    hand_create(&at, "mixed 1x1:1", 8);
    pr_request *long_prompt = hand_request(1, 64, 1);
    pr_request *too_many_blocks = hand_request(2, 20, 20);
    pr_request *empty = hand_request(3, 0, 1);
    pr_error_capture_begin();
    assert_int_equal(pr_scheduler_submit(at.scheduler, long_prompt), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "64 tokens"));
    assert_int_equal(pr_scheduler_submit(at.scheduler, too_many_blocks), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "need 10 KV blocks of 4 tokens, the pool has 8"));
    assert_int_equal(pr_scheduler_submit(at.scheduler, empty), PR_ERR_ARGUMENT);
    hand_submit(&at, hand_request(4, 20, 12));
    pr_request *twice = hand_request(4, 20, 12);
    assert_int_equal(pr_scheduler_submit(at.scheduler, twice), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    pr_request *refused[] = {long_prompt, too_many_blocks, empty, twice};
    for (int32_t i = 0; i < 4; i++) {
        free(refused[i]->prompt);
        free(refused[i]);
    }
    assert_int_equal(pr_scheduler_unfinished(at.scheduler), 1);
    pr_scheduler_destroy(at.scheduler);
}

static void layouts_that_cannot_serve_are_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"decode 1x1:1", "prefill 1x1:1", "mixed 1x1:1 prefill 1x1:1", ""};
    pr_error_capture_begin();
    for (int32_t i = 0; i < 4; i++) {
        pr_layout layout;
        sim_parse_layout(bad[i], &layout);
        pr_scheduler_params params = {
            .layout = &layout,
            .kv_blocks = 8,
            .block_tokens = 4,
            .max_model_len = 64,
            .max_num_batched_tokens = 16,
            .max_num_seqs = 4,
            .lease_steps = 4,
            .policy = "lps",
            .queue = sim_queue,
            .cost = sim_cost,
        };
        pr_scheduler *scheduler;
        assert_int_equal(pr_scheduler_create(&params, &scheduler), PR_ERR_ARGUMENT);
    }
    pr_error_capture_end();
}

static void reports_that_cannot_be_right_are_ignored(void **state)
{
    (void)state;
    hand at;
    hand_create(&at, "mixed 1x1:1", 16);
    hand_submit(&at, hand_request(1, 8, 8));
    hand_plan(&at);
    pr_chunk_report chunk = {1, 1, 9};
    pr_token_report token[] = {
        {.id = 1, .generation = 1, .index = 3},
        {.id = 1, .generation = 2, .index = 0},
        {.id = 9, .generation = 1, .index = 0},
    };
    pr_arrival_report arrival = {1, 1, true};
    pr_report report = {
        .plan = 1,
        .tokens = 3,
        .token = token,
        .chunks = 1,
        .chunk = &chunk,
        .arrivals = 1,
        .arrival = &arrival,
    };
    pr_error_capture_begin();
    pr_log_set_level(PR_LOG_ERROR);
    pr_scheduler_report(at.scheduler, &report);
    pr_chunk_report done = {1, 1, 8};
    pr_token_report early = {.id = 1, .generation = 1, .index = 0};
    pr_report tells = {.plan = 1, .tokens = 1, .token = &early};
    pr_scheduler_report(at.scheduler, &tells);  // before the prompt is computed
    tells = (pr_report){.plan = 1, .chunks = 1, .chunk = &done};
    pr_scheduler_report(at.scheduler, &tells);
    // More tokens than it has room for, and then more than its plan allows.
    for (int32_t i = 0; i < 8; i++) {
        pr_token_report next = {.id = 1, .generation = 1, .index = i};
        pr_report tokens = {.plan = 1, .tokens = 1, .token = &next};
        pr_scheduler_report(at.scheduler, &tokens);
        pr_scheduler_check(at.scheduler);
    }
    report.plan = 2;
    pr_scheduler_report(at.scheduler, &report);
    report.group = 1;
    pr_scheduler_report(at.scheduler, &report);
    pr_error_capture_end();
    pr_scheduler_check(at.scheduler);
    pr_scheduler_counts counts;
    pr_scheduler_count(at.scheduler, &counts);
    assert_int_equal(counts.output_tokens, 5);
    pr_scheduler_destroy(at.scheduler);
}

static void step_times_are_learnt_for_each_role(void **state)
{
    (void)state;
    hand at;
    hand_create(&at, "prefill 1x1:1 decode 1x1:1", 16);
    hand_submit(&at, hand_request(1, 8, 8));
    hand_plan(&at);
    hand_plan(&at);  // the decode group's, to expect the KV
    hand_nothing(&at);
    pr_report report = {
        .plan = 1,
        .step_ns = 3000000,
        .work = {.prefill_rows = 8, .prefill_pairs = 36},
    };
    pr_scheduler_report(at.scheduler, &report);
    const pr_step_fit *fit = pr_scheduler_step_fit(at.scheduler, PR_ROLE_PREFILL);
    assert_int_equal(fit->observations, 1);
    assert_true(fabs(pr_step_fit_predict_s(fit, &report.work) / 3e-3 - 1) < 0.01);
    pr_error_capture_begin();
    pr_log_set_level(PR_LOG_ERROR);
    report.plan = 9;  // there is no such plan: its time says nothing
    pr_scheduler_report(at.scheduler, &report);
    pr_error_capture_end();
    assert_int_equal(fit->observations, 1);
    fit = pr_scheduler_step_fit(at.scheduler, PR_ROLE_DECODE);
    assert_int_equal(fit->observations, 0);
    pr_scheduler_destroy(at.scheduler);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_request_finishes_on_every_layout),
    cmocka_unit_test(scarce_blocks_preempt_and_tokens_stay_the_same),
    cmocka_unit_test(prompts_longer_than_the_budget_go_in_chunks),
    cmocka_unit_test(odd_sizes_work),
    cmocka_unit_test(requests_may_be_cancelled_at_any_moment),
    cmocka_unit_test(priorities_and_siblings_finish_under_pressure),
    cmocka_unit_test(requests_with_outputs_of_an_earlier_run_go_on_after_them),
    cmocka_unit_test(damaged_handovers_and_gathers_are_computed_again),
    cmocka_unit_test(gathers_survive_cancels_damage_and_scarce_blocks),
    cmocka_unit_test(groups_change_roles_and_tokens_stay_the_same),
    cmocka_unit_test(the_same_seed_gives_the_same_decisions),
    cmocka_unit_test(a_listener_knows_what_every_lane_holds_and_changes_no_decision),
    cmocka_unit_test(a_decoding_sequence_never_stalls_while_blocks_are_free),
    cmocka_unit_test(an_idle_scheduler_makes_no_plan),
    cmocka_unit_test(a_chunk_goes_out_while_the_one_before_runs_but_no_third),
    cmocka_unit_test(a_groups_load_counts_the_seats_and_blocks_of_its_lanes),
    cmocka_unit_test(lower_priority_numbers_go_first_then_first_come),
    cmocka_unit_test(requests_spread_over_lanes_and_follow_their_prefix),
    cmocka_unit_test(further_choices_wait_for_the_first_and_share_its_prompt),
    cmocka_unit_test(what_can_never_run_is_refused_with_numbers),
    cmocka_unit_test(layouts_that_cannot_serve_are_refused),
    cmocka_unit_test(reports_that_cannot_be_right_are_ignored),
    cmocka_unit_test(step_times_are_learnt_for_each_role),
};

int main(void)
{
    pr_log_set_level(PR_LOG_ERROR);  // damaged handovers warn
    return cmocka_run_group_tests(tests, NULL, NULL);
}
