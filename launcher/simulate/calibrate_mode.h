// SPDX-License-Identifier: BSD-3-Clause
// `polyreme simulate --calibrate FILE`: step times fitted from a recorded run (batch --record FILE), the
// scheduler on virtual time under the same arrivals: predicted beside recorded. Settings given now take
// the place of the recorded ones: what would have been?
#ifndef PR_LAUNCHER_SIMULATE_CALIBRATE_MODE_H
#define PR_LAUNCHER_SIMULATE_CALIBRATE_MODE_H

#include "launcher/options.h"

// Returns an exit code; errors are already told.
int pr_calibrate_mode(const pr_options *options);

#endif
