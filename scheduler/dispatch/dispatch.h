// SPDX-License-Identifier: BSD-3-Clause
// Which request runs where, and when: the heart of the scheduler. The live scheduler (batching.c) and
// the fleet simulator (launcher/simulate) call the same functions with the same events.
//
//   arrive(job) --early binding--> queue of one lane --+
//          \-----late binding----> central queue ------+--> next(): START job on an open lane, [gather]
//                                                      +--> next(): REJECT job, reason
//   started .. progress .. prefilled -> decode_lane() -> joined .. left
//
// A lane here is a place where one copy of the model computes: prefill lanes are numbered 0..P-1,
// decode lanes 0..D-1 (a mixed lane is both, under both numbers). A *policy* chooses lane and order
// (scheduler/policy/policy.h); everything it may look at is in the ledger below, the cache map and the cost model.
// Pure: no clock (now_s comes with the events and never goes back), no randomness but a counter-based
// generator with a fixed seed. Same events, same decisions.
// Threads: one. Cost: O(log) in jobs and lanes for `lps`; policies that score every lane are O(lanes).
#ifndef PR_SCHEDULER_DISPATCH_DISPATCH_H
#define PR_SCHEDULER_DISPATCH_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "scheduler/cost/cost_model.h"
#include "scheduler/dispatch/cache_map.h"
#include "scheduler/dispatch/flow_control.h"
#include "scheduler/dispatch/job.h"
#include "scheduler/dispatch/job_queue.h"

typedef struct pr_dispatch pr_dispatch;

typedef struct pr_dispatch_params {
    int32_t prefill_lanes, decode_lanes;
    int32_t block_tokens;       // of the cache map
    int32_t cache_blocks;       // that one prefill lane's cache holds, in units of block_tokens
    const pr_cost_model *cost;  // borrowed; may change its constants between events (online fit)
    const char *
        policy;  // "lps", "least-tokens", "llmd:prefix=3,queue=2,kv=2", ... (scheduler/policy/policy.h)
    uint64_t seed;
    pr_job_queue_params queue;  // most_jobs: over all queues
    pr_flow_params flow;        // all zero: no bounds but most_jobs
} pr_dispatch_params;

pr_status
pr_dispatch_create(const pr_dispatch_params *params, pr_dispatch **dispatch) PR_MUST_CHECK;
void pr_dispatch_destroy(pr_dispatch *dispatch);

// ---- Events ----

// A new job. PR_ERR_RESOURCE (silent) when flow control does not take it: job->refused says why
// (pr_flow_reason_text, pr_flow_reason_http_status).
pr_status pr_dispatch_arrive(pr_dispatch *dispatch, pr_job *job, double now_s) PR_MUST_CHECK;

// A job that had started comes back (preempted, refused by its lane) and what was computed of it is
// gone: it waits again, under its key.
void pr_dispatch_put_back(pr_dispatch *dispatch, pr_job *job, double now_s);

// The job is not wanted any more, wherever it is.
void pr_dispatch_cancel(pr_dispatch *dispatch, pr_job *job);

// The lane can start one more job now / cannot.
void pr_dispatch_open(pr_dispatch *dispatch, int32_t lane, bool open);

// The lane is out of service (lost, drained, another role) / is back. What is bound to it is bound
// anew; what runs there is the caller's to put back.
void pr_dispatch_retire(pr_dispatch *dispatch, int32_t lane, bool retired, double now_s);

// A job is at the end of a chunk, not its last: true: it makes way for another (policies that preempt),
// waits for the same lane, where its blocks are, and will be started again.
bool pr_dispatch_yields(pr_dispatch *dispatch, pr_job *job, double now_s);

// More tokens of a running job could be computed on the lane, which is open, at once: true: that comes
// before anything that waits for the lane, by the policy's order.
bool pr_dispatch_helps(pr_dispatch *dispatch, const pr_job *job, int32_t lane, double now_s);

// The first `computed` tokens of a started job are done; the job's last chunk is done.
void pr_dispatch_progress(pr_dispatch *dispatch, pr_job *job, int32_t computed, double now_s);
void pr_dispatch_prefilled(pr_dispatch *dispatch, pr_job *job, double now_s);

// A decode lane is its own from now on (at the latest when it decodes there, with its KV still under
// way); it brought forth outputs; it is gone from there.
void pr_dispatch_joined(pr_dispatch *dispatch, pr_job *job, int32_t decode_lane);
void pr_dispatch_generated(pr_dispatch *dispatch, pr_job *job, int32_t outputs);
void pr_dispatch_left(pr_dispatch *dispatch, pr_job *job);

// How full the decode side is as the caller sees it, 0..1 and beyond. Holdback of bands (late binding)
// goes by this or the share of prefill lanes that are not open, whichever is more.
void pr_dispatch_saturate(pr_dispatch *dispatch, double saturation);

// Who holds what: told by the lanes' caches (prefill lanes).
pr_cache_map *pr_dispatch_cache_map(pr_dispatch *dispatch);

// ---- Decisions ----

// Blocks [first, first + blocks) of the job's prompt, which the lane lacks, to be fetched from a lane that holds them.
typedef struct pr_gather {
    int32_t lane;
    int32_t first, blocks;
} pr_gather;

typedef enum pr_verdict_kind {
    PR_VERDICT_NONE,
    PR_VERDICT_START,
    PR_VERDICT_REJECT
} pr_verdict_kind;

typedef struct pr_verdict {
    pr_verdict_kind kind;
    pr_job *job;
    int32_t lane;          // START
    int32_t local_blocks;  // leading blocks the lane holds itself
    int32_t depth;         // leading blocks there are after the gather; those that no gather
                           // brings lie behind a gap in the lane's own cache
    int32_t
        gathers;  // 0 with depth > local_blocks: a policy that imagines (a bound) has them for nothing
    const pr_gather *gather;  // [gathers], valid until the next call
    bool keep;                // the fetched blocks become part of the lane's cache
    const char *reason;       // REJECT: one line; job->refused has the kind
} pr_verdict;

// The next decision at this time; NONE: nothing until the next event. After a START the lane is open
// until the caller closes it.
void pr_dispatch_next(pr_dispatch *dispatch, double now_s, pr_verdict *verdict);

// When next() has something to decide though nothing happens until then: the first waiting job's time
// to live is over. INFINITY: never.
double pr_dispatch_wakes_s(const pr_dispatch *dispatch);

// The decode lane for a job whose last chunk begins: by predicted step time after it joins, among the
// lanes with room for it. `room` (tokens free per decode lane) comes from the caller, who knows its
// pools: [decode_lanes], negative: takes nobody now. NULL: the ledger's own count. -1: none.
int32_t pr_dispatch_decode_lane(pr_dispatch *dispatch, const pr_job *job, const int64_t *room);

// ---- The ledger: what dispatch knows of each lane ----

typedef struct pr_lane_load {
    bool open, retired;
    int32_t queued, running;  // jobs bound and not started; started and not prefilled
    int64_t prompt_tokens;    // of both, raw
    int64_t miss_tokens;      // of both, uncached as predicted when bound, less progress
    double free_s;            // predicted end of all its prefill
} pr_lane_load;

typedef struct pr_decode_load {
    int32_t sequences;
    int64_t context_tokens;    // in KV now
    int64_t committed_tokens;  // prompt + expected outputs of all assigned
} pr_decode_load;

const pr_lane_load *pr_dispatch_lane(const pr_dispatch *dispatch, int32_t lane);
const pr_decode_load *pr_dispatch_decode(const pr_dispatch *dispatch, int32_t lane);
int32_t pr_dispatch_waiting(const pr_dispatch *dispatch);  // jobs not started

// Asserts every invariant.
void pr_dispatch_check(const pr_dispatch *dispatch);

#endif
