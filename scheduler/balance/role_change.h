// SPDX-License-Identifier: BSD-3-Clause
// A group changes from prefill to decode or back, when balance.h says that it helps.
//
//   leaves     nobody new is seated there: its compute lanes are retired in dispatch, no handover chooses
//              its decode lanes, and what its pools hold is taken out of the map of its role
//   is empty   no sequence has a seat there, no gather reads its blocks, no plan of it is out
//   changes    lanes take the other role; what their pools hold stays, and is put into the map of that
//              role
//
// Workers know nothing of roles: a plan's admissions say what a sequence does there. So nothing is sent,
// and tokens do not change. Each role keeps at least one group.
#ifndef PR_SCHEDULER_BALANCE_ROLE_CHANGE_H
#define PR_SCHEDULER_BALANCE_ROLE_CHANGE_H

#include "scheduler/scheduler_state.h"

// Whether groups may change their roles: asked for, and prefill and decode groups only, three or more.
bool pr_role_change_is_possible(const pr_scheduler_params *params);

// If only groups that leave the role are left in it, one stays.
void pr_role_change_keep(pr_scheduler *scheduler, pr_role role);

// At the begin of a round, before any group is open in it.
void pr_role_change_round(pr_scheduler *scheduler);

#endif
