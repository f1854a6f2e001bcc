// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/recover/group_rebuild.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/layout_choice.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

// How long starting a process may take, and how often one is started for nothing.
// Before that the requests that were moved get a chance to go on, as starting a process pauses everybody.
enum { CHANCE_MS = 1000 };
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
    bool stuck;
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

bool pr_group_rebuild_is_stuck(const pr_group_rebuild *rebuild) { return rebuild->stuck; }

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
    pr_log(PR_LOG_WARN, "recovery: %s: the run goes on without what is lost", why);
    rebuild->gives_up = true;
    enter(rebuild, STATE_WHOLE);
    if (pr_scheduler_can_serve(rebuild->params.scheduler))
        return PR_OK;
    return pr_fail(
        PR_ERR_PEER,
        "%s, and no group is left that can do the part of the lost one: the run ends, "
        "results so far are kept",
        why);
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
    for (int32_t rank = 0; rank < rebuild->params.layout->ranks; rank++)
        rebuild->rank[rank].owes = lives(rebuild, rank);
    enter(rebuild, STATE_REPLACING);
    return pr_group_rebuild_order(rebuild, &order);
}

static pr_status end_replacing(pr_group_rebuild *rebuild)
{
    rebuild->paused_ns = pr_clock_now_ns() - rebuild->paused_ns;
    pause(rebuild, false);
    if (rebuild->failed)
        return give_up(rebuild, "no process could be started for a lost rank");
    for (int32_t rank = 0; rank < rebuild->params.layout->ranks; rank++) {
        if (lives(rebuild, rank))
            continue;
        pr_losses_replace(rebuild->params.losses, rank);
        rebuild->rank[rank].joins = rebuild->rank[rank].loads = true;
    }
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
    rebuild->failed = false;
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

static pr_status end_forming(pr_group_rebuild *rebuild)
{
    int32_t ranks = rebuild->params.layout->ranks;
    if (rebuild->failed) {
        rebuild->stuck = true;
        return give_up(rebuild, "a group could not be formed again");
    }
    for (int32_t g = 0; g < rebuild->params.layout->groups; g++) {
        const pr_group_layout *group = &rebuild->params.layout->group[g];
        if (rebuild->rank[group->first_rank].forming)
            PR_TRY(return_group(rebuild, g));
    }
    for (int32_t rank = 0; rank < ranks; rank++)
        rebuild->rank[rank].forming = false;
    rebuild->tries = 0;
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
        enter(rebuild, STATE_WHOLE);  // the chance begins
        rebuild->begin_ns = rebuild->state_ns;
    }
    if (rebuild->state == STATE_REPLACING && owed)
        return pr_fail(
            PR_ERR_PEER,
            "rank %d is lost while all ranks start a replacement for another: the run ends, "
            "results "
            "so far are kept",
            rank);
    if (rebuild->state == STATE_FORMING && formed) {
        rebuild->stuck = true;  // the others wait for it inside MPI
        return give_up(rebuild, "a rank is lost while its group is formed again");
    }
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
    rebuild->failed = rebuild->failed || !done.good;
    return PR_OK;
}

// Whether the requests of lost groups go on, or cannot.
static bool all_resumed(const pr_group_rebuild *rebuild)
{
    pr_scheduler_counts counts;
    pr_scheduler_count(rebuild->params.scheduler, &counts);
    return counts.resumed >= counts.moved || has_passed(rebuild, CHANCE_MS) ||
           !pr_scheduler_can_serve(rebuild->params.scheduler);
}

static pr_status look_whole(pr_group_rebuild *rebuild)
{
    int32_t lost[PR_RECOVER_MOST_LOST];
    if (rebuild->gives_up || list_lost(rebuild, lost) == 0 || !all_resumed(rebuild))
        return PR_OK;
    if (rebuild->tries++ == MOST_TRIES)
        return give_up(rebuild, "replacements are lost as well");
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
    bool formable = false;
    for (int32_t g = 0; g < rebuild->params.layout->groups; g++)
        formable = formable || can_form(rebuild, g);
    if (formable)
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
        if (has_passed(rebuild, FORM_MS)) {
            rebuild->stuck = true;
            return give_up(rebuild, "a group was not formed again in time");
        }
        return PR_OK;
    }
    return PR_OK;
}
