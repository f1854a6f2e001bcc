// SPDX-License-Identifier: BSD-3-Clause
// What the controller tells ranks when one is lost (PR_MESSAGE_ORDER), and what they answer
// (PR_MESSAGE_DONE): plain records between ranks of one job on one kind of machine.
#ifndef PR_LAUNCHER_RECOVER_RECOVER_ORDER_H
#define PR_LAUNCHER_RECOVER_RECOVER_ORDER_H

#include <stdint.h>

#include "comm/control.h"

typedef enum pr_recover_kind {
    PR_RECOVER_NONE,
    // A rank of the group is lost. Its other ranks leave what they do, drop their sequences and stand by;
    // ranks of other groups drop the KV that was to come from there or go there. No answer.
    PR_RECOVER_LOSE,
    // No plan is out. All ranks together start a process for each of lost[], which answers too: JOIN as soon
    // as it can be heard, REPLACE when its weights are loaded.
    PR_RECOVER_REPLACE,
    PR_RECOVER_JOIN,
    // The group's ranks become a group again, and wait for the plan after `plan`.
    PR_RECOVER_FORM,
    // The group is whole: KV may come from there again. No answer.
    PR_RECOVER_RETURN,
} pr_recover_kind;

enum { PR_RECOVER_MOST_LOST = 64 };  // that are replaced at a time

typedef struct pr_recover_order {
    int32_t kind;  // pr_recover_kind
    int32_t group;
    int32_t epoch;
    int32_t losses;
    uint64_t plan;
    int32_t lost[PR_RECOVER_MOST_LOST];
    int32_t invitation_bytes;  // for pr_control_join
    char invitation[PR_INVITATION_BYTES];
} pr_recover_order;

typedef struct pr_recover_done {
    int32_t kind;
    int32_t good;  // 0: it could not be done, and the rank has said why
} pr_recover_done;

#endif
