// SPDX-License-Identifier: BSD-3-Clause
// `polyreme simulate`: the scheduler on virtual time. No model, no MPI.
#include "launcher/commands.h"
#include "launcher/simulate/replay_mode.h"

int pr_simulate_command(const pr_options *options) { return pr_replay_mode(options); }
