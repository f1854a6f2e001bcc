// SPDX-License-Identifier: BSD-3-Clause
// A rank's side of going on after a loss (recover_order.h): running its worker, or waiting without one,
// and carrying out orders in between; and the start of a process that replaces a lost rank.
// What a broken group used (its communicators, exchange and worker) is left behind, not given back: MPI may
// still write there. Threads: the program's main thread.
#ifndef PR_LAUNCHER_RECOVER_RANK_RECOVERY_H
#define PR_LAUNCHER_RECOVER_RANK_RECOVERY_H

#include "launcher/engine/engine.h"

// Whether the run goes on after a loss.
bool pr_rank_recovery_is_on(const pr_engine *engine);

// Collective over the world, at start-up: what rank 0 has to know for replacements.
pr_status pr_rank_recovery_prepare(pr_engine *engine) PR_MUST_CHECK;

// In a replacement: fills what the other ranks have agreed on at their start, and joins the control plane.
pr_status pr_rank_recovery_take_facts(pr_engine *engine) PR_MUST_CHECK;
// It is ready to form its group.
pr_status pr_rank_recovery_say_ready(pr_engine *engine) PR_MUST_CHECK;

// Until the stop.
pr_status pr_rank_recovery_run(pr_engine *engine) PR_MUST_CHECK;

#endif
