// SPDX-License-Identifier: BSD-3-Clause
// What the scheduler's rooms share. Nobody outside this folder includes it.
#ifndef PR_SCHEDULER_SCHEDULER_STATE_H
#define PR_SCHEDULER_SCHEDULER_STATE_H

#include <stdio.h>

#include "scheduler/cost/step_fit.h"
#include "scheduler/dispatch/dispatch.h"
#include "scheduler/lane.h"
#include "scheduler/plan_draft.h"
#include "scheduler/scheduler.h"
#include "scheduler/walltime/walltime.h"

enum {
    PR_PLANS_AHEAD = 2,  // unfinished plans of a group: one runs, one waits at the worker
    PR_MAX_LEASE_STEPS = 65536,
    PR_HANDOVER_TAGS = 32768,
    PR_HANDOVERS_LOST = 8,    // so many damaged handovers of one request: it is rejected
    PR_GATHERS_PER_LANE = 4,  // that read one lane's blocks at a time: bounds what they keep pinned
    PR_GATHERS_MOST = PR_HANDOVER_TAGS / 4,  // in flight in all
    PR_GATHERS_LOST = 2,  // so many damaged gathers of one request: it is computed without
};

// The step of a group whose reports are coming in.
typedef struct pr_step_meter {
    uint64_t plan;
    uint32_t step;
    pr_step_work work;  // of the busiest lane, term by term
    int64_t taken_ns;   // since the step before, or since the group got something to do
    int64_t first_ns;   // its first report
    int64_t busy_ns;    // the group, which had nothing to do, got a plan
} pr_step_meter;

typedef struct pr_group_state {
    pr_role role;
    int32_t lanes;
    pr_lane *lane;        // [lanes]
    uint64_t planned;     // number of the last plan
    uint64_t done;        // number of the last plan that is known to have ended
    bool open;            // takes part in this round
    bool leaving;         // its role: nobody new is seated there until it is empty
    bool lost;            // group_loss.h
    bool settled;         // it is lost, and the scheduler has been quiet since
    uint64_t void_plans;  // up to this number: of ranks that are lost, whatever is reported of them
    bool ready;           // the draft is a finished plan, to be returned by next
    bool look;            // somebody went since parked sequences were last held against it
    pr_step_meter meter;
    pr_plan_draft draft;
} pr_group_state;

// A token or a request's bad end, to be returned by next.
typedef struct pr_outcome {
    pr_decision_kind kind;
    bool cancelled;
    const char *reason;  // REJECTED; NULL: for want of time, of which it needs so much
    double needs_s;
    int32_t http_status;
    pr_token_report token;
    pr_logprob top[PR_MAX_TOP_LOGPROBS];
} pr_outcome;

// First in, first out. Bounded: a group makes no new plan before all outcomes are out, so it holds
// no more than what the unfinished plans of all seats can bring.
typedef struct pr_outcome_ring {
    int32_t capacity, first, outcomes;
    int32_t most_tokens;  // of capacity; the rest is for rejections
    pr_outcome *outcome;  // [capacity]
} pr_outcome_ring;

// walltime/forecast.c
typedef struct pr_forecast {
    pr_walltime_rates rates[PR_ROLES];
    pr_walltime_wait handover, fetch;
    pr_walltime_lane lane;  // scratch, as the two below
    pr_walltime_group group;
    pr_walltime_member *arriving;  // [most_arriving]
    int32_t most_arriving;
} pr_forecast;

// walltime/drain.c
typedef struct pr_drain {
    int64_t end_ns;  // 0: none
    pr_at_end at_end;
    bool passed;        // the end came, and nothing runs any more
    int64_t look_ns;    // when those that wait are looked at again
    int32_t running;    // sequences with a seat
    int32_t returning;  // accepted ones that wait
    pr_sequence_list parked, left;
    int64_t ended_ns;  // the last end of a sequence that ran
    double shortest_left_s, longest_left_s;
    double usual_s;  // a slowly forgetting mean, of so many at first
    int32_t needs;
    char reason[192];
} pr_drain;

struct pr_scheduler {
    pr_scheduler_params params;
    int32_t seats;  // of one lane
    int32_t groups;
    pr_group_state *group;  // [groups]
    pr_cost_model cost;
    pr_dispatch *dispatch;
    int32_t map_blocks;  // fine blocks that are one block of dispatch's cache map
    int32_t compute_lanes, decode_lanes;
    pr_lane **compute_lane;  // [compute_lanes] by number in dispatch
    pr_lane **decode_lane;   // [decode_lanes]
    int64_t *decode_room;    // [decode_lanes] scratch of placement
    pr_balance balance;
    bool changes_roles;        // some group may: every lane is numbered in both roles
    int32_t leavers;           // groups that leave their role
    int32_t outputs_expected;  // of a request of unknown length: a running mean
    pr_cache_map *decode_map;  // prefixes that decode lanes hold, by decode number
    pr_sequence_list fresh;    // new: enter dispatch in the next round
    pr_sequence_list held;     // wait for a sibling before they do
    bool siblings_changed;
    pr_sequence_table table;
    pr_outcome_ring ring;
    pr_group_state *sent;  // its plan was returned last; its draft is cleared by the next call
    int64_t arrivals;
    int32_t next_tag;
    uint64_t tag_used[PR_HANDOVER_TAGS / 64];
    int32_t gathers;           // in flight
    bool changed;              // an event came since the last round
    bool paused;               // no group gets a plan
    int64_t begin_ns, now_ns;  // of the first advance and the last
    uint64_t hash;
    pr_scheduler_counts counts;
    pr_step_fit fit[PR_ROLES];  // by role
    pr_step_fit transfer_fit;
    pr_forecast forecast;
    pr_drain drain;
    FILE *record;
    int64_t record_calls;  // calls of next since the last recorded event
};

static inline double pr_scheduler_now_s(const pr_scheduler *scheduler)
{
    return (double)(scheduler->now_ns - scheduler->begin_ns) * 1e-9;
}

// Gives back the sequence's seats and memory; its worker has dropped it by itself.
void pr_scheduler_finish(pr_scheduler *scheduler, pr_sequence *sequence);

// The same, and drops it where a worker still has it.
void pr_scheduler_forget(pr_scheduler *scheduler, pr_sequence *sequence);

// Takes the seats away and puts the sequence back into the queue.
void pr_scheduler_requeue(pr_scheduler *scheduler, pr_sequence *sequence);

// Drops it in the group of the seat with the next plan, if it was ever told, and gives the seat back.
void pr_scheduler_drop(pr_scheduler *scheduler, pr_sequence *sequence, int32_t seat);

// Add a decision for next: a token; that a request will never run.
void pr_scheduler_decide_token(pr_scheduler *scheduler, const pr_token_report *token);
void pr_scheduler_decide_rejection(
    pr_scheduler *scheduler, uint64_t id, const char *reason, int32_t http_status);
// That it does not end in time, as the run's end wants it.
void pr_scheduler_decide_no_time(pr_scheduler *scheduler, uint64_t id, double needs_s);

#endif
