// SPDX-License-Identifier: BSD-3-Clause
// Where the results of a batch go: straight to standard output, a pipe or (--journal off) a file, line by
// line; or through a journal to a file that appears when all is done (launcher/journal/journal.h), with
// OUT.state beside it.
// Threads: the controller's.
#ifndef PR_LAUNCHER_BATCH_BATCH_OUTPUT_H
#define PR_LAUNCHER_BATCH_BATCH_OUTPUT_H

#include "launcher/batch/batch_input.h"
#include "launcher/batch/id_set.h"
#include "launcher/engine/engine.h"
#include "launcher/journal/journal.h"

typedef struct pr_batch_output pr_batch_output;

// Before the model is loaded: finds faults, changes nothing but an output that is streamed to. *complete:
// an earlier run has finished the output and --resume has nothing to do; *output is NULL then.
pr_status pr_batch_output_open(const pr_options *options, pr_batch_output **output, bool *complete)
    PR_MUST_CHECK;
// The model is there: an output that is streamed to is emptied, the journal opened.
pr_status pr_batch_output_begin(pr_batch_output *output, const pr_engine *engine) PR_MUST_CHECK;
// Frees it; what was put is written as far as it can be.
void pr_batch_output_close(pr_batch_output *output);

// Streamed: lines that wait in memory for an earlier one are not too many yet.
bool pr_batch_output_takes_more(const pr_batch_output *output);
// What is known of all lines; zero without a journal.
pr_journal_totals pr_batch_output_totals(const pr_batch_output *output);

// What earlier runs know of a line that was read; NULL: nothing. PR_ERR_ARGUMENT: they know another.
pr_status pr_batch_output_find(
    pr_batch_output *output,
    const pr_input_line *line,
    const pr_journal_entry **known) PR_MUST_CHECK;
// The input has ended after so many lines. PR_ERR_ARGUMENT: earlier runs know more.
pr_status pr_batch_output_end_input(const pr_batch_output *output, int64_t lines) PR_MUST_CHECK;
// The line is taken; key NULL: it has no custom_id that counts.
pr_status pr_batch_output_claim(
    pr_batch_output *output, const pr_input_line *line, const pr_id_key *key) PR_MUST_CHECK;
pr_status pr_batch_output_token(
    pr_batch_output *output, int64_t position, int32_t answer, const pr_token_report *token)
    PR_MUST_CHECK;
// The tokens that find gave have been taken up.
void pr_batch_output_forget_tokens(pr_batch_output *output, int64_t position);
// Takes the line, malloc'ed, with its newline.
pr_status pr_batch_output_put(pr_batch_output *output, const pr_journal_result *result, char *line)
    PR_MUST_CHECK;

// Once in each round of the controller's.
pr_status pr_batch_output_flush(pr_batch_output *output) PR_MUST_CHECK;

typedef struct pr_batch_ending {
    bool complete;       // every line of the input has its result:
    int64_t first, end;  // positions
    const char *reason;  // why not, for people
    int64_t end_unix_s;  // of the job; 0: no limit
    double idle_tail_s;
} pr_batch_ending;

// Complete: OUT is whole now. Else the journal and the state say how it goes on; *resumable: by --resume.
pr_status pr_batch_output_end(
    pr_batch_output *output, const pr_batch_ending *ending, bool *resumable) PR_MUST_CHECK;

// A signal ended the run before begin: the state says that it is to be gone on with. False: there is none.
bool pr_batch_output_interrupt(pr_batch_output *output, const char *reason);

// The run has failed and the process is about to end.
void pr_batch_output_salvage(pr_batch_output *output, const char *reason);

#endif
