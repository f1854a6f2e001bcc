// SPDX-License-Identifier: BSD-3-Clause
// One gather by hand: two mixed groups of one lane with one seat each. Random ones are in
// test_scheduler.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "scheduler/gather.h"
#include "scheduler/walltime/drain.h"
#include "sim_run.h"

typedef struct scene {
    pr_layout layout;
    pr_scheduler *scheduler;
} scene;

static void open_scene(scene *at, int32_t seats)
{
    sim_parse_layout("mixed 2x1:1", &at->layout);
    pr_scheduler_params params = {
        .layout = &at->layout,
        .kv_blocks = 16,
        .block_tokens = 4,
        .max_model_len = 64,
        .max_num_batched_tokens = 16,
        .max_num_seqs = seats,
        .lease_steps = 4,
        .prefix_caching = true,
        .policy = "lps",
        .queue = sim_queue,
        .cost = sim_cost,
    };
    assert_int_equal(pr_scheduler_create(&params, &at->scheduler), PR_OK);
}

// A prompt of so many tokens; all begin alike.
static void submit(scene *at, uint64_t id, int32_t tokens)
{
    pr_request *request = calloc(1, sizeof *request);
    request->id = request->sibling_of = id;
    request->prompt_tokens = tokens;
    request->prompt = malloc((size_t)tokens * sizeof(int32_t));
    for (int32_t i = 0; i < tokens; i++)
        request->prompt[i] = i < tokens - 1 ? i : 1000 + (int32_t)id;
    request->sampling.max_tokens = 8;
    assert_int_equal(pr_scheduler_submit(at->scheduler, request), PR_OK);
}

// The next plan, NULL for none. Tokens are passed over.
static const pr_plan *next_plan(scene *at)
{
    pr_decision decision;
    do {
        pr_scheduler_check(at->scheduler);
        pr_scheduler_next(at->scheduler, &decision);
    } while (decision.kind == PR_DECISION_TOKEN);
    return decision.kind == PR_DECISION_PLAN ? decision.plan : NULL;
}

static void report_chunk(scene *at, uint64_t plan, uint64_t id, int32_t computed, bool finished)
{
    pr_chunk_report chunk = {id, 1, computed};
    pr_report report = {.plan = plan, .plan_finished = finished, .chunks = 1, .chunk = &chunk};
    pr_scheduler_report(at->scheduler, &report);
}

static void report_arrival(scene *at, uint64_t id, bool intact)
{
    pr_arrival_report arrival = {id, 1, intact};
    pr_report report = {
        .plan = 1, .group = 1, .plan_finished = true, .arrivals = 1, .arrival = &arrival};
    pr_scheduler_report(at->scheduler, &report);
}

// Request 1 decodes in group 0 and has published 12 tokens; request 2 shares them and must go to
// group 1, whose plan is left to be looked at.
static void begin_gather(scene *at)
{
    open_scene(at, 1);
    submit(at, 1, 14);
    assert_int_equal(next_plan(at)->group, 0);
    report_chunk(at, 1, 1, 14, false);
    assert_null(next_plan(at));
    submit(at, 2, 15);
}

static void end_gather(scene *at, int32_t gathered, int32_t lost)
{
    pr_scheduler_counts counts;
    pr_scheduler_check(at->scheduler);
    pr_scheduler_count(at->scheduler, &counts);
    assert_int_equal(counts.gathers, 1);
    assert_int_equal(counts.gathered_tokens, gathered);
    assert_int_equal(counts.gathers_lost, lost);
    pr_scheduler_destroy(at->scheduler);
}

static void a_prefix_held_elsewhere_is_fetched_and_its_sequence_admitted_afterwards(void **state)
{
    (void)state;
    scene at;
    begin_gather(&at);
    for (int32_t group = 0; group < 2; group++) {  // both are told
        const pr_plan *plan = next_plan(&at);
        assert_int_equal(plan->group, group);
        assert_int_equal(plan->admissions + plan->chunks, 0);
        assert_int_equal(plan->handovers, 1);
        const pr_handover *gather = &plan->handover[0];
        assert_true(gather->gather && gather->id == 2);
        assert_true(gather->from_group == 0 && gather->to_group == 1);
        assert_int_equal(gather->first_block, 0);
        assert_int_equal(gather->blocks, 3);
    }
    assert_null(next_plan(&at));
    report_arrival(&at, 2, true);
    const pr_plan *plan = next_plan(&at);
    assert_int_equal(plan->group, 1);
    assert_int_equal(plan->admission[0].computed, 12);
    assert_int_equal(plan->chunk[0].start, 12);
    assert_int_equal(plan->chunk[0].count, 3);
    end_gather(&at, 12, 0);
}

static void a_damaged_prefix_is_computed(void **state)
{
    (void)state;
    scene at;
    begin_gather(&at);
    next_plan(&at);
    next_plan(&at);
    report_arrival(&at, 2, false);
    const pr_plan *plan = next_plan(&at);
    assert_int_equal(plan->handovers, 0);
    assert_int_equal(plan->admission[0].computed, 0);
    assert_int_equal(plan->chunk[0].start, 0);
    end_gather(&at, 0, 1);
}

static void a_cancelled_one_keeps_its_blocks_until_the_arrival(void **state)
{
    (void)state;
    scene at;
    begin_gather(&at);
    next_plan(&at);
    next_plan(&at);
    pr_scheduler_cancel(at.scheduler, 2);
    submit(&at, 3, 4);  // no seat before that
    assert_null(next_plan(&at));
    assert_int_equal(pr_scheduler_unfinished(at.scheduler), 3);
    report_arrival(&at, 2, true);
    assert_int_equal(pr_scheduler_unfinished(at.scheduler), 2);
    const pr_plan *plan = next_plan(&at);
    assert_int_equal(plan->drops, 0);  // its workers never heard of it
    end_gather(&at, 0, 0);
}

static void a_busy_source_is_told_with_its_next_plan(void **state)
{
    (void)state;
    scene at;
    open_scene(&at, 1);
    submit(&at, 1, 60);
    assert_int_equal(next_plan(&at)->number, 1);
    assert_int_equal(next_plan(&at)->number, 2);
    report_chunk(&at, 1, 1, 16, true);
    assert_int_equal(next_plan(&at)->number, 3);  // it has two to run again
    submit(&at, 2, 21);
    const pr_plan *plan = next_plan(&at);
    assert_int_equal(plan->group, 1);
    assert_int_equal(plan->handover[0].blocks, 4);
    assert_null(next_plan(&at));
    report_chunk(&at, 2, 1, 32, true);
    plan = next_plan(&at);
    assert_int_equal(plan->group, 0);
    assert_int_equal(plan->handovers, 1);
    assert_int_equal(plan->handover[0].id, 2);
    end_gather(&at, 0, 0);
}

static void a_lane_is_read_by_a_few_gathers_at_a_time(void **state)
{
    (void)state;
    scene at;
    open_scene(&at, 8);
    submit(&at, 1, 16);
    next_plan(&at);
    report_chunk(&at, 1, 1, 16, false);
    while (next_plan(&at))
        continue;
    const pr_lane *source = &at.scheduler->group[0].lane[0];
    pr_lane *target = &at.scheduler->group[1].lane[0];
    for (uint64_t id = 2; id < 4 + PR_GATHERS_PER_LANE; id++) {
        submit(&at, id, 6);
        pr_sequence *sequence = pr_sequence_table_find(&at.scheduler->table, id);
        int32_t cached;
        pr_kv_copy copy;
        pr_verdict verdict;
        pr_sequence_list_remove(sequence);  // seated by hand here, not in a round
        assert_int_equal(pr_dispatch_arrive(at.scheduler->dispatch, &sequence->job, 0), PR_OK);
        pr_dispatch_open(at.scheduler->dispatch, source->number, false);
        pr_dispatch_open(at.scheduler->dispatch, target->number, true);
        pr_dispatch_next(at.scheduler->dispatch, 0, &verdict);
        assert_true(verdict.kind == PR_VERDICT_START && verdict.job == &sequence->job);
        assert_int_equal(pr_lane_seat(target, sequence, PR_SEAT_COMPUTE, 6, &cached, &copy), PR_OK);
        pr_drain_seated(at.scheduler, sequence);
        sequence->target = 6;
        sequence->phase = PR_PHASE_PREFILL;
        bool begun = pr_gather_begin(at.scheduler, sequence, &at.scheduler->group[0].lane[0], 4);
        assert_true(begun == (id < 2 + PR_GATHERS_PER_LANE));
        pr_scheduler_check(at.scheduler);
    }
    assert_int_equal(source->pins, PR_GATHERS_PER_LANE);
    pr_scheduler_destroy(at.scheduler);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_prefix_held_elsewhere_is_fetched_and_its_sequence_admitted_afterwards),
    cmocka_unit_test(a_damaged_prefix_is_computed),
    cmocka_unit_test(a_cancelled_one_keeps_its_blocks_until_the_arrival),
    cmocka_unit_test(a_busy_source_is_told_with_its_next_plan),
    cmocka_unit_test(a_lane_is_read_by_a_few_gathers_at_a_time),
};

int main(void)
{
    pr_log_set_level(PR_LOG_ERROR);  // damaged gathers warn
    return cmocka_run_group_tests(tests, NULL, NULL);
}
