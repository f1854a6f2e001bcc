// SPDX-License-Identifier: BSD-3-Clause
// Fits the constants of a virtual run to a recorded one.
//
//   step        per role, by maximum likelihood of times whose variance grows with their mean: the sum
//               of all steps comes out right, no constant is negative
//   cores       the number for which that likelihood is greatest, given which groups were in a step at the
//               same time
//   slowness    of each window of time: other work on the machine is nobody's decision here
//   transfer    the constants for which the mean wait is right and single ones are least off
//   gap, message    means of the record's own waits
// The online fit of a running scheduler (scheduler/cost/step_fit.h) leaves out outliers and knows nothing of
// other groups; a mean time to first token needs both.
// Source: the iteration is Richardson's (1972) and Lucy's (1974).
// Cost: bounded; a second or so for a long record. Threads: one.
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
