// SPDX-License-Identifier: BSD-3-Clause
// The lane with the smallest key: a tournament tree over all lanes. Set O(log lanes), best O(1).
// Ties: the lower lane. A lane with key INFINITY takes no part. Threads: one.
#ifndef PR_SCHEDULER_DISPATCH_LANE_TREE_H
#define PR_SCHEDULER_DISPATCH_LANE_TREE_H

#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_lane_tree pr_lane_tree;

pr_status pr_lane_tree_create(int32_t lanes, pr_lane_tree **tree) PR_MUST_CHECK;  // all INFINITY
void pr_lane_tree_destroy(pr_lane_tree *tree);
void pr_lane_tree_set(pr_lane_tree *tree, int32_t lane, double key);
double pr_lane_tree_key(const pr_lane_tree *tree, int32_t lane);
int32_t pr_lane_tree_best(const pr_lane_tree *tree);  // -1: none takes part

#endif
