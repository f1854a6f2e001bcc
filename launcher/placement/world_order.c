// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/placement/world_order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/engine/layout_choice.h"
#include "launcher/placement/rank_order.h"
#include "runtime/base/log.h"

enum {
    GROUPS_SHOWN = 16,
    NODES_SHOWN = 4,
    NODES_TEXT = 320,
    NUMBERS_SHOWN = 16,
    NUMBERS_TEXT = 160
};

typedef struct settling {
    const pr_layout *layout;
    pr_rank_names *names;  // [ranks] by the launcher's ranks, as seat
    pr_rank_seat *seat;
    pr_switch_fact switches;
    pr_rank_order order;
} settling;

static void name_this_rank(int32_t numa, pr_rank_names *names)
{
    *names = (pr_rank_names){.numa = numa};
    gethostname(names->host, sizeof names->host - 1);
    pr_rank_switches_of(
        getenv("SLURM_TOPOLOGY_ADDR"), getenv("SLURM_TOPOLOGY_ADDR_PATTERN"), names->switches);
}

static int32_t count_nodes(const settling *s)
{
    int32_t nodes = 0;
    for (int32_t i = 0; i < s->layout->ranks; i++)
        nodes = s->seat[i].node >= nodes ? s->seat[i].node + 1 : nodes;
    return nodes;
}

static int32_t count_switches(const settling *s)
{
    int32_t switches = 0;
    for (int32_t i = 0; i < s->layout->ranks; i++) {
        int32_t own = s->seat[i].switches[PR_SWITCH_LEVELS - 1];
        switches = own >= switches ? own + 1 : switches;
    }
    return switches;
}

// The hosts of a group's ranks, each once as long as they are consecutive.
static void list_hosts(const settling *s, const pr_group_layout *group, char text[NODES_TEXT])
{
    const int32_t *launched = s->order.launched + group->first_rank;
    size_t used = 0;
    int32_t shown = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < group->ranks && used < NODES_TEXT; i++) {
        if (i > 0 && s->seat[launched[i]].node == s->seat[launched[i - 1]].node)
            continue;
        if (shown++ == NODES_SHOWN) {
            snprintf(text + used, NODES_TEXT - used, " ...");
            return;
        }
        used += (size_t)snprintf(
            text + used, NODES_TEXT - used, "%s%s", used ? " " : "", s->names[launched[i]].host);
    }
}

// What a group's ranks are in the launcher's messages.
static void list_numbers(const settling *s, const pr_group_layout *group, char text[NUMBERS_TEXT])
{
    const int32_t *launched = s->order.launched + group->first_rank;
    size_t used = 0;
    text[0] = '\0';
    for (int32_t i = 0; s->order.changed && i < group->ranks && used < NUMBERS_TEXT; i++) {
        if (i == NUMBERS_SHOWN) {
            snprintf(text + used, NUMBERS_TEXT - used, " ...");
            return;
        }
        used += (size_t)snprintf(
            text + used, NUMBERS_TEXT - used, "%s%d", used ? " " : ", launched as ",
            (int)launched[i]);
    }
}

static void tell_groups(const settling *s)
{
    for (int32_t i = 0; i < s->layout->groups && i < GROUPS_SHOWN; i++) {
        const pr_group_layout *group = &s->layout->group[i];
        char ranks[32], hosts[NODES_TEXT], numbers[NUMBERS_TEXT];
        pr_layout_ranks_text(group, ranks);
        list_hosts(s, group, hosts);
        list_numbers(s, group, numbers);
        pr_log(
            PR_LOG_INFO, "  group %d %s, %s: %s%s", (int)i, pr_role_name(group->role), ranks, hosts,
            numbers);
    }
    if (s->layout->groups > GROUPS_SHOWN)
        pr_log(PR_LOG_INFO, "  and %d groups more", (int)(s->layout->groups - GROUPS_SHOWN));
}

static void tell(const settling *s, bool keep)
{
    char text[PR_ORDER_TEXT_BYTES], switches[64] = "";
    int32_t nodes = count_nodes(s);
    if (nodes == 1 && !s->order.changed)
        return;
    if (s->switches == PR_SWITCHES_MANY)
        snprintf(switches, sizeof switches, " under %d switches", (int)count_switches(s));
    if (s->switches == PR_SWITCHES_DISCARDED)
        snprintf(switches, sizeof switches, " (SLURM_TOPOLOGY_ADDR is not their own)");
    pr_rank_order_describe(&s->order, text);
    pr_log(
        PR_LOG_INFO, "rank order: %d ranks on %d node%s%s, %s: %s", (int)s->layout->ranks,
        (int)nodes, nodes == 1 ? "" : "s", switches,
        !s->order.changed ? "as launched, none is better"
        : keep            ? "as launched, --rank-order auto would have"
                          : "reordered",
        text);
}

static pr_status settle(settling *s, pr_world *world, int32_t numa, bool keep)
{
    pr_rank_names mine;
    name_this_rank(numa, &mine);
    PR_TRY(pr_world_gather_all(world, &mine, s->names, sizeof mine));
    PR_TRY(pr_rank_seats_number(s->names, s->layout->ranks, s->seat, &s->switches));
    PR_TRY(pr_rank_order_find(s->layout, s->seat, &s->order));
    bool speaks = pr_world_rank(world) == 0;
    if (speaks)
        tell(s, keep);
    if (keep) {
        s->order.changed = false;
        for (int32_t i = 0; i < s->layout->ranks; i++)
            s->order.launched[i] = i;
    } else if (s->order.changed) {
        int32_t launched = pr_world_rank(world);
        PR_TRY(pr_world_reorder(world, s->order.launched));
        pr_log(
            PR_LOG_DEBUG, "rank %d on %s was the launcher's rank %d", (int)pr_world_rank(world),
            mine.host, (int)launched);
    }
    if (speaks && count_nodes(s) > 1)
        tell_groups(s);
    return PR_OK;
}

pr_status pr_world_order_settle(pr_world *world, const pr_layout *layout, int32_t numa, bool keep)
{
    if (layout->ranks == 1)
        return PR_OK;
    size_t ranks = (size_t)layout->ranks;
    settling s = {
        .layout = layout,
        .names = calloc(ranks, sizeof *s.names),
        .seat = calloc(ranks, sizeof *s.seat),
    };
    pr_status status = s.names && s.seat
                           ? settle(&s, world, numa, keep)
                           : pr_fail(PR_ERR_RESOURCE, "no memory to order %zu ranks", ranks);
    pr_rank_order_release(&s.order);
    free(s.names);
    free(s.seat);
    return status;
}
