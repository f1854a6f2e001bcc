// SPDX-License-Identifier: BSD-3-Clause
// The functions that templates find as variables: raise_exception, strftime_now, range, namespace, dict.
// Threads: constant.
// Source: transformers' chat template documentation; Jinja 3.1, "List of Global Functions".
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_FUNCTION_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_FUNCTION_H

#include "runtime/template/template_builtin.h"

extern const pr_template_builtin pr_template_functions[];

#endif
