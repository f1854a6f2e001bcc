// SPDX-License-Identifier: BSD-3-Clause
// Filters that go over a list and look at each item, or at an attribute of it.
#include <stdlib.h>
#include <string.h>

#include "runtime/template/template_filter.h"
#include "runtime/template/template_render.h"
#include "runtime/template/template_test.h"
#include "runtime/value/template_change.h"
#include "runtime/value/template_dict.h"
#include "runtime/value/template_operator.h"
#include "runtime/value/template_sort.h"

// ---- attributes: "function.name", "0", or a number

static bool read_index(const pr_template_text *part, int64_t *index)
{
    *index = 0;
    for (size_t i = 0; i < part->size_bytes; i++) {
        if (part->data[i] < '0' || part->data[i] > '9' || i == 9)
            return false;
        *index = *index * 10 + (part->data[i] - '0');
    }
    return part->size_bytes > 0;
}

static pr_status get_attribute(
    const pr_template_call *call,
    const pr_template_value *item,
    const pr_template_value *attribute,
    pr_template_value *value)
{
    static const pr_template_text dot = {.data = ".", .size_bytes = 1};
    if (attribute->kind != PR_TEMPLATE_STRING)
        return pr_template_eval_subscript(call->render, item, attribute, value);
    const pr_template_text *path = &attribute->text;
    pr_template_value object = *item;
    for (size_t begin = 0; begin <= path->size_bytes;) {
        size_t end = pr_template_text_find(path, &dot, begin);
        end = end == SIZE_MAX ? path->size_bytes : end;
        pr_template_text part = pr_template_text_slice(*path, begin, end);
        pr_template_value index = pr_template_value_integer(0);
        if (!read_index(&part, &index.integer))
            index = pr_template_value_string(part);
        PR_TRY(pr_template_eval_subscript(call->render, &object, &index, value));
        object = *value;
        begin = end + 1;
    }
    return PR_OK;
}

// The item, or its attribute if one is asked for.
static pr_status get_key(
    const pr_template_call *call,
    const pr_template_value *item,
    int attribute,
    bool fold_case,
    pr_template_value *key)
{
    *key = *item;
    if (pr_template_builtin_has(call, attribute) &&
        call->argument[attribute].kind != PR_TEMPLATE_NONE)
        PR_TRY(get_attribute(call, item, &call->argument[attribute], key));
    if (fold_case && key->kind == PR_TEMPLATE_STRING) {
        pr_template_text text = key->text;
        return pr_template_change_case(call->heap, &text, PR_TEMPLATE_LOWER, key);
    }
    return PR_OK;
}

// ---- map

static pr_status new_generator(pr_template_call *call, size_t size, pr_template_value *result)
{
    return pr_template_value_list(call->heap, PR_TEMPLATE_GENERATOR, size, result);
}

static pr_status
map_attribute(pr_template_call *call, const pr_template_list *list, pr_template_value *result)
{
    const pr_template_value *attribute = NULL, *fallback = NULL;
    for (size_t i = 0; i < call->raw.keywords; i++) {
        const pr_template_keyword *keyword = &call->raw.keyword[i];
        if (pr_template_text_equals(&keyword->name, "attribute"))
            attribute = &keyword->value;
        else if (pr_template_text_equals(&keyword->name, "default"))
            fallback = &keyword->value;
        else
            return pr_template_heap_fail(call->heap, "map takes attribute= and default= only");
    }
    if (!attribute)
        return pr_template_heap_fail(call->heap, "map needs a filter or attribute=");
    for (size_t i = 0; i < list->size; i++) {
        pr_template_value *item = &result->list->item[i];
        PR_TRY(get_attribute(call, &list->item[i], attribute, item));
        if (item->kind == PR_TEMPLATE_UNDEFINED && fallback)
            *item = *fallback;
    }
    return PR_OK;
}

static pr_status find_by_name(
    pr_template_call *call,
    const pr_template_builtin *table,
    const pr_template_value *name,
    const pr_template_builtin **found)
{
    if (name->kind != PR_TEMPLATE_STRING)
        return pr_template_heap_fail(
            call->heap, "%s needs a name, not %s", call->name, pr_template_value_kind_name(name));
    *found = pr_template_builtin_find(table, &name->text);
    if (*found)
        return PR_OK;
    return pr_template_heap_fail(
        call->heap, "%s: there is no '%.*s'", call->name,
        (int)(name->text.size_bytes < 60 ? name->text.size_bytes : 60), name->text.data);
}

pr_status pr_template_select_map(pr_template_call *call, pr_template_value *result)
{
    const pr_template_builtin *filter;
    pr_template_list list = {0};
    if (pr_template_value_is_true(&call->self))
        PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    PR_TRY(new_generator(call, list.size, result));
    if (call->raw.positionals == 0)
        return map_attribute(call, &list, result);
    PR_TRY(find_by_name(call, pr_template_filters, &call->raw.positional[0], &filter));
    pr_template_arguments rest = call->raw;
    rest.positional++;
    rest.positionals--;
    PR_TRY(pr_template_eval_enter(call->render));
    for (size_t i = 0; i < list.size; i++)
        PR_TRY(pr_template_builtin_call(
            filter, call->render, &list.item[i], &rest, &result->list->item[i]));
    pr_template_eval_leave(call->render);
    return PR_OK;
}

// ---- select and reject

static pr_status
choose(pr_template_call *call, bool by_attribute, bool wanted, pr_template_value *result)
{
    const pr_template_builtin *test = NULL;
    pr_template_arguments rest = call->raw;
    pr_template_list list = {0};
    size_t capacity = 0, skipped = by_attribute;
    if (rest.positionals < skipped)
        return pr_template_heap_fail(call->heap, "%s needs an attribute", call->name);
    if (rest.positionals > skipped)
        PR_TRY(find_by_name(call, pr_template_tests, &rest.positional[skipped++], &test));
    rest.positional += skipped;
    rest.positionals -= skipped;
    if (pr_template_value_is_true(&call->self))
        PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    PR_TRY(new_generator(call, 0, result));
    for (size_t i = 0; i < list.size; i++) {
        pr_template_value key = list.item[i], verdict;
        if (by_attribute)
            PR_TRY(get_attribute(call, &list.item[i], &call->raw.positional[0], &key));
        verdict = key;
        if (test)
            PR_TRY(pr_template_builtin_call(test, call->render, &key, &rest, &verdict));
        if (pr_template_value_is_true(&verdict) == wanted)
            PR_TRY(pr_template_value_push(call->heap, result->list, &capacity, list.item[i]));
    }
    return PR_OK;
}

pr_status pr_template_select_select(pr_template_call *call, pr_template_value *result)
{
    return choose(call, false, true, result);
}

pr_status pr_template_select_reject(pr_template_call *call, pr_template_value *result)
{
    return choose(call, false, false, result);
}

pr_status pr_template_select_selectattr(pr_template_call *call, pr_template_value *result)
{
    return choose(call, true, true, result);
}

pr_status pr_template_select_rejectattr(pr_template_call *call, pr_template_value *result)
{
    return choose(call, true, false, result);
}

// ---- sorting

// sort(reverse, case_sensitive, attribute)
pr_status pr_template_select_sort(pr_template_call *call, pr_template_value *result)
{
    pr_template_list list;
    PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_LIST, list.size, result));
    pr_template_value *key = pr_template_heap_take(call->heap, list.size * sizeof *key);
    if (!key)
        return PR_ERR_REQUEST;
    for (size_t i = 0; i < list.size; i++) {
        result->list->item[i] = list.item[i];
        PR_TRY(
            get_key(call, &list.item[i], 2, !pr_template_builtin_truth(call, 1, false), &key[i]));
    }
    return pr_template_sort(
        call->heap, key, result->list->item, list.size, pr_template_builtin_truth(call, 0, false));
}

// dictsort(case_sensitive, by, reverse): pairs in order of their keys, or values.
pr_status pr_template_select_dictsort(pr_template_call *call, pr_template_value *result)
{
    pr_template_text by;
    PR_TRY(pr_template_builtin_text(call, 1, "key", &by));
    bool by_value = pr_template_text_equals(&by, "value");
    if (!by_value && !pr_template_text_equals(&by, "key"))
        return pr_template_heap_fail(call->heap, "dictsort sorts by \"key\" or \"value\"");
    if (call->self.kind != PR_TEMPLATE_DICT)
        return pr_template_heap_fail(
            call->heap, "dictsort needs a dict, not %s", pr_template_value_kind_name(&call->self));
    const pr_template_dict *dict = call->self.dict;
    PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_LIST, dict->size, result));
    pr_template_value *key = pr_template_heap_take(call->heap, dict->size * sizeof *key);
    if (!key)
        return PR_ERR_REQUEST;
    for (size_t i = 0; i < dict->size; i++) {
        pr_template_value *pair = &result->list->item[i];
        PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_TUPLE, 2, pair));
        pair->marked = call->self.marked;
        pair->list->item[0] = dict->entry[i].key;
        pair->list->item[1] = dict->entry[i].value;
        PR_TRY(get_key(
            call, &pair->list->item[by_value], 3, !pr_template_builtin_truth(call, 0, false),
            &key[i]));
    }
    return pr_template_sort(
        call->heap, key, result->list->item, dict->size, pr_template_builtin_truth(call, 2, false));
}

// unique(case_sensitive, attribute)
pr_status pr_template_select_unique(pr_template_call *call, pr_template_value *result)
{
    pr_template_list list;
    pr_template_value seen;
    size_t capacity = 0;
    PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    PR_TRY(new_generator(call, 0, result));
    PR_TRY(pr_template_value_dict(call->heap, PR_TEMPLATE_DICT, &seen));
    for (size_t i = 0; i < list.size; i++) {
        pr_template_value key;
        const pr_template_value *known;
        PR_TRY(get_key(call, &list.item[i], 1, !pr_template_builtin_truth(call, 0, false), &key));
        PR_TRY(pr_template_dict_find(call->heap, seen.dict, &key, &known));
        if (known)
            continue;
        PR_TRY(pr_template_dict_set(call->heap, seen.dict, key, pr_template_value_none()));
        PR_TRY(pr_template_value_push(call->heap, result->list, &capacity, list.item[i]));
    }
    return PR_OK;
}

// min and max (case_sensitive, attribute)
static pr_status find_extreme(pr_template_call *call, int sign, pr_template_value *result)
{
    pr_template_list list;
    pr_template_value best = {.kind = PR_TEMPLATE_ABSENT};
    *result = pr_template_value_undefined("the extreme of an empty list");
    PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    for (size_t i = 0; i < list.size; i++) {
        pr_template_value key;
        int order = 1;
        PR_TRY(get_key(call, &list.item[i], 1, !pr_template_builtin_truth(call, 0, false), &key));
        if (i > 0)
            PR_TRY(pr_template_value_compare(call->heap, &key, &best, &order));
        if (i > 0 && order * sign <= 0)
            continue;
        best = key;
        *result = list.item[i];
    }
    return PR_OK;
}

pr_status pr_template_select_min(pr_template_call *call, pr_template_value *result)
{
    return find_extreme(call, -1, result);
}

pr_status pr_template_select_max(pr_template_call *call, pr_template_value *result)
{
    return find_extreme(call, 1, result);
}

// ---- the rest

// sum(attribute, start)
pr_status pr_template_select_sum(pr_template_call *call, pr_template_value *result)
{
    pr_template_list list;
    PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    *result = pr_template_builtin_has(call, 1) ? call->argument[1] : pr_template_value_integer(0);
    for (size_t i = 0; i < list.size; i++) {
        pr_template_value item, before = *result;
        PR_TRY(get_key(call, &list.item[i], 0, false, &item));
        PR_TRY(pr_template_operator_binary(call->heap, PR_TEMPLATE_ADD, &before, &item, result));
    }
    return PR_OK;
}

// join(d, attribute)
pr_status pr_template_select_join(pr_template_call *call, pr_template_value *result)
{
    pr_template_list list;
    pr_template_text between;
    PR_TRY(pr_template_builtin_text(call, 0, "", &between));
    PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    pr_template_value *item = pr_template_heap_take(call->heap, list.size * sizeof *item);
    if (!item)
        return PR_ERR_REQUEST;
    for (size_t i = 0; i < list.size; i++)
        PR_TRY(get_key(call, &list.item[i], 1, false, &item[i]));
    list.item = item;
    return pr_template_change_join(call->heap, &between, &list, false, result);
}
