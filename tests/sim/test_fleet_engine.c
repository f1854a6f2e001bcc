// SPDX-License-Identifier: BSD-3-Clause
// What the modelled groups can do beyond the reference model: times by hand, and whole runs.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdlib.h>

#include "launcher/fleet/fleet.h"
#include "runtime/base/log.h"

enum { GROUPS = 4, MOST_REQUESTS = 3000 };

static const double EXACT = 1e-9;

static void assert_near(double value, double expected)
{
    assert_true(fabs(value - expected) < EXACT);
}

static const pr_cost_model *cost(void) { return pr_cost_model_named("a100-llama3-70b"); }

static pr_fleet_engine engine_of(const char *text)
{
    pr_fleet_engine engine;
    assert_int_equal(pr_fleet_engine_parse(text, &engine), PR_OK);
    return engine;
}

static void a_list_says_what_is_on(void **state)
{
    (void)state;
    pr_fleet_engine engine = engine_of("layers,spread=500");
    assert_true(engine.layers && !engine.gather && !engine.heat && !engine.whole);
    assert_int_equal(engine.spread_tokens, 500);
    engine = engine_of("all");
    assert_true(engine.layers && engine.gather && engine.heat && engine.whole);
    assert_true(engine.spread_tokens > 0);
    static const char *const WRONG[] = {"", "layer", "all,", "spread=", "spread=0", "spread=1x"};
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++)
        assert_int_equal(pr_fleet_engine_parse(WRONG[i], &engine), PR_ERR_ARGUMENT);
}

static void an_overlapped_gather_costs_the_longer_of_two_and_one_layer(void **state)
{
    (void)state;
    pr_fleet_engine off = {0}, on = {.gather = true};
    double alpha_s = cost()->transfer_s;
    double bytes_s = pr_cost_model_transfer_s(cost(), 6144) - alpha_s;
    assert_near(pr_fleet_engine_gather_s(&off, cost(), 6144, 0.5), alpha_s + bytes_s + 0.5);
    assert_near(pr_fleet_engine_gather_s(&on, cost(), 6144, 0.5), alpha_s + 0.5 + bytes_s / 80);
    assert_near(pr_fleet_engine_gather_s(&on, cost(), 6144, 0.001), alpha_s + bytes_s + 0.001 / 80);
    assert_near(pr_fleet_engine_gather_s(&on, cost(), 0, 0.5), 0.5);
}

static void pieces_of_a_prompt_run_a_layer_apart_and_end_in_order(void **state)
{
    (void)state;
    pr_spread spread = {0};
    double first_s, second_s, third_s;
    pr_spread_piece piece[] = {{0, 0, 8192}, {1, 8192, 16384}, {0, 16384, 16484}};
    assert_int_equal(pr_spread_add(&spread, cost(), &piece[0], 10, &first_s), PR_OK);
    double compute_s = pr_cost_model_chunk_s(cost(), 8192, 0);
    assert_near(first_s, 10 + compute_s);
    assert_int_equal(pr_spread_add(&spread, cost(), &piece[1], 10, &second_s), PR_OK);
    double layer_s = pr_fleet_engine_last_layer_s(cost(), 8192);
    double next_s = pr_cost_model_chunk_s(cost(), 8192, 8192);
    assert_true(second_s > 10 + compute_s / 80 + layer_s + next_s);
    assert_true(second_s < 10 + compute_s / 80 + 2 * layer_s + next_s + 0.01);
    // A short one waits for the last layer of the one before it.
    assert_int_equal(pr_spread_add(&spread, cost(), &piece[2], first_s, &third_s), PR_OK);
    assert_true(third_s > second_s);
    free(spread.piece);
}

// ---- Runs ----

static pr_trace_request requests[MOST_REQUESTS];
static uint64_t blocks[MOST_REQUESTS][64];

static void run(int64_t count, const char *engine, pr_run_record *record, pr_fleet_counts *counts)
{
    pr_trace trace = {.requests = count, .request = requests, .block_tokens = 512};
    pr_fleet_params params = {
        .prefill_groups = GROUPS,
        .decode_groups = GROUPS,
        .cache_blocks = 512,
        .policy = "lps",
        .cost = cost(),
        .speed = 1,
        .seed = 1,
        .queue =
            {.prompt_weight = 1,
             .output_weight = 2,
             .guard_s = (double)INFINITY,
             .most_jobs = 1 << 20,
             .most_tenants = 1},
        .engine = engine_of(engine),
    };
    assert_int_equal(pr_run_record_create(count, 0, GROUPS, GROUPS, record), PR_OK);
    assert_int_equal(pr_fleet_run(&params, &trace, record, counts), PR_OK);
}

static void idle_groups_share_a_long_prompt(void **state)
{
    (void)state;
    requests[0] = (pr_trace_request){.prompt_tokens = 65536, .outputs = 10};
    pr_run_record alone, spread;
    pr_fleet_counts counts;
    run(1, "none", &alone, &counts);
    run(1, "spread", &spread, &counts);
    double alone_s = alone.request[0].first_s, spread_s = spread.request[0].first_s;
    assert_near(alone_s, pr_cost_model_prefill_s(cost(), 65536, 0));
    assert_true(spread_s > alone_s / GROUPS && spread_s < 1.15 * alone_s / GROUPS);
    for (int g = 0; g < GROUPS; g++)
        assert_true(spread.busy_s[g] > 0.6 * spread_s && spread.busy_s[g] <= spread_s + EXACT);
    pr_run_record_free(&alone);
    pr_run_record_free(&spread);
}

// Conversations: each prompt begins with blocks of one before it.
static void make_load(void)
{
    uint64_t random = 3;
    for (int i = 0; i < MOST_REQUESTS; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        int32_t count = 1 + (int32_t)((random >> 40) % 64), shared = 0;
        if (i > 50) {
            const pr_trace_request *before = &requests[i - 1 - (int)((random >> 33) % 50)];
            shared = before->blocks < count ? before->blocks : count;
            for (int32_t b = 0; b < shared; b++)
                blocks[i][b] = before->block[b];
        }
        for (int32_t b = shared; b < count; b++)
            blocks[i][b] = (uint64_t)i << 8 | (uint64_t)b | 1u << 30;
        requests[i] = (pr_trace_request){
            .arrival_s = 0.4 * i,
            .prompt_tokens = 512 * count - (int32_t)((random >> 20) % 512),
            .outputs = 1 + (int32_t)((random >> 50) % 100),
            .blocks = count,
            .block = blocks[i],
        };
    }
}

static void every_request_ends_once_and_computes_its_whole_prompt(void **state)
{
    (void)state;
    static const char *const ENGINE[] = {"none", "layers", "gather", "heat,whole", "spread", "all"};
    make_load();
    double mean_s[6] = {0};
    for (int e = 0; e < 6; e++) {
        pr_run_record record;
        pr_fleet_counts counts;
        run(MOST_REQUESTS, ENGINE[e], &record, &counts);
        double busy_s = 0, least_s = 0;
        for (int g = 0; g < GROUPS; g++)
            busy_s += record.busy_s[g];
        for (int i = 0; i < MOST_REQUESTS; i++) {
            const pr_request_row *row = &record.request[i];
            assert_true(row->first_s > row->arrival_s && row->finish_s >= row->first_s);
            assert_true(row->outputs == 1 || row->join_s >= row->first_s);
            least_s +=
                pr_cost_model_prefill_s(cost(), row->prompt_tokens, (int32_t)row->hit_tokens);
            mean_s[e] += (row->first_s - row->arrival_s) / MOST_REQUESTS;
        }
        assert_true(busy_s >= least_s * (1 - 1e-9) && busy_s < least_s * 1.1);
        pr_run_record_free(&record);
    }
    assert_true(mean_s[2] < mean_s[0] && mean_s[4] < mean_s[0] && mean_s[5] < mean_s[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_says_what_is_on),
        cmocka_unit_test(an_overlapped_gather_costs_the_longer_of_two_and_one_layer),
        cmocka_unit_test(pieces_of_a_prompt_run_a_layer_apart_and_end_in_order),
        cmocka_unit_test(idle_groups_share_a_long_prompt),
        cmocka_unit_test(every_request_ends_once_and_computes_its_whole_prompt),
    };
    pr_log_set_level(PR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
