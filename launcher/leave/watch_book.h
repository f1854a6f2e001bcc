// SPDX-License-Identifier: BSD-3-Clause
// What rank 0 has heard of all ranks, and whom it blames. Pure: reports and times in, a verdict out.
//
//   silent    no report for longer than the limit: its process is stopped, or cannot be reached
//   waits     who waits for a rank that waits for another waits for that one: the end of the chain counts
//   lost      its connection has ended: mpirun and the control plane speak first, if they still can
//   computes  a rank others wait for, but which reports: it is slow, not stuck; said, not blamed
//
// Threads: one.
#ifndef PR_LAUNCHER_WATCH_BOOK_H
#define PR_LAUNCHER_WATCH_BOOK_H

#include <stdbool.h>

#include "comm/watch.h"
#include "runtime/base/status.h"
#include "runtime/batch/layout.h"

typedef struct pr_watch_book pr_watch_book;

enum { PR_WATCH_TEXT_BYTES = 640 };

typedef enum pr_watch_verdict {
    PR_WATCH_FINE,
    PR_WATCH_STRANGE,  // the text is a warning, told once
    PR_WATCH_STUCK,    // the text names who does not answer
    PR_WATCH_LOST,     // the text names whose connection has ended a while ago; told once
} pr_watch_verdict;

// limit_ns 0: nobody is blamed.
pr_status pr_watch_book_create(int32_t ranks, int64_t limit_ns, pr_watch_book **book) PR_MUST_CHECK;
void pr_watch_book_destroy(pr_watch_book *book);

// For the names of ranks; borrowed, NULL: not known yet.
void pr_watch_book_set_layout(pr_watch_book *book, const pr_layout *layout);

// A rank is judged from its first report on, until it leaves.
void pr_watch_book_hear(
    pr_watch_book *book, int32_t rank, int64_t now_ns, const pr_watch_state *state);
void pr_watch_book_lose(pr_watch_book *book, int32_t rank, int64_t now_ns);
void pr_watch_book_leave(pr_watch_book *book, int32_t rank);
// Nobody listened for so long.
void pr_watch_book_pause(pr_watch_book *book, int64_t pause_ns);

pr_watch_verdict
pr_watch_book_judge(pr_watch_book *book, int64_t now_ns, char text[PR_WATCH_TEXT_BYTES]);

#endif
