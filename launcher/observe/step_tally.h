// SPDX-License-Identifier: BSD-3-Clause
// Steps of each group, counted from the reports of its lane leaders: a step once, however many lanes tell of it,
// its tokens over all lanes. Reports of one step do not come together, so the latest steps stay open for a while.
//
//   lane 0:  (plan 7 step 0)  (7 1)         (7 2)        open: the 8 latest (plan, step) of a group; what is
//   lane 1:        (7 0)             (7 1)               counted includes them
//
// Memory: at create. Threads: one, the controller's. Source: ours.
#ifndef PR_LAUNCHER_OBSERVE_STEP_TALLY_H
#define PR_LAUNCHER_OBSERVE_STEP_TALLY_H

#include "launcher/serve/snapshot.h"

typedef struct pr_step_tally pr_step_tally;

pr_status pr_step_tally_create(int32_t groups, pr_step_tally **tally) PR_MUST_CHECK;
void pr_step_tally_destroy(pr_step_tally *tally);

// A report that tells of no step, or of a group that there is not, has no effect.
void pr_step_tally_add(pr_step_tally *tally, const pr_report *report);

// Fills steps, step_s and tokens of each group and the histogram of iterations.
void pr_step_tally_read(const pr_step_tally *tally, pr_snapshot *snapshot);

#endif
