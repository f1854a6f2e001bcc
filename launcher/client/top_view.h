// SPDX-License-Identifier: BSD-3-Clause
// The picture of `polyreme top` as lines of text for a terminal of a given size: a pure function of what is known.
//
//   demo  ready  polyreme 0.1.0  up 3m12s  job 4711  http://127.0.0.1:8000/v1
//   Requests  running 12  waiting 3  ...        totals
//   Output    ▁▂▅▇█▆  412 tokens/s              the last minute
//    #  role     ranks  ...                     groups, then ranks, as far as lines are left
//
// Lines are at most `columns` wide and at most `rows`, divided by LF, the last one without. What is not known is "-".
// Threads: any; nothing is kept.
#ifndef PR_LAUNCHER_CLIENT_TOP_VIEW_H
#define PR_LAUNCHER_CLIENT_TOP_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "launcher/client/rate_history.h"
#include "launcher/client/run_status.h"
#include "runtime/text/byte_buffer.h"

typedef struct pr_top_view {
    const pr_run_status *status;    // NULL: nothing was heard yet
    const pr_run_status *before;    // an earlier one of the same run, or NULL
    double between_s;               // from before to status
    const pr_rate_history *output;  // generated tokens/s, or NULL: no line of bars
    double now_s;                   // on the history's clock
    const char *url;
    const char *note;  // why the picture is old, or NULL
    int32_t columns, rows;
    bool colour;   // escapes for colours and weight
    bool unicode;  // bars of block elements
    bool keys;     // say which keys work
} pr_top_view;

void pr_top_view_render(const pr_top_view *view, pr_byte_buffer *out);

#endif
