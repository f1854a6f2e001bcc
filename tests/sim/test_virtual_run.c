// SPDX-License-Identifier: BSD-3-Clause
// The scheduler on virtual time against queueing theory, against its own records, and against a recorded
// live run.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../unit/sim_run.h"
#include "launcher/virtual/calibration.h"
#include "launcher/virtual/virtual_run.h"
#include "runtime/base/log.h"
#include "scheduler/record/replay.h"

// A world to run in; the layout is in place, so it must not move.
typedef struct virtual_world {
    pr_layout layout;
    pr_scheduler_params params;
    pr_virtual_load load;
    pr_virtual_model model;
    uint64_t random;
} virtual_world;

static double draw(virtual_world *world)
{
    world->random += 0x9e3779b97f4a7c15u;
    return ((double)(pr_hash_mix(world->random) >> 11) + 0.5) / 9007199254740992.0;
}

static void begin(virtual_world *world, const char *layout)
{
    *world = (struct virtual_world){.random = 7};
    sim_parse_layout(layout, &world->layout);
    world->params = (pr_scheduler_params){
        .layout = &world->layout,
        .kv_blocks = 256,
        .block_tokens = 16,
        .max_model_len = 1024,
        .max_num_batched_tokens = 64,
        .max_num_seqs = 8,
        .lease_steps = 8,
        .policy = "lps",
        .queue = {.most_jobs = 1 << 30, .most_tenants = 1, .guard_s = (double)INFINITY},
        .cost = *pr_cost_model_named("a100-llama3-70b"),
    };
}

// All prompts differ unless they belong to a family.
static void add_request(
    virtual_world *world,
    int64_t arrival_ns,
    int32_t prompt_tokens,
    int32_t outputs,
    int32_t family)
{
    pr_request *request = calloc(1, sizeof *request);
    assert_non_null(request);
    request->id = request->sibling_of = (uint64_t)world->load.requests + 1;
    request->sampling.max_tokens = outputs;
    request->sampling.top_logprobs = -1;
    request->prompt_tokens = prompt_tokens;
    request->prompt = malloc((size_t)prompt_tokens * sizeof(int32_t));
    for (int32_t i = 0; i < prompt_tokens; i++)
        request->prompt[i] =
            family > 0 && i < prompt_tokens / 2 ? family : (int32_t)(request->id + (uint64_t)i);
    assert_int_equal(pr_virtual_load_add(&world->load, request, arrival_ns), PR_OK);
}

static pr_virtual_result run_world(virtual_world *world, pr_run_measure *measure, FILE *record)
{
    pr_virtual_result result;
    pr_virtual_run_params params = {
        .scheduler = &world->params,
        .load = &world->load,
        .model = &world->model,
        .record = record,
        .check = world->load.requests < 1000,
    };
    assert_int_equal(pr_virtual_run(&params, measure, &result), PR_OK);
    return result;
}

// Poisson arrivals, one prompt per step, all steps alike.
static void begin_queue(virtual_world *world, double load, int64_t requests)
{
    begin(world, "mixed 1x1:1");
    world->params.max_num_seqs = 1;
    world->model.step[PR_ROLE_MIXED].alone[0] = 0.010;
    double now_s = 0;
    for (int64_t i = 0; i < requests; i++) {
        now_s += -log(draw(world)) * 0.010 / load;
        add_request(world, (int64_t)(now_s * 1e9), 64, 1, 0);
    }
}

static void a_single_group_waits_as_long_as_an_m_d_1_queue(void **state)
{
    (void)state;
    static const double load[] = {0.3, 0.6, 0.8};
    for (size_t i = 0; i < sizeof load / sizeof load[0]; i++) {
        virtual_world world;
        pr_run_measure measure = {0};
        pr_run_summary summary;
        begin_queue(&world, load[i], 200000);
        run_world(&world, &measure, NULL);
        assert_int_equal(pr_run_measure_sum_up(&measure, &summary), PR_OK);
        double wait_s = summary.ttft_s.mean - 0.010;
        double theory_s = load[i] * 0.010 / (2 * (1 - load[i]));
        assert_true(fabs(wait_s / theory_s - 1) < 0.02);
        pr_run_measure_free(&measure);
        pr_virtual_load_free(&world.load);
    }
}

// Poisson arrivals see the time average, which is rate times latency.
static void arrivals_see_as_many_requests_as_littles_law_says(void **state)
{
    (void)state;
    virtual_world world;
    pr_run_measure measure = {0};
    pr_run_summary summary;
    begin_queue(&world, 0.6, 60000);
    run_world(&world, &measure, NULL);
    assert_int_equal(pr_run_measure_sum_up(&measure, &summary), PR_OK);
    double seen = 0;
    int64_t left = 0;
    for (int64_t i = 0; i < measure.requests; i++) {  // served in order of arrival
        while (measure.request[left].finish_s <= measure.request[i].arrival_s)
            left++;
        seen += (double)(i - left);
    }
    seen /= (double)measure.requests;
    double rate = (double)measure.requests / measure.request[measure.requests - 1].arrival_s;
    assert_true(fabs(seen / (rate * summary.latency_s.mean) - 1) < 0.02);
    pr_run_measure_free(&measure);
    pr_virtual_load_free(&world.load);
}

static double step_s(const pr_virtual_step *step, int32_t rows, int32_t before)
{
    double column[PR_VIRTUAL_COLUMNS], seconds = 0;
    int64_t pairs = (int64_t)rows * before + (int64_t)rows * (rows + 1) / 2;
    pr_virtual_columns(&(pr_step_work){.prefill_rows = rows, .prefill_pairs = pairs}, column);
    for (int32_t i = 0; i < PR_VIRTUAL_COLUMNS; i++)
        seconds += step->alone[i] * column[i];
    return seconds;
}

static void a_request_alone_takes_its_chunks_its_messages_and_the_gaps_between(void **state)
{
    (void)state;
    virtual_world world;
    pr_run_measure measure = {0};
    begin(&world, "mixed 1x1:1");
    pr_virtual_step *step = &world.model.step[PR_ROLE_MIXED];
    *step = (pr_virtual_step){.alone = {0.004, 30e-6, 20e-9, 0.001, 1e-6}};
    world.model.message_ns = 100000;
    world.model.gap_ns = 50000;
    for (int64_t i = 0; i < 3; i++)
        add_request(&world, i * 1000000000, 200, 4, 0);
    run_world(&world, &measure, NULL);
    double expected_s = 200e-6 + 150e-6;  // there and back, three gaps
    for (int32_t at = 0; at < 200; at += 64)
        expected_s += step_s(step, at + 64 < 200 ? 64 : 200 - at, at);
    for (int64_t i = 0; i < 3; i++) {
        const pr_request_row *row = &measure.request[i];
        assert_true(fabs(row->first_s - row->arrival_s - expected_s) < 1e-8);
        assert_int_equal(row->outputs, 4);
    }
    // A decode step reads one key more each time.
    double gap_s = 0.004 + 0.001 + 201e-6 + 50e-6;
    assert_true(fabs(measure.gap_s[0] - gap_s) < 1e-8);
    assert_true(fabs(measure.gap_s[1] - gap_s - 1e-6) < 1e-8);
    pr_run_measure_free(&measure);
    pr_virtual_load_free(&world.load);
}

// Two groups that step at the same time, for cores that serve one.
static void crowded_steps_take_longer_by_the_time_they_overlap(void **state)
{
    (void)state;
    virtual_world world;
    pr_run_measure measure = {0};
    begin(&world, "mixed 2x1:1");
    world.model.cores = 1;
    world.model.step[PR_ROLE_MIXED].alone[0] = 0.010;
    world.model.step[PR_ROLE_MIXED].crowded[0] = 0.010;
    add_request(&world, 0, 64, 1, 0);
    add_request(&world, 5000000, 64, 1, 0);
    run_world(&world, &measure, NULL);
    // The first has 5 ms done and 5 ms left, at half the speed; then the second goes on alone.
    assert_true(fabs(measure.request[0].first_s - 0.015) < 1e-8);
    assert_true(fabs(measure.request[1].first_s - 0.020) < 1e-8);
    pr_run_measure_free(&measure);
    pr_virtual_load_free(&world.load);
}

static void begin_mixture(virtual_world *world, const char *layout)
{
    begin(world, layout);
    world->params.prefix_caching = true;
    world->model = (pr_virtual_model){
        .cores = 2,
        .gap_ns = 100000,
        .message_ns = 200000,
        .transfer_s = 0.002,
        .transfer_block_s = 50e-6,
        .transfer_boundaries = 1,
    };
    for (int32_t role = 0; role < 3; role++)
        world->model.step[role] = (pr_virtual_step){
            .alone = {0.002, 100e-6, 0, 0.0005, 1e-6},
            .crowded = {0.0005, 20e-6, 0, 0.0001, 0},
        };
    double now_s = 0;
    for (int32_t i = 0; i < 400; i++) {
        now_s += -log(draw(world)) * 0.02;
        int32_t prompt_tokens = 1 + (int32_t)(draw(world) * 300);
        int32_t outputs = 1 + (int32_t)(draw(world) * 30);
        int32_t family = (int32_t)(draw(world) * 5);
        add_request(world, (int64_t)(now_s * 1e9), prompt_tokens, outputs, family);
    }
}

static const char *const layouts[] = {
    "mixed 2x2:1",
    "mixed 1x1:1",
    "prefill 2x1:1 decode 2x2:1",
    "prefill 1x2:2 decode 1x4:2",
};

enum { LAYOUTS = sizeof layouts / sizeof layouts[0] };

static void prefixes_are_gathered_on_virtual_time(void **state)
{
    (void)state;
    virtual_world world;
    pr_run_measure measure = {0};
    begin_mixture(&world, "prefill 3x1:1 decode 1x2:1");
    pr_virtual_result result = run_world(&world, &measure, NULL);
    assert_true(result.counts.gathers > 0);
    for (int64_t r = 0; r < measure.requests; r++)
        assert_int_equal(
            measure.request[r].outputs, world.load.request[r].request->sampling.max_tokens);
    pr_run_measure_free(&measure);
    pr_virtual_load_free(&world.load);
}

static void a_virtual_run_decides_the_same_again_and_its_record_replays(void **state)
{
    (void)state;
    for (int32_t i = 0; i < LAYOUTS; i++) {
        uint64_t hash[2];
        for (int32_t turn = 0; turn < 2; turn++) {
            virtual_world world;
            pr_run_measure measure = {0};
            pr_replay_result replayed;
            FILE *record = tmpfile();
            assert_non_null(record);
            begin_mixture(&world, layouts[i]);
            pr_virtual_result result = run_world(&world, &measure, record);
            rewind(record);
            assert_int_equal(pr_replay_run(record, &replayed), PR_OK);
            fclose(record);
            assert_true(replayed.complete && replayed.diverged_line == 0);
            assert_true(replayed.hash == result.hash);
            hash[turn] = result.hash;
            for (int64_t r = 0; r < measure.requests; r++)
                assert_int_equal(
                    measure.request[r].outputs, world.load.request[r].request->sampling.max_tokens);
            pr_run_measure_free(&measure);
            pr_virtual_load_free(&world.load);
        }
        assert_true(hash[0] == hash[1]);
    }
}

typedef struct prediction {
    pr_calibration calibration;
    pr_run_summary recorded, predicted;
} prediction;

static prediction predict(FILE *record)
{
    prediction made;
    pr_recorded_run *run = calloc(1, sizeof *run);
    pr_run_measure measure = {0};
    pr_virtual_result result;
    assert_non_null(run);
    assert_int_equal(pr_recorded_run_read(record, run), PR_OK);
    assert_int_equal(pr_calibration_fit(run, &made.calibration), PR_OK);
    pr_virtual_run_params params = {
        .scheduler = &run->params,
        .load = &run->load,
        .model = &made.calibration.model,
    };
    assert_int_equal(pr_virtual_run(&params, &measure, &result), PR_OK);
    assert_int_equal(pr_run_measure_sum_up(&run->measure, &made.recorded), PR_OK);
    assert_int_equal(pr_run_measure_sum_up(&measure, &made.predicted), PR_OK);
    pr_run_measure_free(&measure);
    pr_recorded_run_free(run);
    free(run);
    return made;
}

static bool within(double predicted, double recorded, double part)
{
    return fabs(predicted / recorded - 1) <= part;
}

// The record of a virtual run holds what made it.
static void a_calibration_finds_the_model_that_wrote_the_record(void **state)
{
    (void)state;
    for (int32_t i = 0; i < LAYOUTS; i++) {
        virtual_world world;
        pr_run_measure measure = {0};
        pr_run_summary truth;
        FILE *record = tmpfile();
        assert_non_null(record);
        begin_mixture(&world, layouts[i]);
        run_world(&world, &measure, record);
        assert_int_equal(pr_run_measure_sum_up(&measure, &truth), PR_OK);
        rewind(record);
        prediction made = predict(record);
        fclose(record);
        assert_true(within(made.recorded.ttft_s.mean, truth.ttft_s.mean, 1e-6));
        assert_true(within(made.recorded.tbt_s.mean, truth.tbt_s.mean, 1e-6));
        assert_int_equal(made.recorded.hit_tokens, truth.hit_tokens);
        assert_int_equal(made.predicted.outputs, truth.outputs);
        // A saturated layout amplifies what little the fits differ by.
        assert_true(within(made.predicted.ttft_s.mean, truth.ttft_s.mean, 0.12));
        assert_true(within(made.predicted.tbt_s.mean, truth.tbt_s.mean, 0.05));
        for (int32_t role = 0; role < 3; role++)
            assert_true(made.calibration.quality[role].error_p50 < 0.03);
        pr_run_measure_free(&measure);
        pr_virtual_load_free(&world.load);
    }
}

// Demo model, prefill 2x1 and decode 2x2 on two busy cores. The file was written by
//   mpirun -n 6 polyreme bench models/demo --trace tests/data/traces/mooncake_conversation.jsonl.gz
//       --requests 60 --speed 4 --prefill 2x1 --decode 2x2 --record tests/data/events_live_6_ranks.txt
static void a_live_run_is_predicted_from_its_record(void **state)
{
    (void)state;
    FILE *record = fopen(PR_SOURCE_DIR "/tests/data/events_live_6_ranks.txt", "r");
    assert_non_null(record);
    prediction made = predict(record);
    fclose(record);
    const pr_run_summary *recorded = &made.recorded, *predicted = &made.predicted;
    assert_int_equal(recorded->requests, 60);
    assert_int_equal(predicted->ended, 60);
    assert_int_equal(predicted->outputs, recorded->outputs);
    assert_true(within(predicted->ttft_s.mean, recorded->ttft_s.mean, 0.25));
    assert_true(within(predicted->tbt_s.mean, recorded->tbt_s.mean, 0.25));
    assert_true(within(predicted->latency_s.mean, recorded->latency_s.mean, 0.25));
    assert_int_equal(predicted->hit_tokens, recorded->hit_tokens);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_single_group_waits_as_long_as_an_m_d_1_queue),
    cmocka_unit_test(arrivals_see_as_many_requests_as_littles_law_says),
    cmocka_unit_test(a_request_alone_takes_its_chunks_its_messages_and_the_gaps_between),
    cmocka_unit_test(crowded_steps_take_longer_by_the_time_they_overlap),
    cmocka_unit_test(prefixes_are_gathered_on_virtual_time),
    cmocka_unit_test(a_virtual_run_decides_the_same_again_and_its_record_replays),
    cmocka_unit_test(a_calibration_finds_the_model_that_wrote_the_record),
    cmocka_unit_test(a_live_run_is_predicted_from_its_record),
};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }
