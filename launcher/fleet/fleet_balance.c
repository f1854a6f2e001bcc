// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/fleet/fleet_balance.h"

#include <stdlib.h>

#include "runtime/base/log.h"

// Room as dispatch asks for it: a decode group that serves takes whoever comes, the model makes them wait.
static const int64_t TAKES_ALL = INT64_MAX, TAKES_NONE = -1;

pr_status pr_fleet_balance_create(
    const pr_balance_params *params,
    const pr_cost_model *cost,
    int32_t prefill_groups,
    int32_t decode_groups,
    pr_fleet_balance *balance)
{
    int32_t groups = prefill_groups + decode_groups;
    bool on = params->period_s > 0;
    *balance = (pr_fleet_balance){
        .on = on,
        .prefill_numbers = on ? groups : prefill_groups,
        .decode_numbers = on ? groups : decode_groups,
        .decode_first = on ? 0 : prefill_groups,
        .cost = cost,
        .prefill = prefill_groups,
        .decode = decode_groups,
    };
    pr_balance_begin(&balance->rule, params);
    if (!on)
        return PR_OK;
    balance->room = calloc((size_t)groups, sizeof *balance->room);
    balance->leaving = calloc((size_t)groups, sizeof *balance->leaving);
    if (!balance->room || !balance->leaving)
        return pr_fail(PR_ERR_RESOURCE, "fleet: no memory for %d groups", groups);
    return PR_OK;
}

void pr_fleet_balance_begin(pr_fleet_balance *balance, pr_dispatch *dispatch)
{
    balance->dispatch = dispatch;
    for (int32_t g = 0; g < balance->prefill_numbers; g++) {
        bool prefills = g < balance->prefill;
        if (!prefills)
            pr_dispatch_retire(dispatch, g, true, 0);
        if (balance->on)
            balance->room[g] = prefills ? TAKES_NONE : TAKES_ALL;
        pr_dispatch_open(dispatch, g, prefills);
    }
}

void pr_fleet_balance_free(pr_fleet_balance *balance)
{
    free(balance->room);
    free(balance->leaving);
}

void pr_fleet_balance_arrived(pr_fleet_balance *balance, const pr_job *job)
{
    pr_balance_arrive(&balance->rule, balance->cost, job->prompt_tokens, job->outputs_expected);
}

void pr_fleet_balance_started(pr_fleet_balance *balance, const pr_request_row *row)
{
    pr_balance_start(&balance->rule, row->prompt_tokens, (int32_t)row->hit_tokens);
}

void pr_fleet_balance_finished(
    pr_fleet_balance *balance, const pr_job *job, const pr_request_row *row)
{
    int64_t unexpected = (int64_t)row->outputs - job->outputs_expected;
    int64_t context = row->prompt_tokens + (row->outputs + (int64_t)job->outputs_expected) / 2;
    pr_balance_outputs(&balance->rule, unexpected, context);
}

// ---- Changes ----

static bool is_in(const pr_fleet_balance *balance, int32_t group, bool prefill)
{
    bool prefills = !pr_dispatch_lane(balance->dispatch, group)->retired;
    return !balance->leaving[group] && prefills == prefill;
}

static int64_t busy_with(const pr_fleet_balance *balance, int32_t group)
{
    const pr_lane_load *lane = pr_dispatch_lane(balance->dispatch, group);
    return (int64_t)lane->queued + lane->running +
           pr_dispatch_decode(balance->dispatch, group)->sequences;
}

// The one of the role that has least to finish.
static int32_t choose(const pr_fleet_balance *balance, bool prefill)
{
    int32_t best = -1;
    for (int32_t g = 0; g < balance->prefill_numbers; g++) {
        if (is_in(balance, g, prefill) &&
            (best < 0 || busy_with(balance, g) < busy_with(balance, best)))
            best = g;
    }
    return best;
}

static void begin_leaving(pr_fleet_balance *balance, bool prefill, double now_s)
{
    int32_t group = choose(balance, prefill);
    balance->prefill += prefill ? -1 : 1;
    balance->decode += prefill ? 1 : -1;
    balance->leaving[group] = true;
    balance->leavers++;
    balance->to_decode = prefill;
    if (prefill)
        pr_dispatch_retire(balance->dispatch, group, true, now_s);
    else
        balance->room[group] = TAKES_NONE;
}

// All that leave at a time go the same way.
static void change_role(pr_fleet_balance *balance, int32_t group, double now_s)
{
    balance->leaving[group] = false;
    balance->leavers--;
    balance->role_changes++;
    if (balance->to_decode) {
        balance->room[group] = TAKES_ALL;
        return;
    }
    pr_dispatch_retire(balance->dispatch, group, false, now_s);
    pr_dispatch_open(balance->dispatch, group, true);
}

static pr_balance_side decode_side(const pr_fleet_balance *balance)
{
    pr_balance_side side = {.lanes = balance->decode, .leaving = balance->decode > 1};
    for (int32_t g = 0; g < balance->decode_numbers; g++) {
        const pr_decode_load *load = pr_dispatch_decode(balance->dispatch, g);
        side.sequences += load->sequences;
        side.context_tokens += load->context_tokens;
    }
    return side;
}

void pr_fleet_balance_round(pr_fleet_balance *balance, double now_s)
{
    if (!balance->on)
        return;
    for (int32_t g = 0; balance->leavers > 0 && g < balance->prefill_numbers; g++) {
        if (balance->leaving[g] && busy_with(balance, g) == 0)
            change_role(balance, g, now_s);
    }
    if (!pr_balance_due(&balance->rule, now_s))
        return;
    pr_balance_side prefill = {.lanes = balance->prefill, .leaving = balance->prefill > 1};
    pr_balance_side decode = decode_side(balance);
    int32_t groups;
    pr_balance_move move = pr_balance_decide(
        &balance->rule, now_s, balance->cost, &prefill, &decode, balance->leavers > 0, &groups);
    for (int32_t i = 0; move != PR_BALANCE_STAY && i < groups; i++)
        begin_leaving(balance, move == PR_BALANCE_TO_DECODE, now_s);
}
