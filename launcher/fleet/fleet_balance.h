// SPDX-License-Identifier: BSD-3-Clause
// Groups of a modelled fleet that change their roles by the live scheduler's rule (scheduler/balance).
// Each group then has a number in both roles, 0 .. groups - 1, and does what its role says. A group that
// leaves takes nobody new, finishes what it has, and changes. What its prefix cache holds stays in the
// host's memory: others may fetch it, and it is there when the group comes back.
// Off (period 0): prefill groups and decode groups have numbers of their own, and nothing here decides.
#ifndef PR_LAUNCHER_FLEET_FLEET_BALANCE_H
#define PR_LAUNCHER_FLEET_FLEET_BALANCE_H

#include "launcher/simulate/run_record.h"
#include "scheduler/balance/balance.h"
#include "scheduler/dispatch/dispatch.h"

typedef struct pr_fleet_balance {
    bool on;
    int32_t prefill_numbers, decode_numbers;  // what dispatch's lanes go up to
    int32_t decode_first;                     // decode group 0 in the record of all groups
    const pr_cost_model *cost;
    pr_dispatch *dispatch;
    pr_balance rule;
    int64_t *room;            // [groups] for pr_dispatch_decode_lane; NULL: off
    int32_t prefill, decode;  // groups of each role, leavers in their next
    bool *leaving;            // [groups]
    int32_t leavers;
    bool to_decode;  // they are on their way there
    int64_t role_changes;
} pr_fleet_balance;

// Says how many numbers there are; then, with a dispatch of so many lanes, retires and opens them.
pr_status pr_fleet_balance_create(
    const pr_balance_params *params,
    const pr_cost_model *cost,
    int32_t prefill_groups,
    int32_t decode_groups,
    pr_fleet_balance *balance) PR_MUST_CHECK;
void pr_fleet_balance_begin(pr_fleet_balance *balance, pr_dispatch *dispatch);
void pr_fleet_balance_free(pr_fleet_balance *balance);

void pr_fleet_balance_arrived(pr_fleet_balance *balance, const pr_job *job);
void pr_fleet_balance_started(pr_fleet_balance *balance, const pr_request_row *row);
void pr_fleet_balance_finished(
    pr_fleet_balance *balance, const pr_job *job, const pr_request_row *row);

// After what has happened until now is known, before decisions.
void pr_fleet_balance_round(pr_fleet_balance *balance, double now_s);

#endif
