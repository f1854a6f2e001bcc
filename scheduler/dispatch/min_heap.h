// SPDX-License-Identifier: BSD-3-Clause
// Items by key, the smallest first: a 4-ary heap whose nodes hold the keys, so that comparing touches no
// item. Each item keeps its own index (an int32_t at a fixed offset), so that any can be taken.
// Equal keys: `before` decides, so that the order does not depend on history.
// Memory: grows by doubling; never shrinks. Cost O(log items). Threads: one.
#ifndef PR_SCHEDULER_DISPATCH_MIN_HEAP_H
#define PR_SCHEDULER_DISPATCH_MIN_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_MIN_HEAP_FAN = 4 };

typedef struct pr_min_heap_node {
    double key;
    void *item;
} pr_min_heap_node;

typedef struct pr_min_heap {
    pr_min_heap_node *node;  // [count]; children of i: FAN i + 1 .. FAN i + FAN
    int32_t count, capacity;
    size_t index_offset;                           // where an item keeps its index
    bool (*before)(const void *a, const void *b);  // among equal keys
} pr_min_heap;

void pr_min_heap_clear(pr_min_heap *heap);  // frees the nodes, not the items

// Room for so many items, so that a put after it cannot fail.
pr_status pr_min_heap_reserve(pr_min_heap *heap, int32_t items) PR_MUST_CHECK;
void pr_min_heap_put(pr_min_heap *heap, double key, void *item);
void pr_min_heap_take(pr_min_heap *heap, int32_t index);
void pr_min_heap_change(pr_min_heap *heap, int32_t index, double key);
void pr_min_heap_check(const pr_min_heap *heap);

static inline void *pr_min_heap_first(const pr_min_heap *heap)
{
    return heap->count > 0 ? heap->node[0].item : NULL;
}

#endif
