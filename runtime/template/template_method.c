// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/template/template_method.h"

#include <utf8proc.h>

#include "runtime/text/utf8.h"
#include "runtime/value/template_change.h"
#include "runtime/value/template_dict.h"
#include "runtime/value/template_format.h"

// ---- str

static pr_status strip(pr_template_call *call, bool left, bool right, pr_template_value *result)
{
    pr_template_text characters;
    bool given = pr_template_builtin_has(call, 0) && call->argument[0].kind != PR_TEMPLATE_NONE;
    if (given)
        PR_TRY(pr_template_builtin_text(call, 0, "", &characters));
    size_t each = given ? characters.size_bytes : 1;
    PR_TRY(pr_template_heap_charge(call->heap, call->self.text.size_bytes / 256 * each));
    *result = pr_template_value_string(
        pr_template_text_strip(call->self.text, given ? &characters : NULL, left, right));
    return PR_OK;
}

static pr_status strip_both(pr_template_call *call, pr_template_value *result)
{
    return strip(call, true, true, result);
}

static pr_status strip_left(pr_template_call *call, pr_template_value *result)
{
    return strip(call, true, false, result);
}

static pr_status strip_right(pr_template_call *call, pr_template_value *result)
{
    return strip(call, false, true, result);
}

static pr_status
read_split(pr_template_call *call, pr_template_text *text, bool *given, int64_t *most)
{
    *given = pr_template_builtin_has(call, 0) && call->argument[0].kind != PR_TEMPLATE_NONE;
    if (*given)
        PR_TRY(pr_template_builtin_text(call, 0, "", text));
    return pr_template_builtin_integer(call, 1, -1, most);
}

static pr_status split(pr_template_call *call, pr_template_value *result)
{
    pr_template_text between;
    int64_t most;
    bool given;
    PR_TRY(read_split(call, &between, &given, &most));
    return pr_template_change_split(
        call->heap, &call->self.text, given ? &between : NULL, most, result);
}

static pr_status split_right(pr_template_call *call, pr_template_value *result)
{
    pr_template_text between;
    int64_t most;
    bool given;
    PR_TRY(read_split(call, &between, &given, &most));
    return pr_template_change_split_right(
        call->heap, &call->self.text, given ? &between : NULL, most, result);
}

static pr_status split_lines(pr_template_call *call, pr_template_value *result)
{
    return pr_template_change_split_lines(
        call->heap, &call->self.text, pr_template_builtin_truth(call, 0, false), result);
}

typedef bool (*side_check)(const pr_template_text *text, const pr_template_text *part);

// The argument may be a tuple: any of its strings.
static pr_status check_side(pr_template_call *call, side_check check, pr_template_value *result)
{
    const pr_template_value *argument = &call->argument[0];
    bool several = argument->kind == PR_TEMPLATE_TUPLE;
    size_t items = several ? argument->list->size : 1;
    const pr_template_value *item = several ? argument->list->item : argument;
    *result = pr_template_value_bool(false);
    for (size_t i = 0; i < items; i++) {
        if (item[i].kind != PR_TEMPLATE_STRING)
            return pr_template_heap_fail(
                call->heap, "%s needs a string or a tuple of strings, not %s", call->name,
                pr_template_value_kind_name(&item[i]));
        result->truth |= check(&call->self.text, &item[i].text);
    }
    return pr_template_heap_charge(call->heap, items);
}

static pr_status starts_with(pr_template_call *call, pr_template_value *result)
{
    return check_side(call, pr_template_text_starts, result);
}

static pr_status ends_with(pr_template_call *call, pr_template_value *result)
{
    return check_side(call, pr_template_text_ends, result);
}

static pr_status replace(pr_template_call *call, pr_template_value *result)
{
    pr_template_text old, fresh;
    int64_t count;
    PR_TRY(pr_template_builtin_text(call, 0, "", &old));
    PR_TRY(pr_template_builtin_text(call, 1, "", &fresh));
    PR_TRY(pr_template_builtin_integer(call, 2, -1, &count));
    return pr_template_change_replace(call->heap, &call->self.text, &old, &fresh, count, result);
}

static pr_status join(pr_template_call *call, pr_template_value *result)
{
    pr_template_list list;
    PR_TRY(pr_template_value_walk(call->heap, &call->argument[0], &list));
    return pr_template_change_join(call->heap, &call->self.text, &list, true, result);
}

static pr_status upper(pr_template_call *call, pr_template_value *result)
{
    return pr_template_change_case(call->heap, &call->self.text, PR_TEMPLATE_UPPER, result);
}

static pr_status lower(pr_template_call *call, pr_template_value *result)
{
    return pr_template_change_case(call->heap, &call->self.text, PR_TEMPLATE_LOWER, result);
}

static pr_status capitalize(pr_template_call *call, pr_template_value *result)
{
    return pr_template_change_case(call->heap, &call->self.text, PR_TEMPLATE_CAPITALIZE, result);
}

static pr_status title(pr_template_call *call, pr_template_value *result)
{
    return pr_template_change_case(call->heap, &call->self.text, PR_TEMPLATE_TITLE_METHOD, result);
}

static pr_status set_position(pr_template_call *call, size_t found, pr_template_value *result)
{
    pr_template_text front = call->self.text;
    *result = pr_template_value_integer(-1);
    if (found != SIZE_MAX) {
        front.size_bytes = found;
        result->integer = (int64_t)pr_template_text_characters(&front);
    }
    return pr_template_heap_charge(call->heap, call->self.text.size_bytes / 16);
}

static pr_status find(pr_template_call *call, pr_template_value *result)
{
    pr_template_text part;
    PR_TRY(pr_template_builtin_text(call, 0, "", &part));
    return set_position(call, pr_template_text_find(&call->self.text, &part, 0), result);
}

static pr_status find_last(pr_template_call *call, pr_template_value *result)
{
    pr_template_text part;
    PR_TRY(pr_template_builtin_text(call, 0, "", &part));
    PR_TRY(pr_template_change_charge_backwards(call->heap, &call->self.text, &part));
    return set_position(call, pr_template_text_find_last(&call->self.text, &part), result);
}

static pr_status find_or_fail(pr_template_call *call, pr_template_value *result)
{
    PR_TRY(find(call, result));
    return result->integer >= 0 ? PR_OK : pr_template_heap_fail(call->heap, "substring not found");
}

static pr_status count(pr_template_call *call, pr_template_value *result)
{
    pr_template_text part;
    PR_TRY(pr_template_builtin_text(call, 0, "", &part));
    *result = pr_template_value_integer(0);
    if (part.size_bytes == 0)
        result->integer = (int64_t)pr_template_text_characters(&call->self.text) + 1;
    for (size_t at = 0; part.size_bytes > 0; at += part.size_bytes, result->integer++) {
        at = pr_template_text_find(&call->self.text, &part, at);
        if (at == SIZE_MAX)
            break;
    }
    return pr_template_heap_charge(call->heap, call->self.text.size_bytes / 16);
}

static pr_status remove_prefix(pr_template_call *call, pr_template_value *result)
{
    pr_template_text part, *text = &call->self.text;
    PR_TRY(pr_template_builtin_text(call, 0, "", &part));
    size_t begin = pr_template_text_starts(text, &part) ? part.size_bytes : 0;
    *result = pr_template_value_string(pr_template_text_slice(*text, begin, text->size_bytes));
    return PR_OK;
}

static pr_status remove_suffix(pr_template_call *call, pr_template_value *result)
{
    pr_template_text part, *text = &call->self.text;
    PR_TRY(pr_template_builtin_text(call, 0, "", &part));
    size_t cut = pr_template_text_ends(text, &part) ? part.size_bytes : 0;
    *result = pr_template_value_string(pr_template_text_slice(*text, 0, text->size_bytes - cut));
    return PR_OK;
}

static bool is_digit(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}

static bool is_letter(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

static bool is_letter_or_digit(uint32_t c) { return is_digit(c) || is_letter(c); }

// All characters, and at least one.
static pr_status
check_characters(pr_template_call *call, bool (*check)(uint32_t c), pr_template_value *result)
{
    const pr_template_text *text = &call->self.text;
    *result = pr_template_value_bool(text->size_bytes > 0);
    for (size_t at = 0; at < text->size_bytes && result->truth;)
        result->truth = check(pr_utf8_next(text->data, &at));
    return pr_template_heap_charge(call->heap, text->size_bytes / 16);
}

static pr_status is_all_digits(pr_template_call *call, pr_template_value *result)
{
    return check_characters(call, is_digit, result);
}

static pr_status is_all_letters(pr_template_call *call, pr_template_value *result)
{
    return check_characters(call, is_letter, result);
}

static pr_status is_all_letters_or_digits(pr_template_call *call, pr_template_value *result)
{
    return check_characters(call, is_letter_or_digit, result);
}

static pr_status is_all_space(pr_template_call *call, pr_template_value *result)
{
    return check_characters(call, pr_template_text_is_space, result);
}

static pr_status format(pr_template_call *call, pr_template_value *result)
{
    return pr_template_format_braces(call->heap, &call->self.text, &call->raw, result);
}

static const pr_template_builtin of_strings[] = {
    {"capitalize", capitalize, 0, {NULL}, false},
    {"count", count, 1, {"sub"}, false},
    {"endswith", ends_with, 1, {"suffix"}, false},
    {"find", find, 1, {"sub"}, false},
    {"format", format, 0, {NULL}, true},
    {"index", find_or_fail, 1, {"sub"}, false},
    {"isalnum", is_all_letters_or_digits, 0, {NULL}, false},
    {"isalpha", is_all_letters, 0, {NULL}, false},
    {"isdigit", is_all_digits, 0, {NULL}, false},
    {"isspace", is_all_space, 0, {NULL}, false},
    {"join", join, 1, {"iterable"}, false},
    {"lower", lower, 0, {NULL}, false},
    {"lstrip", strip_left, 0, {"chars"}, false},
    {"removeprefix", remove_prefix, 1, {"prefix"}, false},
    {"removesuffix", remove_suffix, 1, {"suffix"}, false},
    {"replace", replace, 2, {"old", "new", "count"}, false},
    {"rfind", find_last, 1, {"sub"}, false},
    {"rsplit", split_right, 0, {"sep", "maxsplit"}, false},
    {"rstrip", strip_right, 0, {"chars"}, false},
    {"split", split, 0, {"sep", "maxsplit"}, false},
    {"splitlines", split_lines, 0, {"keepends"}, false},
    {"startswith", starts_with, 1, {"prefix"}, false},
    {"strip", strip_both, 0, {"chars"}, false},
    {"title", title, 0, {NULL}, false},
    {"upper", upper, 0, {NULL}, false},
    {NULL, NULL, 0, {NULL}, false},
};

// ---- dict

typedef enum part { PART_ITEMS, PART_KEYS, PART_VALUES } part;

static pr_status view(pr_template_call *call, part which, pr_template_value *result)
{
    static const char *const labels[] = {"dict_items", "dict_keys", "dict_values"};
    const pr_template_dict *dict = call->self.dict;
    PR_TRY(pr_template_heap_charge(call->heap, dict->size));
    PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_VIEW, dict->size, result));
    result->list->label = labels[which];
    result->marked = call->self.marked;
    for (size_t i = 0; i < dict->size; i++) {
        pr_template_value *item = &result->list->item[i];
        *item = which == PART_KEYS ? dict->entry[i].key : dict->entry[i].value;
        if (which != PART_ITEMS)
            continue;
        PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_TUPLE, 2, item));
        item->list->item[0] = dict->entry[i].key;
        item->list->item[1] = dict->entry[i].value;
        item->marked = call->self.marked;
    }
    return PR_OK;
}

static pr_status items(pr_template_call *call, pr_template_value *result)
{
    return view(call, PART_ITEMS, result);
}

static pr_status keys(pr_template_call *call, pr_template_value *result)
{
    return view(call, PART_KEYS, result);
}

static pr_status values(pr_template_call *call, pr_template_value *result)
{
    return view(call, PART_VALUES, result);
}

static pr_status get(pr_template_call *call, pr_template_value *result)
{
    const pr_template_value *found;
    PR_TRY(pr_template_dict_find(call->heap, call->self.dict, &call->argument[0], &found));
    *result = found                              ? *found
              : pr_template_builtin_has(call, 1) ? call->argument[1]
                                                 : pr_template_value_none();
    return PR_OK;
}

static pr_status copy(pr_template_call *call, pr_template_value *result)
{
    *result = call->self;
    return PR_OK;
}

static const pr_template_builtin of_dicts[] = {
    {"copy", copy, 0, {NULL}, false},     {"get", get, 1, {"key", "default"}, false},
    {"items", items, 0, {NULL}, false},   {"keys", keys, 0, {NULL}, false},
    {"values", values, 0, {NULL}, false}, {NULL, NULL, 0, {NULL}, false},
};

// ---- list

static pr_status list_index(pr_template_call *call, pr_template_value *result)
{
    const pr_template_list *list = call->self.list;
    bool same = false;
    size_t at = 0;
    for (; at < list->size; at++) {
        PR_TRY(pr_template_value_equal(call->heap, &list->item[at], &call->argument[0], &same));
        if (same)
            break;
    }
    *result = pr_template_value_integer((int64_t)at);
    return same ? PR_OK : pr_template_heap_fail(call->heap, "the item is not in the list");
}

static pr_status list_count(pr_template_call *call, pr_template_value *result)
{
    const pr_template_list *list = call->self.list;
    *result = pr_template_value_integer(0);
    for (size_t i = 0; i < list->size; i++) {
        bool same;
        PR_TRY(pr_template_value_equal(call->heap, &list->item[i], &call->argument[0], &same));
        result->integer += same;
    }
    return PR_OK;
}

static const pr_template_builtin of_lists[] = {
    {"copy", copy, 0, {NULL}, false},
    {"count", list_count, 1, {"value"}, false},
    {"index", list_index, 1, {"value"}, false},
    {NULL, NULL, 0, {NULL}, false},
};

// ---- loop

static pr_status cycle(pr_template_call *call, pr_template_value *result)
{
    if (call->raw.positionals == 0)
        return pr_template_heap_fail(call->heap, "loop.cycle needs items to cycle through");
    *result = call->raw.positional[call->self.loop->at % call->raw.positionals];
    return PR_OK;
}

static pr_status changed(pr_template_call *call, pr_template_value *result)
{
    pr_template_loop *loop = call->self.loop;
    pr_template_value now;
    bool same = false;
    PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_TUPLE, call->raw.positionals, &now));
    for (size_t i = 0; i < call->raw.positionals; i++)
        now.list->item[i] = call->raw.positional[i];
    if (loop->changed_known)
        PR_TRY(pr_template_value_equal(call->heap, &loop->changed, &now, &same));
    loop->changed_known = true;
    loop->changed = now;
    *result = pr_template_value_bool(!same);
    return PR_OK;
}

static const pr_template_builtin of_loops[] = {
    {"changed", changed, 0, {NULL}, true},
    {"cycle", cycle, 0, {NULL}, true},
    {NULL, NULL, 0, {NULL}, false},
};

static bool loop_number(const pr_template_loop *loop, const pr_template_text *name, int64_t *number)
{
    int64_t at = (int64_t)loop->at, size = (int64_t)loop->list->size;
    const struct {
        const char *name;
        int64_t number;
    } numbers[] = {
        {"index", at + 1}, {"index0", at}, {"revindex", size - at}, {"revindex0", size - at - 1},
        {"length", size},  {"depth", 1},   {"depth0", 0},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (pr_template_text_equals(name, numbers[i].name)) {
            *number = numbers[i].number;
            return true;
        }
    }
    return false;
}

bool pr_template_method_loop(
    const pr_template_loop *loop, const pr_template_text *name, pr_template_value *value)
{
    int64_t number;
    bool is_first = loop->at == 0, is_last = loop->at + 1 == loop->list->size;
    if (loop_number(loop, name, &number))
        *value = pr_template_value_integer(number);
    else if (pr_template_text_equals(name, "first"))
        *value = pr_template_value_bool(is_first);
    else if (pr_template_text_equals(name, "last"))
        *value = pr_template_value_bool(is_last);
    else if (pr_template_text_equals(name, "previtem"))
        *value = is_first ? pr_template_value_undefined("there is no previous item")
                          : loop->list->item[loop->at - 1];
    else if (pr_template_text_equals(name, "nextitem"))
        *value = is_last ? pr_template_value_undefined("there is no next item")
                         : loop->list->item[loop->at + 1];
    else
        return false;
    return true;
}

const pr_template_builtin *
pr_template_method_find(const pr_template_value *object, const pr_template_text *name)
{
    switch (object->kind) {
    case PR_TEMPLATE_STRING:
        return pr_template_builtin_find(of_strings, name);
    case PR_TEMPLATE_DICT:
        return pr_template_builtin_find(of_dicts, name);
    case PR_TEMPLATE_LIST:
    case PR_TEMPLATE_TUPLE:
    case PR_TEMPLATE_RANGE:
        return pr_template_builtin_find(of_lists, name);
    case PR_TEMPLATE_LOOP:
        return pr_template_builtin_find(of_loops, name);
    default:
        return NULL;
    }
}
