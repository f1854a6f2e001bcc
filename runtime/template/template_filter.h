// SPDX-License-Identifier: BSD-3-Clause
// The filters: x | name(arguments). To add one: a function and a line in the table of the file it belongs to.
// Threads: constant.
// Source: Jinja 3.1 template designer documentation, "List of Builtin Filters"; transformers' tojson.
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_FILTER_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_FILTER_H

#include "runtime/template/template_builtin.h"

extern const pr_template_builtin pr_template_filters[];

// ---- template_select.c: those that go over a list
pr_status pr_template_select_map(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_select(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_reject(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_selectattr(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_rejectattr(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_sort(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_unique(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_min(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_max(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_sum(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_join(pr_template_call *call, pr_template_value *result);
pr_status pr_template_select_dictsort(pr_template_call *call, pr_template_value *result);

#endif
