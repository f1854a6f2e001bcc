// SPDX-License-Identifier: BSD-3-Clause
// Which of the launcher's ranks becomes which of ours, so that ranks that talk most sit nearest.
//
//   4 nodes of 4, started round robin     launcher   n1: 0 4 8 12   n2: 1 5 9 13   n3: 2 6 ...
//   --mixed 4x4:tp=2, in that order       group 0 on n1 n2 n3 n4, its lanes across nodes
//   ordered                               ours       n1: 0 1 2 3    n2: 4 5 6 7    n3: 8 9 ...
//
// A layout's groups are consecutive ranks, so a placement of groups is an order of ranks. Groups are placed
// one by one, each into the smallest part of the machine (node, switch, switches) that has room for its
// lanes, of those into the fullest; lanes into NUMA domains likewise. That is done for a few orders of the
// groups, and the best is taken; the launcher's own order wins all ties. Rank 0 stays rank 0: it has the
// terminal and the endpoint.
//
// Best is lexicographic, what costs most first: see pr_order_score. Bytes never depend on it.
// Source: ours; placing by best fit in decreasing size is textbook bin packing.
// Cost: O(groups x nodes + ranks log ranks). Threads: any; pure: all ranks find the same order.
#ifndef PR_LAUNCHER_PLACEMENT_RANK_ORDER_H
#define PR_LAUNCHER_PLACEMENT_RANK_ORDER_H

#include "launcher/placement/rank_seat.h"
#include "runtime/batch/layout.h"

// What an order costs; an earlier field outweighs all later ones.
typedef struct pr_order_score {
    int64_t split_lanes;     // lanes of tp > 1 on more than one node
    int64_t group_nodes;     // nodes of each group, summed
    int64_t group_switches;  // lowest switches of each group, summed
    int64_t numa_lanes;      // lanes of tp > 1 within a node but in several NUMA domains
    int64_t handover;  // of each prefill and decode group to the nearest of the other role, summed
} pr_order_score;

typedef struct pr_rank_order {
    int32_t
        *launched;  // [ranks] the launcher's rank of each of ours; launched[0] is 0. From malloc
    bool changed;   // not the launcher's order
    pr_order_score score, launcher_score;
} pr_rank_order;

// seat: [layout->ranks] by the launcher's ranks, as pr_rank_seats_number gives them.
pr_status pr_rank_order_find(
    const pr_layout *layout, const pr_rank_seat *seat, pr_rank_order *order) PR_MUST_CHECK;
void pr_rank_order_release(pr_rank_order *order);

// The nearest group of the other role: as far as the smallest part of the machine that has both reaches. Of
// equally near ones the one that is the nearest of fewest groups.
typedef struct pr_counterpart {
    int32_t group;     // -1: of a mixed group
    int32_t distance;  // as pr_rank_seat_distance
} pr_counterpart;

void pr_rank_order_counterparts(
    const pr_layout *layout,
    const pr_rank_seat *seat,
    const int32_t *launched,
    pr_counterpart *counterpart);  // [groups]

enum { PR_ORDER_TEXT_BYTES = 320 };

// "groups on 4 nodes in all instead of 16; ...": where the order and the launcher's differ, or what they cost.
void pr_rank_order_describe(const pr_rank_order *order, char text[PR_ORDER_TEXT_BYTES]);

// Negative if a costs less than b, 0 if they cost the same.
int pr_order_score_compare(const pr_order_score *a, const pr_order_score *b);

#endif
