// SPDX-License-Identifier: BSD-3-Clause
// The ranks that run on this rank's machine, and which of its hardware threads each may use.
#ifndef PR_LAUNCHER_PLACEMENT_NODE_RANKS_H
#define PR_LAUNCHER_PLACEMENT_NODE_RANKS_H

#include "comm/world.h"
#include "launcher/placement/topology.h"

typedef struct pr_node_ranks {
    int32_t ranks;       // on this machine, this one included
    int32_t computing;   // of them
    int32_t number;      // of this rank among the computing ones; meaningless if it is none
    pr_cpu_set *usable;  // [computing], in the order of ranks; from malloc
} pr_node_ranks;

// Collective over the world. computes: false on a rank that only schedules.
pr_status pr_node_ranks_gather(
    pr_world *world, const pr_cpu_set *usable, bool computes, pr_node_ranks *node) PR_MUST_CHECK;
void pr_node_ranks_release(pr_node_ranks *node);

#endif
