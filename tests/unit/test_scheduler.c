// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "sim_run.h"

static const sim_config base = {
    .layout = "mixed 1x1:1",
    .kv_blocks = 64,
    .block_tokens = 4,
    .max_model_len = 96,
    .budget = 32,
    .max_seqs = 8,
    .lease = 4,
    .requests = 60,
    .max_prompt = 40,
    .max_tokens = 40,
    .prefix_caching = true,
};

static const char *const layouts[] = {
    "mixed 1x1:1",
    "mixed 1x4:1",
    "mixed 2x2:1",
    "prefill 1x2:2 decode 1x4:1",
    "prefill 2x1:1 decode 2x1:1",
    "prefill 1x1:1 decode 1x4:2",
    "mixed 1x2:1 prefill 1x1:1 decode 1x2:1",
};

enum { LAYOUTS = sizeof layouts / sizeof layouts[0] };

// Runs the configuration on every layout with several seeds; the sums of what happened.
static sim_result run_everywhere(sim_config config, int32_t seeds)
{
    sim_result sum = {0};
    for (int32_t l = 0; l < LAYOUTS; l++) {
        for (int32_t seed = 0; seed < seeds; seed++) {
            config.layout = layouts[l];
            config.seed = (uint64_t)(l * 100 + seed);
            sim_result result = sim_run_all(&config);
            sum.cancelled += result.cancelled;
            sum.stopped += result.stopped;
            sum.rejected += result.rejected;
            sum.counts.preemptions += result.counts.preemptions;
            sum.counts.handovers += result.counts.handovers;
            sum.counts.handovers_lost += result.counts.handovers_lost;
            sum.counts.cached_tokens += result.counts.cached_tokens;
        }
    }
    return sum;
}

static void every_request_finishes_on_every_layout(void **state)
{
    (void)state;
    sim_result sum = run_everywhere(base, 6);
    assert_true(sum.stopped > 0);
    assert_true(sum.counts.handovers > 0);
    assert_true(sum.counts.cached_tokens > 0);
    assert_int_equal(sum.rejected, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_request_finishes_on_every_layout),
};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }
