// SPDX-License-Identifier: BSD-3-Clause
// Numbers the ranks of the world by where they sit (rank_order.h), once, before anything is made from it.
// What is known: host names, Slurm's addresses of nodes, and the NUMA domain of each rank's cores.
#ifndef PR_LAUNCHER_PLACEMENT_WORLD_ORDER_H
#define PR_LAUNCHER_PLACEMENT_WORLD_ORDER_H

#include "comm/world.h"
#include "runtime/batch/layout.h"

// Collective. numa: of the calling rank's cores, -1: none in particular. keep: only say how the ranks sit.
// Rank 0 logs what was done and why, where there is more than one node or anything changed.
pr_status pr_world_order_settle(pr_world *world, const pr_layout *layout, int32_t numa, bool keep)
    PR_MUST_CHECK;

#endif
