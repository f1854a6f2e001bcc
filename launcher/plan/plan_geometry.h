// SPDX-License-Identifier: BSD-3-Clause
// The sizes and places of everything in the drawing of a placement. In pixels, y downwards.
//
//   switch frame > node box > NUMA box > cells, one for each rank, by rank
//
// All nodes are drawn alike, as large as the fullest needs; more nodes than NODES_MOST are left out.
#ifndef PR_LAUNCHER_PLAN_PLAN_GEOMETRY_H
#define PR_LAUNCHER_PLAN_PLAN_GEOMETRY_H

#include "launcher/plan/plan_placement.h"

enum {
    PR_DRAWN_NODES_MOST = 128,
    PR_CELL_WIDTH = 52,
    PR_CELL_HEIGHT = 46,
    PR_CELL_GAP = 12,
    PR_BOX_PAD = 12,
    PR_BOX_HEAD = 26,   // for its name
    PR_CELL_HEAD = 40,  // the same above cells, where arrows need room too
    PR_BOX_GAP = 14,
    PR_TITLE_HEIGHT = 64,
    PR_LEGEND_HEIGHT = 66,
};

typedef struct pr_box {
    int32_t x, y, width, height;
} pr_box;

typedef struct pr_plan_geometry {
    int32_t nodes;          // drawn
    int32_t domains;        // NUMA boxes in each node; 0: cells lie in the node itself
    bool frames;            // switches are drawn
    int32_t width, height;  // of the whole
    pr_box *cell;           // [ranks]; width 0: its node is left out. From malloc
    pr_box node[PR_DRAWN_NODES_MOST];
    pr_box frame[PR_DRAWN_NODES_MOST];  // of the switch with that number
    pr_box domain;                      // of the first NUMA box, relative to its node
    int32_t domain_columns;
} pr_plan_geometry;

pr_status
pr_plan_geometry_make(const pr_plan_placement *placement, pr_plan_geometry *geometry) PR_MUST_CHECK;
void pr_plan_geometry_release(pr_plan_geometry *geometry);

// The box of a NUMA domain of a drawn node.
pr_box pr_plan_geometry_domain(const pr_plan_geometry *geometry, int32_t node, int32_t domain);

#endif
