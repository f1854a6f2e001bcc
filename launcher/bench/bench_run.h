// SPDX-License-Identifier: BSD-3-Clause
// The face of `polyreme bench`: requests of a trace come when their time comes, whatever the runtime is
// doing (an open loop), and every token is timed as it becomes final.
// Everything but create and finish runs on rank 0's controller thread.
#ifndef PR_LAUNCHER_BENCH_BENCH_RUN_H
#define PR_LAUNCHER_BENCH_BENCH_RUN_H

#include "launcher/controller.h"
#include "launcher/engine/engine.h"
#include "launcher/simulate/run_record.h"
#include "launcher/simulate/trace.h"

typedef struct pr_bench_run pr_bench_run;

typedef struct pr_bench_params {
    const pr_trace *trace;  // borrowed for the run's life
    double speed;
    int32_t scale_tokens;
} pr_bench_params;

// Checks that every request fits the model; the clock starts with the first feed.
pr_status pr_bench_run_create(
    const pr_bench_params *params, const pr_engine *engine, pr_bench_run **run) PR_MUST_CHECK;
void pr_bench_run_destroy(pr_bench_run *run);
pr_face pr_bench_run_face(pr_bench_run *run);

// After the run. Times count from the first feed, TTFT from the time a request should have come.
// Prefill groups are the layout's prefill groups, or all groups if they are mixed. Valid until destroy.
const pr_run_record *pr_bench_run_finish(pr_bench_run *run, const pr_controller *controller);

#endif
