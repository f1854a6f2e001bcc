// SPDX-License-Identifier: BSD-3-Clause
// Where the ranks of a plan would sit: nodes alike, ranks spread over them evenly and started node by node,
// then ordered as a run would order them, with the cores that a run would give them.
#ifndef PR_LAUNCHER_PLAN_PLAN_PLACEMENT_H
#define PR_LAUNCHER_PLAN_PLAN_PLACEMENT_H

#include <jansson.h>

#include "launcher/options.h"
#include "launcher/placement/rank_order.h"
#include "launcher/placement/thread_choice.h"

typedef struct pr_plan_nodes {
    int32_t nodes;
    int32_t nodes_per_switch;     // 0: all are under one
    const pr_topology *topology;  // of each; NULL: nothing is known of their cores
} pr_plan_nodes;

typedef struct pr_plan_seat {
    int32_t node;
    int32_t numa;                     // -1: none in particular
    int32_t launched;                 // what the launcher numbers it
    const pr_thread_choice *threads;  // NULL: not known
} pr_plan_seat;

typedef struct pr_plan_placement {
    const pr_layout *layout;
    pr_plan_nodes nodes;
    int32_t switches;
    bool kept;           // --rank-order launcher
    pr_plan_seat *seat;  // [layout->ranks] by our ranks; from malloc, as all below
    pr_rank_order order;
    pr_counterpart *counterpart;  // [layout->groups]
    pr_thread_choice *threads;    // all different ones
} pr_plan_placement;

// layout and nodes->topology are borrowed as long as the placement lives. options: threads, bind, rank_order.
// Errors: PR_ERR_ARGUMENT (fewer ranks than nodes), PR_ERR_RESOURCE.
pr_status pr_plan_placement_make(
    const pr_layout *layout,
    const pr_plan_nodes *nodes,
    const pr_options *options,
    pr_plan_placement *placement) PR_MUST_CHECK;
void pr_plan_placement_release(pr_plan_placement *placement);

void pr_plan_placement_print(const pr_plan_placement *placement);
json_t *pr_plan_placement_json(const pr_plan_placement *placement);  // NULL: out of memory

// "on one node", "under one switch", "under two switches": what a distance between groups means.
const char *pr_plan_distance_text(const pr_plan_placement *placement, int32_t distance);

// "8 ranks on 2 nodes under one switch".
void pr_plan_placement_summary(const pr_plan_placement *placement, char text[96]);

#endif
