// SPDX-License-Identifier: BSD-3-Clause
// When what runs in a group will have ended: by hand, on rates without spread.
// clang-format off
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include "scheduler/walltime/walltime.h"

enum {
    SEATS = 8,
    TWICE = 2,  // counts a prior while no step is measured
};

static const pr_cost_model prior = {
    .chunk_s = 0.004,
    .chunk_token_s = 100e-6,
    .chunk_pair_s = 0,
    .step_s = 0.004,
    .step_sequence_s = 0.001,
    .step_context_s = 1e-6,
    .transfer_bytes_per_s = 1e9,
    .chunk_tokens = 64,
};

typedef struct fixture {
    pr_walltime_rates rates;
    pr_walltime_lane lane;
    pr_walltime_group group;
    int32_t scratch[4][SEATS];
} fixture;

static void begin(fixture *of, bool exact)
{
    *of = (fixture){0};
    pr_walltime_rates_begin(&of->rates, &prior);
    of->rates.trusts = true;
    of->lane = (pr_walltime_lane){
        .seats = SEATS,
        .block_tokens = 16,
        .chunk_rows = 64,
        .blocks = 64,
        .exact = exact,
        .outputs = of->scratch[0],
        .tokens = of->scratch[1],
    };
    of->group = (pr_walltime_group){.outputs = of->scratch[2], .tokens = of->scratch[3]};
    pr_walltime_group_empty(&of->group, exact);
}

static void add(fixture *of, pr_walltime_member member)
{
    pr_walltime_lane_add(&of->lane, &of->rates, &member);
}

static double ended_s(fixture *of)
{
    pr_walltime_group_add(&of->group, &of->lane, &of->rates);
    return pr_walltime_ended_s(&of->group, &of->rates, 0);
}

static double step_s(int32_t sequences, int32_t context)
{
    return 0.004 + 0.001 * sequences + 1e-6 * context;
}

static bool same(double a, double b) { return fabs(a - b) < 1e-9; }

// Three steps pass before a plan that is made now is carried out.
static void one_request_takes_its_chunks_and_its_outputs(void **state)
{
    (void)state;
    fixture of;
    begin(&of, false);
    add(&of, (pr_walltime_member){.rows = 100, .outputs = 9, .tokens = 110});
    double one_s = step_s(1, 110);
    double rows_s = 100 * 100e-6;
    assert_true(same(ended_s(&of), 3 * one_s + TWICE * (2 * one_s + rows_s + 9 * one_s)));
    assert_true(same(
        pr_walltime_prefilled_s(&of.group, &of.rates), 3 * one_s + TWICE * (2 * one_s + rows_s)));
}

static void shorter_requests_drop_out_of_the_steps_of_longer_ones(void **state)
{
    (void)state;
    fixture of;
    for (int32_t exact = 0; exact < 2; exact++) {
        begin(&of, exact);
        add(&of, (pr_walltime_member){.outputs = 10, .tokens = 100});
        add(&of, (pr_walltime_member){.outputs = 50, .tokens = 200});
        double both_s = step_s(2, 300), one_s = step_s(1, 200);
        double decode_s = exact ? 10 * both_s + 40 * one_s : 50 * both_s;
        assert_true(same(ended_s(&of), 3 * both_s + TWICE * decode_s));
    }
}

static void what_decodes_waits_for_chunks_but_not_for_their_steps(void **state)
{
    (void)state;
    fixture of;
    begin(&of, true);
    add(&of, (pr_walltime_member){.outputs = 50, .tokens = 100});
    add(&of, (pr_walltime_member){.rows = 62, .outputs = 2, .tokens = 66});
    double both_s = step_s(2, 166), one_s = step_s(1, 100);
    assert_true(same(ended_s(&of), 3 * both_s + TWICE * (62 * 100e-6 + 2 * both_s + 48 * one_s)));
}

// 64 blocks of 16: two of 500 tokens fit at a time.
static void more_than_the_pool_holds_goes_one_wave_after_the_other(void **state)
{
    (void)state;
    fixture of;
    double alone_s;
    begin(&of, true);
    for (int32_t i = 0; i < 2; i++)
        add(&of, (pr_walltime_member){.outputs = 400, .tokens = 500});
    alone_s = ended_s(&of);
    begin(&of, true);
    for (int32_t i = 0; i < 4; i++)
        add(&of, (pr_walltime_member){.outputs = 400, .tokens = 500});
    double both_s = step_s(2, 1000);
    // The second wave computes what it has lost: 1,000 tokens, 62 in a step beside two that decode.
    double second_s = 17 * both_s + 1000 * 100e-6 + 400 * both_s;
    assert_true(same(ended_s(&of), alone_s + TWICE * second_s));
}

static void lanes_of_a_group_take_as_long_as_the_longest(void **state)
{
    (void)state;
    fixture of;
    begin(&of, true);
    add(&of, (pr_walltime_member){.outputs = 30, .tokens = 100});
    add(&of, (pr_walltime_member){.outputs = 5, .tokens = 10});
    pr_walltime_group_add(&of.group, &of.lane, &of.rates);
    pr_walltime_lane_empty(&of.lane);
    add(&of, (pr_walltime_member){.outputs = 20, .tokens = 80});
    add(&of, (pr_walltime_member){.outputs = 15, .tokens = 70});
    // At each place the longer of the two: 30 and 15 outputs, over 100 and 70 tokens. A start waits for
    // steps of the fuller lane.
    double both_s = step_s(2, 170), one_s = step_s(1, 100);
    assert_true(same(ended_s(&of), 3 * step_s(2, 150) + TWICE * (15 * both_s + 15 * one_s)));
}

static void what_arrives_later_ends_later(void **state)
{
    (void)state;
    fixture of;
    begin(&of, true);
    add(&of, (pr_walltime_member){.outputs = 10, .tokens = 100, .arrives = true});
    pr_walltime_group_add(&of.group, &of.lane, &of.rates);
    double at_once_s = pr_walltime_ended_s(&of.group, &of.rates, 0);
    assert_true(same(pr_walltime_ended_s(&of.group, &of.rates, 2.5), at_once_s + 2.5));
}

static void see_steps(fixture *of, int32_t sequences, int32_t steps, double seconds)
{
    for (int32_t i = 0; i < steps; i++) {
        pr_step_work work = {.decode_sequences = sequences, .decode_context = 100 * sequences};
        pr_walltime_observe(&of->rates, &work, seconds);
    }
}

static double of_batch_s(fixture *of, int32_t sequences)
{
    pr_walltime_lane_empty(&of->lane);
    pr_walltime_group_empty(&of->group, true);
    for (int32_t i = 0; i < sequences; i++)
        add(of, (pr_walltime_member){.outputs = 1000, .tokens = 100});
    return ended_s(of) / 1003;
}

// The prior says that six sequences less save 6 ms; nobody has seen it.
static void a_batch_smaller_than_any_seen_is_as_slow_as_the_smallest_seen(void **state)
{
    (void)state;
    fixture of;
    begin(&of, true);
    see_steps(&of, 8, 300, 0.02);
    double seen_s = of_batch_s(&of, 8);
    assert_true(seen_s >= 0.02);
    assert_true(fabs(of_batch_s(&of, 2) / seen_s - 1) < 0.05);
    see_steps(&of, 2, 300, 0.01);
    assert_true(of_batch_s(&of, 2) < 0.75 * seen_s);
}

static void a_batch_larger_than_any_seen_is_slower_in_proportion(void **state)
{
    (void)state;
    fixture of;
    begin(&of, true);
    see_steps(&of, 2, 300, 0.01);
    assert_true(of_batch_s(&of, 8) >= 0.04);
}

static void steps_that_waver_count_as_longer_than_steady_ones(void **state)
{
    (void)state;
    fixture steady, wavering;
    begin(&steady, true);
    begin(&wavering, true);
    for (int32_t i = 0; i < 1000; i++) {
        see_steps(&steady, 4, 1, 0.01);
        see_steps(&wavering, 4, 1, i / 100 % 2 ? 0.005 : 0.015);  // slow spells
    }
    double plain_s = 1.0, longest_s = 0.01;
    double calm_s = pr_walltime_most_s(&steady.rates, PR_WALLTIME_DECODE, plain_s, longest_s);
    double rough_s = pr_walltime_most_s(&wavering.rates, PR_WALLTIME_DECODE, plain_s, longest_s);
    assert_true(calm_s > plain_s && rough_s > 1.2 * calm_s);
}

static void steps_that_became_slower_are_believed_soon(void **state)
{
    (void)state;
    fixture of;
    begin(&of, true);
    see_steps(&of, 4, 2000, 0.01);
    double before_s = of_batch_s(&of, 4);
    see_steps(&of, 4, 100, 0.02);
    assert_true(of_batch_s(&of, 4) > 1.8 * before_s);
}

static void the_first_steps_are_judged_with_caution(void **state)
{
    (void)state;
    fixture of;
    begin(&of, true);
    double trusted_s = of_batch_s(&of, 4);
    of.rates.trusts = false;
    double cautious_s = of_batch_s(&of, 4);
    assert_true(cautious_s > 2 * trusted_s);
    see_steps(&of, 4, 200, step_s(4, 400));
    assert_true(of_batch_s(&of, 4) < 1.4 * trusted_s);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(one_request_takes_its_chunks_and_its_outputs),
    cmocka_unit_test(shorter_requests_drop_out_of_the_steps_of_longer_ones),
    cmocka_unit_test(what_decodes_waits_for_chunks_but_not_for_their_steps),
    cmocka_unit_test(more_than_the_pool_holds_goes_one_wave_after_the_other),
    cmocka_unit_test(lanes_of_a_group_take_as_long_as_the_longest),
    cmocka_unit_test(what_arrives_later_ends_later),
    cmocka_unit_test(a_batch_smaller_than_any_seen_is_as_slow_as_the_smallest_seen),
    cmocka_unit_test(a_batch_larger_than_any_seen_is_slower_in_proportion),
    cmocka_unit_test(steps_that_waver_count_as_longer_than_steady_ones),
    cmocka_unit_test(steps_that_became_slower_are_believed_soon),
    cmocka_unit_test(the_first_steps_are_judged_with_caution),
};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }
