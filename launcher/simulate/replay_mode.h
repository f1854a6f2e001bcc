// SPDX-License-Identifier: BSD-3-Clause
// The two modes of `polyreme simulate` that start from a recorded run (batch --record FILE).
//
//   --replay FILE     the events through the scheduler again: the decisions must be the same ones
//   --calibrate FILE  step times fitted from the record, the scheduler on virtual time: predicted
//                     beside recorded, for the recorded settings or others
#ifndef PR_LAUNCHER_SIMULATE_REPLAY_MODE_H
#define PR_LAUNCHER_SIMULATE_REPLAY_MODE_H

#include "launcher/options.h"

// Each returns an exit code; errors are already told.
int pr_replay_mode(const pr_options *options);

#endif
