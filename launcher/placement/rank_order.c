// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/placement/rank_order.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/placement/seat_tree.h"
#include "runtime/base/log.h"

// ---- what an order costs ----

typedef struct scorer {
    const pr_layout *layout;
    const pr_rank_seat *seat;
    int32_t *stamp;  // [2][ranks] the group that was seen last at each node and lowest switch
    pr_counterpart counterpart[PR_MAX_GROUPS];
} scorer;

static void count_lane(const scorer *s, const int32_t *launched, int32_t tp, pr_order_score *score)
{
    bool nodes = false, domains = false;
    for (int32_t i = 1; i < tp; i++) {
        const pr_rank_seat *a = &s->seat[launched[0]], *b = &s->seat[launched[i]];
        nodes |= a->node != b->node;
        domains |= a->numa != b->numa;
    }
    score->split_lanes += nodes;
    score->numa_lanes += !nodes && domains;
}

static void count_group(scorer *s, int32_t number, const int32_t *launched, pr_order_score *score)
{
    const pr_group_layout *group = &s->layout->group[number];
    int32_t *node_stamp = s->stamp, *switch_stamp = s->stamp + s->layout->ranks;
    launched += group->first_rank;
    for (int32_t i = 0; i < group->ranks; i++) {
        const pr_rank_seat *seat = &s->seat[launched[i]];
        int32_t lowest = seat->switches[PR_SWITCH_LEVELS - 1];
        score->group_nodes += node_stamp[seat->node] != number;
        score->group_switches += switch_stamp[lowest] != number;
        node_stamp[seat->node] = switch_stamp[lowest] = number;
        if (i % group->tp == 0)
            count_lane(s, launched + i, group->tp, score);
    }
}

// How far the ranks of a group are from its first at most.
static int32_t
radius_of(const pr_group_layout *group, const pr_rank_seat *seat, const int32_t *launched)
{
    int32_t radius = 0;
    launched += group->first_rank;
    for (int32_t i = 1; i < group->ranks; i++) {
        int32_t distance = pr_rank_seat_distance(&seat[launched[0]], &seat[launched[i]]);
        radius = distance > radius ? distance : radius;
    }
    return radius;
}

// Distances are an ultrametric: the smallest part around two groups reaches as far as the largest of both
// radii and the distance of any two of their ranks.
static int32_t join(int32_t a, int32_t b, int32_t between)
{
    int32_t radius = a > b ? a : b;
    return radius > between ? radius : between;
}

void pr_rank_order_counterparts(
    const pr_layout *layout,
    const pr_rank_seat *seat,
    const int32_t *launched,
    pr_counterpart *counterpart)
{
    int32_t radius[PR_MAX_GROUPS], chosen[PR_MAX_GROUPS] = {0};
    for (int32_t i = 0; i < layout->groups; i++)
        radius[i] = radius_of(&layout->group[i], seat, launched);
    for (int32_t i = 0; i < layout->groups; i++) {
        const pr_group_layout *group = &layout->group[i];
        pr_counterpart best = {.group = -1};
        for (int32_t k = 0; k < layout->groups && group->role != PR_ROLE_MIXED; k++) {
            const pr_group_layout *other = &layout->group[k];
            if (other->role == group->role)
                continue;
            int32_t between = pr_rank_seat_distance(
                &seat[launched[group->first_rank]], &seat[launched[other->first_rank]]);
            int32_t distance = join(radius[i], radius[k], between);
            if (best.group < 0 || distance < best.distance ||
                (distance == best.distance && chosen[k] < chosen[best.group]))
                best = (pr_counterpart){.group = k, .distance = distance};
        }
        counterpart[i] = best;
        if (best.group >= 0)
            chosen[best.group]++;
    }
}

static void score_order(scorer *s, const int32_t *launched, pr_order_score *score)
{
    *score = (pr_order_score){0};
    memset(s->stamp, 0xff, 2 * (size_t)s->layout->ranks * sizeof *s->stamp);
    for (int32_t i = 0; i < s->layout->groups; i++)
        count_group(s, i, launched, score);
    pr_rank_order_counterparts(s->layout, s->seat, launched, s->counterpart);
    for (int32_t i = 0; i < s->layout->groups; i++)
        score->handover += s->counterpart[i].distance;
}

int pr_order_score_compare(const pr_order_score *a, const pr_order_score *b)
{
    const int64_t left[] = {
        a->split_lanes, a->group_nodes, a->group_switches, a->numa_lanes, a->handover};
    const int64_t right[] = {
        b->split_lanes, b->group_nodes, b->group_switches, b->numa_lanes, b->handover};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        if (left[i] != right[i])
            return left[i] < right[i] ? -1 : 1;
    }
    return 0;
}

// ---- in which order groups are placed ----

typedef enum sequence { AS_LAID_OUT, LARGEST_FIRST, ROLES_ALTERNATE, SEQUENCES } sequence;

// The groups of a role, the largest first; equal ones as laid out.
static int32_t list_by_size(const pr_layout *layout, bool decode, int32_t *list)
{
    int32_t count = 0;
    for (int32_t i = 0; i < layout->groups; i++) {
        if ((layout->group[i].role == PR_ROLE_DECODE) != decode)
            continue;
        int32_t at = count++;
        for (; at > 0 && layout->group[list[at - 1]].ranks < layout->group[i].ranks; at--)
            list[at] = list[at - 1];
        list[at] = i;
    }
    return count;
}

// Two lists as one: by size, or so that both are spread evenly.
static void merge(
    const pr_layout *layout,
    sequence how,
    const int32_t *a,
    int32_t as,
    const int32_t *b,
    int32_t bs,
    int32_t *merged)
{
    for (int32_t i = 0, j = 0; i + j < as + bs;) {
        bool from_a = j == bs;
        if (i < as && j < bs)
            from_a = how == ROLES_ALTERNATE
                         ? (int64_t)i * bs <= (int64_t)j * as
                         : layout->group[a[i]].ranks >= layout->group[b[j]].ranks;
        *merged++ = from_a ? a[i++] : b[j++];
    }
}

static void list_groups(const pr_layout *layout, sequence how, int32_t list[PR_MAX_GROUPS])
{
    int32_t prefill[PR_MAX_GROUPS], decode[PR_MAX_GROUPS];
    for (int32_t i = 0; i < layout->groups; i++)
        list[i] = i;
    if (how == AS_LAID_OUT)
        return;
    int32_t prefills = list_by_size(layout, false, prefill);
    int32_t decodes = list_by_size(layout, true, decode);
    merge(layout, how, prefill, prefills, decode, decodes, list);
}

// ---- placing ----

static int compare_numbers(const void *a, const void *b)
{
    int32_t left = *(const int32_t *)a, right = *(const int32_t *)b;
    return (left > right) - (left < right);
}

// Lanes by their first seats, and ranks within lanes: qsort compares whole lanes by their first number.
static void sort_group(const pr_group_layout *group, int32_t *position)
{
    for (int32_t i = 0; i < group->ranks; i += group->tp)
        qsort(position + i, (size_t)group->tp, sizeof *position, compare_numbers);
    qsort(
        position, (size_t)(group->ranks / group->tp), (size_t)group->tp * sizeof *position,
        compare_numbers);
}

static void
place_groups(const pr_layout *layout, sequence how, pr_seat_tree *tree, int32_t *launched)
{
    int32_t list[PR_MAX_GROUPS];
    bool led = !layout->dedicated_controller;  // the first group has rank 0
    list_groups(layout, how, list);
    pr_seat_tree_clear(tree);
    launched[0] = 0;
    if (!led)
        pr_seat_tree_take_first(tree);
    for (int32_t i = led ? -1 : 0; i < layout->groups; i++) {
        int32_t number = i < 0 ? 0 : list[i];
        if (i >= 0 && led && number == 0)
            continue;
        const pr_group_layout *group = &layout->group[number];
        int32_t *position = launched + group->first_rank;
        pr_seat_tree_place(tree, group, led && number == 0, position);
        sort_group(group, position);
        for (int32_t k = 0; k < group->ranks; k++)
            position[k] = tree->sorted[position[k]];
    }
    assert(launched[0] == 0);
}

static void try_sequences(scorer *s, pr_seat_tree *tree, int32_t *trial, pr_rank_order *order)
{
    size_t bytes = (size_t)s->layout->ranks * sizeof *trial;
    for (int32_t i = 0; i < s->layout->ranks; i++)
        order->launched[i] = i;
    score_order(s, order->launched, &order->launcher_score);
    order->score = order->launcher_score;
    for (sequence how = 0; how < SEQUENCES; how++) {
        pr_order_score score;
        place_groups(s->layout, how, tree, trial);
        score_order(s, trial, &score);
        if (pr_order_score_compare(&score, &order->score) >= 0)
            continue;
        order->score = score;
        order->changed = true;
        memcpy(order->launched, trial, bytes);
    }
}

pr_status
pr_rank_order_find(const pr_layout *layout, const pr_rank_seat *seat, pr_rank_order *order)
{
    size_t ranks = (size_t)layout->ranks;
    pr_seat_tree tree;
    *order = (pr_rank_order){.launched = calloc(ranks, sizeof *order->launched)};
    scorer *s = calloc(1, sizeof *s);
    int32_t *trial = calloc(ranks, sizeof *trial), *stamp = calloc(2 * ranks, sizeof *stamp);
    pr_status status = order->launched && s && trial && stamp
                           ? pr_seat_tree_create(seat, layout->ranks, &tree)
                           : pr_fail(PR_ERR_RESOURCE, "no memory to order %zu ranks", ranks);
    if (status == PR_OK) {
        *s = (scorer){.layout = layout, .seat = seat, .stamp = stamp};
        try_sequences(s, &tree, trial, order);
        pr_seat_tree_release(&tree);
    }
    free(s);
    free(trial);
    free(stamp);
    if (status != PR_OK)
        pr_rank_order_release(order);
    return status;
}

void pr_rank_order_describe(const pr_rank_order *order, char text[PR_ORDER_TEXT_BYTES])
{
    const pr_order_score *now = &order->score, *before = &order->launcher_score;
    const struct {
        const char *what, *unit;  // unit: of a sum over groups
        int64_t now, before;
    } part[] = {
        {"tp lanes across nodes: ", NULL, now->split_lanes, before->split_lanes},
        {"groups on ", "node", now->group_nodes, before->group_nodes},
        {"groups under ", "switch", now->group_switches, before->group_switches},
        {"tp lanes across NUMA domains: ", NULL, now->numa_lanes, before->numa_lanes},
        {"handover distance ", NULL, now->handover, before->handover},
    };
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof part / sizeof part[0] && used < PR_ORDER_TEXT_BYTES; i++) {
        // Where nothing was changed, only what is left to wish for.
        if (order->changed ? part[i].now == part[i].before : part[i].now == 0)
            continue;
        bool many = part[i].now != 1;
        used += (size_t)snprintf(
            text + used, PR_ORDER_TEXT_BYTES - used, "%s%s%lld", used ? "; " : "", part[i].what,
            (long long)part[i].now);
        if (part[i].unit && used < PR_ORDER_TEXT_BYTES)
            used += (size_t)snprintf(
                text + used, PR_ORDER_TEXT_BYTES - used, " %s%s in all", part[i].unit,
                !many                    ? ""
                : part[i].unit[0] == 's' ? "es"
                                         : "s");
        if (order->changed && used < PR_ORDER_TEXT_BYTES)
            used += (size_t)snprintf(
                text + used, PR_ORDER_TEXT_BYTES - used, " instead of %lld",
                (long long)part[i].before);
    }
}

void pr_rank_order_release(pr_rank_order *order)
{
    free(order->launched);
    order->launched = NULL;
}
