// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_operator.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/utf8.h"
#include "runtime/value/template_builder.h"
#include "runtime/value/template_dict.h"
#include "runtime/value/template_format.h"

static const char *const signs[] = {
    [PR_TEMPLATE_ADD] = "+",    [PR_TEMPLATE_SUBTRACT] = "-",      [PR_TEMPLATE_MULTIPLY] = "*",
    [PR_TEMPLATE_DIVIDE] = "/", [PR_TEMPLATE_FLOOR_DIVIDE] = "//", [PR_TEMPLATE_REMAINDER] = "%",
    [PR_TEMPLATE_POWER] = "**",
};

static pr_status fail_operands(
    pr_template_heap *heap,
    pr_template_operation operation,
    const pr_template_value *left,
    const pr_template_value *right)
{
    const pr_template_value *missing = left->kind == PR_TEMPLATE_UNDEFINED    ? left
                                       : right->kind == PR_TEMPLATE_UNDEFINED ? right
                                                                              : NULL;
    if (missing)
        return pr_template_heap_fail(heap, "'%s' is undefined", missing->name);
    return pr_template_heap_fail(
        heap, "unsupported operand types for %s: '%s' and '%s'", signs[operation],
        pr_template_value_kind_name(left), pr_template_value_kind_name(right));
}

// ---- numbers

static bool multiply_power(int64_t base, int64_t exponent, int64_t *result)
{
    *result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) && __builtin_mul_overflow(*result, base, result))
            return false;
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base))
            return false;
    }
    return true;
}

// False: beyond 64 bits. right is not 0 where it divides.
static bool
compute_integers(pr_template_operation operation, int64_t left, int64_t right, int64_t *result)
{
    switch (operation) {
    case PR_TEMPLATE_ADD:
        return !__builtin_add_overflow(left, right, result);
    case PR_TEMPLATE_SUBTRACT:
        return !__builtin_sub_overflow(left, right, result);
    case PR_TEMPLATE_MULTIPLY:
        return !__builtin_mul_overflow(left, right, result);
    case PR_TEMPLATE_POWER:
        return multiply_power(left, right, result);
    case PR_TEMPLATE_FLOOR_DIVIDE:
        if (right == -1)
            return !__builtin_sub_overflow(0, left, result);
        *result = left / right - (left % right != 0 && (left < 0) != (right < 0));
        return true;
    default:
        *result = right == -1 ? 0 : left % right;
        *result += *result != 0 && (*result < 0) != (right < 0) ? right : 0;
        return true;
    }
}

static double compute_reals(pr_template_operation operation, double left, double right)
{
    double rest;
    switch (operation) {
    case PR_TEMPLATE_ADD:
        return left + right;
    case PR_TEMPLATE_SUBTRACT:
        return left - right;
    case PR_TEMPLATE_MULTIPLY:
        return left * right;
    case PR_TEMPLATE_DIVIDE:
        return left / right;
    case PR_TEMPLATE_POWER:
        return pow(left, right);
    default:
        rest = fmod(left, right);
        if (rest != 0 && (rest < 0) != (right < 0))
            rest += right;
        return operation == PR_TEMPLATE_REMAINDER ? rest : round((left - rest) / right);
    }
}

static pr_status compute_numbers(
    pr_template_heap *heap,
    pr_template_operation operation,
    const pr_template_value *left,
    const pr_template_value *right,
    pr_template_value *result)
{
    double b = pr_template_value_as_real(right);
    bool divides = operation == PR_TEMPLATE_DIVIDE || operation == PR_TEMPLATE_FLOOR_DIVIDE ||
                   operation == PR_TEMPLATE_REMAINDER;
    bool real = left->kind == PR_TEMPLATE_FLOAT || right->kind == PR_TEMPLATE_FLOAT ||
                operation == PR_TEMPLATE_DIVIDE || (operation == PR_TEMPLATE_POWER && b < 0);
    if (divides && b == 0)
        return pr_template_heap_fail(heap, "division by zero");
    if (real) {
        *result =
            pr_template_value_float(compute_reals(operation, pr_template_value_as_real(left), b));
    } else {
        *result = pr_template_value_integer(0);
        if (!compute_integers(
                operation, pr_template_value_as_integer(left), pr_template_value_as_integer(right),
                &result->integer))
            return pr_template_heap_fail(heap, "an integer grows beyond 64 bits");
    }
    result->marked = left->marked || right->marked;
    return PR_OK;
}

pr_status pr_template_operator_negate(
    pr_template_heap *heap, const pr_template_value *operand, pr_template_value *result)
{
    pr_template_value zero = pr_template_value_integer(0);
    if (operand->kind == PR_TEMPLATE_FLOAT) {
        *result = pr_template_value_float(-operand->real);
        result->marked = operand->marked;
        return PR_OK;
    }
    if (!pr_template_value_is_number(operand))
        return fail_operands(heap, PR_TEMPLATE_SUBTRACT, operand, operand);
    return compute_numbers(heap, PR_TEMPLATE_SUBTRACT, &zero, operand, result);
}

// ---- texts and lists

static void put_html(pr_template_builder *builder, const pr_template_text *text)
{
    static const char special[5] = "&<>'\"";
    static const char *const names[5] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    for (size_t i = 0; i < text->size_bytes; i++) {
        const char *found = memchr(special, text->data[i], sizeof special);
        if (found)
            pr_template_builder_put_word(
                builder, names[found - special], pr_template_text_is_marked(text, i));
        else
            pr_template_builder_append(builder, pr_template_text_slice(*text, i, i + 1));
    }
}

// A text that went through `safe` is Markup in Jinja: what is added to it is escaped.
static pr_status add_texts(
    pr_template_heap *heap,
    const pr_template_text *left,
    const pr_template_text *right,
    pr_template_value *result)
{
    pr_template_builder builder = pr_template_builder_of(heap);
    pr_template_text text;
    pr_template_builder_reserve(&builder, left->size_bytes + right->size_bytes);
    for (int side = 0; side < 2; side++) {
        const pr_template_text *part = side ? right : left, *other = side ? left : right;
        if (other->safe && !part->safe)
            put_html(&builder, part);
        else
            pr_template_builder_append(&builder, *part);
    }
    PR_TRY(pr_template_builder_finish(&builder, &text));
    text.safe = left->safe || right->safe;
    *result = pr_template_value_string(text);
    return PR_OK;
}

static pr_status add_lists(
    pr_template_heap *heap,
    const pr_template_value *left,
    const pr_template_value *right,
    pr_template_value *result)
{
    size_t size = left->list->size;
    PR_TRY(pr_template_heap_charge(heap, size + right->list->size));
    PR_TRY(pr_template_value_list(heap, left->kind, size + right->list->size, result));
    if (size > 0)
        memcpy(result->list->item, left->list->item, size * sizeof *left->list->item);
    if (right->list->size > 0)
        memcpy(
            result->list->item + size, right->list->item,
            right->list->size * sizeof *right->list->item);
    return PR_OK;
}

static pr_status repeat(
    pr_template_heap *heap, const pr_template_value *what, int64_t times, pr_template_value *result)
{
    pr_template_builder builder = pr_template_builder_of(heap);
    size_t count = times > 0 ? (size_t)times : 0;
    if (what->kind == PR_TEMPLATE_STRING) {
        pr_template_text text;
        for (size_t i = 0; i < count && what->text.size_bytes > 0; i++) {
            PR_TRY(pr_template_heap_charge(heap, 1));
            pr_template_builder_append(&builder, what->text);
            PR_TRY(builder.status);
        }
        PR_TRY(pr_template_builder_finish(&builder, &text));
        *result = pr_template_value_string(text);
        return PR_OK;
    }
    size_t size = what->list->size, whole;
    if (__builtin_mul_overflow(size, count, &whole))
        return pr_template_heap_fail(heap, "a list grows too long");
    PR_TRY(pr_template_heap_charge(heap, whole));
    PR_TRY(pr_template_value_list(heap, what->kind, whole, result));
    for (size_t i = 0; i < whole; i++)
        result->list->item[i] = what->list->item[i % size];
    return PR_OK;
}

static bool is_sequence(const pr_template_value *value)
{
    return value->kind == PR_TEMPLATE_STRING || value->kind == PR_TEMPLATE_LIST ||
           value->kind == PR_TEMPLATE_TUPLE;
}

static bool is_integer(const pr_template_value *value)
{
    return value->kind == PR_TEMPLATE_INTEGER || value->kind == PR_TEMPLATE_BOOL;
}

static pr_status compute(
    pr_template_heap *heap,
    pr_template_operation operation,
    const pr_template_value *left,
    const pr_template_value *right,
    pr_template_value *result)
{
    if (pr_template_value_is_number(left) && pr_template_value_is_number(right))
        return compute_numbers(heap, operation, left, right, result);
    if (operation == PR_TEMPLATE_ADD && left->kind == right->kind && is_sequence(left))
        return left->kind == PR_TEMPLATE_STRING ? add_texts(heap, &left->text, &right->text, result)
                                                : add_lists(heap, left, right, result);
    if (operation == PR_TEMPLATE_MULTIPLY && is_sequence(left) && is_integer(right))
        return repeat(heap, left, pr_template_value_as_integer(right), result);
    if (operation == PR_TEMPLATE_MULTIPLY && is_integer(left) && is_sequence(right))
        return repeat(heap, right, pr_template_value_as_integer(left), result);
    if (operation == PR_TEMPLATE_REMAINDER && left->kind == PR_TEMPLATE_STRING)
        return pr_template_format_percent(heap, &left->text, right, result);
    return fail_operands(heap, operation, left, right);
}

// ---- comparing

pr_status pr_template_operator_contains(
    pr_template_heap *heap,
    const pr_template_value *container,
    const pr_template_value *item,
    bool *contains)
{
    *contains = false;
    if (container->kind == PR_TEMPLATE_STRING) {
        if (item->kind != PR_TEMPLATE_STRING)
            return pr_template_heap_fail(
                heap, "'in' a string needs a string on its left, not %s",
                pr_template_value_kind_name(item));
        *contains = pr_template_text_find(&container->text, &item->text, 0) != SIZE_MAX;
        return pr_template_heap_charge(heap, container->text.size_bytes / 64);
    }
    if (container->kind == PR_TEMPLATE_DICT) {
        const pr_template_value *found;
        PR_TRY(pr_template_dict_find(heap, container->dict, item, &found));
        *contains = found != NULL;
        return PR_OK;
    }
    pr_template_list list;
    PR_TRY(pr_template_value_walk(heap, container, &list));
    for (size_t i = 0; i < list.size && !*contains; i++)
        PR_TRY(pr_template_value_equal(heap, &list.item[i], item, contains));
    return PR_OK;
}

static pr_status compare_order(
    pr_template_heap *heap,
    pr_template_operation operation,
    const pr_template_value *left,
    const pr_template_value *right,
    bool *holds)
{
    int order;
    PR_TRY(pr_template_value_compare(heap, left, right, &order));
    bool unordered = pr_template_value_is_number(left) && (isnan(pr_template_value_as_real(left)) ||
                                                           isnan(pr_template_value_as_real(right)));
    *holds = operation == PR_TEMPLATE_LESS         ? order < 0
             : operation == PR_TEMPLATE_LESS_EQUAL ? order <= 0
             : operation == PR_TEMPLATE_GREATER    ? order > 0
                                                   : order >= 0;
    *holds = *holds && !unordered;
    return PR_OK;
}

pr_status pr_template_operator_binary(
    pr_template_heap *heap,
    pr_template_operation operation,
    const pr_template_value *left,
    const pr_template_value *right,
    pr_template_value *result)
{
    bool holds = false;
    switch (operation) {
    case PR_TEMPLATE_EQUAL:
    case PR_TEMPLATE_UNEQUAL:
        PR_TRY(pr_template_value_equal(heap, left, right, &holds));
        holds ^= operation == PR_TEMPLATE_UNEQUAL;
        break;
    case PR_TEMPLATE_IN:
    case PR_TEMPLATE_NOT_IN:
        PR_TRY(pr_template_operator_contains(heap, right, left, &holds));
        holds ^= operation == PR_TEMPLATE_NOT_IN;
        break;
    case PR_TEMPLATE_LESS:
    case PR_TEMPLATE_LESS_EQUAL:
    case PR_TEMPLATE_GREATER:
    case PR_TEMPLATE_GREATER_EQUAL:
        PR_TRY(compare_order(heap, operation, left, right, &holds));
        break;
    default:
        return compute(heap, operation, left, right, result);
    }
    *result = pr_template_value_bool(holds);
    return PR_OK;
}

// ---- slices

static pr_status
read_bound(pr_template_heap *heap, const pr_template_value *bound, int64_t fallback, int64_t *value)
{
    *value = fallback;
    if (bound->kind == PR_TEMPLATE_NONE)
        return PR_OK;
    if (!is_integer(bound))
        return pr_template_heap_fail(
            heap, "a slice needs integers, not %s", pr_template_value_kind_name(bound));
    *value = pr_template_value_as_integer(bound);
    return PR_OK;
}

static int64_t clamp_bound(int64_t bound, int64_t size, int64_t step)
{
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? size - 1 : size;
    if (bound < 0)
        bound = bound < -size ? low : bound + size;
    return bound < low ? low : bound > high ? high : bound;
}

static pr_status slice_list(
    pr_template_heap *heap,
    const pr_template_value *from,
    int64_t start,
    int64_t step,
    size_t count,
    pr_template_value *result)
{
    PR_TRY(pr_template_heap_charge(heap, count));
    PR_TRY(pr_template_value_list(heap, from->kind, count, result));
    for (size_t i = 0; i < count; i++)
        result->list->item[i] = from->list->item[start + (int64_t)i * step];
    result->marked = from->marked;
    return PR_OK;
}

static pr_status slice_text(
    pr_template_heap *heap,
    const pr_template_value *from,
    int64_t start,
    int64_t step,
    size_t count,
    pr_template_value *result)
{
    const pr_template_text *text = &from->text;
    *result = *from;
    PR_TRY(pr_template_heap_charge(heap, text->size_bytes / 16));
    if (step == 1 || count == 0) {
        size_t begin = count == 0 ? 0 : pr_template_text_offset(text, (size_t)start);
        pr_template_text rest = pr_template_text_slice(*text, begin, text->size_bytes);
        result->text = pr_template_text_slice(rest, 0, pr_template_text_offset(&rest, count));
        return PR_OK;
    }
    pr_template_list characters;
    pr_template_builder builder = pr_template_builder_of(heap);
    PR_TRY(pr_template_value_walk(heap, from, &characters));
    for (size_t i = 0; i < count; i++)
        pr_template_builder_append(&builder, characters.item[start + (int64_t)i * step].text);
    return pr_template_builder_finish(&builder, &result->text);
}

pr_status pr_template_operator_slice(
    pr_template_heap *heap,
    const pr_template_value *value,
    const pr_template_value bound[static 3],
    pr_template_value *result)
{
    int64_t start, stop, step;
    size_t length;
    if (value->kind == PR_TEMPLATE_UNDEFINED)
        return pr_template_heap_fail(heap, "'%s' is undefined", value->name);
    if (!is_sequence(value) && value->kind != PR_TEMPLATE_RANGE)
        return pr_template_heap_fail(
            heap, "a %s cannot be sliced", pr_template_value_kind_name(value));
    PR_TRY(pr_template_value_length(heap, value, &length));
    int64_t size = (int64_t)length;
    PR_TRY(read_bound(heap, &bound[2], 1, &step));
    if (step == 0)
        return pr_template_heap_fail(heap, "the step of a slice is zero");
    step = step < -size - 1 ? -size - 1 : step > size + 1 ? size + 1 : step;
    PR_TRY(read_bound(heap, &bound[0], step < 0 ? size - 1 : 0, &start));
    PR_TRY(read_bound(heap, &bound[1], step < 0 ? -size - 1 : size, &stop));
    start = clamp_bound(start, size, step);
    stop = clamp_bound(stop, size, step);
    int64_t span = step > 0 ? stop - start : start - stop, stride = step > 0 ? step : -step;
    size_t count = span > 0 ? (size_t)((span - 1) / stride + 1) : 0;
    return value->kind == PR_TEMPLATE_STRING ? slice_text(heap, value, start, step, count, result)
                                             : slice_list(heap, value, start, step, count, result);
}
