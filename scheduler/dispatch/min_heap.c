// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/dispatch/min_heap.h"

#include <assert.h>
#include <stdlib.h>

#include "runtime/base/log.h"

enum { FAN = PR_MIN_HEAP_FAN, FIRST_CAPACITY = 16 };

static int32_t *index_of(const pr_min_heap *heap, void *item)
{
    return (int32_t *)((char *)item + heap->index_offset);
}

static bool
goes_before(const pr_min_heap *heap, const pr_min_heap_node *a, const pr_min_heap_node *b)
{
    if (a->key != b->key)
        return a->key < b->key;
    return heap->before(a->item, b->item);
}

static void set(pr_min_heap *heap, int32_t index, pr_min_heap_node node)
{
    heap->node[index] = node;
    *index_of(heap, node.item) = index;
}

// Puts the node at or above a hole at `index`.
static void sift_up(pr_min_heap *heap, int32_t index, pr_min_heap_node node)
{
    while (index > 0) {
        int32_t parent = (index - 1) / FAN;
        if (!goes_before(heap, &node, &heap->node[parent]))
            break;
        set(heap, index, heap->node[parent]);
        index = parent;
    }
    set(heap, index, node);
}

static int32_t least_child(const pr_min_heap *heap, int32_t index)
{
    int32_t first = FAN * index + 1;
    int32_t end = first + FAN < heap->count ? first + FAN : heap->count;
    int32_t least = first;
    for (int32_t child = first + 1; child < end; child++) {
        if (goes_before(heap, &heap->node[child], &heap->node[least]))
            least = child;
    }
    return least;
}

// Puts the node at or below a hole at `index`.
static void sift_down(pr_min_heap *heap, int32_t index, pr_min_heap_node node)
{
    while (FAN * index + 1 < heap->count) {
        int32_t child = least_child(heap, index);
        if (!goes_before(heap, &heap->node[child], &node))
            break;
        set(heap, index, heap->node[child]);
        index = child;
    }
    set(heap, index, node);
}

static void sift(pr_min_heap *heap, int32_t index, pr_min_heap_node node)
{
    if (index > 0 && goes_before(heap, &node, &heap->node[(index - 1) / FAN]))
        sift_up(heap, index, node);
    else
        sift_down(heap, index, node);
}

void pr_min_heap_clear(pr_min_heap *heap)
{
    free(heap->node);
    heap->node = NULL;
    heap->count = heap->capacity = 0;
}

pr_status pr_min_heap_reserve(pr_min_heap *heap, int32_t items)
{
    if (items <= heap->capacity)
        return PR_OK;
    int64_t capacity = heap->capacity ? heap->capacity : FIRST_CAPACITY;
    while (capacity < items)
        capacity *= 2;
    if (capacity > (INT32_MAX - 1) / FAN)  // a child's index must fit
        return pr_fail(PR_ERR_RESOURCE, "%d entries are more than a queue can hold", items);
    pr_min_heap_node *node = realloc(heap->node, (size_t)capacity * sizeof *node);
    if (!node)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %lld queue entries", (long long)capacity);
    heap->node = node;
    heap->capacity = (int32_t)capacity;
    return PR_OK;
}

void pr_min_heap_put(pr_min_heap *heap, double key, void *item)
{
    assert(heap->count < heap->capacity);
    heap->count++;
    sift_up(heap, heap->count - 1, (pr_min_heap_node){.key = key, .item = item});
}

void pr_min_heap_take(pr_min_heap *heap, int32_t index)
{
    assert(index >= 0 && index < heap->count);
    *index_of(heap, heap->node[index].item) = -1;
    heap->count--;
    if (index == heap->count)
        return;
    // What fills the hole was last, so it belongs near the end: down to a leaf without asking it.
    while (FAN * index + 1 < heap->count) {
        int32_t child = least_child(heap, index);
        set(heap, index, heap->node[child]);
        index = child;
    }
    sift_up(heap, index, heap->node[heap->count]);
}

void pr_min_heap_change(pr_min_heap *heap, int32_t index, double key)
{
    assert(index >= 0 && index < heap->count);
    sift(heap, index, (pr_min_heap_node){.key = key, .item = heap->node[index].item});
}

void pr_min_heap_check(const pr_min_heap *heap)
{
    assert(heap->count <= heap->capacity);
    for (int32_t i = 0; i < heap->count; i++) {
        assert(*index_of(heap, heap->node[i].item) == i);
        assert(i == 0 || goes_before(heap, &heap->node[(i - 1) / FAN], &heap->node[i]));
    }
}
