// SPDX-License-Identifier: BSD-3-Clause
// Runs as rows of a table for the eye, or as JSON.
#ifndef PR_LAUNCHER_SIMULATE_RUN_TABLE_H
#define PR_LAUNCHER_SIMULATE_RUN_TABLE_H

#include <stdio.h>

#include "launcher/simulate/statistics.h"

// One run: what was varied, and what came of it.
typedef struct pr_run_point {
    const char *policy;
    double speed;
    double wall_s;  // the run took so long here
    int64_t role_changes;
    int64_t events, decisions;  // of the scheduler; 0: not counted
    pr_statistics statistics;
} pr_run_point;

void pr_run_table_begin(FILE *out);  // the heading
void pr_run_table_row(FILE *out, const pr_run_point *point);

json_t *pr_run_point_json(const pr_run_point *point);  // a new reference

#endif
