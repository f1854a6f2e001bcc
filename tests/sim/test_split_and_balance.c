// SPDX-License-Identifier: BSD-3-Clause
// The fleet's split into prefill and decode: found by search, and followed by groups that change roles.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "launcher/plan/split_search.h"
#include "runtime/base/log.h"

static const char conversation[] =
    PR_SOURCE_DIR "/tests/data/traces/mooncake_conversation.jsonl.gz";

static pr_simulation simulation_of(const pr_trace *trace)
{
    return (pr_simulation){
        .trace = trace,
        .fleet =
            {
                .cache_blocks = 4096,
                .cost = pr_cost_model_named("a100-llama3-70b"),
                .seed = 1,
                .queue =
                    {.fair = false,
                     .most_jobs = 1 << 30,
                     .most_tenants = 16,
                     .guard_s = (double)INFINITY},
            },
    };
}

static const pr_simulation_target target = {.slo_b = true, .goodput = 0.9, .ttft_limit_s = 60};

static void read_trace(int64_t most, pr_trace *trace)
{
    pr_trace_params params = {.path = conversation, .most = most, .copies = 1};
    assert_int_equal(pr_trace_read(&params, trace), PR_OK);
}

static void sixteen_groups_are_split_13_to_3_for_the_conversation_trace(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip();  // a minute and more; the small search below goes the same ways
#endif
    pr_trace trace;
    pr_split_search search;
    read_trace(0, &trace);
    pr_simulation simulation = simulation_of(&trace);
    assert_int_equal(pr_split_search_run(&simulation, "lps", &target, 16, &search), PR_OK);
    const pr_split *best = &search.split[search.best];
    assert_int_equal(best->prefill, 13);
    assert_int_equal(best->decode, 3);
    assert_true(best->point.speed >= 3.31);  // the capacity that the reference model has published
    for (int32_t i = 1; i < search.splits; i++)
        assert_true(search.split[i].prefill > search.split[i - 1].prefill);
    pr_trace_free(&trace);
}

// With as many tries as splits nothing is left out.
static void the_search_finds_what_trying_all_splits_finds(void **state)
{
    (void)state;
    pr_trace trace;
    pr_split_search search;
    read_trace(1500, &trace);
    pr_simulation simulation = simulation_of(&trace);
    for (int32_t groups = 5; groups <= 11; groups += 3) {
        double most = 0;
        assert_int_equal(pr_split_search_run(&simulation, "lps", &target, groups, &search), PR_OK);
        for (int32_t prefill = 1; prefill < groups; prefill++) {
            pr_run_record record;
            pr_run_point point;
            pr_simulation one = simulation;
            one.fleet.prefill_groups = prefill;
            one.fleet.decode_groups = groups - prefill;
            if (pr_simulation_capacity(&one, "lps", &target, &record, &point) != PR_OK)
                continue;
            pr_run_record_free(&record);
            most = fmax(most, point.speed);
        }
        assert_true(search.split[search.best].point.speed == most);
    }
    pr_trace_free(&trace);
}

static void a_fleet_that_cannot_be_divided_or_filled_says_so(void **state)
{
    (void)state;
    pr_trace trace;
    pr_split_search search;
    read_trace(4, &trace);
    pr_simulation simulation = simulation_of(&trace);
    pr_error_capture_begin();
    assert_int_equal(pr_split_search_run(&simulation, "lps", &target, 1, &search), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "two or more"));
    assert_int_equal(
        pr_split_search_run(&simulation, "lps", &target, 64, &search), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "fewer groups"));
    pr_error_capture_end();
    pr_trace_free(&trace);
}

static pr_statistics run(const pr_simulation *simulation, int64_t *role_changes)
{
    pr_run_record record;
    pr_run_point point;
    assert_int_equal(pr_simulation_run(simulation, "lps", 1, &record, &point), PR_OK);
    pr_run_record_free(&record);
    *role_changes = point.role_changes;
    return point.statistics;
}

// Long prompts with short answers, then the reverse: 15 s of work for prefill each second, then for decode.
static void groups_that_change_roles_keep_their_targets_when_the_load_shifts(void **state)
{
    (void)state;
    enum { REQUESTS = 12000 };
    pr_trace trace = {.requests = REQUESTS, .block_tokens = 0};
    trace.request = calloc(REQUESTS, sizeof *trace.request);
    for (int32_t i = 0; i < REQUESTS; i++)
        trace.request[i] = (pr_trace_request){
            .arrival_s = i / 20.0,
            .prompt_tokens = i < REQUESTS / 2 ? 4000 : 200,
            .outputs = i < REQUESTS / 2 ? 20 : 2000,
        };
    pr_simulation simulation = simulation_of(&trace);
    double best = 0;
    int64_t changes;
    for (int32_t prefill = 2; prefill <= 14; prefill += 3) {
        simulation.fleet.prefill_groups = prefill;
        simulation.fleet.decode_groups = 16 - prefill;
        best = fmax(best, run(&simulation, &changes).goodput_b);
        assert_int_equal(changes, 0);
    }
    simulation.fleet.balance = pr_balance_standard;
    simulation.fleet.prefill_groups = simulation.fleet.decode_groups = 8;
    pr_statistics balanced = run(&simulation, &changes);
    print_message(
        "within SLO-B: best fixed split %.1f %%, roles that change %.1f %% (%d changes)\n",
        best * 100, balanced.goodput_b * 100, (int)changes);
    assert_int_equal(balanced.finished, REQUESTS);
    assert_true(balanced.goodput_b > 0.95 && balanced.goodput_b > best + 0.1);
    assert_true(changes < 40);
    pr_trace_free(&trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_groups_are_split_13_to_3_for_the_conversation_trace),
        cmocka_unit_test(the_search_finds_what_trying_all_splits_finds),
        cmocka_unit_test(a_fleet_that_cannot_be_divided_or_filled_says_so),
        cmocka_unit_test(groups_that_change_roles_keep_their_targets_when_the_load_shifts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
