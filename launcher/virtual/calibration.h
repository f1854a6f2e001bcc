// SPDX-License-Identifier: BSD-3-Clause
// Fits the constants of a virtual run to a recorded one.
//
//   step        per role: scheduler/step_fit.h, then scaled so that the sum of all steps is right
//   cores       the number for which predicted steps come closest to the recorded ones, given which
//               groups were in a step at the same time: ranks may share cores
//   gap, message, transfer   means of the record's own waits
// Source: ours; processor sharing as in queueing theory (Kleinrock 1967).
// Cost: steps x tried numbers of cores. Threads: one.
#ifndef PR_LAUNCHER_VIRTUAL_CALIBRATION_H
#define PR_LAUNCHER_VIRTUAL_CALIBRATION_H

#include "launcher/virtual/recorded_run.h"
#include "launcher/virtual/virtual_run.h"

// How well the steps of a role are predicted, the others' steps being as recorded.
typedef struct pr_calibration_quality {
    int64_t steps;
    double r2;
    double error_p50, error_p99;  // |taken / predicted - 1|
} pr_calibration_quality;

typedef struct pr_calibration {
    pr_virtual_model model;
    pr_calibration_quality quality[3];  // by pr_role
} pr_calibration;

// Errors: PR_ERR_REQUEST if the record has no step.
pr_status pr_calibration_fit(const pr_recorded_run *run, pr_calibration *calibration) PR_MUST_CHECK;

#endif
