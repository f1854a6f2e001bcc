// SPDX-License-Identifier: BSD-3-Clause
// Operators on values, with Python's meaning; integers are of 64 bits, and a result beyond is a fault.
// Threads: one render, one thread.
// Source: Python 3 language reference, "Expressions"; library reference, "printf-style String Formatting".
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_OPERATOR_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_OPERATOR_H

#include "runtime/template/template_ast.h"

pr_status pr_template_operator_binary(
    pr_template_heap *heap,
    pr_template_operation operation,
    const pr_template_value *left,
    const pr_template_value *right,
    pr_template_value *result) PR_MUST_CHECK;
pr_status pr_template_operator_negate(
    pr_template_heap *heap,
    const pr_template_value *operand,
    pr_template_value *result) PR_MUST_CHECK;
// item in container.
pr_status pr_template_operator_contains(
    pr_template_heap *heap,
    const pr_template_value *container,
    const pr_template_value *item,
    bool *contains) PR_MUST_CHECK;
// format % value, value a tuple or a single one.
pr_status pr_template_operator_format(
    pr_template_heap *heap,
    const pr_template_text *format,
    const pr_template_value *value,
    pr_template_value *result) PR_MUST_CHECK;
// value[start:stop:step]; a bound is NONE where it is left out.
pr_status pr_template_operator_slice(
    pr_template_heap *heap,
    const pr_template_value *value,
    const pr_template_value bound[static 3],
    pr_template_value *result) PR_MUST_CHECK;

#endif
