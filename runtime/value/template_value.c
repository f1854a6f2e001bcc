// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_value.h"

#include <string.h>

#include "runtime/text/utf8.h"
#include "runtime/value/template_dict.h"

pr_template_value pr_template_value_word(const char *word)
{
    return pr_template_value_string(pr_template_text_of(word, strlen(word), false));
}

const char *pr_template_value_kind_name(const pr_template_value *value)
{
    switch (value->kind) {
    case PR_TEMPLATE_UNDEFINED:
    case PR_TEMPLATE_ABSENT:
        return "Undefined";
    case PR_TEMPLATE_NONE:
        return "NoneType";
    case PR_TEMPLATE_BOOL:
        return "bool";
    case PR_TEMPLATE_INTEGER:
        return "int";
    case PR_TEMPLATE_FLOAT:
        return "float";
    case PR_TEMPLATE_STRING:
        return "str";
    case PR_TEMPLATE_LIST:
        return "list";
    case PR_TEMPLATE_TUPLE:
        return "tuple";
    case PR_TEMPLATE_RANGE:
        return "range";
    case PR_TEMPLATE_VIEW:
        return value->list->label;
    case PR_TEMPLATE_GENERATOR:
        return "generator";
    case PR_TEMPLATE_DICT:
        return "dict";
    case PR_TEMPLATE_NAMESPACE:
        return "Namespace";
    case PR_TEMPLATE_LOOP:
        return "LoopContext";
    case PR_TEMPLATE_MACRO:
        return "Macro";
    case PR_TEMPLATE_FUNCTION:
        return "function";
    case PR_TEMPLATE_METHOD:
        return "method";
    }
    return "value";
}

// ---- lists

pr_status pr_template_value_list(
    pr_template_heap *heap, pr_template_kind kind, size_t size, pr_template_value *value)
{
    pr_template_list *fresh = pr_template_heap_take_zeroed(heap, sizeof *fresh);
    if (!fresh)
        return PR_ERR_REQUEST;
    if (size > PR_TEMPLATE_HEAP_MAX_BYTES / sizeof *fresh->item)
        return pr_template_heap_fail(heap, "a list of %zu items is too long", size);
    fresh->size = size;
    if (size > 0) {
        fresh->item = pr_template_heap_take_zeroed(heap, size * sizeof *fresh->item);
        if (!fresh->item)
            return PR_ERR_REQUEST;
    }
    *value = (pr_template_value){.kind = kind, .list = fresh};
    return PR_OK;
}

pr_status pr_template_value_push(
    pr_template_heap *heap, pr_template_list *list, size_t *capacity, pr_template_value item)
{
    if (list->size == *capacity) {
        size_t wanted = *capacity < 4 ? 4 : *capacity * 2;
        pr_template_value *fresh = pr_template_heap_take(heap, wanted * sizeof *fresh);
        if (!fresh)
            return PR_ERR_REQUEST;
        if (list->size > 0)
            memcpy(fresh, list->item, list->size * sizeof *fresh);
        list->item = fresh;
        *capacity = wanted;
    }
    list->item[list->size++] = item;
    return PR_OK;
}

pr_status
pr_template_value_dict(pr_template_heap *heap, pr_template_kind kind, pr_template_value *value)
{
    pr_template_dict *fresh = pr_template_heap_take_zeroed(heap, sizeof *fresh);
    if (!fresh)
        return PR_ERR_REQUEST;
    *value = (pr_template_value){.kind = kind, .dict = fresh};
    return PR_OK;
}

// ---- reading

typedef struct reading {
    pr_template_heap *heap;
    bool marked;
} reading;

static pr_status
read_json(const reading *r, const json_t *json, int depth, pr_template_value *value);

static pr_status
read_object(const reading *r, const json_t *json, int depth, pr_template_value *value)
{
    json_t *object = (json_t *)(uintptr_t)json;  // jansson's iterators take no const object
    PR_TRY(pr_template_value_dict(r->heap, PR_TEMPLATE_DICT, value));
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        const char *name = json_object_iter_key(at);
        pr_template_value item,
            key = pr_template_value_string(pr_template_text_of(name, strlen(name), r->marked));
        PR_TRY(read_json(r, json_object_iter_value(at), depth, &item));
        PR_TRY(pr_template_dict_set(r->heap, value->dict, key, item));
    }
    return PR_OK;
}

static pr_status
read_array(const reading *r, const json_t *json, int depth, pr_template_value *value)
{
    PR_TRY(pr_template_value_list(r->heap, PR_TEMPLATE_LIST, json_array_size(json), value));
    for (size_t i = 0; i < json_array_size(json); i++)
        PR_TRY(read_json(r, json_array_get(json, i), depth, &value->list->item[i]));
    return PR_OK;
}

static pr_status
read_json(const reading *r, const json_t *json, int depth, pr_template_value *value)
{
    if (depth == PR_TEMPLATE_VALUE_MAX_DEPTH)
        return pr_template_heap_fail(
            r->heap, "lists and objects are nested more than %d deep", PR_TEMPLATE_VALUE_MAX_DEPTH);
    PR_TRY(pr_template_heap_charge(r->heap, 1));
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        PR_TRY(read_object(r, json, depth + 1, value));
        break;
    case JSON_ARRAY:
        PR_TRY(read_array(r, json, depth + 1, value));
        break;
    case JSON_STRING:
        *value = pr_template_value_string(
            pr_template_text_of(json_string_value(json), json_string_length(json), r->marked));
        break;
    case JSON_INTEGER:
        *value = pr_template_value_integer(json_integer_value(json));
        break;
    case JSON_REAL:
        *value = pr_template_value_float(json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *value = pr_template_value_bool(json_is_true(json));
        break;
    case JSON_NULL:
        *value = pr_template_value_none();
        break;
    }
    value->marked = r->marked;
    return PR_OK;
}

pr_status pr_template_value_read(
    pr_template_heap *heap, const json_t *json, bool marked, pr_template_value *value)
{
    reading r = {.heap = heap, .marked = marked};
    return read_json(&r, json, 0, value);
}

// ---- looking

bool pr_template_value_is_list(const pr_template_value *value)
{
    return value->kind >= PR_TEMPLATE_LIST && value->kind <= PR_TEMPLATE_GENERATOR;
}

bool pr_template_value_is_number(const pr_template_value *value)
{
    return value->kind >= PR_TEMPLATE_BOOL && value->kind <= PR_TEMPLATE_FLOAT;
}

bool pr_template_value_is_true(const pr_template_value *value)
{
    switch (value->kind) {
    case PR_TEMPLATE_UNDEFINED:
    case PR_TEMPLATE_ABSENT:
    case PR_TEMPLATE_NONE:
        return false;
    case PR_TEMPLATE_BOOL:
        return value->truth;
    case PR_TEMPLATE_INTEGER:
        return value->integer != 0;
    case PR_TEMPLATE_FLOAT:
        return value->real != 0;
    case PR_TEMPLATE_STRING:
        return value->text.size_bytes > 0;
    case PR_TEMPLATE_LIST:
    case PR_TEMPLATE_TUPLE:
    case PR_TEMPLATE_RANGE:
    case PR_TEMPLATE_VIEW:
        return value->list->size > 0;
    case PR_TEMPLATE_DICT:
        return value->dict->size > 0;
    default:
        return true;
    }
}

double pr_template_value_as_real(const pr_template_value *number)
{
    return number->kind == PR_TEMPLATE_FLOAT ? number->real
                                             : (double)pr_template_value_as_integer(number);
}

static pr_status
walk_characters(pr_template_heap *heap, const pr_template_text *text, pr_template_list *list)
{
    pr_template_value whole;
    size_t at = 0;
    PR_TRY(
        pr_template_value_list(heap, PR_TEMPLATE_LIST, pr_template_text_characters(text), &whole));
    for (size_t i = 0; i < whole.list->size; i++) {
        size_t begin = at;
        (void)pr_utf8_next(text->data, &at);
        whole.list->item[i] = pr_template_value_string(pr_template_text_slice(*text, begin, at));
    }
    *list = *whole.list;
    return PR_OK;
}

static pr_status
walk_keys(pr_template_heap *heap, const pr_template_dict *dict, pr_template_list *list)
{
    pr_template_value whole;
    PR_TRY(pr_template_value_list(heap, PR_TEMPLATE_LIST, dict->size, &whole));
    for (size_t i = 0; i < dict->size; i++)
        whole.list->item[i] = dict->entry[i].key;
    *list = *whole.list;
    return PR_OK;
}

pr_status pr_template_value_walk(
    pr_template_heap *heap, const pr_template_value *value, pr_template_list *list)
{
    *list = (pr_template_list){0};
    switch (value->kind) {
    case PR_TEMPLATE_UNDEFINED:
        return PR_OK;
    case PR_TEMPLATE_STRING:
        PR_TRY(walk_characters(heap, &value->text, list));
        break;
    case PR_TEMPLATE_DICT:
        PR_TRY(walk_keys(heap, value->dict, list));
        break;
    case PR_TEMPLATE_GENERATOR:
        list->size = value->list->size - value->list->walked;
        if (list->size > 0)
            list->item = value->list->item + value->list->walked;
        value->list->walked = value->list->size;
        break;
    case PR_TEMPLATE_LIST:
    case PR_TEMPLATE_TUPLE:
    case PR_TEMPLATE_RANGE:
    case PR_TEMPLATE_VIEW:
        *list = *value->list;
        break;
    default:
        return pr_template_heap_fail(
            heap, "'%s' object is not iterable", pr_template_value_kind_name(value));
    }
    return pr_template_heap_charge(heap, list->size);
}

pr_status
pr_template_value_length(pr_template_heap *heap, const pr_template_value *value, size_t *length)
{
    switch (value->kind) {
    case PR_TEMPLATE_UNDEFINED:
        *length = 0;
        return PR_OK;
    case PR_TEMPLATE_STRING:
        *length = pr_template_text_characters(&value->text);
        return pr_template_heap_charge(heap, value->text.size_bytes / 64);
    case PR_TEMPLATE_LIST:
    case PR_TEMPLATE_TUPLE:
    case PR_TEMPLATE_RANGE:
    case PR_TEMPLATE_VIEW:
        *length = value->list->size;
        return PR_OK;
    case PR_TEMPLATE_DICT:
        *length = value->dict->size;
        return PR_OK;
    default:
        return pr_template_heap_fail(
            heap, "object of type '%s' has no len()", pr_template_value_kind_name(value));
    }
}

// ---- comparing

static pr_status equal(
    pr_template_heap *heap,
    const pr_template_value *left,
    const pr_template_value *right,
    int depth,
    bool *same);

static pr_status equal_lists(
    pr_template_heap *heap,
    const pr_template_list *left,
    const pr_template_list *right,
    int depth,
    bool *same)
{
    *same = left->size == right->size;
    for (size_t i = 0; i < left->size && *same; i++)
        PR_TRY(equal(heap, &left->item[i], &right->item[i], depth, same));
    return PR_OK;
}

static pr_status equal_dicts(
    pr_template_heap *heap,
    const pr_template_dict *left,
    const pr_template_dict *right,
    int depth,
    bool *same)
{
    *same = left->size == right->size;
    for (size_t i = 0; i < left->size && *same; i++) {
        const pr_template_value *other;
        PR_TRY(pr_template_dict_find(heap, right, &left->entry[i].key, &other));
        *same = other != NULL;
        if (other)
            PR_TRY(equal(heap, &left->entry[i].value, other, depth, same));
    }
    return PR_OK;
}

static bool equal_numbers(const pr_template_value *left, const pr_template_value *right)
{
    if (left->kind != PR_TEMPLATE_FLOAT && right->kind != PR_TEMPLATE_FLOAT)
        return pr_template_value_as_integer(left) == pr_template_value_as_integer(right);
    return pr_template_value_as_real(left) == pr_template_value_as_real(right);
}

static pr_status equal(
    pr_template_heap *heap,
    const pr_template_value *left,
    const pr_template_value *right,
    int depth,
    bool *same)
{
    if (depth == PR_TEMPLATE_VALUE_MAX_DEPTH)
        return pr_template_heap_fail(heap, "values to compare are nested too deep");
    PR_TRY(pr_template_heap_charge(heap, 1));
    *same = false;
    if (pr_template_value_is_number(left) && pr_template_value_is_number(right)) {
        *same = equal_numbers(left, right);
        return PR_OK;
    }
    if (left->kind != right->kind)
        return PR_OK;
    switch (left->kind) {
    case PR_TEMPLATE_UNDEFINED:
    case PR_TEMPLATE_NONE:
        *same = true;
        return PR_OK;
    case PR_TEMPLATE_STRING:
        *same = left->text.size_bytes == right->text.size_bytes &&
                pr_template_text_compare(&left->text, &right->text) == 0;
        return pr_template_heap_charge(heap, *same ? left->text.size_bytes / 64 : 0);
    case PR_TEMPLATE_LIST:
    case PR_TEMPLATE_TUPLE:
    case PR_TEMPLATE_RANGE:
        return equal_lists(heap, left->list, right->list, depth + 1, same);
    case PR_TEMPLATE_DICT:
        return equal_dicts(heap, left->dict, right->dict, depth + 1, same);
    default:
        *same = left->list == right->list;  // the same object
        return PR_OK;
    }
}

pr_status pr_template_value_equal(
    pr_template_heap *heap,
    const pr_template_value *left,
    const pr_template_value *right,
    bool *same)
{
    return equal(heap, left, right, 0, same);
}

static int compare_numbers(const pr_template_value *left, const pr_template_value *right)
{
    if (left->kind != PR_TEMPLATE_FLOAT && right->kind != PR_TEMPLATE_FLOAT) {
        int64_t a = pr_template_value_as_integer(left), b = pr_template_value_as_integer(right);
        return (a > b) - (a < b);
    }
    double a = pr_template_value_as_real(left), b = pr_template_value_as_real(right);
    return (a > b) - (a < b);
}

static pr_status compare(
    pr_template_heap *heap,
    const pr_template_value *left,
    const pr_template_value *right,
    int depth,
    int *order)
{
    PR_TRY(pr_template_heap_charge(heap, 1));
    if (pr_template_value_is_number(left) && pr_template_value_is_number(right)) {
        *order = compare_numbers(left, right);
        return PR_OK;
    }
    if (left->kind == PR_TEMPLATE_STRING && right->kind == PR_TEMPLATE_STRING) {
        int sign = pr_template_text_compare(&left->text, &right->text);
        *order = (sign > 0) - (sign < 0);
        return pr_template_heap_charge(heap, left->text.size_bytes / 64);
    }
    if (left->kind == right->kind &&
        (left->kind == PR_TEMPLATE_LIST || left->kind == PR_TEMPLATE_TUPLE) &&
        depth < PR_TEMPLATE_VALUE_MAX_DEPTH) {
        size_t a = left->list->size, b = right->list->size;
        *order = 0;
        for (size_t i = 0; i < a && i < b && *order == 0; i++) {
            bool same;
            PR_TRY(equal(heap, &left->list->item[i], &right->list->item[i], depth, &same));
            if (!same)
                PR_TRY(
                    compare(heap, &left->list->item[i], &right->list->item[i], depth + 1, order));
        }
        if (*order == 0)
            *order = (a > b) - (a < b);
        return PR_OK;
    }
    return pr_template_heap_fail(
        heap, "'%s' and '%s' have no order", pr_template_value_kind_name(left),
        pr_template_value_kind_name(right));
}

pr_status pr_template_value_compare(
    pr_template_heap *heap,
    const pr_template_value *left,
    const pr_template_value *right,
    int *order)
{
    return compare(heap, left, right, 0, order);
}
