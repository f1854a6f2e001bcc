// SPDX-License-Identifier: BSD-3-Clause
// A complete binary tree in an array: node 1 is the root, node n has children 2n and 2n + 1, lane i is
// leaf `leaves + i`. Every node holds the lane that wins below it; leaves past the last lane lose.
#include "scheduler/dispatch/lane_tree.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"

struct pr_lane_tree {
    int32_t lanes, leaves;
    double *key;      // [leaves]
    int32_t *winner;  // [2 * leaves]
};

static int32_t winner_of(const pr_lane_tree *tree, int32_t node)
{
    int32_t left = tree->winner[2 * node];
    int32_t right = tree->winner[2 * node + 1];
    return tree->key[left] <= tree->key[right] ? left : right;
}

pr_status pr_lane_tree_create(int32_t lanes, pr_lane_tree **tree)
{
    if (lanes < 1 || lanes > INT32_MAX / 4)
        return pr_fail(PR_ERR_ARGUMENT, "no tree over %d lanes", lanes);
    pr_lane_tree *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a tree over %d lanes", lanes);
    made->lanes = lanes;
    made->leaves = 1;
    while (made->leaves < lanes)
        made->leaves *= 2;
    made->key = malloc((size_t)made->leaves * sizeof *made->key);
    made->winner = malloc(2 * (size_t)made->leaves * sizeof *made->winner);
    if (!made->key || !made->winner) {
        pr_lane_tree_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a tree over %d lanes", lanes);
    }
    for (int32_t i = 0; i < made->leaves; i++) {
        made->key[i] = INFINITY;
        made->winner[made->leaves + i] = i;
    }
    for (int32_t node = made->leaves - 1; node > 0; node--)
        made->winner[node] = winner_of(made, node);
    *tree = made;
    return PR_OK;
}

void pr_lane_tree_destroy(pr_lane_tree *tree)
{
    if (!tree)
        return;
    free(tree->winner);
    free(tree->key);
    free(tree);
}

void pr_lane_tree_set(pr_lane_tree *tree, int32_t lane, double key)
{
    assert(lane >= 0 && lane < tree->lanes && !isnan(key));
    tree->key[lane] = key;
    for (int32_t node = (tree->leaves + lane) / 2; node > 0; node /= 2) {
        int32_t winner = winner_of(tree, node);
        if (winner == tree->winner[node] && winner != lane)
            return;  // nothing above has seen this lane, or will
        tree->winner[node] = winner;
    }
}

double pr_lane_tree_key(const pr_lane_tree *tree, int32_t lane)
{
    assert(lane >= 0 && lane < tree->lanes);
    return tree->key[lane];
}

int32_t pr_lane_tree_best(const pr_lane_tree *tree)
{
    int32_t best = tree->winner[1];
    return tree->key[best] < (double)INFINITY ? best : -1;
}
