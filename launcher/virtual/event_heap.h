// SPDX-License-Identifier: BSD-3-Clause
// What happens next on virtual time: things by key, the smallest first; equal keys in order of putting.
// Cost: O(log n). Threads: one. Memory: grows with what is in it.
#ifndef PR_LAUNCHER_VIRTUAL_EVENT_HEAP_H
#define PR_LAUNCHER_VIRTUAL_EVENT_HEAP_H

#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_heap_event {
    double key;
    int64_t order;  // given by put
    int32_t kind;
    int64_t number;
    void *data;
} pr_heap_event;

typedef struct pr_event_heap {
    int64_t events, room, puts;
    pr_heap_event *event;  // [events]; [0] is the first
} pr_event_heap;

pr_status pr_event_heap_put(pr_event_heap *heap, pr_heap_event event) PR_MUST_CHECK;
pr_heap_event pr_event_heap_take(pr_event_heap *heap);  // the first; there must be one
void pr_event_heap_free(pr_event_heap *heap);

#endif
