// SPDX-License-Identifier: BSD-3-Clause
// Stable sorting of values by a key, as Python's sorted().
// Cost: O(n log n) comparisons, each charged to the heap.
// Threads: one render, one thread.
#ifndef PR_RUNTIME_VALUE_TEMPLATE_SORT_H
#define PR_RUNTIME_VALUE_TEMPLATE_SORT_H

#include "runtime/value/template_value.h"

// Sorts item by key, which is moved along. PR_ERR_REQUEST when two keys have no order.
pr_status pr_template_sort(
    pr_template_heap *heap,
    pr_template_value *key,   // [size]
    pr_template_value *item,  // [size]
    size_t size,
    bool reverse) PR_MUST_CHECK;

// The dict's entries in the order of their keys, in a fresh array.
pr_status pr_template_sort_entries(
    pr_template_heap *heap,
    const pr_template_dict *dict,
    const pr_template_entry **entry) PR_MUST_CHECK;

#endif
