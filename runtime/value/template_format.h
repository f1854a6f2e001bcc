// SPDX-License-Identifier: BSD-3-Clause
// The two ways to put values into a text: "%s" % value and "{}".format(value), without widths.
// Threads: one render, one thread.
// Source: Python 3 library reference, "printf-style String Formatting" and "Format String Syntax".
#ifndef PR_RUNTIME_VALUE_TEMPLATE_FORMAT_H
#define PR_RUNTIME_VALUE_TEMPLATE_FORMAT_H

#include "runtime/value/template_value.h"

// format % value, value a tuple or a single one.
pr_status pr_template_format_percent(
    pr_template_heap *heap,
    const pr_template_text *format,
    const pr_template_value *value,
    pr_template_value *result) PR_MUST_CHECK;
pr_status pr_template_format_braces(
    pr_template_heap *heap,
    const pr_template_text *format,
    const pr_template_arguments *arguments,
    pr_template_value *result) PR_MUST_CHECK;

#endif
