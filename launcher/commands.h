// SPDX-License-Identifier: BSD-3-Clause
// The commands of the program and how they end. main.c has the table that names them.
#ifndef PR_LAUNCHER_COMMANDS_H
#define PR_LAUNCHER_COMMANDS_H

#include "launcher/options.h"
#include "runtime/base/status.h"

// Exit codes, the same for every command.
enum {
    PR_EXIT_OK = 0,
    PR_EXIT_INTERNAL = 1,
    PR_EXIT_USAGE = 2,
    PR_EXIT_SOME_FAILED = 3,  // batch: some requests failed, their error lines say why
    PR_EXIT_FILE = 4,         // a model or another file
    PR_EXIT_TRANSPORT = 5,    // MPI or the control plane
    PR_EXIT_MEMORY = 6,
    PR_EXIT_UNFINISHED = 7,  // batch --state: there is something left that --resume continues
};

static inline int pr_exit_code(pr_status status)
{
    switch (status) {
    case PR_OK:
        return PR_EXIT_OK;
    case PR_ERR_ARGUMENT:
        return PR_EXIT_USAGE;
    case PR_ERR_FORMAT:
    case PR_ERR_UNSUPPORTED:
    case PR_ERR_NOT_FOUND:
    case PR_ERR_IO:
        return PR_EXIT_FILE;
    case PR_ERR_RESOURCE:
        return PR_EXIT_MEMORY;
    case PR_ERR_REQUEST:
        return PR_EXIT_SOME_FAILED;
    case PR_ERR_INTERRUPTED:
    case PR_ERR_TIMEOUT:
    case PR_ERR_PEER:
        return PR_EXIT_TRANSPORT;
    case PR_ERR_INTERNAL:
        return PR_EXIT_INTERNAL;
    }
    return PR_EXIT_INTERNAL;
}

// Each runs one command to its end and returns an exit code. Errors are already told.
int pr_plan_command(const pr_options *options);
int pr_convert_command(const pr_options *options);
int pr_doctor_command(const pr_options *options);
int pr_batch_command(const pr_options *options);
int pr_generate_command(const pr_options *options);
int pr_bench_command(const pr_options *options);
int pr_simulate_command(const pr_options *options);
int pr_serve_command(const pr_options *options);
int pr_chat_command(const pr_options *options);
int pr_top_command(const pr_options *options);
int pr_emit_command(const pr_options *options);
int pr_job_command(const pr_options *options);

#endif
