// SPDX-License-Identifier: BSD-3-Clause
// Entries of dicts and namespaces. Keys are what Python can hash and templates use: strings, numbers, none; 1, 1.0 and
// true are one key.
// Cost: a look-up is constant on the average; what collisions cost is charged to the heap.
// Threads: one render, one thread.
#ifndef PR_RUNTIME_VALUE_TEMPLATE_DICT_H
#define PR_RUNTIME_VALUE_TEMPLATE_DICT_H

#include "runtime/value/template_value.h"

// A new key, or a new value for one that is there. PR_ERR_REQUEST: the key cannot be one (a list, a dict).
pr_status pr_template_dict_set(
    pr_template_heap *heap, pr_template_dict *dict, pr_template_value key, pr_template_value value)
    PR_MUST_CHECK;
// *found is NULL when there is none.
pr_status pr_template_dict_find(
    pr_template_heap *heap,
    const pr_template_dict *dict,
    const pr_template_value *key,
    const pr_template_value **found) PR_MUST_CHECK;
// NULL when there is none.
const pr_template_value *
pr_template_dict_find_text(const pr_template_dict *dict, const char *key, size_t size_bytes);

#endif
