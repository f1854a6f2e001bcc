// SPDX-License-Identifier: BSD-3-Clause
// The tests: x is name(arguments). To add one: a function and a line in the table.
// Threads: constant.
// Source: Jinja 3.1 template designer documentation, "List of Builtin Tests".
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_TEST_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_TEST_H

#include "runtime/template/template_builtin.h"

extern const pr_template_builtin pr_template_tests[];

#endif
