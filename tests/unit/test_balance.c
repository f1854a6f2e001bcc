// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "scheduler/balance/balance.h"

// A fleet whose groups change at once, and a load of so many requests a second of such lengths.
typedef struct fleet {
    pr_balance balance;
    pr_cost_model cost;
    int32_t prefill, decode;
    int32_t moves, back;  // moves, and those against the one before
    pr_balance_move last;
    double now_s;
    uint64_t random;
} fleet;

static fleet fleet_of(int32_t prefill, int32_t decode)
{
    fleet made = {.prefill = prefill, .decode = decode, .random = 1};
    made.cost = *pr_cost_model_named("a100-llama3-70b");
    pr_balance_begin(&made.balance, &pr_balance_standard);
    pr_balance_due(&made.balance, 0);
    return made;
}

static double uniform(fleet *at)
{
    at->random = at->random * 6364136223846793005u + 1442695040888963407u;
    return (double)(at->random >> 11) * 0x1p-53;
}

// A Poisson stream, half of each prompt cached; outputs are as expected.
static void run(fleet *at, double seconds, double rate, int32_t prompt, int32_t outputs)
{
    double end_s = at->now_s + seconds;
    while (at->now_s < end_s) {
        at->now_s -= log(1 - uniform(at)) / rate;
        pr_balance_arrive(&at->balance, &at->cost, prompt, outputs);
        pr_balance_start(&at->balance, prompt, prompt / 2);
        if (!pr_balance_due(&at->balance, at->now_s))
            continue;
        pr_balance_side p = {.lanes = at->prefill, .leaving = at->prefill > 1};
        pr_balance_side d = {.lanes = at->decode, .leaving = at->decode > 1};
        int32_t groups;
        pr_balance_move move =
            pr_balance_decide(&at->balance, at->now_s, &at->cost, &p, &d, false, &groups);
        if (move == PR_BALANCE_STAY)
            continue;
        at->prefill += move == PR_BALANCE_TO_PREFILL ? groups : -groups;
        at->decode += move == PR_BALANCE_TO_PREFILL ? -groups : groups;
        at->moves++;
        at->back += at->last != PR_BALANCE_STAY && at->last != move;
        at->last = move;
    }
}

static void groups_follow_a_load_that_shifts_back_and_forth(void **state)
{
    (void)state;
    fleet at = fleet_of(8, 8);
    run(&at, 600, 8, 12000, 100);  // prompts
    int32_t prefill = at.prefill;
    assert_true(prefill >= 9 && at.decode >= 1);
    run(&at, 600, 40, 500, 1500);  // outputs
    assert_true(at.decode >= 8 && at.prefill >= 1);
    run(&at, 600, 8, 12000, 100);
    assert_true(at.prefill >= 9);
    assert_int_equal(at.back, 2);
}

static void a_steady_load_with_noise_does_not_flap(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        fleet at = fleet_of(13, 3);
        at.random = seed * 77;
        run(&at, 4 * 3600, 10, 12000, 343);
        assert_int_equal(at.back, 0);
        assert_true(at.moves <= 2);
    }
}

static void an_idle_fleet_stays_as_it_is(void **state)
{
    (void)state;
    fleet at = fleet_of(8, 8);
    run(&at, 3600, 2, 12000, 100);
    assert_int_equal(at.moves, 0);
}

static void each_role_keeps_a_group(void **state)
{
    (void)state;
    fleet at = fleet_of(2, 2);
    run(&at, 2000, 8, 12000, 1);
    assert_int_equal(at.decode, 1);
    run(&at, 2000, 60, 100, 1500);
    assert_int_equal(at.prefill, 1);
}

static void nothing_moves_while_a_group_drains(void **state)
{
    (void)state;
    fleet at = fleet_of(4, 4);
    for (int32_t i = 1; i <= 10; i++) {
        pr_balance_arrive(&at.balance, &at.cost, 120000, 1);
        at.now_s = 20 * i;
        pr_balance_side side = {.lanes = 4, .leaving = 1};
        int32_t groups;
        assert_true(pr_balance_due(&at.balance, at.now_s));
        assert_int_equal(
            pr_balance_decide(&at.balance, at.now_s, &at.cost, &side, &side, true, &groups),
            PR_BALANCE_STAY);
        assert_false(pr_balance_due(&at.balance, at.now_s));
    }
}

// 12,000 tokens of context: the KV allows 110 sequences, the target 200.
static void a_lane_does_as_much_as_time_and_memory_allow(void **state)
{
    (void)state;
    fleet at = fleet_of(1, 1);
    double of_one = at.cost.step_sequence_s + 12000 * at.cost.step_context_s;
    double fits = (double)at.cost.capacity_tokens / 12000;
    assert_true(
        fabs(
            pr_balance_lane_outputs(&at.balance, &at.cost, 12000) -
            fits / (at.cost.step_s + fits * of_one)) < 1e-6);
    at.balance.params.tpot_target_s = 0.04;
    double in_time = (0.04 - at.cost.step_s) / of_one;
    assert_true(
        fabs(pr_balance_lane_outputs(&at.balance, &at.cost, 12000) - in_time / 0.04) < 1e-6);
    at.balance.params.tpot_target_s = 0.001;  // no batch meets it
    assert_true(pr_balance_lane_outputs(&at.balance, &at.cost, 12000) > in_time / 0.04);
}

// Each request brings ten times what was expected, or a tenth: the load is what was brought.
static void outputs_count_as_they_become_known(void **state)
{
    (void)state;
    double rho[3];
    const int64_t more[3] = {0, 900, -90};
    for (int32_t i = 0; i < 3; i++) {
        fleet at = fleet_of(1, 1);
        for (int32_t n = 0; n < 10; n++) {
            pr_balance_arrive(&at.balance, &at.cost, 1000, 101);
            pr_balance_outputs(&at.balance, more[i], 1050);
        }
        pr_balance_side side = {.lanes = 1};
        int32_t groups;
        pr_balance_decide(&at.balance, 20, &at.cost, &side, &side, false, &groups);
        rho[i] = at.balance.rho_decode;
    }
    assert_true(fabs(rho[1] / rho[0] - 10) < 0.01 && fabs(rho[2] / rho[0] - 0.1) < 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_follow_a_load_that_shifts_back_and_forth),
        cmocka_unit_test(a_steady_load_with_noise_does_not_flap),
        cmocka_unit_test(an_idle_fleet_stays_as_it_is),
        cmocka_unit_test(each_role_keeps_a_group),
        cmocka_unit_test(nothing_moves_while_a_group_drains),
        cmocka_unit_test(a_lane_does_as_much_as_time_and_memory_allow),
        cmocka_unit_test(outputs_count_as_they_become_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
