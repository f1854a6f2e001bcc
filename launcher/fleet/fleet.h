// SPDX-License-Identifier: BSD-3-Clause
// A fleet of prefill and decode groups on virtual time: the scheduler's dispatch (scheduler/dispatch), told
// of arrivals, chunk ends and joins by modelled groups instead of real ones.
//
//   trace --arrive--> dispatch --START--> prefill group: [gather] chunk, chunk, .. first token
//                                           --transfer over its one link--> decode group: steps
//
// Prefill group: one request at a time, in chunks; its cache is an LRU of blocks, to which a request's
// blocks are added when its prefill ends. Decode group: admits in order of arrival at each step boundary
// while sequences and KV fit; a step's time is the cost model's. Event order at equal times: chunk end,
// arrival, end of a time to live; then order of making. Nobody but the decode model reads a request's true output length.
// Source: DistServe's and Splitwise's simulators use the same granularity; the exact rules are in
// docs/scheduling.md. Threads: one. Cost: O(log) per event.
#ifndef PR_LAUNCHER_FLEET_FLEET_H
#define PR_LAUNCHER_FLEET_FLEET_H

#include <stdbool.h>

#include "launcher/fleet/fleet_engine.h"
#include "launcher/simulate/run_record.h"
#include "launcher/simulate/trace.h"
#include "scheduler/balance/balance.h"
#include "scheduler/cost/cost_model.h"
#include "scheduler/dispatch/flow_control.h"
#include "scheduler/dispatch/job_queue.h"

typedef struct pr_fleet_params {
    int32_t prefill_groups, decode_groups;
    int32_t cache_blocks;  // of one prefill group, in blocks of the trace
    const char *policy;    // as pr_dispatch_params
    const pr_cost_model *cost;
    double speed;  // arrival times are divided by it
    uint64_t seed;
    pr_job_queue_params queue;
    pr_flow_params flow;
    pr_balance_params balance;  // all zero: groups keep their roles
    pr_fleet_engine engine;     // all zero: the reference model
    bool
        expected_is_true;  // the reference's decode placement knows the output length; else an estimate
    void (*progress)(void *context, int64_t done, int64_t requests);  // or NULL
    void *context;
} pr_fleet_params;

typedef struct pr_fleet_counts {
    int64_t events, decisions;
    int64_t hit_tokens, fetch_tokens, prompt_tokens, outputs;
    int64_t rejected, role_changes;
    double last_finish_s;
} pr_fleet_counts;

// Runs the whole trace; fills record->request [trace->requests] (and spans where the record has room).
pr_status pr_fleet_run(
    const pr_fleet_params *params,
    const pr_trace *trace,
    pr_run_record *record,
    pr_fleet_counts *counts) PR_MUST_CHECK;

#endif
