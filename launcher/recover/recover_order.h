// SPDX-License-Identifier: BSD-3-Clause
// What the controller tells workers when a rank is lost: the data of PR_MESSAGE_ORDER, between the ranks of
// one job on one kind of machine.
#ifndef PR_LAUNCHER_RECOVER_RECOVER_ORDER_H
#define PR_LAUNCHER_RECOVER_RECOVER_ORDER_H

#include <stdint.h>

typedef enum pr_recover_kind {
    // A rank of the group is lost. Its other ranks leave what they do, drop their sequences and stand by;
    // ranks of other groups drop the KV that was to come from there or go there.
    PR_RECOVER_LOSE,
} pr_recover_kind;

typedef struct pr_recover_order {
    int32_t kind;  // pr_recover_kind
    int32_t group;
} pr_recover_order;

#endif
