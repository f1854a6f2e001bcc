// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/balance/role_change.h"

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "scheduler/record/record.h"
#include "scheduler/seating.h"

enum { LEAST_GROUPS = 3, STEPS_TO_BELIEVE = 32 };

bool pr_role_change_is_possible(const pr_scheduler_params *params)
{
    const pr_layout *layout = params->layout;
    for (int32_t g = 0; g < layout->groups; g++) {
        if (layout->group[g].role == PR_ROLE_MIXED)
            return false;
    }
    return params->balance.period_s > 0 && layout->groups >= LEAST_GROUPS;
}

static pr_role other_role(pr_role role)
{
    return role == PR_ROLE_PREFILL ? PR_ROLE_DECODE : PR_ROLE_PREFILL;
}

static int32_t seated(const pr_group_state *group)
{
    int32_t sequences = 0;
    for (int32_t l = 0; l < group->lanes; l++)
        sequences += group->lane[l].sequences;
    return sequences;
}

// ---- Which group ----

// Of a role's groups the one that is empty soonest; NULL: the last one stays.
static pr_group_state *candidate(pr_scheduler *scheduler, pr_role role)
{
    pr_group_state *best = NULL;
    int32_t groups = 0;
    for (int32_t g = 0; g < scheduler->groups; g++) {
        pr_group_state *group = &scheduler->group[g];
        if (group->role != role || group->leaving || group->lost)
            continue;
        groups++;
        if (!best || seated(group) < seated(best))
            best = group;
    }
    return groups > 1 ? best : NULL;
}

static pr_balance_side side_of(const pr_scheduler *scheduler, pr_role role)
{
    pr_balance_side side = {0};
    for (int32_t g = 0; g < scheduler->groups; g++) {
        const pr_group_state *group = &scheduler->group[g];
        for (int32_t l = 0; group->role == role && !group->lost && l < group->lanes; l++) {
            const pr_decode_load *load =
                pr_dispatch_decode(scheduler->dispatch, group->lane[l].decode_number);
            side.lanes++;
            side.sequences += load->sequences;
            side.context_tokens += load->context_tokens;
        }
    }
    return side;
}

// What the cost model says, with the constants that this run has shown.
static pr_cost_model believed(const pr_scheduler *scheduler)
{
    const pr_scheduler_params *params = &scheduler->params;
    pr_cost_model cost = scheduler->cost;
    cost.max_batch = scheduler->seats;
    cost.capacity_tokens = (int64_t)params->kv_blocks * params->block_tokens;
    for (pr_role role = PR_ROLE_PREFILL; role <= PR_ROLE_DECODE; role++) {
        if (scheduler->fit[role].observations >= STEPS_TO_BELIEVE)
            pr_step_fit_apply(&scheduler->fit[role], &cost);
    }
    return cost;
}

// Every sequence in a decode lane may be a handover in flight, each with its tag.
static bool tags_suffice(const pr_scheduler *scheduler, const pr_group_state *leaver)
{
    int64_t lanes = side_of(scheduler, PR_ROLE_DECODE).lanes;
    for (int32_t g = 0; g < scheduler->groups; g++) {
        const pr_group_state *group = &scheduler->group[g];
        lanes += group->leaving && group->role == PR_ROLE_PREFILL ? group->lanes : 0;
    }
    return (lanes + leaver->lanes) * scheduler->seats <= PR_HANDOVER_TAGS / 2;
}

static pr_balance_move ask(pr_scheduler *scheduler, int32_t *groups)
{
    const pr_group_state *of_prefill = candidate(scheduler, PR_ROLE_PREFILL);
    const pr_group_state *of_decode = candidate(scheduler, PR_ROLE_DECODE);
    pr_balance_side prefill = side_of(scheduler, PR_ROLE_PREFILL);
    pr_balance_side decode = side_of(scheduler, PR_ROLE_DECODE);
    prefill.leaving = of_prefill ? of_prefill->lanes : 0;
    decode.leaving = of_decode ? of_decode->lanes : 0;
    pr_cost_model cost = believed(scheduler);
    return pr_balance_decide(
        &scheduler->balance, pr_scheduler_now_s(scheduler), &cost, &prefill, &decode,
        scheduler->leavers > 0, groups);
}

// ---- The change ----

static void begin_leaving(pr_scheduler *scheduler, pr_group_state *group)
{
    pr_log(
        PR_LOG_INFO, "group %d leaves %s: prefill is at %.2f of what it can do, decode at %.2f",
        (int)(group - scheduler->group), pr_role_name(group->role), scheduler->balance.rho_prefill,
        scheduler->balance.rho_decode);
    group->leaving = true;
    scheduler->leavers++;
    for (int32_t l = 0; l < group->lanes; l++)
        pr_seating_retire(scheduler, &group->lane[l]);
}

static bool is_empty(const pr_group_state *group)
{
    int32_t pins = 0;
    for (int32_t l = 0; l < group->lanes; l++)
        pins += group->lane[l].pins;
    return pins == 0 && seated(group) == 0 && group->planned == group->done;
}

static void change_role(pr_scheduler *scheduler, pr_group_state *group)
{
    int32_t number = (int32_t)(group - scheduler->group);
    group->leaving = false;
    group->role = other_role(group->role);
    scheduler->leavers--;
    scheduler->counts.role_changes++;
    for (int32_t l = 0; l < group->lanes; l++)
        pr_seating_renumber(scheduler, &group->lane[l], group->role);
    int64_t word[] = {number, group->role};
    scheduler->hash = pr_hash_bytes(scheduler->hash, word, sizeof word);
    pr_record_role(scheduler, number, group->role);
}

void pr_role_change_keep(pr_scheduler *scheduler, pr_role role)
{
    pr_group_state *leaver = NULL;
    for (int32_t g = 0; g < scheduler->groups; g++) {
        pr_group_state *group = &scheduler->group[g];
        if (group->role != role || group->lost)
            continue;
        if (!group->leaving)
            return;
        leaver = group;
    }
    if (!leaver)
        return;
    leaver->leaving = false;
    scheduler->leavers--;
    for (int32_t l = 0; l < leaver->lanes; l++)
        pr_seating_return(scheduler, &leaver->lane[l]);
}

void pr_role_change_round(pr_scheduler *scheduler)
{
    if (!scheduler->changes_roles)
        return;
    for (int32_t g = 0; scheduler->leavers > 0 && g < scheduler->groups; g++) {
        if (scheduler->group[g].leaving && is_empty(&scheduler->group[g]))
            change_role(scheduler, &scheduler->group[g]);
    }
    if (!pr_scheduler_can_serve(scheduler) ||
        !pr_balance_due(&scheduler->balance, pr_scheduler_now_s(scheduler)))
        return;
    int32_t groups;
    pr_balance_move move = ask(scheduler, &groups);
    for (int32_t i = 0; move != PR_BALANCE_STAY && i < groups; i++) {
        pr_role role = move == PR_BALANCE_TO_PREFILL ? PR_ROLE_DECODE : PR_ROLE_PREFILL;
        pr_group_state *group = candidate(scheduler, role);
        if (!group || (role == PR_ROLE_PREFILL && !tags_suffice(scheduler, group)))
            return;
        begin_leaving(scheduler, group);
    }
}
