// SPDX-License-Identifier: BSD-3-Clause
// Runs the events of a recorded run (record.h) through a new scheduler. The same events give the same
// decisions, so the hash must be the recorded one: what went wrong in production can be looked at
// again on a laptop, without workers.
// Cost: what the scheduler's own work took. Input is not trusted: PR_ERR_FORMAT names the line.
#ifndef PR_SCHEDULER_REPLAY_H
#define PR_SCHEDULER_REPLAY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "scheduler/scheduler.h"

typedef struct pr_replay_result {
    uint64_t hash;           // of the decisions made now
    bool complete;           // the recording has its last line
    uint64_t recorded_hash;  // if complete
    int64_t diverged_line;   // of the file, after which decisions differ; 0: none
    int64_t events;
    pr_scheduler_counts counts;
} pr_replay_result;

pr_status pr_replay_run(FILE *events, pr_replay_result *result) PR_MUST_CHECK;

#endif
