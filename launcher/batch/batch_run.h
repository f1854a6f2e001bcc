// SPDX-License-Identifier: BSD-3-Clause
// The face of `polyreme batch`: lines of a JSONL file become requests, final tokens become answers,
// answers become result lines. Everything here runs on rank 0's controller thread.
#ifndef PR_LAUNCHER_BATCH_BATCH_RUN_H
#define PR_LAUNCHER_BATCH_BATCH_RUN_H

#include "launcher/batch/batch_input.h"
#include "launcher/batch/batch_output.h"
#include "launcher/controller.h"
#include "launcher/engine/engine.h"

typedef struct pr_batch_run pr_batch_run;

typedef struct pr_batch_totals {
    int64_t answered, refused;  // requests (lines)
    int64_t prompt_tokens, output_tokens;
    int64_t earlier_answered, earlier_output_tokens;  // of these, by runs before this one
    bool complete;                                    // every line of the input has its result
    bool resumable;                                   // not complete, and --resume goes on
} pr_batch_totals;

// Opens input and output (rank 0, before the model is loaded). Earlier results stay until attach. With
// validate_only there is no output: refusals are logged instead. *complete: an earlier run has done all of
// it, and *run is NULL.
pr_status
pr_batch_run_create(const pr_options *options, pr_batch_run **run, bool *complete) PR_MUST_CHECK;
void pr_batch_run_destroy(pr_batch_run *run);

// The model is there: opens the journal or empties the output; from now on the face can be fed.
pr_status pr_batch_run_attach(pr_batch_run *run, const pr_engine *engine) PR_MUST_CHECK;
pr_face pr_batch_run_face(pr_batch_run *run);

// Reads the whole input and checks every line; computes nothing.
pr_status pr_batch_run_validate(pr_batch_run *run) PR_MUST_CHECK;

// A signal has ended the run before attach. False: nothing says so that --resume would go on with.
bool pr_batch_run_interrupt(pr_batch_run *run, const char *reason);

// Finishes the output, as far as the run has come. Of the ending: reason, if it ends before all is done,
// end_unix_s, idle_tail_s.
pr_status pr_batch_run_finish(
    pr_batch_run *run, const pr_batch_ending *how, pr_batch_totals *totals) PR_MUST_CHECK;

#endif
