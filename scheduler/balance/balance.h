// SPDX-License-Identifier: BSD-3-Clause
// Whether a group should change its role: compares what arrives with what the lanes of each role can do.
//
//   arrive, start, outputs --> a period's sums --> smoothed --> rho_prefill, rho_decode --> decide
//
//   rho_prefill = predicted seconds of prefill that arrive per second / lanes that prefill
//   rho_decode  = outputs that arrive per second / (lanes that decode x outputs one lane brings per second
//                 at the largest batch that keeps the TPOT target and fits its KV)
//                 or, if that is more, sequences that decode now / (lanes x that batch)
//
// A move helps if it lowers the larger of the two: that one bounds the rate at which requests meet their
// targets. It is made when the busier role is busy at all, when the role that gives stays clearly below
// what the other was at, and when several periods in a row say so; so a move back needs a load that has
// truly shifted. If the busier role is overloaded, it is made at once. As many groups move as the rule
// moves one after the other; while some drain, nothing is decided.
// Nothing here knows true output lengths: a request counts with what is expected of it, and what it
// brings more or less is added or taken off as it becomes known.
// Source: ours; the comparison of loads is DistServe's rate matching, done online.
// Pure: the same calls give the same decisions. Threads: one. Memory: a plain record.
#ifndef PR_SCHEDULER_BALANCE_BALANCE_H
#define PR_SCHEDULER_BALANCE_BALANCE_H

#include "scheduler/cost/cost_model.h"

typedef struct pr_balance_params {
    double period_s;       // 0: roles stay as they are
    double tpot_target_s;  // what decode lanes are held to
    bool rotate;           // for tests: a group changes its role each period, whatever the load
} pr_balance_params;

// The parameters for production.
extern const pr_balance_params pr_balance_standard;

typedef enum pr_balance_move {
    PR_BALANCE_STAY,
    PR_BALANCE_TO_PREFILL,
    PR_BALANCE_TO_DECODE,
} pr_balance_move;

// Work of one period, or smoothed over several.
typedef struct pr_balance_work {
    double chunks, prompt_tokens, prompt_pairs;  // of prefill, as if nothing were cached
    double outputs, output_context;              // tokens to decode; keys they see in all
} pr_balance_work;

typedef struct pr_balance {
    pr_balance_params params;
    pr_balance_work now, load;  // of this period so far; of a period, smoothed
    double all_pairs, done_pairs, all_tokens,
        done_tokens;  // of those that started: the share to compute
    double token_share, pair_share;
    double begin_s, end_s;           // of the period
    bool running, smooth;            // a period has begun; one has ended
    pr_balance_move leaning;         // what the last period said,
    int32_t agreed;                  // and so many before it in a row
    double rho_prefill, rho_decode;  // as of the last period
} pr_balance;

// One side of the fleet.
typedef struct pr_balance_side {
    int32_t lanes;
    int32_t leaving;                    // lanes of a group that would leave; 0: none can
    int64_t sequences, context_tokens;  // that decode now
} pr_balance_side;

void pr_balance_begin(pr_balance *balance, const pr_balance_params *params);

// A request has come; so much of a prompt is computed and the rest was cached; so many outputs more
// than were counted before (or fewer: negative), each after so much context.
void pr_balance_arrive(
    pr_balance *balance,
    const pr_cost_model *cost,
    int32_t prompt_tokens,
    int32_t outputs_expected);
void pr_balance_start(pr_balance *balance, int32_t prompt_tokens, int32_t cached_tokens);
void pr_balance_outputs(pr_balance *balance, int64_t outputs, int64_t context_tokens);

// Outputs per second of one lane at the largest batch that it should run.
double
pr_balance_lane_outputs(const pr_balance *balance, const pr_cost_model *cost, double context);

// True when the period is over: ask decide then, which begins the next. With `draining`, or after a
// period without work, nothing moves. *groups: how many take the move.
bool pr_balance_due(pr_balance *balance, double now_s);
pr_balance_move pr_balance_decide(
    pr_balance *balance,
    double now_s,
    const pr_cost_model *cost,
    const pr_balance_side *prefill,
    const pr_balance_side *decode,
    bool draining,
    int32_t *groups);

#endif
