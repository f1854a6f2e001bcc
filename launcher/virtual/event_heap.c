// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/virtual/event_heap.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#include "runtime/base/log.h"

static bool before(const pr_heap_event *a, const pr_heap_event *b)
{
    return a->key < b->key || (!(b->key < a->key) && a->order < b->order);
}

pr_status pr_event_heap_put(pr_event_heap *heap, pr_heap_event event)
{
    if (heap->events == heap->room) {
        int64_t room = heap->room * 2 + 64;
        pr_heap_event *grown = realloc(heap->event, (size_t)room * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %lld events", (long long)room);
        heap->event = grown;
        heap->room = room;
    }
    event.order = heap->puts++;
    int64_t at = heap->events++;
    for (; at > 0 && before(&event, &heap->event[(at - 1) / 2]); at = (at - 1) / 2)
        heap->event[at] = heap->event[(at - 1) / 2];
    heap->event[at] = event;
    return PR_OK;
}

pr_heap_event pr_event_heap_take(pr_event_heap *heap)
{
    assert(heap->events > 0);
    pr_heap_event first = heap->event[0], last = heap->event[--heap->events];
    int64_t at = 0;
    for (;;) {
        int64_t child = at * 2 + 1;
        if (child + 1 < heap->events && before(&heap->event[child + 1], &heap->event[child]))
            child++;
        if (child >= heap->events || !before(&heap->event[child], &last))
            break;
        heap->event[at] = heap->event[child];
        at = child;
    }
    heap->event[at] = last;
    return first;
}

void pr_event_heap_free(pr_event_heap *heap)
{
    free(heap->event);
    *heap = (pr_event_heap){0};
}
