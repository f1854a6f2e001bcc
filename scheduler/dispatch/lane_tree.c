// SPDX-License-Identifier: BSD-3-Clause
// A tree of WIDE children per node, level by level in arrays. Level 0 is the lanes; an entry above is
// the best of WIDE entries below it, its key beside it, so that a node's children are one cache line
// of keys: 100,000 lanes are six levels and six lines.
#include "scheduler/dispatch/lane_tree.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "runtime/base/log.h"

enum { WIDE = 8, MOST_LEVELS = 11 };

typedef struct tree_level {
    double *key;    // [WIDE * entries above]; those behind the last lane's are INFINITY
    int32_t *lane;  // the same; NULL on level 0: an entry is its lane
} tree_level;

struct pr_lane_tree {
    int32_t lanes, levels;
    tree_level level[MOST_LEVELS];  // the last has one node, whose best is the tree's
    int32_t best;
    double best_key;
};

static pr_status level_create(int32_t entries, bool named, tree_level *level)
{
    size_t room = ((size_t)entries + WIDE - 1) / WIDE * WIDE;
    level->key = aligned_alloc(WIDE * sizeof(double), room * sizeof *level->key);
    level->lane = named ? calloc(room, sizeof *level->lane) : NULL;
    if (!level->key || (named && !level->lane))
        return pr_fail(PR_ERR_RESOURCE, "no memory for a tree over %d lanes", entries);
    for (size_t i = 0; i < room; i++)
        level->key[i] = (double)INFINITY;
    return PR_OK;
}

pr_status pr_lane_tree_create(int32_t lanes, pr_lane_tree **tree)
{
    if (lanes < 1 || lanes > INT32_MAX - WIDE)
        return pr_fail(PR_ERR_ARGUMENT, "no tree over %d lanes", lanes);
    pr_lane_tree *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a tree over %d lanes", lanes);
    made->lanes = lanes;
    made->best = -1;
    made->best_key = (double)INFINITY;
    int32_t entries = lanes;
    do {
        tree_level *level = &made->level[made->levels++];
        pr_status status = level_create(entries, made->levels > 1, level);
        if (status != PR_OK) {
            pr_lane_tree_destroy(made);
            return status;
        }
        entries = (entries + WIDE - 1) / WIDE;
    } while (entries > 1);
    *tree = made;
    return PR_OK;
}

void pr_lane_tree_destroy(pr_lane_tree *tree)
{
    if (!tree)
        return;
    for (int32_t i = 0; i < tree->levels; i++) {
        free(tree->level[i].key);
        free(tree->level[i].lane);
    }
    free(tree);
}

// The first of the smallest of a node's keys.
static int32_t best_child(const double *key)
{
    int32_t best = 0;
    double least = key[0];
    for (int32_t i = 1; i < WIDE; i++) {
        bool less = key[i] < least;
        best = less ? i : best;
        least = less ? key[i] : least;
    }
    return best;
}

void pr_lane_tree_set(pr_lane_tree *tree, int32_t lane, double key)
{
    assert(lane >= 0 && lane < tree->lanes && !isnan(key));
    if (tree->level[0].key[lane] == key)
        return;
    tree->level[0].key[lane] = key;
    int32_t entry = lane;
    for (int32_t i = 0;; i++) {
        const tree_level *below = &tree->level[i];
        int32_t node = entry / WIDE;
        int32_t child = node * WIDE + best_child(&below->key[node * WIDE]);
        int32_t best = below->lane ? below->lane[child] : child;
        double best_key = below->key[child];
        bool top = i + 1 == tree->levels;
        double *above_key = top ? &tree->best_key : &tree->level[i + 1].key[node];
        int32_t *above = top ? &tree->best : &tree->level[i + 1].lane[node];
        if (*above_key == best_key && *above == best)
            return;  // nothing above sees a difference
        *above_key = best_key;
        *above = best;
        if (top)
            return;
        entry = node;
    }
}

double pr_lane_tree_key(const pr_lane_tree *tree, int32_t lane)
{
    assert(lane >= 0 && lane < tree->lanes);
    return tree->level[0].key[lane];
}

int32_t pr_lane_tree_best(const pr_lane_tree *tree)
{
    return tree->best_key < (double)INFINITY ? tree->best : -1;
}
