// SPDX-License-Identifier: BSD-3-Clause
// Properties under random event streams, each run twice: what dispatch and the whole scheduler promise
// whatever happens. "test_properties --steps N" goes on until N events of dispatch and N / 8 of the
// scheduler have been checked (scripts/soak); below some 400,000 not every kind of thing happens.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include "../unit/dispatch_run.h"
#include "../unit/sim_run.h"
#include "runtime/base/log.h"

static int64_t steps_wanted = 800000;  // of dispatch; of the scheduler an eighth

// Every policy with its own order, and some with another.
static const char *policy_of(uint64_t seed, char spec[64])
{
    static const char *const ORDER[] = {"", "/fifo", "/srpt", "/aged"};
    int32_t kinds = 0;
    while (pr_policy_kind_at(kinds))
        kinds++;
    const pr_policy_kind *kind = pr_policy_kind_at((int32_t)(seed % (uint64_t)kinds));
    snprintf(spec, 64, "%s%s", kind->name, ORDER[seed / (uint64_t)kinds % 4]);
    return spec;
}

static void dispatch_keeps_its_promises_with_every_policy(void **state)
{
    (void)state;
    dr_run *run = malloc(sizeof *run);
    dr_run sum = {0};
    char spec[64];
    for (uint64_t seed = 0; sum.events < steps_wanted; seed++) {
        dr_config config = {
            .seed = seed,
            .policy = policy_of(seed, spec),
            .events = 3000,
            .prefill_lanes = 1 + (int32_t)(seed * 7 % DR_LANES),
            .decode_lanes = 1 + (int32_t)(seed * 5 % DR_LANES),
            .cache_blocks = 20 + (int32_t)(seed * 13 % 100),
            .fair = seed % 3 > 0,
            .guard_s = seed % 2 ? 0.3 : (double)INFINITY,
            .most_jobs = 8 + (int32_t)(seed % 5) * 10,
            .flow =
                {
                    .sheddable_above = (int32_t)(seed % 3),
                    .most_prompt_tokens = seed % 4 == 1 ? 1000 : 0,
                    .ttl_s = seed % 5 == 1 ? 0.5 : 0,
                    .ceilings = seed % 7 == 1,
                    .ceiling = {{.priority = 1, .saturation = 0.8}},
                },
        };
        dr_run_all(&config, run);
        uint64_t hash = run->hash;
        sum.events += run->events;
        sum.started += run->started;
        sum.rejected += run->rejected;
        sum.expired += run->expired;
        sum.refused += run->refused;
        sum.gathers += run->gathers;
        sum.put_back += run->put_back;
        sum.yields += run->yields;
        dr_run_all(&config, run);
        DR_ASSERT(run, hash == run->hash);
    }
    free(run);
    print_message(
        "dispatch: %lld events, %lld starts, %lld rejected, %lld refused, %lld gathers, %lld put "
        "back, %lld made way\n",
        (long long)sum.events, (long long)sum.started, (long long)sum.rejected,
        (long long)sum.refused, (long long)sum.gathers, (long long)sum.put_back,
        (long long)sum.yields);
    // Each kind of thing has happened.
    assert_true(sum.started > 0 && sum.refused > 0 && sum.gathers > 0 && sum.put_back > 0);
    assert_true(sum.rejected > sum.expired && sum.expired > 0 && sum.yields > 0);
}

static void run_twice(const sim_config *config, sim_result *sum)
{
    sim_result first = sim_run_all(config), second = sim_run_all(config);
    SIM_ASSERT(first.hash == second.hash && first.events == second.events);
    sum->events += first.events;
    sum->steps += first.steps;
    sum->cancelled += first.cancelled;
    sum->rejected += first.rejected;
    sum->left += first.left;
    sum->counts.rejected_walltime += first.counts.rejected_walltime;
    sum->counts.cut += first.counts.cut;
    sum->counts.preemptions += first.counts.preemptions;
    sum->counts.handovers += first.counts.handovers;
    sum->counts.handovers_lost += first.counts.handovers_lost;
    sum->counts.gathers += first.counts.gathers;
    sum->counts.gathers_lost += first.counts.gathers_lost;
    sum->losses += first.losses;
    sum->counts.groups_lost += first.counts.groups_lost;
    sum->counts.groups_back += first.counts.groups_back;
    sum->counts.moved += first.counts.moved;
    sum->counts.resumed += first.counts.resumed;
}

static void the_scheduler_keeps_its_promises_on_every_layout(void **state)
{
    (void)state;
    static const char *const LAYOUT[] = {
        "mixed 1x1:1",
        "mixed 1x4:1",
        "mixed 3x2:1",
        "prefill 1x2:2 decode 1x4:1",
        "prefill 3x1:1 decode 2x1:1",
        "mixed 1x2:1 prefill 1x1:1 decode 1x2:1",
        "mixed 1x4:2 mixed 2x1:1",
        "prefill 2x2:2 prefill 2x1:1 decode 2x2:2",
    };
    enum { LAYOUTS = sizeof LAYOUT / sizeof LAYOUT[0] };
    sim_result sum = {0};
    char spec[64];
    pr_error_capture_begin();  // some prompts are too long
    for (uint64_t seed = 0; sum.events < steps_wanted / 8; seed++) {
        int32_t longest = 24 + (int32_t)(seed * 11 % 70), block_tokens = 1 << seed % 4;
        sim_config config = {
            .seed = seed,
            .layout = LAYOUT[seed % LAYOUTS],
            .policy = seed % 3 ? policy_of(pr_hash_mix(seed), spec) : "lps",
            .kv_blocks = longest / block_tokens + (int32_t)(seed * 7 % 30),
            .block_tokens = block_tokens,
            .max_model_len = longest,
            .budget = 4 + (int32_t)(seed * 5 % 40),
            .max_seqs = 1 + (int32_t)(seed % 9),
            .lease = 1 + (int32_t)(seed % 6),
            .requests = 80,
            .max_prompt = longest * 2 / 3,
            .max_tokens = 40,
            .cancel_percent = (int32_t)(seed % 4) * 20,
            .damage_percent = seed % 5 == 0 ? 30 : 0,
            .priorities = 1 + (int32_t)(seed % 3),
            .siblings = seed % 4 == 1 ? 3 : 0,
            .tenants = (int32_t)(seed % 5),
            .most_jobs = seed % 6 == 1 ? 5 : 0,
            .target_ms = seed % 2 ? 400 : 0,
            .tick_ns = seed % 4 ? 4000000 : 0,
            .end_ns = seed % 4 && seed % 9 < 3 ? 200000000 << seed % 4 : 0,
            .prefix_caching = seed % 7 > 0,
            .prompt_delivery = seed % 11 == 0,
        };
        run_twice(&config, &sum);
    }
    pr_error_capture_end();
    print_message(
        "scheduler: %lld events, %lld steps of groups, %lld cancelled, %lld rejected, %lld "
        "preempted, %lld handovers (%lld damaged), %lld gathers (%lld damaged), %lld left, %lld "
        "refused for want of time, %lld cut\n",
        (long long)sum.events, (long long)sum.steps, (long long)sum.cancelled,
        (long long)sum.rejected, (long long)sum.counts.preemptions, (long long)sum.counts.handovers,
        (long long)sum.counts.handovers_lost, (long long)sum.counts.gathers,
        (long long)sum.counts.gathers_lost, (long long)sum.left,
        (long long)sum.counts.rejected_walltime, (long long)sum.counts.cut);
    assert_true(sum.cancelled > 0 && sum.rejected > 0 && sum.counts.preemptions > 0);
    assert_true(sum.counts.handovers_lost > 0 && sum.counts.gathers_lost > 0);
    assert_true(sum.left > 0 && sum.counts.rejected_walltime > 0 && sum.counts.cut > 0);
}

// Every request ends as it would have: no token twice, none missing, whatever its phase was when its group
// was lost; and the scheduler's own promises hold.
static void requests_outlive_the_groups_that_are_lost(void **state)
{
    (void)state;
    static const char *const LAYOUT[] = {
        "mixed 3x1:1",
        "mixed 3x2:1",
        "prefill 2x1:1 decode 2x1:1",
        "prefill 2x2:2 decode 2x4:2",
        "mixed 2x2:2 prefill 1x1:1 decode 1x2:1",
        "mixed 4x1:1",
        "prefill 3x2:1 decode 2x1:1",
    };
    enum { LAYOUTS = sizeof LAYOUT / sizeof LAYOUT[0] };
    sim_result sum = {0};
    char spec[64];
    pr_error_capture_begin();
    for (uint64_t seed = 0; sum.events < steps_wanted / 8; seed++) {
        int32_t longest = 24 + (int32_t)(seed * 11 % 70), block_tokens = 1 << seed % 4;
        sim_config config = {
            .seed = seed + 1000000,
            .layout = LAYOUT[seed % LAYOUTS],
            .policy = seed % 3 ? policy_of(pr_hash_mix(seed), spec) : "lps",
            .kv_blocks = longest / block_tokens + (int32_t)(seed * 7 % 30),
            .block_tokens = block_tokens,
            .max_model_len = longest,
            .budget = 4 + (int32_t)(seed * 5 % 40),
            .max_seqs = 1 + (int32_t)(seed % 9),
            .lease = 1 + (int32_t)(seed % 6),
            .requests = 60,
            .max_prompt = longest * 2 / 3,
            .max_tokens = 40,
            .cancel_percent = seed % 4 ? 0 : 20,
            .damage_percent = seed % 5 == 0 ? 5 : 0,
            .siblings = seed % 4 == 1 ? 3 : 0,
            .tick_ns = seed % 4 ? 4000000 : 0,
            .prefix_caching = seed % 7 > 0,
            .prompt_delivery = seed % 11 == 0,
            .loss_permille = seed % 2 ? 30 : 2,
            .losses_stay = seed % 3 == 0,
            .balance =
                {.period_s = seed % 13 == 6 ? 0.02 : 0, .tpot_target_s = 0.1, .rotate = true},
        };
        run_twice(&config, &sum);
    }
    pr_error_capture_end();
    print_message(
        "losses: %lld events, %lld groups lost, %lld back, %lld requests moved, %lld went on, %lld "
        "handovers, %lld gathers\n",
        (long long)sum.events, (long long)sum.counts.groups_lost, (long long)sum.counts.groups_back,
        (long long)sum.counts.moved, (long long)sum.counts.resumed, (long long)sum.counts.handovers,
        (long long)sum.counts.gathers);
    assert_true(sum.losses > 0 && sum.losses == sum.counts.groups_lost);
    assert_true(sum.counts.groups_back > 0 && sum.counts.groups_back < sum.losses);
    assert_true(sum.counts.resumed > 0 && sum.counts.moved >= sum.counts.resumed);
    assert_true(sum.counts.gathers > 0 && sum.counts.handovers > 0);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatch_keeps_its_promises_with_every_policy),
        cmocka_unit_test(the_scheduler_keeps_its_promises_on_every_layout),
        cmocka_unit_test(requests_outlive_the_groups_that_are_lost),
    };
    if (argc == 3 && !strcmp(argv[1], "--steps"))
        steps_wanted = atoll(argv[2]);
    pr_log_set_level(PR_LOG_ERROR);  // damaged handovers warn
    return cmocka_run_group_tests(tests, NULL, NULL);
}
