// SPDX-License-Identifier: BSD-3-Clause
// How far a long run is: a bar that redraws on a terminal, a line now and then in a log file.
#ifndef PR_LAUNCHER_BATCH_PROGRESS_H
#define PR_LAUNCHER_BATCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct pr_progress {
    bool terminal;
    int64_t begin_ns, last_ns;
    int64_t interval_ns;  // between lines; grows from 5 s to 30 s
} pr_progress;

typedef struct pr_progress_state {
    int64_t answered, taken;  // requests; taken grows until the input ends
    bool input_ended;
    int64_t prompt_tokens, output_tokens;
} pr_progress_state;

void pr_progress_begin(pr_progress *progress);
void pr_progress_show(pr_progress *progress, const pr_progress_state *state);
void pr_progress_end(pr_progress *progress);  // clears the bar

#endif
