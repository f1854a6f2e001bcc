// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/recover/losses.h"

#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"

struct pr_losses {
    const pr_layout *layout;
    bool *rank;       // [ranks]
    bool *group;      // [groups]
    int64_t seen_ns;  // of the last loss; 0: it is told that its requests go on
    int64_t resumed;  // before it
};

pr_status pr_losses_create(const pr_layout *layout, pr_losses **losses)
{
    pr_losses *made = calloc(1, sizeof *made);
    if (made) {
        made->layout = layout;
        made->rank = calloc((size_t)layout->ranks, sizeof *made->rank);
        made->group = calloc((size_t)layout->groups, sizeof *made->group);
    }
    if (!made || !made->rank || !made->group) {
        pr_losses_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the list of lost ranks");
    }
    *losses = made;
    return PR_OK;
}

void pr_losses_destroy(pr_losses *losses)
{
    if (!losses)
        return;
    free(losses->rank);
    free(losses->group);
    free(losses);
}

bool pr_losses_add(pr_losses *losses, int32_t rank)
{
    int32_t group = pr_layout_group_of(losses->layout, rank);
    bool was_whole = !losses->group[group];
    losses->rank[rank] = true;
    losses->group[group] = true;
    losses->seen_ns = pr_clock_now_ns();
    return was_whole;
}

void pr_losses_replace(pr_losses *losses, int32_t rank) { losses->rank[rank] = false; }

void pr_losses_return(pr_losses *losses, int32_t group) { losses->group[group] = false; }

bool pr_losses_has_rank(const pr_losses *losses, int32_t rank)
{
    return losses && losses->rank[rank];
}

bool pr_losses_has_group(const pr_losses *losses, int32_t group)
{
    return losses && losses->group[group];
}

void pr_losses_tell(
    pr_losses *losses,
    const char *rank_name,
    const char *why,
    const pr_scheduler_counts *before,
    const pr_scheduler_counts *after)
{
    int64_t moved = after->moved - before->moved;
    pr_log(
        PR_LOG_WARN, "recovery: %s is lost (%s): %lld of its group's requests go on elsewhere",
        rank_name, why, (long long)moved);
    losses->resumed = before->resumed;
    if (moved == 0)
        losses->seen_ns = 0;
}

void pr_losses_tell_resumed(pr_losses *losses, const pr_scheduler_counts *now)
{
    if (!losses || losses->seen_ns == 0 || now->resumed == losses->resumed)
        return;
    pr_log(
        PR_LOG_WARN, "recovery: the first of them goes on, %.0f ms after the loss was seen",
        (double)(pr_clock_now_ns() - losses->seen_ns) * 1e-6);
    losses->seen_ns = 0;
}
