// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/group_loss.h"

#include <assert.h>

#include "runtime/base/hash.h"
#include "scheduler/balance/role_change.h"
#include "scheduler/gather.h"
#include "scheduler/seating.h"
#include "scheduler/transfer.h"

// Takes the seats of a sequence that has one in the lost group.
static void move_away(pr_scheduler *scheduler, pr_sequence *sequence)
{
    if (sequence->phase == PR_PHASE_GATHER)
        pr_gather_break(scheduler, sequence);
    if (sequence->phase == PR_PHASE_HANDOVER)
        pr_transfer_release_tag(scheduler, sequence->tag);
    if (sequence->ending) {
        pr_scheduler_forget(scheduler, sequence);
        return;
    }
    sequence->moved = sequence->job.moved = true;
    scheduler->counts.moved++;
    pr_scheduler_requeue(scheduler, sequence);
}

// Those that fetch a prefix from the lost group, and sit elsewhere.
static void break_gathers(pr_scheduler *scheduler, const pr_group_state *lost, pr_lane *lane)
{
    int32_t number = (int32_t)(lost - scheduler->group);
    for (int32_t i = lane->sequences - 1; i >= 0; i--) {
        pr_sequence *sequence = lane->sequence[i];
        if (sequence->phase != PR_PHASE_GATHER || sequence->source->group != number)
            continue;
        pr_gather_break(scheduler, sequence);
        if (sequence->ending)
            pr_scheduler_finish(scheduler, sequence);
    }
}

static void empty_lanes(pr_scheduler *scheduler, pr_group_state *lost)
{
    for (int32_t l = 0; l < lost->lanes; l++) {
        while (lost->lane[l].sequences > 0)
            move_away(scheduler, lost->lane[l].sequence[0]);
    }
    for (int32_t g = 0; g < scheduler->groups; g++) {
        pr_group_state *group = &scheduler->group[g];
        for (int32_t l = 0; l < group->lanes; l++)
            break_gathers(scheduler, lost, &group->lane[l]);
    }
    for (int32_t l = 0; l < lost->lanes; l++)
        pr_kv_cache_forget(lost->lane[l].cache);
    assert(lost->draft.plan.handovers == 0);
    pr_plan_draft_clear(&lost->draft);
}

static void hash_change(pr_scheduler *scheduler, int32_t number, bool lost)
{
    int64_t word[] = {number, lost};
    scheduler->hash = pr_hash_bytes(scheduler->hash, word, sizeof word);
}

void pr_group_loss_begin(pr_scheduler *scheduler, int32_t number)
{
    pr_group_state *group = &scheduler->group[number];
    if (group->lost)
        return;
    hash_change(scheduler, number, true);
    group->lost = true;
    group->settled = false;
    group->open = false;
    group->done = group->void_plans = group->planned;
    scheduler->leavers -= group->leaving;
    group->leaving = false;
    scheduler->counts.groups_lost++;
    // First: who waits again is not bound to a lane of the group.
    for (int32_t l = 0; l < group->lanes; l++)
        pr_seating_retire(scheduler, &group->lane[l]);
    empty_lanes(scheduler, group);
    pr_role_change_keep(scheduler, group->role);
}

void pr_group_loss_end(pr_scheduler *scheduler, int32_t number)
{
    pr_group_state *group = &scheduler->group[number];
    if (!group->settled)
        return;
    hash_change(scheduler, number, false);
    group->lost = group->settled = false;
    scheduler->counts.groups_back++;
    for (int32_t l = 0; l < group->lanes; l++)
        pr_seating_return(scheduler, &group->lane[l]);
}

// A gather whose source was not told of it has not begun.
static bool moves(const pr_sequence *sequence)
{
    return sequence->phase == PR_PHASE_HANDOVER ||
           (sequence->phase == PR_PHASE_GATHER && sequence->unsent == 0);
}

bool pr_group_loss_is_quiet(const pr_scheduler *scheduler)
{
    bool quiet = true;
    for (int32_t g = 0; g < scheduler->groups; g++) {
        const pr_group_state *group = &scheduler->group[g];
        quiet = quiet && group->planned == group->done;
        for (int32_t l = 0; quiet && l < group->lanes; l++) {
            for (int32_t i = 0; i < group->lane[l].sequences; i++)
                quiet = quiet && !moves(group->lane[l].sequence[i]);
        }
    }
    return quiet;
}

void pr_group_loss_settle(pr_scheduler *scheduler)
{
    bool quiet = pr_group_loss_is_quiet(scheduler);
    for (int32_t g = 0; g < scheduler->groups; g++)
        scheduler->group[g].settled |= quiet && scheduler->group[g].lost;
}

// What a prefill group has begun only decode groups go on with, also beside mixed ones.
bool pr_group_loss_can_serve(const pr_scheduler *scheduler)
{
    int32_t groups[PR_ROLES] = {0};
    for (int32_t g = 0; g < scheduler->groups; g++)
        groups[scheduler->group[g].role] += !scheduler->group[g].lost;
    return groups[PR_ROLE_MIXED] + groups[PR_ROLE_PREFILL] > 0 &&
           (groups[PR_ROLE_PREFILL] == 0 || groups[PR_ROLE_DECODE] > 0);
}
