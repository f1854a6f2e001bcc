// SPDX-License-Identifier: BSD-3-Clause
// Which ranks are lost, which groups with them, and what is told of it: when the first request of a lost
// group has gone on elsewhere. Threads: the controller's.
#ifndef PR_LAUNCHER_RECOVER_LOSSES_H
#define PR_LAUNCHER_RECOVER_LOSSES_H

#include "runtime/batch/layout.h"
#include "scheduler/scheduler.h"

typedef struct pr_losses pr_losses;

pr_status pr_losses_create(const pr_layout *layout, pr_losses **losses) PR_MUST_CHECK;
void pr_losses_destroy(pr_losses *losses);

// Notes the rank. True: its group was whole until now.
bool pr_losses_add(pr_losses *losses, int32_t rank);

// A process has come in the place of the rank; the group is whole.
void pr_losses_replace(pr_losses *losses, int32_t rank);
void pr_losses_return(pr_losses *losses, int32_t group);

bool pr_losses_has_rank(const pr_losses *losses, int32_t rank);
bool pr_losses_has_group(const pr_losses *losses, int32_t group);

// One line on the loss that was noted last, when its requests have been moved; and one, later, when the
// first of them has gone on. Counts are the scheduler's: before the loss and after it; now.
void pr_losses_tell(
    pr_losses *losses,
    const char *rank_name,
    const char *why,
    const pr_scheduler_counts *before,
    const pr_scheduler_counts *after);
void pr_losses_tell_resumed(pr_losses *losses, const pr_scheduler_counts *now);

#endif
