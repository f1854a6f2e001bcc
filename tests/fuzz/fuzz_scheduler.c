// SPDX-License-Identifier: BSD-3-Clause
// The scheduler on a small machine of simulated workers: the first bytes say which, the others decide
// which of the possible events comes next. Workers check every KV access and every limit, the scheduler
// its books; every request must end.
#include <stdint.h>

#include "../unit/sim_run.h"
#include "runtime/base/log.h"
#include "scheduler/policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 20 };

static const char *const LAYOUT[] = {
    "mixed 1x1:1",
    "mixed 1x2:1",
    "mixed 2x2:2",
    "prefill 1x1:1 decode 1x1:1",
    "prefill 2x1:1 decode 1x2:1",
    "prefill 1x2:2 decode 2x1:1",
    "mixed 1x1:1 prefill 1x1:1 decode 1x1:1",
};

static const char *policy_of(uint8_t byte)
{
    int32_t kinds = 0;
    while (pr_policy_kind_at(kinds))
        kinds++;
    return pr_policy_kind_at(byte % kinds)->name;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    int32_t longest = 4 + data[2] % 60, block_tokens = 1 + data[3] % 8;
    sim_config config = {
        .choice = data + HEAD,
        .choices = size - HEAD,
        .layout = LAYOUT[data[0] % (sizeof LAYOUT / sizeof LAYOUT[0])],
        .policy = policy_of(data[1]),
        .kv_blocks = (longest + block_tokens - 1) / block_tokens + data[4] % 16,
        .block_tokens = block_tokens,
        .max_model_len = longest,
        .budget = 1 + data[5] % 32,
        .max_seqs = 1 + data[6] % 8,
        .lease = 1 + data[7] % 6,
        .requests = 1 + data[8] % 24,
        .max_prompt = longest,
        .max_tokens = 1 + data[9] % 40,
        .cancel_percent = data[10] % 2 ? data[10] : 0,
        .damage_percent = data[11] % 40,
        .priorities = data[12] % 4,
        .siblings = data[13] % 4,
        .tenants = data[14] % 4,
        .most_jobs = data[15] % 8,
        .target_ms = data[16] % 2 ? 4 * data[16] : 0,
        .tick_ns = data[17] % 2 ? data[17] * INT64_C(100000) : 0,
        .prefix_caching = data[18] % 4 > 0,
        .prompt_delivery = data[19] % 4 == 0,
    };
    pr_log_set_level(PR_LOG_ERROR);
    pr_error_capture_begin();
    sim_run_all(&config);
    pr_error_capture_end();
    return 0;
}
