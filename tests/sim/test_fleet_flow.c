// SPDX-License-Identifier: BSD-3-Clause
// Bands, targets and times to live in a simulated fleet under overload: 8 prefill and 8 decode groups
// with the constants of A100 nodes, policy lps.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/fleet/fleet.h"
#include "runtime/base/hash.h"

enum { GROUPS = 8, MOST_REQUESTS = 40000 };

static pr_trace trace;
static pr_run_record record;

static double uniform(uint64_t *state) { return (double)(pr_hash_mix(++*state) >> 11) * 0x1p-53; }

static int compare_arrivals(const void *a, const void *b)
{
    double left = ((const pr_trace_request *)a)->arrival_s;
    double right = ((const pr_trace_request *)b)->arrival_s;
    return (left > right) - (left < right);
}

// A Poisson stream of prompts of 2,000 to 8,000 tokens: 0.61 s of prefill on average.
static void add_stream(uint64_t seed, double rate_per_s, double end_s, pr_trace_request like)
{
    uint64_t state = seed << 32;
    for (double at_s = 0;;) {
        at_s -= log(1 - uniform(&state)) / rate_per_s;
        if (at_s >= end_s || trace.requests == MOST_REQUESTS)
            break;
        pr_trace_request *request = &trace.request[trace.requests++];
        *request = like;
        request->arrival_s = at_s;
        request->prompt_tokens = 2000 + (int32_t)(6000 * uniform(&state));
        request->outputs = 2 + (int32_t)(200 * uniform(&state));
    }
    qsort(trace.request, (size_t)trace.requests, sizeof *trace.request, compare_arrivals);
}

static int open_trace(void **state)
{
    (void)state;
    trace = (pr_trace){.request = calloc(MOST_REQUESTS, sizeof *trace.request)};
    return trace.request ? 0 : -1;
}

static int close_trace(void **state)
{
    (void)state;
    pr_run_record_free(&record);
    free(trace.request);
    return 0;
}

static pr_fleet_counts simulate(const pr_flow_params *flow)
{
    pr_fleet_params params = {
        .prefill_groups = GROUPS,
        .decode_groups = GROUPS,
        .cache_blocks = 4096,
        .policy = "lps",
        .cost = pr_cost_model_named("a100-llama3-70b"),
        .speed = 1,
        .seed = 1,
        .queue =
            {.fair = true,
             .prompt_weight = 1,
             .output_weight = 2,
             .guard_s = (double)INFINITY,
             .most_jobs = MOST_REQUESTS,
             .most_tenants = 10},
        .flow = *flow};
    pr_run_record_free(&record);
    assert_int_equal(pr_run_record_create(trace.requests, 0, GROUPS, GROUPS, &record), PR_OK);
    pr_fleet_counts counts;
    assert_int_equal(pr_fleet_run(&params, &trace, &record, &counts), PR_OK);
    for (int64_t i = 0; i < record.requests; i++)  // every request ends in one way
        assert_int_equal(record.request[i].rejected != NULL, isnan(record.request[i].finish_s));
    return counts;
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double ttft_percentile(int32_t priority, double share)
{
    static double ttft_s[MOST_REQUESTS];
    int32_t requests = 0;
    for (int64_t i = 0; i < record.requests; i++) {
        const pr_request_row *row = &record.request[i];
        if (row->priority == priority && !row->rejected)
            ttft_s[requests++] = row->first_s - row->arrival_s;
    }
    assert_true(requests > 0);
    qsort(ttft_s, (size_t)requests, sizeof *ttft_s, compare_doubles);
    return ttft_s[(int32_t)ceil(share * requests) - 1];
}

// 8 groups serve about 13 a second.
static void the_high_band_hardly_feels_an_overload_of_the_low_band(void **state)
{
    (void)state;
    add_stream(1, 11.5, 600, (pr_trace_request){0});
    simulate(&(pr_flow_params){0});
    double alone_s = ttft_percentile(0, 0.99);
    add_stream(2, 20, 600, (pr_trace_request){.priority = 1, .tenant = 1});
    simulate(&(pr_flow_params){0});
    double beside_s = ttft_percentile(0, 0.99), low_s = ttft_percentile(1, 0.99);
    simulate(&(pr_flow_params){.ceilings = 1, .ceiling = {{.priority = 1, .saturation = 0.7}}});
    double held_s = ttft_percentile(0, 0.99);
    print_message(
        "p99 TTFT of the high band: alone %.3f s, beside a low band of 1.5 x the fleet %.3f s "
        "(ratio "
        "%.3f), low band held back at 0.7 of the groups %.3f s (%.3f); the low band's own %.0f s\n",
        alone_s, beside_s, beside_s / alone_s, held_s, held_s / alone_s, low_s);
    assert_true(beside_s <= 1.05 * alone_s + 0.2);
    assert_true(held_s <= beside_s && held_s <= 1.05 * alone_s);
    assert_true(low_s > 20 * beside_s);
}

static double within_target(double target_s)
{
    int64_t within = 0;
    for (int64_t i = 0; i < record.requests; i++)
        within += record.request[i].first_s - record.request[i].arrival_s <= target_s;
    return (double)within / (double)record.requests;
}

static void early_rejection_serves_those_it_takes_in_time(void **state)
{
    (void)state;
    enum { TARGET_S = 5 };
    add_stream(3, 20, 300, (pr_trace_request){.priority = 1, .ttft_target_s = TARGET_S});
    pr_fleet_counts all = simulate(&(pr_flow_params){.sheddable_above = INT32_MAX});
    double all_within = within_target(TARGET_S);
    pr_fleet_counts shed = simulate(&(pr_flow_params){0});
    double shed_within = within_target(TARGET_S);
    int64_t late = 0;
    for (int64_t i = 0; i < record.requests; i++) {
        const pr_request_row *row = &record.request[i];
        if (row->rejected)
            assert_string_equal(row->rejected, pr_flow_reason_text(PR_FLOW_TARGET));
        late += row->first_s - row->arrival_s > TARGET_S + 1e-6;
    }
    print_message(
        "an overload of 1.5, target %d s: %.1f %% within it when all are taken; with early "
        "rejection "
        "%.1f %%, %.1f %% rejected, %lld late\n",
        TARGET_S, 100 * all_within, 100 * shed_within,
        100.0 * (double)shed.rejected / (double)trace.requests, (long long)late);
    assert_int_equal(all.rejected, 0);
    assert_int_equal(late, 0);
    assert_true(shed_within >= all_within);
    assert_true(shed.rejected > trace.requests / 10 && shed.rejected < trace.requests / 2);
}

static void nobody_waits_beyond_the_time_to_live(void **state)
{
    (void)state;
    add_stream(4, 20, 300, (pr_trace_request){0});
    pr_fleet_counts counts = simulate(&(pr_flow_params){.ttl_s = 10});
    assert_true(counts.rejected > trace.requests / 10);
    for (int64_t i = 0; i < record.requests; i++) {
        const pr_request_row *row = &record.request[i];
        if (row->rejected)
            assert_string_equal(row->rejected, pr_flow_reason_text(PR_FLOW_EXPIRED));
        else
            assert_true(row->prefill_start_s - row->arrival_s <= 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            the_high_band_hardly_feels_an_overload_of_the_low_band, open_trace, close_trace),
        cmocka_unit_test_setup_teardown(
            early_rejection_serves_those_it_takes_in_time, open_trace, close_trace),
        cmocka_unit_test_setup_teardown(
            nobody_waits_beyond_the_time_to_live, open_trace, close_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
