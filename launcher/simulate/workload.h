// SPDX-License-Identifier: BSD-3-Clause
// What simulate and bench share at both ends of a run: the trace that the options name, and the files
// in which they leave what became of it, with the facts that repeat the run.
#ifndef PR_LAUNCHER_SIMULATE_WORKLOAD_H
#define PR_LAUNCHER_SIMULATE_WORKLOAD_H

#include <jansson.h>

#include "launcher/options.h"
#include "launcher/simulate/run_record.h"
#include "launcher/simulate/trace.h"
#include "scheduler/cost/cost_model.h"
#include "scheduler/dispatch/flow_control.h"
#include "scheduler/dispatch/job_queue.h"

// Also makes sure that --dump and --hdf5 can be written, so that no long run ends in vain.
pr_status pr_workload_read(const pr_options *options, pr_trace *trace) PR_MUST_CHECK;

// Who waits, and in which order, as the options say.
pr_job_queue_params pr_workload_queue(const pr_options *options);
pr_flow_params pr_workload_flow(const pr_options *options);

// Version, command line, trace and how it was read. A new reference.
json_t *pr_workload_about(const pr_options *options, const pr_trace *trace);
void pr_workload_add_cost(json_t *about, const pr_cost_model *cost);

// --dump and --hdf5, as far as they are given.
pr_status pr_workload_write(const pr_options *options, const pr_run_record *record, json_t *about)
    PR_MUST_CHECK;

#endif
