// SPDX-License-Identifier: BSD-3-Clause
// Takes in what workers report. Reports of another generation speak of a sequence that was preempted
// or cancelled meanwhile and are ignored; what they said is computed again, with the same tokens.
// Entries that cannot be right (a token out of order, more computed than planned) are logged and
// ignored: a worker must not be able to corrupt the pools.
#ifndef PR_SCHEDULER_PROGRESS_H
#define PR_SCHEDULER_PROGRESS_H

#include "scheduler/scheduler_state.h"

void pr_progress_report(pr_scheduler *scheduler, const pr_report *report);

#endif
