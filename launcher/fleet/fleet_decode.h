// SPDX-License-Identifier: BSD-3-Clause
// One modelled decode group: sequences that have joined wait in order of join time, are admitted at step
// boundaries while batch and KV allow, get one token per step and leave after their last.
//
//   time:   t            t + step(B, K)      ..     |
//           admit        every sequence +1 token    | lazily: only when somebody needs to know
//
// Steps are added one by one (a sum of unequal terms has no shorter form that rounds alike), but
// nothing else is done between two changes of the batch.
// Source: the decode model of docs/scheduling.md. Memory: sequences, and a time per step of the longest
// sequence. Cost: one addition per step, O(log batch) per sequence. Threads: one.
#ifndef PR_LAUNCHER_FLEET_FLEET_DECODE_H
#define PR_LAUNCHER_FLEET_FLEET_DECODE_H

#include "launcher/fleet/fleet_engine.h"
#include "launcher/simulate/run_record.h"
#include "scheduler/cost/cost_model.h"
#include "scheduler/dispatch/job.h"
#include "scheduler/dispatch/min_heap.h"

// A request on its way through the fleet.
typedef struct pr_fleet_request {
    pr_job job;
    pr_request_row *row;
    int32_t decode_group;                // chosen; -1: none
    int32_t at;                          // of the heap it is in
    int64_t first_step;                  // of the decode group, in which it got its second token
    int32_t fetched_first, fetched_end;  // blocks of which it only keeps what it held before
    int32_t given_tokens;                // of the prompt: cached, computed or being computed
    pr_spread spread;                    // of a request that may be spread
    int32_t spread_at;                   // in the heap of those; -1: not in it
    struct pr_fleet_request *next_free;
} pr_fleet_request;

typedef struct pr_fleet_decode {
    const pr_cost_model *cost;
    void (*left)(void *context, pr_fleet_request *request);  // row->finish_s and tbt are set
    void *context;
    pr_min_heap waiting;      // by join time
    pr_min_heap running;      // by last step
    double now_s;             // the last step boundary
    int64_t steps;            // done
    int64_t held_tokens;      // K: in KV now
    int64_t reserved_tokens;  // prompt + outputs of all running
    double *token_s;          // [token_mask + 1] end of step s at s & mask
    int64_t token_mask;
    double *gap_s;  // [token_mask + 1] scratch
    double busy_s;
} pr_fleet_decode;

void pr_fleet_decode_open(
    pr_fleet_decode *decode,
    const pr_cost_model *cost,
    void (*left)(void *context, pr_fleet_request *request),
    void *context);
void pr_fleet_decode_close(pr_fleet_decode *decode);

// row->first_s and row->join_s are set; join times may come in any order, none before the time that was
// advanced to.
pr_status pr_fleet_decode_join(pr_fleet_decode *decode, pr_fleet_request *request) PR_MUST_CHECK;

// All steps that end at or before this time.
void pr_fleet_decode_advance(pr_fleet_decode *decode, double now_s);

// Nobody leaves before this time unless somebody joins; INFINITY when there is nobody.
double pr_fleet_decode_quiet_until(const pr_fleet_decode *decode);

#endif
