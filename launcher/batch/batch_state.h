// SPDX-License-Identifier: BSD-3-Clause
// OUT.state: how far the batch that makes OUT is, for people, scripts and the job that comes next. One
// JSON object, replaced as a whole. A process that is killed cannot write its last word: who reads
// "running" looks whether it still runs.
// Threads: one.
#ifndef PR_LAUNCHER_BATCH_BATCH_STATE_H
#define PR_LAUNCHER_BATCH_BATCH_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef enum pr_batch_phase {
    PR_BATCH_RUNNING,
    PR_BATCH_PREEMPTED,  // ended in order before all was done: a signal, the end of the job's time
    PR_BATCH_FAILED,
    PR_BATCH_DONE,
} pr_batch_phase;

enum { PR_BATCH_REASON_BYTES = 240 };

typedef struct pr_batch_state {
    pr_batch_phase phase;
    char reason[PR_BATCH_REASON_BYTES];  // of PREEMPTED and FAILED; ""
    int64_t requests;                    // lines of the input; -1: it has not been read to its end
    int64_t answered, refused;
    int64_t begun;       // neither, but some of their tokens are known
    int64_t end_unix_s;  // when the job was to end; 0: no limit
    double idle_tail_s;  // between the last answer and the end of the job's time; 0: none
    char job[64];
} pr_batch_state;

const char *pr_batch_phase_name(pr_batch_phase phase);

// Beside OUT, with the time, this process and this machine. PR_ERR_IO.
pr_status pr_batch_state_write(const char *output, const pr_batch_state *state) PR_MUST_CHECK;

pr_status pr_batch_state_remove(const char *output) PR_MUST_CHECK;

// What the file says; *there: false if there is none, or none that can be read. A run that was killed is read
// as FAILED.
pr_status pr_batch_state_read(const char *output, pr_batch_state *state, bool *there) PR_MUST_CHECK;

// `polyreme batch --state OUT`: the phase, then counts from the journal, on one line of standard
// output. Returns the exit code.
int pr_batch_state_print(const char *output);

#endif
