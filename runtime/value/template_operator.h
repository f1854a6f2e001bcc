// SPDX-License-Identifier: BSD-3-Clause
// Operators on values, with Python's meaning; integers are of 64 bits, and a result beyond is a fault.
// Threads: one render, one thread.
// Source: Python 3 language reference, "Expressions".
#ifndef PR_RUNTIME_VALUE_TEMPLATE_OPERATOR_H
#define PR_RUNTIME_VALUE_TEMPLATE_OPERATOR_H

#include "runtime/value/template_value.h"

typedef enum pr_template_operation {
    PR_TEMPLATE_ADD,
    PR_TEMPLATE_SUBTRACT,
    PR_TEMPLATE_MULTIPLY,
    PR_TEMPLATE_DIVIDE,
    PR_TEMPLATE_FLOOR_DIVIDE,
    PR_TEMPLATE_REMAINDER,
    PR_TEMPLATE_POWER,
    PR_TEMPLATE_EQUAL,
    PR_TEMPLATE_UNEQUAL,
    PR_TEMPLATE_LESS,
    PR_TEMPLATE_LESS_EQUAL,
    PR_TEMPLATE_GREATER,
    PR_TEMPLATE_GREATER_EQUAL,
    PR_TEMPLATE_IN,
    PR_TEMPLATE_NOT_IN,
} pr_template_operation;

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
// value[start:stop:step]; a bound is NONE where it is left out.
pr_status pr_template_operator_slice(
    pr_template_heap *heap,
    const pr_template_value *value,
    const pr_template_value bound[static 3],
    pr_template_value *result) PR_MUST_CHECK;

#endif
