// SPDX-License-Identifier: BSD-3-Clause
// Where and when requests run: a pure state machine. Events in (submit, report, cancel, advance),
// decisions out (next). No MPI, no threads, no clock, no hidden randomness: the same events in the
// same order give the same decisions, and pr_scheduler_hash says so in one number.
//
//   submit -> waiting -> seated in a compute lane -> chunks -> [handover] -> decoding -> finished
//                ^------------------ preempted (blocks ran out) --------------------|
//
// Who waits and who is next, and where, is dispatch's (dispatch/dispatch.h). Per lane: continuous batching
// under max_num_batched_tokens and max_num_seqs; decodes first, the rest of the budget goes to prefill
// chunks.
// When a decoding sequence cannot get its next block, the sequence of the lane with the lowest
// priority and latest arrival is preempted: its blocks go, it waits again, and comes back by
// recomputing prompt and outputs; tokens do not change. Plans are sent ahead: one may run while the
// next is out; a plan is only made when something changed.
// Threads: one. Ownership: submit takes the request.
#ifndef PR_SCHEDULER_SCHEDULER_H
#define PR_SCHEDULER_SCHEDULER_H

#include <stdio.h>

#include "runtime/batch/layout.h"
#include "runtime/batch/plan.h"
#include "runtime/batch/request.h"
#include "runtime/cache/kv_cache.h"
#include "scheduler/balance/balance.h"
#include "scheduler/cost/cost_model.h"
#include "scheduler/cost/step_fit.h"
#include "scheduler/dispatch/flow_control.h"
#include "scheduler/dispatch/job_queue.h"

typedef struct pr_scheduler pr_scheduler;

typedef struct pr_scheduler_params {
    const pr_layout *layout;  // borrowed for the scheduler's life
    int32_t kv_blocks;        // per lane
    int32_t block_tokens;
    int32_t max_model_len;           // prompt + outputs
    int32_t max_num_batched_tokens;  // rows of one lane's step
    int32_t max_num_seqs;            // sequences admitted to one lane
    int32_t lease_steps;             // decode steps a group may run on one plan
    bool prefix_caching;
    const char *policy;         // who runs where and in which order (dispatch/policy.h); borrowed
    pr_job_queue_params queue;  // bands, fairness, bounds
    pr_flow_params flow;        // who may wait, and how long
    int32_t
        short_suffix;    // a decode lane that lacks no more tokens of a prompt computes them itself
    pr_cost_model cost;  // what is believed before the first step is measured
    // All zero: roles stay. Else it takes a layout of prefill and decode groups only, three or more.
    pr_balance_params balance;
    // Told of every block that a lane publishes or evicts, in the middle of an event: it must not call back.
    pr_kv_listener listener;
} pr_scheduler_params;

typedef enum pr_decision_kind {
    PR_DECISION_NONE,      // nothing more to decide until the next event
    PR_DECISION_PLAN,      // send plan to its group
    PR_DECISION_TOKEN,     // a token is final: index 0, 1, 2, ... of a request, each exactly once
    PR_DECISION_REJECTED,  // will never run; reason says why. The request is freed after this
    PR_DECISION_LEFT,      // does not end before the end of the run's time; freed after this
} pr_decision_kind;

// What becomes of a request that cannot end in time.
typedef enum pr_at_end {
    PR_AT_END_LEAVE,   // LEFT once nothing else is to be done: for a run that comes after this one
    PR_AT_END_REJECT,  // REJECTED as soon as it is known
} pr_at_end;

typedef struct pr_decision {
    pr_decision_kind kind;
    const pr_plan *plan;           // valid until the next call of any function
    const pr_token_report *token;  // finish != NONE on the last; HANDED never appears here
    uint64_t id;                   // TOKEN, REJECTED, LEFT
    const char *reason;            // REJECTED: one line for the user
    int32_t
        http_status;  // REJECTED: 429 too much waits, 503 waited too long or no time, 500 a fault
} pr_decision;

pr_status
pr_scheduler_create(const pr_scheduler_params *params, pr_scheduler **scheduler) PR_MUST_CHECK;
void pr_scheduler_destroy(pr_scheduler *scheduler);

// Writes every event from here on as one line of text (replay.h), so that the run can be repeated.
// Before the first event; the stream is borrowed for the scheduler's life.
void pr_scheduler_record(pr_scheduler *scheduler, FILE *events);

// Events. After one or more of them call next until it returns NONE, before the next event.
// submit: max_tokens is cut so that prompt + max_tokens <= max_model_len; a request with outputs goes on
// after them. PR_ERR_ARGUMENT if not even one token more fits, if the pool could never hold the request,
// or if the id is taken; the request stays the caller's then.
pr_status pr_scheduler_submit(pr_scheduler *scheduler, pr_request *request) PR_MUST_CHECK;
void pr_scheduler_report(pr_scheduler *scheduler, const pr_report *report);
void pr_scheduler_cancel(pr_scheduler *scheduler, uint64_t id);  // no further token of it appears
// The time of the events that follow, from 0 and never back (an earlier one is ignored).
void pr_scheduler_advance(pr_scheduler *scheduler, int64_t now_ns);
// When the run's time ends, on the clock of advance; 0: never. It may be moved at any time (walltime/drain.h).
void pr_scheduler_set_end(pr_scheduler *scheduler, int64_t end_ns, pr_at_end at_end);

// The ranks of the group are lost, with all that they hold: who sat there waits again, with the tokens it
// has (group_loss.h). The group has empty lanes again; only after a pause that was quiet.
void pr_scheduler_group_lost(pr_scheduler *scheduler, int32_t group);
void pr_scheduler_group_back(pr_scheduler *scheduler, int32_t group);
// No plan is made until the pause ends. Quiet: none is out, and no KV is on its way.
void pr_scheduler_pause(pr_scheduler *scheduler, bool paused);
bool pr_scheduler_is_quiet(const pr_scheduler *scheduler);
// Whether the groups that are not lost can bring a request to its end.
bool pr_scheduler_can_serve(const pr_scheduler *scheduler);

void pr_scheduler_next(pr_scheduler *scheduler, pr_decision *decision);

// Submitted and not gone: also those whose last token is known while their KV is still on its way.
int32_t pr_scheduler_unfinished(const pr_scheduler *scheduler);
int32_t
pr_scheduler_waiting(const pr_scheduler *scheduler);  // not yet admitted anywhere, left or not
int64_t pr_scheduler_wakes_ns(const pr_scheduler *scheduler);  // when time alone changes something
uint64_t pr_scheduler_hash(const pr_scheduler *scheduler);     // over all decisions so far

typedef struct pr_scheduler_counts {
    int64_t plans, prefill_tokens, cached_tokens, output_tokens;
    int64_t preemptions, handovers, handovers_lost, rejected, short_cuts;
    int64_t gathers, gathered_tokens, gathers_lost;
    int64_t role_changes;
    int64_t left, rejected_walltime;  // for want of time; rejected_walltime is part of rejected
    int64_t cut;                      // of both: had begun, and the end came before theirs
    int64_t groups_lost, groups_back;
    int64_t moved, resumed;  // requests whose group was lost; of these, tokens that came elsewhere
} pr_scheduler_counts;
void pr_scheduler_count(const pr_scheduler *scheduler, pr_scheduler_counts *counts);

typedef struct pr_walltime_state {
    int64_t end_ns;  // 0: none; what follows is then 0 too
    bool
        drains;  // requests as they have come so far would not end in time, or somebody waits for that
    int32_t kept;  // requests that wait and cannot end in time, or not behind what runs now
    double shortest_left_s, longest_left_s;  // predicted, alone: of those that were left
    int64_t idle_tail_ns;  // from the last end of a request to the end, while nothing runs
} pr_walltime_state;
void pr_scheduler_walltime(const pr_scheduler *scheduler, pr_walltime_state *state);

// What the group does now: the layout's role until it changes (balance/role_change.h).
pr_role pr_scheduler_role(const pr_scheduler *scheduler, int32_t group);

// What a group has to do and to hold now, over its lanes.
typedef struct pr_group_load {
    pr_role role;
    bool lost;
    uint64_t plans;     // made so far
    int32_t sequences;  // seated; one that is handed over sits in two groups
    int32_t blocks, used_blocks, cached_blocks;  // of KV; used: referenced; cached: published
} pr_group_load;
void pr_scheduler_group_load(const pr_scheduler *scheduler, int32_t group, pr_group_load *load);

// What the reports so far say about how long a step of such a group takes. Only role balance goes by it.
const pr_step_fit *pr_scheduler_step_fit(const pr_scheduler *scheduler, pr_role role);

// Asserts every invariant (queues, lanes, pools).
void pr_scheduler_check(const pr_scheduler *scheduler);

#endif
