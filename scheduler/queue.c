// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/queue.h"

#include <assert.h>
#include <stddef.h>

// Links it in behind `before` (NULL: at the front).
static void link_after(pr_queue *queue, pr_sequence *before, pr_sequence *sequence)
{
    pr_sequence *after = before ? before->queue_next : queue->first;
    sequence->queue_prev = before;
    sequence->queue_next = after;
    if (before)
        before->queue_next = sequence;
    else
        queue->first = sequence;
    if (after)
        after->queue_prev = sequence;
    else
        queue->last = sequence;
    queue->sequences++;
}

void pr_queue_put(pr_queue *queue, pr_sequence *sequence)
{
    pr_sequence *before = queue->last;
    while (before && pr_sequence_before(sequence, before))
        before = before->queue_prev;
    link_after(queue, before, sequence);
}

void pr_queue_put_back(pr_queue *queue, pr_sequence *sequence)
{
    pr_sequence *before = NULL;
    pr_sequence *next = queue->first;
    while (next && pr_sequence_before(next, sequence)) {
        before = next;
        next = next->queue_next;
    }
    link_after(queue, before, sequence);
}

void pr_queue_take(pr_queue *queue, pr_sequence *sequence)
{
    if (sequence->queue_prev)
        sequence->queue_prev->queue_next = sequence->queue_next;
    else
        queue->first = sequence->queue_next;
    if (sequence->queue_next)
        sequence->queue_next->queue_prev = sequence->queue_prev;
    else
        queue->last = sequence->queue_prev;
    sequence->queue_prev = sequence->queue_next = NULL;
    queue->sequences--;
}

void pr_queue_check(const pr_queue *queue)
{
    int32_t sequences = 0;
    const pr_sequence *prev = NULL;
    for (const pr_sequence *at = queue->first; at; at = at->queue_next) {
        assert(at->queue_prev == prev);
        assert(!prev || pr_sequence_before(prev, at));
        assert(at->phase == PR_PHASE_WAITING);
        prev = at;
        sequences++;
    }
    assert(queue->last == prev);
    assert(queue->sequences == sequences);
    (void)sequences;
}
