// SPDX-License-Identifier: BSD-3-Clause
// Looks when the job ends, as long as the run lasts: a thread that asks job_choice.h now and then, so that
// nobody else waits for a batch system that is slow or away. Rank 0 has one.
// Threads: open and close from one; the end may be read from any, which is one load.
#ifndef PR_LAUNCHER_LEAVE_END_WATCH_H
#define PR_LAUNCHER_LEAVE_END_WATCH_H

#include <stdint.h>

#include "launcher/options.h"

typedef struct pr_end_watch pr_end_watch;

// As pr_job_choice_open. Told once: until when requests may run.
pr_status pr_end_watch_open(const pr_options *options, pr_end_watch **watch) PR_MUST_CHECK;
void pr_end_watch_close(pr_end_watch *watch);  // NULL: no effect

// What the last look said; 0: no end is known.
int64_t pr_end_watch_unix_s(const pr_end_watch *watch);

#endif
