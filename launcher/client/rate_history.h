// SPDX-License-Identifier: BSD-3-Clause
// The last minute of a rate, for a line of bars: samples at any times in, means over equal spans out.
//
//   now - 60 s |  .  .  ...  .. .  | now      4 spans -> 4 values, NAN where nothing was known
//
// A span without a sample has the value of the one before it: a slow watch gives steps, not holes.
// Threads: one. Memory: fixed.
#ifndef PR_LAUNCHER_CLIENT_RATE_HISTORY_H
#define PR_LAUNCHER_CLIENT_RATE_HISTORY_H

#include <stdint.h>

enum { PR_RATE_HISTORY_SAMPLES = 600, PR_RATE_HISTORY_S = 60 };

// Begins as zero.
typedef struct pr_rate_history {
    int32_t samples, next;
    double time_s[PR_RATE_HISTORY_SAMPLES];
    double value[PR_RATE_HISTORY_SAMPLES];
} pr_rate_history;

// Times do not go back. A NAN is kept out.
void pr_rate_history_add(pr_rate_history *history, double time_s, double value);
void pr_rate_history_spans(
    const pr_rate_history *history,
    double now_s,
    int32_t spans,
    double *mean);  // [spans], oldest first

#endif
