// SPDX-License-Identifier: BSD-3-Clause
// Methods and attributes that values have of themselves: "x".strip, {}.items, loop.index. Those of Python's that change
// a list or a dict do not exist here, as in the sandbox.
// Threads: one render, one thread.
// Source: Python 3 library reference, "Built-in Types"; Jinja 3.1, "For", `loop`.
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_METHOD_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_METHOD_H

#include "runtime/template/template_builtin.h"

// NULL when the object has no such method.
const pr_template_builtin *
pr_template_method_find(const pr_template_value *object, const pr_template_text *name);
// False when a loop has no such attribute.
bool pr_template_method_loop(
    const pr_template_loop *loop, const pr_template_text *name, pr_template_value *value);

#endif
