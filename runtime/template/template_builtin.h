// SPDX-License-Identifier: BSD-3-Clause
// What all built-in filters, tests, methods and functions have in common: a table entry with the names of the
// parameters, and the binding of a call's arguments to them.
//   {"replace", replace, 2, {"old", "new", "count"}}     x | replace("a", new="b")
//                        └ so many must be given         self: x; argument: "a", "b", ABSENT
// Threads: tables are constant; a call uses its render.
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_BUILTIN_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_BUILTIN_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"
#include "runtime/value/template_heap.h"
#include "runtime/value/template_value.h"

enum { PR_TEMPLATE_BUILTIN_MAX_PARAMETERS = 5 };

typedef struct pr_template_call {
    pr_template_heap *heap;
    struct pr_template_render *render;
    const char *name;
    pr_template_value self;  // ABSENT for functions
    pr_template_value argument[PR_TEMPLATE_BUILTIN_MAX_PARAMETERS];
    pr_template_arguments raw;  // as given, for those that take any number
} pr_template_call;

typedef pr_status (*pr_template_builtin_run)(pr_template_call *call, pr_template_value *result);

typedef struct pr_template_builtin {
    const char *name;
    pr_template_builtin_run run;
    int required;
    const char *parameter[PR_TEMPLATE_BUILTIN_MAX_PARAMETERS];
    bool any_number;  // no binding: `raw` only
} pr_template_builtin;

// By name in a table that ends with a NULL name; NULL when there is none.
const pr_template_builtin *
pr_template_builtin_find(const pr_template_builtin *table, const pr_template_text *name);

pr_status pr_template_builtin_call(
    const pr_template_builtin *builtin,
    struct pr_template_render *render,
    const pr_template_value *self,  // NULL: ABSENT
    const pr_template_arguments *arguments,
    pr_template_value *result) PR_MUST_CHECK;

static inline bool pr_template_builtin_has(const pr_template_call *call, int parameter)
{
    return call->argument[parameter].kind != PR_TEMPLATE_ABSENT;
}
// The argument as an integer, a truth, a string; `fallback` when it is absent. PR_ERR_REQUEST: another kind.
pr_status pr_template_builtin_integer(
    const pr_template_call *call, int parameter, int64_t fallback, int64_t *value) PR_MUST_CHECK;
bool pr_template_builtin_truth(const pr_template_call *call, int parameter, bool fallback);
pr_status pr_template_builtin_text(
    const pr_template_call *call, int parameter, const char *fallback, pr_template_text *text)
    PR_MUST_CHECK;

#endif
