// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/plan/plan_placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/parallel.h"

enum { RANKS_SHOWN = 64, GROUPS_SHOWN = 16, CPUS_BYTES = 64 };

// ---- making ----

// Nodes have at most three different numbers of computing ranks: two for an uneven spread, and the first
// node's with a controller of its own.
enum { KINDS = 4 };

typedef struct node_kind {
    int32_t computing;
    const pr_thread_choice *threads;  // [computing]
} node_kind;

typedef struct maker {
    pr_plan_placement *placement;
    const pr_options *options;
    pr_cpu_set *usable;  // [ranks of a node] all the same
    node_kind kind[KINDS];
    int32_t kinds, threads_used;
} maker;

static int32_t first_rank_of(const pr_plan_placement *placement, int32_t node)
{
    return (int32_t)pr_share_begin(placement->layout->ranks, node, placement->nodes.nodes);
}

// What each of so many computing ranks of a node computes with.
static const pr_thread_choice *find_threads(maker *make, int32_t computing)
{
    for (int32_t i = 0; i < make->kinds; i++) {
        if (make->kind[i].computing == computing)
            return make->kind[i].threads;
    }
    const pr_topology *topology = make->placement->nodes.topology;
    pr_thread_choice *choice = make->placement->threads + make->threads_used;
    pr_thread_wish wish = {
        .threads = make->options->threads, .bind = make->options->bind, .granted = true};
    for (int32_t i = 0; i < computing; i++)
        pr_thread_choose(&topology->map, make->usable, computing, i, &wish, &choice[i]);
    make->kind[make->kinds++] = (node_kind){computing, choice};
    make->threads_used += computing;
    return choice;
}

// seat and place are by the launcher's ranks here.
static void seat_node(maker *make, int32_t node, pr_rank_seat *seat, pr_plan_seat *place)
{
    pr_plan_placement *placement = make->placement;
    const pr_topology *topology = placement->nodes.topology;
    int32_t first = first_rank_of(placement, node), end = first_rank_of(placement, node + 1);
    int32_t idle = node == 0 && placement->layout->dedicated_controller;
    const pr_thread_choice *threads =
        topology && end - first > idle ? find_threads(make, end - first - idle) : NULL;
    for (int32_t i = first; i < end; i++) {
        const pr_thread_choice *own =
            threads && i - first >= idle ? &threads[i - first - idle] : NULL;
        place[i] = (pr_plan_seat){.node = node, .numa = -1, .launched = i, .threads = own};
        if (own)
            place[i].numa = pr_thread_numa(&topology->map, &topology->usable, own);
        seat[i] = (pr_rank_seat){.node = node, .numa = place[i].numa};
        if (placement->nodes.nodes_per_switch > 0)
            seat[i].switches[PR_SWITCH_LEVELS - 1] = node / placement->nodes.nodes_per_switch;
    }
}

static pr_status order_seats(maker *make, pr_rank_seat *seat, pr_plan_seat *place)
{
    pr_plan_placement *placement = make->placement;
    for (int32_t node = 0; node < placement->nodes.nodes; node++)
        seat_node(make, node, seat, place);
    PR_TRY(pr_rank_order_find(placement->layout, seat, &placement->order));
    for (int32_t i = 0; i < placement->layout->ranks; i++) {
        if (placement->kept)
            placement->order.launched[i] = i;
        placement->seat[i] = place[placement->order.launched[i]];
    }
    pr_rank_order_counterparts(
        placement->layout, seat, placement->order.launched, placement->counterpart);
    return PR_OK;
}

pr_status pr_plan_placement_make(
    const pr_layout *layout,
    const pr_plan_nodes *nodes,
    const pr_options *options,
    pr_plan_placement *placement)
{
    size_t ranks = (size_t)layout->ranks, per_node = ranks / (size_t)nodes->nodes + 1;
    *placement = (pr_plan_placement){.layout = layout, .nodes = *nodes, .switches = 1};
    if (layout->ranks < nodes->nodes)
        return pr_fail(
            PR_ERR_ARGUMENT, "--nodes %d with %d ranks: each node needs one", (int)nodes->nodes,
            (int)layout->ranks);
    if (nodes->nodes_per_switch > 0)
        placement->switches =
            (nodes->nodes + nodes->nodes_per_switch - 1) / nodes->nodes_per_switch;
    placement->kept = options->rank_order && strcmp(options->rank_order, "launcher") == 0;
    placement->seat = calloc(ranks, sizeof *placement->seat);
    placement->counterpart = calloc((size_t)layout->groups, sizeof *placement->counterpart);
    placement->threads = calloc(KINDS * per_node, sizeof *placement->threads);
    maker make = {
        .placement = placement,
        .options = options,
        .usable = calloc(per_node, sizeof *make.usable),
    };
    pr_rank_seat *seat = calloc(ranks, sizeof *seat);
    pr_plan_seat *place = calloc(ranks, sizeof *place);
    bool made = placement->seat && placement->counterpart && placement->threads && make.usable &&
                seat && place;
    for (size_t i = 0; made && nodes->topology && i < per_node; i++)
        make.usable[i] = nodes->topology->usable;
    pr_status status = made ? order_seats(&make, seat, place)
                            : pr_fail(PR_ERR_RESOURCE, "no memory to place %zu ranks", ranks);
    free(make.usable);
    free(seat);
    free(place);
    if (status != PR_OK)
        pr_plan_placement_release(placement);
    return status;
}

void pr_plan_placement_release(pr_plan_placement *placement)
{
    pr_rank_order_release(&placement->order);
    free(placement->seat);
    free(placement->counterpart);
    free(placement->threads);
    *placement = (pr_plan_placement){0};
}

// ---- text ----

const char *pr_plan_distance_text(const pr_plan_placement *placement, int32_t distance)
{
    if (distance == 0)
        return "on one node";
    if (placement->switches == 1)
        return "on several nodes";
    return distance == 1 ? "under one switch" : "under several switches";
}

void pr_plan_placement_summary(const pr_plan_placement *placement, char text[96])
{
    int32_t ranks = placement->layout->ranks, nodes = placement->nodes.nodes;
    int length = snprintf(
        text, 96, "%d rank%s on %d node%s", (int)ranks, ranks == 1 ? "" : "s", (int)nodes,
        nodes == 1 ? "" : "s");
    if (placement->switches > 1)
        snprintf(
            text + length, 96 - (size_t)length, " under %d switches", (int)placement->switches);
}

static const char *order_text(const pr_plan_placement *placement)
{
    if (!placement->order.changed)
        return "started node by node, which no order betters";
    return placement->kept ? "as started node by node; --rank-order auto would have"
                           : "reordered after a start node by node";
}

static void print_seats(const pr_plan_placement *placement)
{
    printf("  rank node NUMA threads CPUs          launcher's rank\n");
    for (int32_t i = 0; i < placement->layout->ranks && i < RANKS_SHOWN; i++) {
        const pr_plan_seat *seat = &placement->seat[i];
        char cpus[CPUS_BYTES] = "-", numa[12] = "-", threads[12] = "-";
        if (seat->numa >= 0)
            snprintf(numa, sizeof numa, "%d", (int)seat->numa);
        if (seat->threads)
            snprintf(threads, sizeof threads, "%d", (int)seat->threads->threads);
        if (seat->threads && seat->threads->bound)
            pr_thread_cpus_text(seat->threads, cpus, sizeof cpus);
        printf(
            "  %4d %4d %4s %7s %-13s %d\n", (int)i, (int)seat->node, numa, threads, cpus,
            (int)seat->launched);
    }
    if (placement->layout->ranks > RANKS_SHOWN)
        printf("  ... %d more ranks\n", (int)(placement->layout->ranks - RANKS_SHOWN));
}

static void print_handovers(const pr_plan_placement *placement)
{
    int32_t shown = 0;
    for (int32_t i = 0; i < placement->layout->groups && shown < GROUPS_SHOWN; i++) {
        const pr_counterpart *to = &placement->counterpart[i];
        if (to->group < 0 || placement->layout->group[i].role != PR_ROLE_PREFILL)
            continue;
        printf(
            "  KV of group %d goes nearest to group %d: %s\n", (int)i, (int)to->group,
            pr_plan_distance_text(placement, to->distance));
        shown++;
    }
}

void pr_plan_placement_print(const pr_plan_placement *placement)
{
    char summary[96], text[PR_ORDER_TEXT_BYTES];
    pr_plan_placement_summary(placement, summary);
    pr_rank_order_describe(&placement->order, text);
    printf("\nPlaced   %s, %s:\n         %s\n", summary, order_text(placement), text);
    print_seats(placement);
    print_handovers(placement);
}

// ---- JSON ----

static json_t *score_json(const pr_order_score *score)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I}", "split_lanes", (json_int_t)score->split_lanes, "group_nodes",
        (json_int_t)score->group_nodes, "group_switches", (json_int_t)score->group_switches,
        "numa_lanes", (json_int_t)score->numa_lanes, "handover", (json_int_t)score->handover);
}

static json_t *seat_json(const pr_plan_seat *seat, int32_t rank)
{
    char cpus[256] = "";
    if (seat->threads && seat->threads->bound)
        pr_thread_cpus_text(seat->threads, cpus, sizeof cpus);
    return json_pack(
        "{s:i, s:i, s:i, s:i, s:s, s:i}", "rank", (int)rank, "node", (int)seat->node, "numa",
        (int)seat->numa, "threads", seat->threads ? (int)seat->threads->threads : 0, "cpus", cpus,
        "launcher_rank", (int)seat->launched);
}

json_t *pr_plan_placement_json(const pr_plan_placement *placement)
{
    json_t *seats = json_array(), *handovers = json_array();
    for (int32_t i = 0; i < placement->layout->ranks; i++)
        json_array_append_new(seats, seat_json(&placement->seat[i], i));
    for (int32_t i = 0; i < placement->layout->groups; i++) {
        const pr_counterpart *to = &placement->counterpart[i];
        if (to->group >= 0 && placement->layout->group[i].role == PR_ROLE_PREFILL)
            json_array_append_new(
                handovers, json_pack(
                               "{s:i, s:i, s:i}", "prefill_group", (int)i, "decode_group",
                               (int)to->group, "distance", (int)to->distance));
    }
    return json_pack(
        "{s:i, s:i, s:b, s:o, s:o, s:o, s:o}", "nodes", (int)placement->nodes.nodes, "switches",
        (int)placement->switches, "reordered", placement->order.changed && !placement->kept,
        "score", score_json(&placement->order.score), "launcher_score",
        score_json(&placement->order.launcher_score), "seats", seats, "handovers", handovers);
}
