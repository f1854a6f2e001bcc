// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/recover/group_rebuild.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/engine/layout_choice.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

// After the last loss: ranks that are lost together are lost within a moment, and while a process is started
// nobody must be. Meanwhile the requests that were moved go on elsewhere.
enum { CALM_MS = 1000 };
// How long starting a process may take, and how often one is started for nothing.
enum { REPLACE_MS = 30000, JOIN_MS = 60000, FORM_MS = 30000, MOST_TRIES = 3 };

typedef enum rebuild_state {
    STATE_WHOLE,  // or as whole as it will be
    STATE_QUIETING,
    STATE_REPLACING,
    STATE_LOADING,
    STATE_FORMING,
} rebuild_state;

typedef struct rank_state {
    bool owes;     // an answer to the order that is out
    bool starts;   // a process is started for it
    bool joins;    // a replacement that was not heard yet
    bool loads;    // a replacement whose weights are not there yet
    bool forming;  // its group is formed
} rank_state;

struct pr_group_rebuild {
    pr_group_rebuild_params params;
    rebuild_state state;
    rank_state *rank;  // [ranks]
    int32_t epoch;
    int32_t tries;  // since a group came back
    bool failed;    // some rank could not carry out the order that is out
    bool gives_up;
    int64_t begin_ns, paused_ns, state_ns;
};

pr_status pr_group_rebuild_create(const pr_group_rebuild_params *params, pr_group_rebuild **rebuild)
{
    pr_group_rebuild *made = calloc(1, sizeof *made);
    if (made)
        made->rank = calloc((size_t)params->layout->ranks, sizeof *made->rank);
    if (!made || !made->rank) {
        pr_group_rebuild_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory to replace ranks");
    }
    made->params = *params;
    made->gives_up = !params->replaces;
    *rebuild = made;
    return PR_OK;
}

void pr_group_rebuild_destroy(pr_group_rebuild *rebuild)
{
    if (!rebuild)
        return;
    free(rebuild->rank);
    free(rebuild);
}

bool pr_group_rebuild_hopes(const pr_group_rebuild *rebuild) { return !rebuild->gives_up; }

static void enter(pr_group_rebuild *rebuild, rebuild_state state)
{
    rebuild->state = state;
    rebuild->state_ns = pr_clock_now_ns();
}

static bool has_passed(const pr_group_rebuild *rebuild, int32_t limit_ms)
{
    return pr_clock_now_ns() - rebuild->state_ns > (int64_t)limit_ms * 1000000;
}

static void pause(pr_group_rebuild *rebuild, bool paused)
{
    pr_scheduler_advance(rebuild->params.scheduler, pr_clock_now_ns());
    pr_scheduler_pause(rebuild->params.scheduler, paused);
}

static pr_status give_up(pr_group_rebuild *rebuild, const char *why)
{
    rebuild->gives_up = true;
    enter(rebuild, STATE_WHOLE);
    if (!pr_scheduler_can_serve(rebuild->params.scheduler))
        return pr_fail(
            PR_ERR_PEER,
            "%s, and no group is left that can do the part of the lost one: the run ends, "
            "results so far are kept",
            why);
    pr_log(PR_LOG_WARN, "recovery: %s: the run goes on without what is lost", why);
    return PR_OK;
}

// ---- Orders ----

static pr_status send_order(pr_group_rebuild *rebuild, int32_t rank, const pr_recover_order *order)
{
    pr_error_capture_begin();
    pr_status sent =
        pr_control_send(rebuild->params.control, rank, PR_MESSAGE_ORDER, order, sizeof *order);
    pr_error_capture_end();
    return sent == PR_ERR_PEER ? PR_OK : sent;
}

static bool lives(const pr_group_rebuild *rebuild, int32_t rank)
{
    return !pr_losses_has_rank(rebuild->params.losses, rank);
}

pr_status pr_group_rebuild_order(pr_group_rebuild *rebuild, const pr_recover_order *order)
{
    for (int32_t rank = 0; rank < rebuild->params.layout->ranks; rank++) {
        if (lives(rebuild, rank))
            PR_TRY(send_order(rebuild, rank, order));
    }
    return PR_OK;
}

static bool any_owes(const pr_group_rebuild *rebuild)
{
    bool any = false;
    for (int32_t rank = 0; rank < rebuild->params.layout->ranks; rank++)
        any = any || rebuild->rank[rank].owes;
    return any;
}

static int32_t list_lost(const pr_group_rebuild *rebuild, int32_t lost[PR_RECOVER_MOST_LOST])
{
    int32_t losses = 0;
    for (int32_t rank = 0; rank < rebuild->params.layout->ranks; rank++) {
        if (lives(rebuild, rank))
            continue;
        if (losses < PR_RECOVER_MOST_LOST)
            lost[losses] = rank;
        losses++;
    }
    return losses;
}

// ---- Replacing ----

static pr_status begin_replacing(pr_group_rebuild *rebuild)
{
    pr_recover_order order = {.kind = PR_RECOVER_REPLACE, .epoch = ++rebuild->epoch};
    order.losses = list_lost(rebuild, order.lost);
    order.invitation_bytes = (int32_t)pr_control_invite(rebuild->params.control, order.invitation);
    if (order.losses > PR_RECOVER_MOST_LOST || order.invitation_bytes == 0) {
        pause(rebuild, false);
        return give_up(rebuild, "lost ranks cannot be replaced");
    }
    rebuild->failed = false;
    // A replacement may be heard before the last of those that started it.
    for (int32_t rank = 0; rank < rebuild->params.layout->ranks; rank++) {
        bool lost = !lives(rebuild, rank);
        rebuild->rank[rank] =
            (rank_state){.owes = !lost, .starts = lost, .joins = lost, .loads = lost};
    }
    enter(rebuild, STATE_REPLACING);
    return pr_group_rebuild_order(rebuild, &order);
}

static pr_status end_replacing(pr_group_rebuild *rebuild)
{
    rebuild->paused_ns = pr_clock_now_ns() - rebuild->paused_ns;
    pause(rebuild, false);
    for (int32_t rank = 0; rank < rebuild->params.layout->ranks; rank++) {
        if (rebuild->rank[rank].starts && !rebuild->failed)
            pr_losses_replace(rebuild->params.losses, rank);
        else if (rebuild->failed)
            rebuild->rank[rank] = (rank_state){0};
    }
    if (rebuild->failed)
        return give_up(rebuild, "no process could be started for a lost rank");
    enter(rebuild, STATE_LOADING);
    return PR_OK;
}

// ---- Forming ----

static bool can_form(const pr_group_rebuild *rebuild, int32_t group)
{
    const pr_group_layout *layout = &rebuild->params.layout->group[group];
    bool all = pr_losses_has_group(rebuild->params.losses, group);
    for (int32_t i = 0; i < layout->ranks; i++)
        all = all && lives(rebuild, layout->first_rank + i);
    return all;
}

static pr_status begin_forming(pr_group_rebuild *rebuild)
{
    enter(rebuild, STATE_FORMING);
    for (int32_t g = 0; g < rebuild->params.layout->groups; g++) {
        const pr_group_layout *group = &rebuild->params.layout->group[g];
        pr_group_load load;
        if (!can_form(rebuild, g))
            continue;
        pr_scheduler_group_load(rebuild->params.scheduler, g, &load);
        pr_recover_order order = {
            .kind = PR_RECOVER_FORM, .group = g, .epoch = rebuild->epoch, .plan = load.plans};
        for (int32_t i = 0; i < group->ranks; i++) {
            rank_state *rank = &rebuild->rank[group->first_rank + i];
            rank->owes = rank->forming = true;
            PR_TRY(send_order(rebuild, group->first_rank + i, &order));
        }
    }
    return PR_OK;
}

static pr_status return_group(pr_group_rebuild *rebuild, int32_t group)
{
    char ranks[32];
    pr_recover_order order = {.kind = PR_RECOVER_RETURN, .group = group};
    PR_TRY(pr_group_rebuild_order(rebuild, &order));
    pr_losses_return(rebuild->params.losses, group);
    pr_scheduler_advance(rebuild->params.scheduler, pr_clock_now_ns());
    pr_scheduler_group_back(rebuild->params.scheduler, group);
    rebuild->params.back(rebuild->params.context, group);
    pr_layout_ranks_text(&rebuild->params.layout->group[group], ranks);
    pr_log(
        PR_LOG_WARN,
        "recovery: group %d (%s) is back after %.2f s, in which the others paused for %.2f s",
        group, ranks, (double)(pr_clock_now_ns() - rebuild->begin_ns) * 1e-9,
        (double)rebuild->paused_ns * 1e-9);
    return PR_OK;
}

// The group cannot be formed now. Its ranks that have done their part stand by again; the others may wait
// inside MPI for the one that is missing, and are killed there after a while (rank_recovery.c).
static pr_status break_forming(pr_group_rebuild *rebuild, int32_t group)
{
    const pr_group_layout *layout = &rebuild->params.layout->group[group];
    pr_recover_order order = {.kind = PR_RECOVER_LOSE, .group = group};
    if (layout->first_rank == 0)
        return pr_fail(
            PR_ERR_PEER,
            "group %d, with rank 0, cannot be formed again: the run ends, results so far are kept",
            group);
    for (int32_t rank = layout->first_rank; rank < layout->first_rank + layout->ranks; rank++) {
        rebuild->rank[rank].forming = false;
        if (lives(rebuild, rank))
            PR_TRY(send_order(rebuild, rank, &order));
    }
    return PR_OK;
}

static pr_status end_forming(pr_group_rebuild *rebuild)
{
    for (int32_t g = 0; g < rebuild->params.layout->groups; g++) {
        const pr_group_layout *group = &rebuild->params.layout->group[g];
        if (!rebuild->rank[group->first_rank].forming)
            continue;
        PR_TRY(return_group(rebuild, g));
        for (int32_t i = 0; i < group->ranks; i++)
            rebuild->rank[group->first_rank + i].forming = false;
        rebuild->tries = 0;
    }
    enter(rebuild, STATE_WHOLE);
    return PR_OK;
}

// ---- Events ----

pr_status pr_group_rebuild_lose(pr_group_rebuild *rebuild, int32_t rank)
{
    rank_state *state = &rebuild->rank[rank];
    bool owed = state->owes, formed = state->forming;
    *state = (rank_state){0};
    if (rebuild->state == STATE_WHOLE) {
        enter(rebuild, STATE_WHOLE);  // the calm begins anew
        rebuild->begin_ns = rebuild->state_ns;
    }
    if (rebuild->state == STATE_REPLACING && owed)
        return pr_fail(
            PR_ERR_PEER,
            "rank %d is lost while all ranks start a replacement for another: the run ends, "
            "results "
            "so far are kept",
            rank);
    if (formed)
        return break_forming(rebuild, pr_layout_group_of(rebuild->params.layout, rank));
    return PR_OK;
}

pr_status pr_group_rebuild_answer(pr_group_rebuild *rebuild, const pr_message *message)
{
    pr_recover_done done;
    rank_state *rank = &rebuild->rank[message->from];
    if (message->size_bytes != sizeof done)
        return pr_fail(PR_ERR_PEER, "rank %d sent a malformed answer", message->from);
    memcpy(&done, message->data, sizeof done);
    if (done.kind == PR_RECOVER_JOIN)
        rank->joins = false;
    else if (rank->loads && done.kind == PR_RECOVER_REPLACE)
        rank->loads = false;
    else
        rank->owes = false;
    if (!done.good && rank->forming)
        return break_forming(rebuild, pr_layout_group_of(rebuild->params.layout, message->from));
    rebuild->failed = rebuild->failed || !done.good;
    return PR_OK;
}

static bool any_can_form(const pr_group_rebuild *rebuild)
{
    bool any = false;
    for (int32_t g = 0; g < rebuild->params.layout->groups; g++)
        any = any || can_form(rebuild, g);
    return any;
}

static pr_status look_whole(pr_group_rebuild *rebuild)
{
    int32_t lost[PR_RECOVER_MOST_LOST];
    int32_t losses = list_lost(rebuild, lost);
    if (rebuild->gives_up || (losses == 0 && !any_can_form(rebuild)) ||
        !has_passed(rebuild, CALM_MS))
        return PR_OK;
    if (rebuild->tries++ == MOST_TRIES)
        return give_up(rebuild, "replacements are lost as well, or cannot do their part");
    if (losses == 0)
        return begin_forming(rebuild);
    rebuild->paused_ns = pr_clock_now_ns();
    pause(rebuild, true);
    enter(rebuild, STATE_QUIETING);
    return PR_OK;
}

static pr_status look_loading(pr_group_rebuild *rebuild)
{
    bool joins = false, loads = false;
    for (int32_t rank = 0; rank < rebuild->params.layout->ranks; rank++) {
        joins = joins || rebuild->rank[rank].joins;
        loads = loads || rebuild->rank[rank].loads;
    }
    if (joins && has_passed(rebuild, JOIN_MS))
        return give_up(rebuild, "a replacement was started and is not heard of");
    if (loads)
        return PR_OK;
    if (any_can_form(rebuild))
        return begin_forming(rebuild);
    enter(rebuild, STATE_WHOLE);
    return PR_OK;
}

pr_status pr_group_rebuild_look(pr_group_rebuild *rebuild)
{
    switch (rebuild->state) {
    case STATE_WHOLE:
        return look_whole(rebuild);
    case STATE_QUIETING:
        return pr_scheduler_is_quiet(rebuild->params.scheduler) ? begin_replacing(rebuild) : PR_OK;
    case STATE_REPLACING:
        if (!any_owes(rebuild))
            return end_replacing(rebuild);
        if (has_passed(rebuild, REPLACE_MS))
            return pr_fail(
                PR_ERR_TIMEOUT,
                "starting a replacement for a lost rank did not end within %d s: the run ends, "
                "results so far are kept (--respawn off does without)",
                REPLACE_MS / 1000);
        return PR_OK;
    case STATE_LOADING:
        return look_loading(rebuild);
    case STATE_FORMING:
        if (!any_owes(rebuild))
            return end_forming(rebuild);
        if (has_passed(rebuild, FORM_MS))
            return pr_fail(
                PR_ERR_TIMEOUT,
                "a group was not formed again within %d s: the run ends, results so far are kept",
                FORM_MS / 1000);
        return PR_OK;
    }
    return PR_OK;
}
