// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/template/template_test.h"

#include "runtime/template/template_filter.h"
#include "runtime/value/template_change.h"
#include "runtime/value/template_operator.h"
#include "runtime/value/template_print.h"

static pr_status answer(pr_template_value *result, bool truth)
{
    *result = pr_template_value_bool(truth);
    return PR_OK;
}

static pr_status is_defined(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind != PR_TEMPLATE_UNDEFINED);
}

static pr_status is_undefined(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind == PR_TEMPLATE_UNDEFINED);
}

static pr_status is_none(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind == PR_TEMPLATE_NONE);
}

static pr_status is_boolean(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind == PR_TEMPLATE_BOOL);
}

static pr_status is_true(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind == PR_TEMPLATE_BOOL && call->self.truth);
}

static pr_status is_false(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind == PR_TEMPLATE_BOOL && !call->self.truth);
}

static pr_status is_integer(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind == PR_TEMPLATE_INTEGER);
}

static pr_status is_float(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind == PR_TEMPLATE_FLOAT);
}

static pr_status is_number(pr_template_call *call, pr_template_value *result)
{
    return answer(result, pr_template_value_is_number(&call->self));
}

static pr_status is_string(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind == PR_TEMPLATE_STRING);
}

static pr_status is_mapping(pr_template_call *call, pr_template_value *result)
{
    return answer(result, call->self.kind == PR_TEMPLATE_DICT);
}

// What has a length and can be indexed: also a dict, and an undefined value.
static pr_status is_sequence(pr_template_call *call, pr_template_value *result)
{
    switch (call->self.kind) {
    case PR_TEMPLATE_UNDEFINED:
    case PR_TEMPLATE_STRING:
    case PR_TEMPLATE_LIST:
    case PR_TEMPLATE_TUPLE:
    case PR_TEMPLATE_RANGE:
    case PR_TEMPLATE_DICT:
        return answer(result, true);
    default:
        return answer(result, false);
    }
}

static pr_status is_iterable(pr_template_call *call, pr_template_value *result)
{
    PR_TRY(is_sequence(call, result));
    return answer(result, result->truth || pr_template_value_is_list(&call->self));
}

static pr_status is_callable(pr_template_call *call, pr_template_value *result)
{
    return answer(
        result, call->self.kind == PR_TEMPLATE_MACRO || call->self.kind == PR_TEMPLATE_FUNCTION ||
                    call->self.kind == PR_TEMPLATE_METHOD ||
                    call->self.kind == PR_TEMPLATE_UNDEFINED);
}

static pr_status
compare_with(pr_template_call *call, pr_template_operation operation, pr_template_value *result)
{
    return pr_template_operator_binary(
        call->heap, operation, &call->self, &call->argument[0], result);
}

static pr_status is_equal(pr_template_call *call, pr_template_value *result)
{
    return compare_with(call, PR_TEMPLATE_EQUAL, result);
}

static pr_status is_unequal(pr_template_call *call, pr_template_value *result)
{
    return compare_with(call, PR_TEMPLATE_UNEQUAL, result);
}

static pr_status is_less(pr_template_call *call, pr_template_value *result)
{
    return compare_with(call, PR_TEMPLATE_LESS, result);
}

static pr_status is_at_most(pr_template_call *call, pr_template_value *result)
{
    return compare_with(call, PR_TEMPLATE_LESS_EQUAL, result);
}

static pr_status is_greater(pr_template_call *call, pr_template_value *result)
{
    return compare_with(call, PR_TEMPLATE_GREATER, result);
}

static pr_status is_at_least(pr_template_call *call, pr_template_value *result)
{
    return compare_with(call, PR_TEMPLATE_GREATER_EQUAL, result);
}

static pr_status is_in(pr_template_call *call, pr_template_value *result)
{
    return compare_with(call, PR_TEMPLATE_IN, result);
}

// Python's `is`: the same object, or an equal one of those that exist once.
static pr_status is_same(pr_template_call *call, pr_template_value *result)
{
    const pr_template_value *left = &call->self, *right = &call->argument[0];
    if (left->kind != right->kind)
        return answer(result, false);
    if (left->kind <= PR_TEMPLATE_STRING)
        return compare_with(call, PR_TEMPLATE_EQUAL, result);
    return answer(result, left->list == right->list);
}

static pr_status remainder_of(pr_template_call *call, int64_t by, int64_t *remainder)
{
    pr_template_value divisor = pr_template_value_integer(by), rest;
    PR_TRY(pr_template_operator_binary(
        call->heap, PR_TEMPLATE_REMAINDER, &call->self, &divisor, &rest));
    if (!pr_template_value_is_number(&rest))
        return pr_template_heap_fail(call->heap, "%s needs a number", call->name);
    *remainder = pr_template_value_as_real(&rest) == 0   ? 0
                 : pr_template_value_as_real(&rest) == 1 ? 1
                                                         : 2;
    return PR_OK;
}

static pr_status is_even(pr_template_call *call, pr_template_value *result)
{
    int64_t remainder;
    PR_TRY(remainder_of(call, 2, &remainder));
    return answer(result, remainder == 0);
}

static pr_status is_odd(pr_template_call *call, pr_template_value *result)
{
    int64_t remainder;
    PR_TRY(remainder_of(call, 2, &remainder));
    return answer(result, remainder == 1);
}

static pr_status is_divisible(pr_template_call *call, pr_template_value *result)
{
    int64_t by, remainder;
    PR_TRY(pr_template_builtin_integer(call, 0, 1, &by));
    PR_TRY(remainder_of(call, by, &remainder));
    return answer(result, remainder == 0);
}

// Python's islower and isupper: some letter has case, and all that have are of this one.
static pr_status
has_case(pr_template_call *call, pr_template_case wanted, pr_template_value *result)
{
    pr_template_text text;
    pr_template_value same, other;
    PR_TRY(pr_template_print_to_text(call->heap, &call->self, &text));
    PR_TRY(pr_template_change_case(call->heap, &text, wanted, &same));
    PR_TRY(pr_template_change_case(
        call->heap, &text, wanted == PR_TEMPLATE_UPPER ? PR_TEMPLATE_LOWER : PR_TEMPLATE_UPPER,
        &other));
    return answer(
        result, pr_template_text_compare(&text, &same.text) == 0 &&
                    pr_template_text_compare(&text, &other.text) != 0);
}

static pr_status is_lower(pr_template_call *call, pr_template_value *result)
{
    return has_case(call, PR_TEMPLATE_LOWER, result);
}

static pr_status is_upper(pr_template_call *call, pr_template_value *result)
{
    return has_case(call, PR_TEMPLATE_UPPER, result);
}

static pr_status
is_known(pr_template_call *call, const pr_template_builtin *table, pr_template_value *result)
{
    return answer(
        result, call->self.kind == PR_TEMPLATE_STRING &&
                    pr_template_builtin_find(table, &call->self.text) != NULL);
}

static pr_status is_filter(pr_template_call *call, pr_template_value *result)
{
    return is_known(call, pr_template_filters, result);
}

static pr_status is_test(pr_template_call *call, pr_template_value *result)
{
    return is_known(call, pr_template_tests, result);
}

const pr_template_builtin pr_template_tests[] = {
    {"!=", is_unequal, 1, {"other"}, false},
    {"<", is_less, 1, {"other"}, false},
    {"<=", is_at_most, 1, {"other"}, false},
    {"==", is_equal, 1, {"other"}, false},
    {">", is_greater, 1, {"other"}, false},
    {">=", is_at_least, 1, {"other"}, false},
    {"boolean", is_boolean, 0, {NULL}, false},
    {"callable", is_callable, 0, {NULL}, false},
    {"defined", is_defined, 0, {NULL}, false},
    {"divisibleby", is_divisible, 1, {"num"}, false},
    {"eq", is_equal, 1, {"other"}, false},
    {"equalto", is_equal, 1, {"other"}, false},
    {"even", is_even, 0, {NULL}, false},
    {"false", is_false, 0, {NULL}, false},
    {"filter", is_filter, 0, {NULL}, false},
    {"float", is_float, 0, {NULL}, false},
    {"ge", is_at_least, 1, {"other"}, false},
    {"greaterthan", is_greater, 1, {"other"}, false},
    {"gt", is_greater, 1, {"other"}, false},
    {"in", is_in, 1, {"seq"}, false},
    {"integer", is_integer, 0, {NULL}, false},
    {"iterable", is_iterable, 0, {NULL}, false},
    {"le", is_at_most, 1, {"other"}, false},
    {"lessthan", is_less, 1, {"other"}, false},
    {"lower", is_lower, 0, {NULL}, false},
    {"lt", is_less, 1, {"other"}, false},
    {"mapping", is_mapping, 0, {NULL}, false},
    {"ne", is_unequal, 1, {"other"}, false},
    {"none", is_none, 0, {NULL}, false},
    {"number", is_number, 0, {NULL}, false},
    {"odd", is_odd, 0, {NULL}, false},
    {"sameas", is_same, 1, {"other"}, false},
    {"sequence", is_sequence, 0, {NULL}, false},
    {"string", is_string, 0, {NULL}, false},
    {"test", is_test, 0, {NULL}, false},
    {"true", is_true, 0, {NULL}, false},
    {"undefined", is_undefined, 0, {NULL}, false},
    {"upper", is_upper, 0, {NULL}, false},
    {NULL, NULL, 0, {NULL}, false},
};
