// SPDX-License-Identifier: BSD-3-Clause
// Properties under random event streams, each run twice: what dispatch and the whole scheduler promise
// whatever happens. "test_properties --steps N" runs until so many events have been checked in each
// half, with ever new seeds (scripts/soak).
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

static int64_t steps_wanted = 400000;  // of each test

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

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatch_keeps_its_promises_with_every_policy),
    };
    if (argc == 3 && !strcmp(argv[1], "--steps"))
        steps_wanted = atoll(argv[2]);
    pr_log_set_level(PR_LOG_ERROR);  // damaged handovers warn
    return cmocka_run_group_tests(tests, NULL, NULL);
}
