// SPDX-License-Identifier: BSD-3-Clause
// A request as dispatch sees it: how much prefill, which blocks, whose, how urgent. The caller keeps the
// record (inside its own request) and fills the upper part; dispatch writes the lower one.
// The true output length is not in it: nobody here may know it.
#ifndef PR_SCHEDULER_DISPATCH_JOB_H
#define PR_SCHEDULER_DISPATCH_JOB_H

#include <stdbool.h>
#include <stdint.h>

// On its way: NEW (or over) -> WAITING -> RUNNING -> PREFILLED -> DECODING.
typedef enum pr_job_state {
    PR_JOB_NEW,
    PR_JOB_WAITING,
    PR_JOB_RUNNING,
    PR_JOB_PREFILLED,
    PR_JOB_DECODING,
} pr_job_state;

typedef struct pr_job {
    uint64_t id;
    double arrival_s;
    int32_t prompt_tokens;
    int32_t outputs_expected;  // an estimate
    int32_t priority;          // band; lower first (vLLM's meaning)
    uint64_t tenant;
    double ttft_target_s, tpot_target_s;  // 0: none
    bool moved;        // its lane was lost: it comes before others of its band and tenant
    double expires_s;  // waits no longer than until then for its start; 0: for ever
    int32_t blocks;
    const uint64_t
        *block;  // [blocks] chained hashes of the prompt's blocks; borrowed while dispatch has it

    // Dispatch's and the queue's own.
    double remaining_s;        // predicted prefill time when it was last looked at
    double key;                // place within its tenant's queue: lower first
    double aged_s;             // the policy's clock of ageing when it arrived
    int32_t bound_lane;        // early binding: chosen at arrival. -1: late
    int32_t lane;              // runs here; -1: not started
    int32_t computed_tokens;   // of the prompt: cached and done
    int32_t predicted_tokens;  // uncached and not yet done, as the ledger of the lane counted them
    int32_t charged_tokens;    // of prefill, to its tenant
    int32_t decode_lane;       // -1: none
    int32_t outputs;           // so far
    int64_t committed_tokens;  // as the ledger of the decode lane counted them
    pr_job_state state;
    double policy_load;  // what the policy counted for it, in its own measure
    int32_t refused;     // why it is not served, a pr_flow_reason (flow_control.h); 0: it is
    int32_t expires_at;  // index in the heap of those that expire; -1: in none
    // The queue's: undefined while the job does not wait.
    struct pr_job_tenant *queue_tenant;
    double queued_work_s;    // remaining_s as the queue counted it
    int32_t key_at, age_at;  // indices in the heaps it waits in
} pr_job;

#endif
