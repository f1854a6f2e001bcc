// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/placement/seat_tree.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

// ---- making the tree ----

enum { KEYS = PR_SWITCH_LEVELS + 3 };

typedef struct sort_key {
    int32_t part[KEYS];  // switches, node, NUMA domain, rank
} sort_key;

static int compare_keys(const void *a, const void *b)
{
    const sort_key *left = a, *right = b;
    for (int32_t i = 0; i < KEYS; i++) {
        if (left->part[i] != right->part[i])
            return left->part[i] < right->part[i] ? -1 : 1;
    }
    return 0;
}

// Rank 0's NUMA domain comes first in its node, whatever its number.
static sort_key key_of(const pr_rank_seat *seat, int32_t rank)
{
    sort_key key;
    bool with_first = seat[rank].node == seat[0].node && seat[rank].numa == seat[0].numa;
    memcpy(key.part, seat[rank].switches, sizeof seat[rank].switches);
    key.part[PR_SWITCH_LEVELS] = seat[rank].node;
    key.part[PR_SWITCH_LEVELS + 1] = with_first ? INT32_MIN : seat[rank].numa;
    key.part[PR_SWITCH_LEVELS + 2] = rank;
    return key;
}

// The levels up to `level` are the same for both: a domain has a key of so many parts.
static bool share_domain(const sort_key *a, const sort_key *b, int32_t level)
{
    return memcmp(a->part, b->part, (size_t)level * sizeof a->part[0]) == 0;
}

static void link_levels(pr_seat_tree *tree, const sort_key *key)
{
    for (int32_t level = 0; level < PR_SEAT_LEVELS; level++) {
        int32_t count = 0;
        for (int32_t i = 0; i < tree->ranks; i++) {
            if (i > 0 && share_domain(&key[i], &key[i - 1], level))
                continue;
            tree->level[level][count++] = (pr_seat_domain){.begin = i};
        }
        tree->domains[level] = count;
    }
    // Until here begin is a seat in all levels; now it becomes a child.
    for (int32_t level = 0; level < PR_SEAT_LEVELS; level++) {
        bool lowest = level == PR_SEAT_LEVELS - 1;
        int32_t child = 0;
        for (int32_t d = 0; d < tree->domains[level]; d++) {
            pr_seat_domain *domain = &tree->level[level][d];
            int32_t seats_end =
                d + 1 < tree->domains[level] ? tree->level[level][d + 1].begin : tree->ranks;
            domain->end = seats_end;
            if (lowest)
                continue;
            domain->begin = child;
            while (child < tree->domains[level + 1] &&
                   tree->level[level + 1][child].begin < seats_end)
                tree->level[level + 1][child++].parent = d;
            domain->end = child;
        }
    }
}

pr_status pr_seat_tree_create(const pr_rank_seat *seat, int32_t ranks, pr_seat_tree *tree)
{
    *tree = (pr_seat_tree){.ranks = ranks};
    sort_key *key = calloc((size_t)ranks, sizeof *key);
    tree->sorted = calloc((size_t)ranks, sizeof *tree->sorted);
    tree->position = calloc((size_t)ranks, sizeof *tree->position);
    tree->taken = calloc((size_t)ranks, sizeof *tree->taken);
    bool made = key && tree->sorted && tree->position && tree->taken;
    for (int32_t level = 0; level < PR_SEAT_LEVELS; level++) {
        tree->level[level] = calloc((size_t)ranks, sizeof *tree->level[level]);
        made &= tree->level[level] != NULL;
    }
    if (!made) {
        free(key);
        pr_seat_tree_release(tree);
        return pr_fail(PR_ERR_RESOURCE, "no memory to order %d ranks", (int)ranks);
    }
    for (int32_t i = 0; i < ranks; i++)
        key[i] = key_of(seat, i);
    qsort(key, (size_t)ranks, sizeof *key, compare_keys);
    for (int32_t i = 0; i < ranks; i++) {
        tree->sorted[i] = key[i].part[KEYS - 1];
        tree->position[tree->sorted[i]] = i;
    }
    assert(tree->sorted[0] == 0);
    link_levels(tree, key);
    free(key);
    pr_seat_tree_clear(tree);
    return PR_OK;
}

void pr_seat_tree_release(pr_seat_tree *tree)
{
    for (int32_t level = 0; level < PR_SEAT_LEVELS; level++)
        free(tree->level[level]);
    free(tree->sorted);
    free(tree->position);
    free(tree->taken);
    *tree = (pr_seat_tree){0};
}

void pr_seat_tree_clear(pr_seat_tree *tree)
{
    memset(tree->taken, 0, (size_t)tree->ranks * sizeof *tree->taken);
    for (int32_t level = PR_SEAT_LEVELS - 1; level >= 0; level--) {
        for (int32_t d = 0; d < tree->domains[level]; d++) {
            pr_seat_domain *domain = &tree->level[level][d];
            domain->free = level == PR_SEAT_NUMA ? domain->end - domain->begin : 0;
            for (int32_t c = domain->begin; level < PR_SEAT_NUMA && c < domain->end; c++)
                domain->free += tree->level[level + 1][c].free;
        }
    }
}

// ---- taking seats ----

// Takes so many seats of a NUMA domain, in order.
static int32_t *take_seats(pr_seat_tree *tree, int32_t numa, int32_t count, int32_t *position)
{
    const pr_seat_domain *domain = &tree->level[PR_SEAT_NUMA][numa];
    for (int32_t seat = domain->begin, left = count; left > 0; seat++) {
        assert(seat < domain->end);
        if (tree->taken[seat])
            continue;
        tree->taken[seat] = true;
        *position++ = seat;
        left--;
    }
    for (int32_t level = PR_SEAT_NUMA, d = numa; level >= 0; level--) {
        tree->level[level][d].free -= count;
        tree->level[level][d].chosen = true;
        d = tree->level[level][d].parent;
    }
    return position;
}

// The NUMA domain of a node that is the best for so many seats: the fullest with room for all of them,
// else the emptiest.
static int32_t best_numa(const pr_seat_tree *tree, int32_t node, int32_t count)
{
    const pr_seat_domain *of = &tree->level[PR_SEAT_NODE][node], *numa = tree->level[PR_SEAT_NUMA];
    int32_t best = of->begin;
    for (int32_t d = of->begin + 1; d < of->end; d++) {
        bool fits = numa[d].free >= count, best_fits = numa[best].free >= count;
        bool better = fits != best_fits ? fits
                      : fits            ? numa[d].free < numa[best].free
                                        : numa[d].free > numa[best].free;
        if (better)
            best = d;
    }
    return best;
}

// from_first: begins with the first seat of all.
static int32_t *
take_in_node(pr_seat_tree *tree, int32_t node, int32_t count, bool from_first, int32_t *position)
{
    while (count > 0) {
        int32_t numa = from_first ? 0 : best_numa(tree, node, count);
        int32_t room = tree->level[PR_SEAT_NUMA][numa].free;
        int32_t taken = count < room ? count : room;
        position = take_seats(tree, numa, taken, position);
        count -= taken;
        from_first = false;
    }
    return position;
}

// A lane that fits into no node: the emptiest nodes of those that the group has, then of all.
static int32_t *
take_split_lane(pr_seat_tree *tree, int32_t count, bool from_first, int32_t *position)
{
    const pr_seat_domain *node = tree->level[PR_SEAT_NODE];
    while (count > 0) {
        int32_t best = 0;
        for (int32_t d = 1; d < tree->domains[PR_SEAT_NODE] && !from_first; d++) {
            bool better = node[d].chosen && node[d].free > 0 && !node[best].chosen;
            if (node[best].free == 0 ||
                (node[d].chosen == node[best].chosen && node[d].free > node[best].free))
                better = node[d].free > 0;
            if (better)
                best = d;
        }
        int32_t taken = count < node[best].free ? count : node[best].free;
        position = take_in_node(tree, best, taken, from_first, position);
        count -= taken;
        from_first = false;
    }
    return position;
}

// ---- placing a group ----

static void forget_choices(pr_seat_tree *tree)
{
    for (int32_t level = 0; level < PR_SEAT_LEVELS; level++) {
        for (int32_t d = 0; d < tree->domains[level]; d++)
            tree->level[level][d].chosen = false;
    }
}

static void count_lanes(pr_seat_tree *tree, int32_t tp)
{
    for (int32_t level = PR_SEAT_NODE; level >= 0; level--) {
        for (int32_t d = 0; d < tree->domains[level]; d++) {
            pr_seat_domain *domain = &tree->level[level][d];
            domain->lanes = level == PR_SEAT_NODE ? domain->free / tp : 0;
            for (int32_t c = domain->begin; level < PR_SEAT_NODE && c < domain->end; c++)
                domain->lanes += tree->level[level + 1][c].lanes;
        }
    }
}

// Whether a is fuller than b; if they are alike, the switches above decide, so that one is filled before
// another is opened.
static bool is_fuller(const pr_seat_tree *tree, int32_t level, int32_t a, int32_t b)
{
    for (; level >= 0; level--) {
        const pr_seat_domain *left = &tree->level[level][a], *right = &tree->level[level][b];
        if (left->free != right->free)
            return left->free < right->free;
        a = left->parent;
        b = right->parent;
    }
    return false;
}

// The lowest level with a domain that has room for all lanes, and its fullest such domain.
static int32_t
find_room(const pr_seat_tree *tree, int32_t lanes, bool with_first, int32_t *found_level)
{
    for (int32_t level = PR_SEAT_NODE; level > PR_SEAT_WHOLE; level--) {
        int32_t best = -1, end = with_first ? 1 : tree->domains[level];
        for (int32_t d = 0; d < end; d++) {
            if (tree->level[level][d].lanes >= lanes &&
                (best < 0 || is_fuller(tree, level, d, best)))
                best = d;
        }
        if (best >= 0) {
            *found_level = level;
            return best;
        }
    }
    *found_level = PR_SEAT_WHOLE;
    return 0;
}

// Which child of a domain takes the next lanes: one that the group is in already, then the fullest that
// has room for all of them, then the one with most room.
static int32_t best_child(const pr_seat_tree *tree, int32_t level, int32_t parent, int32_t lanes)
{
    const pr_seat_domain *of = &tree->level[level][parent], *child = tree->level[level + 1];
    int32_t best = -1;
    for (int32_t d = of->begin; d < of->end; d++) {
        if (child[d].lanes == 0)
            continue;
        bool fits = child[d].lanes >= lanes, best_fits = best >= 0 && child[best].lanes >= lanes;
        bool better = best < 0;
        if (!better && child[d].chosen != child[best].chosen)
            better = child[d].chosen;
        else if (!better && fits != best_fits)
            better = fits;
        else if (!better)
            better = fits ? child[d].free < child[best].free : child[d].lanes > child[best].lanes;
        if (better)
            best = d;
    }
    return best;
}

static void forget_lanes(pr_seat_tree *tree, int32_t node, int32_t lanes)
{
    for (int32_t level = PR_SEAT_NODE, d = node; level >= 0; level--) {
        tree->level[level][d].lanes -= lanes;
        d = tree->level[level][d].parent;
    }
}

void pr_seat_tree_place(
    pr_seat_tree *tree, const pr_group_layout *group, bool with_first, int32_t *position)
{
    int32_t lanes = group->ranks / group->tp, top_level;
    forget_choices(tree);
    count_lanes(tree, group->tp);
    if (with_first && tree->level[PR_SEAT_NODE][0].lanes == 0) {
        position = take_split_lane(tree, group->tp, true, position);
        count_lanes(tree, group->tp);
        lanes--;
        with_first = false;
    }
    int32_t top = find_room(tree, lanes, with_first, &top_level);
    while (lanes > 0 && tree->level[top_level][top].lanes > 0) {
        int32_t node = with_first ? 0 : top;
        for (int32_t level = top_level; level < PR_SEAT_NODE && !with_first; level++)
            node = best_child(tree, level, node, lanes);
        int32_t room = tree->level[PR_SEAT_NODE][node].lanes;
        int32_t taken = lanes < room ? lanes : room;
        for (int32_t i = 0; i < taken; i++) {
            position = take_in_node(tree, node, group->tp, with_first, position);
            with_first = false;
        }
        forget_lanes(tree, node, taken);
        lanes -= taken;
    }
    for (; lanes > 0; lanes--)
        position = take_split_lane(tree, group->tp, false, position);
}

void pr_seat_tree_take_first(pr_seat_tree *tree)
{
    int32_t position;
    take_seats(tree, 0, 1, &position);
}
