// SPDX-License-Identifier: BSD-3-Clause
// The requests that wait for a lane, in order (sequence.h). A new one nearly always belongs at the
// end and a preempted one near the front, so put searches from that side: O(1) in practice.
#ifndef PR_SCHEDULER_QUEUE_H
#define PR_SCHEDULER_QUEUE_H

#include "scheduler/sequence.h"

typedef struct pr_queue {
    int32_t sequences;
    pr_sequence *first, *last;
} pr_queue;

void pr_queue_put(pr_queue *queue, pr_sequence *sequence);       // a new one
void pr_queue_put_back(pr_queue *queue, pr_sequence *sequence);  // one that was taken before
void pr_queue_take(pr_queue *queue, pr_sequence *sequence);
void pr_queue_check(const pr_queue *queue);

#endif
