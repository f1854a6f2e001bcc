// SPDX-License-Identifier: BSD-3-Clause
// The reference model of docs/scheduling.md: every policy on the first 2,000 requests of the Mooncake
// conversation trace, 8 prefill and 8 decode groups, against values of an independent implementation.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdio.h>

#include "launcher/fleet/fleet.h"

#define TRACE PR_SOURCE_DIR "/tests/data/traces/mooncake_conversation.jsonl.gz"

enum { GROUPS = 8, REQUESTS = 2000 };

typedef struct golden {
    const char *policy;
    double speed, ttft_s;
    int64_t hit_tokens, fetch_tokens;
    double last_finish_s;
    uint64_t checksum;
} golden;

static const golden GOLDEN[] = {
    {"rr", 1.0, 16025.547206, 2324906, 0, 693.963787, 1247874705484257309u},
    {"leasttok", 1.0, 4458.010542, 2469655, 0, 691.872401, 1955974309888847730u},
    {"random", 1.0, 18846.521874, 2127272, 0, 696.149959, 718191437783572552u},
    {"llumnix", 1.5, 10679.373165, 5751030, 0, 483.785231, 477053399802619353u},
    {"conductor", 1.5, 8285.429757, 6310206, 0, 476.958288, 766963764293236433u},
    {"conductorg", 1.5, 5266.491723, 7957790, 4081584, 474.801453, 1745521616703476902u},
    {"mpxlnr/srpt", 1.5, 3654.722625, 8045854, 6172700, 477.613799, 2106525729312919487u},
    {"mpxlnr/aged", 1.75, 5721.621078, 7938334, 5879729, 418.017137, 748968418603144351u},
};

static pr_trace trace;
static pr_run_record record;

static int read_trace(void **state)
{
    (void)state;
    pr_trace_params params = {.path = TRACE, .block_tokens = 512, .most = REQUESTS, .copies = 1};
    if (pr_trace_read(&params, &trace) != PR_OK)
        return -1;
    return pr_run_record_create(trace.requests, 0, GROUPS, GROUPS, &record) == PR_OK ? 0 : -1;
}

static int free_trace(void **state)
{
    (void)state;
    pr_run_record_free(&record);
    pr_trace_free(&trace);
    return 0;
}

static pr_fleet_counts simulate(const char *policy, double speed)
{
    pr_fleet_params params = {
        .prefill_groups = GROUPS,
        .decode_groups = GROUPS,
        .cache_blocks = 4096,
        .policy = policy,
        .cost = pr_cost_model_named("a100-llama3-70b"),
        .speed = speed,
        .seed = 1,
        .queue =
            {
                .prompt_weight = 1,
                .output_weight = 2,
                .guard_s = (double)INFINITY,
                .most_jobs = REQUESTS,
                .most_tenants = 1,
            },
        .expected_is_true = true,
    };
    pr_fleet_counts counts;
    assert_int_equal(pr_fleet_run(&params, &trace, &record, &counts), PR_OK);
    return counts;
}

// (chk * 1000003 + 16 p + d) mod 2^61 in order of id; d = 15 where nothing is decoded.
static uint64_t placement_checksum(void)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < record.requests; i++) {
        const pr_request_row *row = &record.request[i];
        uint64_t decode = row->outputs == 1 ? 15 : (uint64_t)row->decode_group;
        sum = (sum * 1000003 + 16 * (uint64_t)row->prefill_group + decode) & ((1ull << 61) - 1);
    }
    return sum;
}

static void expect(const golden *want)
{
    pr_fleet_counts counts = simulate(want->policy, want->speed);
    double ttft_s = 0;
    for (int64_t i = 0; i < record.requests; i++)
        ttft_s += record.request[i].first_s - record.request[i].arrival_s;
    uint64_t checksum = placement_checksum();
    printf(
        "%s %.2f: ttft %.6f (%.6f) hit %lld (%lld) fetched %lld (%lld) last %.6f (%.6f) "
        "checksum %llu (%llu)\n",
        want->policy, want->speed, ttft_s, want->ttft_s, (long long)counts.hit_tokens,
        (long long)want->hit_tokens, (long long)counts.fetch_tokens, (long long)want->fetch_tokens,
        counts.last_finish_s, want->last_finish_s, (unsigned long long)checksum,
        (unsigned long long)want->checksum);
    assert_true(fabs(ttft_s - want->ttft_s) <= 1e-6 * fmax(1, want->ttft_s));
    assert_int_equal(counts.hit_tokens, want->hit_tokens);
    assert_int_equal(counts.fetch_tokens, want->fetch_tokens);
    assert_true(fabs(counts.last_finish_s - want->last_finish_s) <= 1e-6);
    assert_true(checksum == want->checksum);
}

static void every_policy_gives_the_values_of_the_reference_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof GOLDEN / sizeof GOLDEN[0]; i++)
        expect(&GOLDEN[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_gives_the_values_of_the_reference_model),
    };
    return cmocka_run_group_tests(tests, read_trace, free_trace);
}
