// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/replay_mode.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "launcher/commands.h"
#include "runtime/base/log.h"
#include "scheduler/record/replay.h"

static pr_status run_file(const char *path, pr_replay_result *result)
{
    FILE *events = fopen(path, "r");
    if (!events)
        return pr_fail(
            PR_ERR_NOT_FOUND, "cannot read the record %s: %s: make one with batch --record FILE",
            path, strerror(errno));
    pr_status status = pr_replay_run(events, result);
    fclose(events);
    return status;
}

int pr_replay_mode(const pr_options *options)
{
    pr_replay_result result;
    pr_status status = run_file(options->replay, &result);
    if (status != PR_OK)
        return pr_exit_code(status);
    const pr_scheduler_counts *counts = &result.counts;
    printf(
        "%lld events: %lld plans, %lld prompt tokens computed, %lld from the prefix cache, %lld "
        "output tokens, %lld preemptions, %lld handovers, %lld role changes, %lld gathers\n",
        (long long)result.events, (long long)counts->plans, (long long)counts->prefill_tokens,
        (long long)counts->cached_tokens, (long long)counts->output_tokens,
        (long long)counts->preemptions, (long long)counts->handovers,
        (long long)counts->role_changes, (long long)counts->gathers);
    printf("decision hash %016llx\n", (unsigned long long)result.hash);
    if (result.diverged_line > 0) {
        pr_log(
            PR_LOG_ERROR, "from line %lld of the record on, this build decides differently",
            (long long)result.diverged_line);
        return PR_EXIT_SOME_FAILED;
    }
    if (!result.complete) {
        pr_log(PR_LOG_WARN, "the record has no end: the run that wrote it did not finish");
        return PR_EXIT_OK;
    }
    if (result.hash == result.recorded_hash)
        return PR_EXIT_OK;
    pr_log(
        PR_LOG_ERROR,
        "the recorded run's decision hash was %016llx: this build decides differently",
        (unsigned long long)result.recorded_hash);
    return PR_EXIT_SOME_FAILED;
}
