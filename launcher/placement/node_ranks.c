// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/placement/node_ranks.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"

// What every rank shows every other.
typedef struct rank_card {
    char host[256];
    int64_t computes;
    pr_cpu_set usable;
} rank_card;

pr_status
pr_node_ranks_gather(pr_world *world, const pr_cpu_set *usable, bool computes, pr_node_ranks *node)
{
    int32_t ranks = pr_world_ranks(world);
    rank_card mine = {.computes = computes, .usable = *usable};
    gethostname(mine.host, sizeof mine.host - 1);
    rank_card *all = calloc((size_t)ranks, sizeof *all);
    *node = (pr_node_ranks){.usable = calloc((size_t)ranks, sizeof *node->usable)};
    pr_status status = all && node->usable
                           ? pr_world_gather_all(world, &mine, all, sizeof mine)
                           : pr_fail(PR_ERR_RESOURCE, "no memory to compare host names");
    for (int32_t i = 0; status == PR_OK && i < ranks; i++) {
        if (strcmp(all[i].host, mine.host) != 0)
            continue;
        node->ranks++;
        if (i == pr_world_rank(world))
            node->number = node->computing;
        if (all[i].computes)
            node->usable[node->computing++] = all[i].usable;
    }
    free(all);
    if (status != PR_OK)
        pr_node_ranks_release(node);
    return status;
}

void pr_node_ranks_release(pr_node_ranks *node)
{
    free(node->usable);
    node->usable = NULL;
}
