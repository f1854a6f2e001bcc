// SPDX-License-Identifier: BSD-3-Clause
// The controller's side of getting a lost group back.
//
//   whole --a rank is lost--> quieting --no plan is out--> replacing --all ranks have done it--> loading
//     ^                      (nobody gets plans)           (all ranks)                             |
//     +---- the group is back <---- forming (the group's ranks) <---- weights are there -----------+
//
// From quieting to the end of replacing all groups pause; while weights are loaded the others work. What
// cannot be replaced is done without; a rank that is lost in the middle of replacing ends the run, one that is
// lost while its group is formed begins it all anew.
// Threads: the controller's.
#ifndef PR_LAUNCHER_RECOVER_GROUP_REBUILD_H
#define PR_LAUNCHER_RECOVER_GROUP_REBUILD_H

#include "comm/control.h"
#include "launcher/recover/losses.h"
#include "launcher/recover/recover_order.h"

typedef struct pr_group_rebuild pr_group_rebuild;

typedef struct pr_group_rebuild_params {
    const pr_layout *layout;
    pr_scheduler *scheduler;
    pr_control *control;
    pr_losses *losses;
    bool replaces;  // false: lost groups are done without
    void *context;
    void (*back)(void *context, int32_t group);  // its ranks wait for plans
} pr_group_rebuild_params;

pr_status pr_group_rebuild_create(const pr_group_rebuild_params *params, pr_group_rebuild **rebuild)
    PR_MUST_CHECK;
void pr_group_rebuild_destroy(pr_group_rebuild *rebuild);

// Sends the order to every rank that lives; one that turns out to be lost is no error.
pr_status
pr_group_rebuild_order(pr_group_rebuild *rebuild, const pr_recover_order *order) PR_MUST_CHECK;

// A rank was lost (it is in losses already); a rank has answered; time has passed. Errors end the run.
pr_status pr_group_rebuild_lose(pr_group_rebuild *rebuild, int32_t rank) PR_MUST_CHECK;
pr_status
pr_group_rebuild_answer(pr_group_rebuild *rebuild, const pr_message *message) PR_MUST_CHECK;
pr_status pr_group_rebuild_look(pr_group_rebuild *rebuild) PR_MUST_CHECK;

bool pr_group_rebuild_hopes(const pr_group_rebuild *rebuild);  // a lost group may come back

#endif
