// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_sort.h"

#include <string.h>

typedef struct sorting {
    pr_template_heap *heap;
    const pr_template_value *key;
    bool reverse;
} sorting;

// Merges the runs [begin, middle) and [middle, end) of from into to: positions of keys.
static pr_status
merge(const sorting *s, const size_t *from, size_t *to, size_t begin, size_t middle, size_t end)
{
    size_t left = begin, right = middle;
    for (size_t at = begin; at < end; at++) {
        int order = 0;
        if (left < middle && right < end) {
            PR_TRY(pr_template_value_compare(
                s->heap, &s->key[from[left]], &s->key[from[right]], &order));
            order = s->reverse ? -order : order;
        } else {
            order = left < middle ? -1 : 1;
        }
        to[at] = order <= 0 ? from[left++] : from[right++];
    }
    return PR_OK;
}

static pr_status order_keys(const sorting *s, size_t size, size_t **order)
{
    size_t *from = pr_template_heap_take(s->heap, size * sizeof *from);
    size_t *to = pr_template_heap_take(s->heap, size * sizeof *to);
    if (!from || !to)
        return PR_ERR_REQUEST;
    for (size_t i = 0; i < size; i++)
        from[i] = i;
    for (size_t width = 1; width < size; width *= 2) {
        for (size_t begin = 0; begin < size; begin += 2 * width) {
            size_t middle = begin + width < size ? begin + width : size;
            size_t end = middle + width < size ? middle + width : size;
            PR_TRY(merge(s, from, to, begin, middle, end));
        }
        size_t *swap = from;
        from = to;
        to = swap;
    }
    *order = from;
    return PR_OK;
}

pr_status pr_template_sort(
    pr_template_heap *heap,
    pr_template_value *key,
    pr_template_value *item,
    size_t size,
    bool reverse)
{
    sorting s = {.heap = heap, .key = key, .reverse = reverse};
    size_t *order;
    if (size < 2)
        return PR_OK;
    PR_TRY(order_keys(&s, size, &order));
    pr_template_value *copy = pr_template_heap_take(heap, 2 * size * sizeof *copy);
    if (!copy)
        return PR_ERR_REQUEST;
    for (size_t i = 0; i < size; i++) {
        copy[i] = item[order[i]];
        copy[size + i] = key[order[i]];
    }
    memcpy(item, copy, size * sizeof *item);
    memcpy(key, copy + size, size * sizeof *key);
    return PR_OK;
}

pr_status pr_template_sort_entries(
    pr_template_heap *heap, const pr_template_dict *dict, const pr_template_entry **entry)
{
    size_t *order, size = dict->size;
    pr_template_value *key = pr_template_heap_take(heap, size * sizeof *key);
    pr_template_entry *sorted = pr_template_heap_take(heap, size * sizeof *sorted);
    if (!key || !sorted)
        return PR_ERR_REQUEST;
    for (size_t i = 0; i < size; i++)
        key[i] = dict->entry[i].key;
    sorting s = {.heap = heap, .key = key};
    PR_TRY(order_keys(&s, size, &order));
    for (size_t i = 0; i < size; i++)
        sorted[i] = dict->entry[order[i]];
    *entry = sorted;
    return PR_OK;
}
