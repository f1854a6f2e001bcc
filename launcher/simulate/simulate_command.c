// SPDX-License-Identifier: BSD-3-Clause
// `polyreme simulate`: the scheduler on virtual time. No model, no MPI.
#include "launcher/commands.h"
#include "launcher/simulate/calibrate_mode.h"
#include "launcher/simulate/replay_mode.h"
#include "runtime/base/log.h"

int pr_simulate_command(const pr_options *options)
{
    if (options->calibrate)
        return pr_calibrate_mode(options);
    if (options->replay)
        return pr_replay_mode(options);
    return pr_exit_code(pr_fail(PR_ERR_ARGUMENT, "give --replay FILE or --calibrate FILE"));
}
