// SPDX-License-Identifier: BSD-3-Clause
// Learns the constants of the cost model from the run's own steps: least squares, one observation at a
// time, the past forgotten by and by.
//
//   step seconds     ~ t0 + t1 rows + t2 (pairs - rows/2) + t3 sequences + t4 context   (pr_step_work)
//   transfer seconds ~ t0 + t1 bytes
//
// Errors count relative to the predicted time, so that a 10 ms decode step says as much as a 1 s chunk.
// An error beyond 4 times the median error is clipped (Huber): a step in which the process was stopped
// moves nothing. A column that is no longer seen keeps its last value, one never seen keeps the prior's.
// No constant is negative: one that would be is held at 0 and the others are solved again.
//
// In a group of several lanes each lane's report is an observation of its own work and the group's time.
// Source: weighted recursive least squares in information form (sums, solved by Cholesky), which stays
// exact over any number of observations; Huber, Robust estimation of a location parameter (1964).
// Cost: 25 additions per observation, a 5 x 5 solve for every 16th. Memory: about 1 KiB, plain record.
// Threads: none of its own. The same observations in the same order give the same bits.
#ifndef PR_SCHEDULER_COST_STEP_FIT_H
#define PR_SCHEDULER_COST_STEP_FIT_H

#include <stdint.h>

#include "runtime/batch/plan.h"
#include "scheduler/cost/cost_model.h"

enum { PR_FIT_COLUMNS = 5, PR_FIT_BUCKETS = 192 };

typedef struct pr_step_fit {
    int32_t columns;
    int64_t observations;
    double constant[PR_FIT_COLUMNS];  // the fit
    double prior[PR_FIT_COLUMNS];
    double leverage[PR_FIT_COLUMNS];  // largest squared entry of the column so far; 0: never seen
    // Decayed sums over observations of weight x columns, x seconds.
    double information[PR_FIT_COLUMNS][PR_FIT_COLUMNS], moment[PR_FIT_COLUMNS], square;
    double clip;                      // of relative errors
    double error_sum, error_weight;   // decayed, of signed relative errors
    uint32_t error_count;             // in all buckets
    uint32_t bucket[PR_FIT_BUCKETS];  // of absolute relative errors, 8 to the octave
} pr_step_fit;

typedef struct pr_fit_quality {
    int64_t observations;
    int64_t judged;     // of the latest, whose errors are counted below
    double r2;          // of what is remembered, weighted as the fit is
    double error_mean;  // signed: seconds taken / predicted - 1, each predicted before it was seen
    double error_p50, error_p99;  // absolute, within 9 %
} pr_fit_quality;

// prior: NULL for none (0).
void pr_step_fit_begin(pr_step_fit *fit, const pr_cost_model *prior);
// Work without rows or time without a duration is ignored.
void pr_step_fit_add(pr_step_fit *fit, const pr_step_work *work, double seconds);
double pr_step_fit_predict_s(const pr_step_fit *fit, const pr_step_work *work);
void pr_step_fit_quality(const pr_step_fit *fit, pr_fit_quality *quality);
// Replaces a, b, c if prefill was seen and d0, d1, d2 if decode was; the rest of the model stays.
void pr_step_fit_apply(const pr_step_fit *fit, pr_cost_model *model);

// The same for transfers; apply replaces alpha and beta once any was seen.
void pr_step_fit_transfer_begin(pr_step_fit *fit, const pr_cost_model *prior);
void pr_step_fit_transfer_add(pr_step_fit *fit, int64_t bytes, double seconds);
void pr_step_fit_transfer_apply(const pr_step_fit *fit, pr_cost_model *model);

#endif
