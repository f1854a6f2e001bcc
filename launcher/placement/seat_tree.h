// SPDX-License-Identifier: BSD-3-Clause
// The free seats of a job as a tree, and groups placed into it one by one. Private to placement/.
//
//   whole -> switches -> node -> NUMA domain -> seats     each level is an array; a domain's children are
//                                                         consecutive in the next one
//
// The first seat is rank 0's: it and all domains around it have number 0 in their level.
// Threads: one.
#ifndef PR_LAUNCHER_PLACEMENT_SEAT_TREE_H
#define PR_LAUNCHER_PLACEMENT_SEAT_TREE_H

#include "launcher/placement/rank_seat.h"
#include "runtime/batch/layout.h"

enum {
    PR_SEAT_WHOLE,
    PR_SEAT_SWITCHES,  // and PR_SWITCH_LEVELS - 1 levels more
    PR_SEAT_NODE = PR_SEAT_SWITCHES + PR_SWITCH_LEVELS,
    PR_SEAT_NUMA,
    PR_SEAT_LEVELS,
};

typedef struct pr_seat_domain {
    int32_t begin, end;  // children; of a NUMA domain: seats
    int32_t parent;
    int32_t free;   // seats
    int32_t lanes;  // that would fit into its nodes' free seats; of the group being placed
    bool chosen;    // by the group being placed
} pr_seat_domain;

typedef struct pr_seat_tree {
    int32_t ranks;
    int32_t *sorted;    // [ranks] the launcher's ranks, neighbours side by side; sorted[0] is 0
    int32_t *position;  // [ranks] the other way round
    bool *taken;        // [ranks] by position
    int32_t domains[PR_SEAT_LEVELS];
    pr_seat_domain *level[PR_SEAT_LEVELS];
} pr_seat_tree;

pr_status
pr_seat_tree_create(const pr_rank_seat *seat, int32_t ranks, pr_seat_tree *tree) PR_MUST_CHECK;
void pr_seat_tree_release(pr_seat_tree *tree);

// All seats are free again.
void pr_seat_tree_clear(pr_seat_tree *tree);

// Takes the first seat, for a rank that is in no group.
void pr_seat_tree_take_first(pr_seat_tree *tree);

// Places a group; there must be enough free seats. with_first: rank 0 is its first rank.
void pr_seat_tree_place(
    pr_seat_tree *tree,
    const pr_group_layout *group,
    bool with_first,
    int32_t *position);  // [group->ranks] lane by lane

#endif
