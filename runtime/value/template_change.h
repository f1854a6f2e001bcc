// SPDX-License-Identifier: BSD-3-Clause
// Texts made from texts: case, replacing, splitting. Marks go where their bytes go.
// Case follows Unicode's simple mappings, one character to one, and "ß" to "SS"; Python knows a few more that grow.
// Threads: one render, one thread.
#ifndef PR_RUNTIME_VALUE_TEMPLATE_CHANGE_H
#define PR_RUNTIME_VALUE_TEMPLATE_CHANGE_H

#include "runtime/value/template_value.h"

typedef enum pr_template_case {
    PR_TEMPLATE_UPPER,
    PR_TEMPLATE_LOWER,
    PR_TEMPLATE_CAPITALIZE,    // the first letter
    PR_TEMPLATE_TITLE_FILTER,  // letters behind white space and - ( { [ <
    PR_TEMPLATE_TITLE_METHOD,  // letters behind what is no letter
} pr_template_case;

pr_status pr_template_change_case(
    pr_template_heap *heap,
    const pr_template_text *text,
    pr_template_case to,
    pr_template_value *result) PR_MUST_CHECK;
// The first `count` places of `old`; all, if count is negative.
pr_status pr_template_change_replace(
    pr_template_heap *heap,
    const pr_template_text *text,
    const pr_template_text *old,
    const pr_template_text *fresh,
    int64_t count,
    pr_template_value *result) PR_MUST_CHECK;
// Charges a search for the last place of `part`, which compares at each place.
pr_status pr_template_change_charge_backwards(
    pr_template_heap *heap,
    const pr_template_text *text,
    const pr_template_text *part) PR_MUST_CHECK;
// str.split and str.rsplit: at `between`, or at runs of white space if it is NULL; at most `most` cuts, negative: any.
pr_status pr_template_change_split(
    pr_template_heap *heap,
    const pr_template_text *text,
    const pr_template_text *between,
    int64_t most,
    pr_template_value *result) PR_MUST_CHECK;
pr_status pr_template_change_split_right(
    pr_template_heap *heap,
    const pr_template_text *text,
    const pr_template_text *between,
    int64_t most,
    pr_template_value *result) PR_MUST_CHECK;
pr_status pr_template_change_split_lines(
    pr_template_heap *heap, const pr_template_text *text, bool keep_ends, pr_template_value *result)
    PR_MUST_CHECK;
// The str() of the items with `between` between them.
pr_status pr_template_change_join(
    pr_template_heap *heap,
    const pr_template_text *between,
    const pr_template_list *list,
    bool strings_only,  // as str.join, not as the filter
    pr_template_value *result) PR_MUST_CHECK;

#endif
