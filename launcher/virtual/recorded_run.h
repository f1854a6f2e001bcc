// SPDX-License-Identifier: BSD-3-Clause
// What a record (scheduler/record/record.h) says about a live run, without running anything again: its
// requests, its steps and waits, and what its clients saw. Times count from the first arrival; they are
// the controller's, so a step that is told at 5 ms ended a message earlier.
// Memory: all of the record. Errors: PR_ERR_FORMAT names the line. Threads: one.
#ifndef PR_LAUNCHER_VIRTUAL_RECORDED_RUN_H
#define PR_LAUNCHER_VIRTUAL_RECORDED_RUN_H

#include <stdio.h>

#include "launcher/virtual/run_measure.h"
#include "launcher/virtual/virtual_load.h"
#include "scheduler/scheduler.h"

// One step of a group: what the longest of its lanes computed.
typedef struct pr_recorded_step {
    int32_t group;
    pr_role role;  // of the group at that time
    uint32_t step;
    uint64_t plan;
    int64_t told_ns, step_ns;
    pr_step_work work;
    int64_t next;  // the group's next step, -1: none
} pr_recorded_step;

// A handover: the source's step is told, later its arrival.
typedef struct pr_recorded_move {
    int32_t to_group, blocks;
    int64_t sent_ns, there_ns;  // -1: never told
    uint64_t id;
} pr_recorded_move;

typedef struct pr_recorded_waits {
    int64_t waits, sum_ns;
} pr_recorded_waits;

typedef struct pr_recorded_run {
    pr_layout layout;
    char *policy;
    pr_scheduler_params params;  // its layout and policy are the ones above
    pr_virtual_load load;
    pr_run_measure measure;
    int64_t steps, step_room;
    pr_recorded_step *step;  // [steps], as they were told
    int64_t moves, move_room;
    pr_recorded_move *move;   // [moves]
    pr_recorded_waits trips;  // a plan to an idle group and its first report, without the step
    pr_recorded_waits gaps;   // between two steps of a group that has work
    bool complete;
} pr_recorded_run;

// Into a zeroed record. Free it also after an error.
pr_status pr_recorded_run_read(FILE *events, pr_recorded_run *run) PR_MUST_CHECK;
void pr_recorded_run_free(pr_recorded_run *run);

#endif
