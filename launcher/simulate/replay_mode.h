// SPDX-License-Identifier: BSD-3-Clause
// `polyreme simulate --replay FILE`: the events that batch --record FILE wrote, through the scheduler
// again: the decisions must be the same ones. No model, no MPI.
#ifndef PR_LAUNCHER_SIMULATE_REPLAY_MODE_H
#define PR_LAUNCHER_SIMULATE_REPLAY_MODE_H

#include "launcher/options.h"

// Returns an exit code; errors are already told.
int pr_replay_mode(const pr_options *options);

#endif
