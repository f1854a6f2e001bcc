// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/template/template_filter.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/template/template_render.h"
#include "runtime/text/utf8.h"
#include "runtime/value/template_builder.h"
#include "runtime/value/template_change.h"
#include "runtime/value/template_format.h"
#include "runtime/value/template_operator.h"
#include "runtime/value/template_print.h"

enum { MAX_INDENT = 256 };

static pr_status set_text(pr_template_builder *builder, pr_template_value *result)
{
    *result = pr_template_value_string((pr_template_text){0});
    return pr_template_builder_finish(builder, &result->text);
}

// The operand as a string: most text filters take anything.
static pr_status operand_text(pr_template_call *call, pr_template_text *text)
{
    return pr_template_print_to_text(call->heap, &call->self, text);
}

// ---- text

static pr_status to_string(pr_template_call *call, pr_template_value *result)
{
    *result = pr_template_value_string((pr_template_text){0});
    return operand_text(call, &result->text);
}

static pr_status safe(pr_template_call *call, pr_template_value *result)
{
    PR_TRY(to_string(call, result));
    result->text.safe = true;
    return PR_OK;
}

static pr_status trim(pr_template_call *call, pr_template_value *result)
{
    pr_template_text text, characters;
    bool given = pr_template_builtin_has(call, 0) && call->argument[0].kind != PR_TEMPLATE_NONE;
    PR_TRY(operand_text(call, &text));
    if (given)
        PR_TRY(pr_template_builtin_text(call, 0, "", &characters));
    size_t each = given ? characters.size_bytes : 1;
    PR_TRY(pr_template_heap_charge(call->heap, text.size_bytes / 256 * each));
    *result = pr_template_value_string(
        pr_template_text_strip(text, given ? &characters : NULL, true, true));
    return PR_OK;
}

static pr_status change(pr_template_call *call, pr_template_case to, pr_template_value *result)
{
    pr_template_text text;
    PR_TRY(operand_text(call, &text));
    return pr_template_change_case(call->heap, &text, to, result);
}

static pr_status upper(pr_template_call *call, pr_template_value *result)
{
    return change(call, PR_TEMPLATE_UPPER, result);
}

static pr_status lower(pr_template_call *call, pr_template_value *result)
{
    return change(call, PR_TEMPLATE_LOWER, result);
}

static pr_status capitalize(pr_template_call *call, pr_template_value *result)
{
    return change(call, PR_TEMPLATE_CAPITALIZE, result);
}

static pr_status title(pr_template_call *call, pr_template_value *result)
{
    return change(call, PR_TEMPLATE_TITLE_FILTER, result);
}

static pr_status replace(pr_template_call *call, pr_template_value *result)
{
    pr_template_text text, old, fresh;
    int64_t count = -1;
    PR_TRY(operand_text(call, &text));
    PR_TRY(pr_template_print_to_text(call->heap, &call->argument[0], &old));
    PR_TRY(pr_template_print_to_text(call->heap, &call->argument[1], &fresh));
    if (pr_template_builtin_has(call, 2) && call->argument[2].kind != PR_TEMPLATE_NONE)
        PR_TRY(pr_template_builtin_integer(call, 2, -1, &count));
    return pr_template_change_replace(call->heap, &text, &old, &fresh, count, result);
}

static pr_status
read_spaces(pr_template_call *call, int parameter, int64_t fallback, pr_template_text *spaces)
{
    int64_t width;
    if (pr_template_builtin_has(call, parameter) &&
        call->argument[parameter].kind == PR_TEMPLATE_STRING)
        return pr_template_builtin_text(call, parameter, "", spaces);
    PR_TRY(pr_template_builtin_integer(call, parameter, fallback, &width));
    width = width < 0 ? 0 : width;
    if (width > MAX_INDENT)
        return pr_template_heap_fail(
            call->heap, "%s indents by at most %d", call->name, MAX_INDENT);
    char *data = pr_template_heap_take(call->heap, (size_t)width + 1);
    if (!data)
        return PR_ERR_REQUEST;
    memset(data, ' ', (size_t)width);
    *spaces = pr_template_text_of(data, (size_t)width, false);
    return PR_OK;
}

// indent(width, first, blank)
static pr_status indent(pr_template_call *call, pr_template_value *result)
{
    static const pr_template_text line_break = {.data = "\n", .size_bytes = 1};
    pr_template_builder builder = pr_template_builder_of(call->heap);
    pr_template_text text, spaces;
    pr_template_value lines;
    PR_TRY(operand_text(call, &text));
    PR_TRY(read_spaces(call, 0, 4, &spaces));
    pr_template_builder_append(&builder, text);
    pr_template_builder_append(&builder, line_break);  // so that a break at the end counts
    PR_TRY(pr_template_builder_finish(&builder, &text));
    PR_TRY(pr_template_change_split_lines(call->heap, &text, false, &lines));
    bool first = pr_template_builtin_truth(call, 1, false);
    bool blank = pr_template_builtin_truth(call, 2, false);
    for (size_t i = 0; i < lines.list->size; i++) {
        const pr_template_text *line = &lines.list->item[i].text;
        if (i > 0)
            pr_template_builder_append(&builder, line_break);
        if (i == 0 ? first : blank || line->size_bytes > 0)
            pr_template_builder_append(&builder, spaces);
        pr_template_builder_append(&builder, *line);
    }
    return set_text(&builder, result);
}

static pr_status word_count(pr_template_call *call, pr_template_value *result)
{
    pr_template_text text;
    pr_template_value words;
    PR_TRY(operand_text(call, &text));
    PR_TRY(pr_template_change_split(call->heap, &text, NULL, -1, &words));
    *result = pr_template_value_integer((int64_t)words.list->size);
    return PR_OK;
}

static pr_status format(pr_template_call *call, pr_template_value *result)
{
    pr_template_text text;
    pr_template_value arguments;
    if (call->raw.keywords > 0)
        return pr_template_heap_fail(call->heap, "format with names is not supported");
    PR_TRY(operand_text(call, &text));
    PR_TRY(
        pr_template_value_list(call->heap, PR_TEMPLATE_TUPLE, call->raw.positionals, &arguments));
    for (size_t i = 0; i < call->raw.positionals; i++)
        arguments.list->item[i] = call->raw.positional[i];
    return pr_template_format_percent(call->heap, &text, &arguments, result);
}

// ---- json

static pr_status read_separators(pr_template_call *call, pr_template_json_style *style)
{
    const pr_template_value *given = &call->argument[2];
    const char *between = style->indented ? "," : ", ";
    style->between = pr_template_text_of(between, strlen(between), false);
    style->colon = pr_template_text_of(": ", 2, false);
    if (given->kind == PR_TEMPLATE_ABSENT || given->kind == PR_TEMPLATE_NONE)
        return PR_OK;
    if ((given->kind != PR_TEMPLATE_TUPLE && given->kind != PR_TEMPLATE_LIST) ||
        given->list->size != 2 || given->list->item[0].kind != PR_TEMPLATE_STRING ||
        given->list->item[1].kind != PR_TEMPLATE_STRING)
        return pr_template_heap_fail(call->heap, "tojson needs a pair of strings as separators");
    style->between = given->list->item[0].text;
    style->colon = given->list->item[1].text;
    return PR_OK;
}

// tojson(ensure_ascii, indent, separators, sort_keys)
static pr_status to_json(pr_template_call *call, pr_template_value *result)
{
    pr_template_builder builder = pr_template_builder_of(call->heap);
    pr_template_json_style style = {
        .ascii = pr_template_builtin_truth(call, 0, false),
        .indented = pr_template_builtin_has(call, 1) && call->argument[1].kind != PR_TEMPLATE_NONE,
        .sorted = pr_template_builtin_truth(call, 3, false),
    };
    if (style.indented)
        PR_TRY(read_spaces(call, 1, 0, &style.indent));
    PR_TRY(read_separators(call, &style));
    PR_TRY(pr_template_print_json(&builder, &call->self, &style));
    return set_text(&builder, result);
}

static pr_status from_json(pr_template_call *call, pr_template_value *result)
{
    pr_template_render *render = call->render;
    const pr_template_text *text = &call->self.text;
    json_error_t error;
    if (call->self.kind != PR_TEMPLATE_STRING)
        return pr_template_heap_fail(
            call->heap, "from_json needs a string, not %s",
            pr_template_value_kind_name(&call->self));
    PR_TRY(pr_template_heap_charge(call->heap, text->size_bytes / 16));
    json_t *json =
        json_loadb(text->data, text->size_bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!json)
        return pr_template_heap_fail(
            call->heap, "from_json: line %d column %d: %s", error.line, error.column, error.text);
    if (!render->parsed)
        render->parsed = json_array();
    if (json_array_append_new(render->parsed, json) != 0)
        return pr_template_heap_fail(call->heap, "no memory for from_json");
    return pr_template_value_read(call->heap, json, text->shade != PR_TEMPLATE_PLAIN, result);
}

// ---- numbers

static bool read_integer(const pr_template_text *text, int base, int64_t *value)
{
    char copy[80], *end;
    pr_template_text bare = pr_template_text_strip(*text, NULL, true, true);
    if (bare.size_bytes == 0 || bare.size_bytes >= sizeof copy ||
        memchr(bare.data, ' ', bare.size_bytes) || memchr(bare.data, 0, bare.size_bytes))
        return false;
    memcpy(copy, bare.data, bare.size_bytes);
    copy[bare.size_bytes] = 0;
    errno = 0;
    *value = strtoll(copy, &end, base);
    return *end == 0 && errno == 0;
}

static bool read_real(const pr_template_text *text, double *value)
{
    char copy[400], *end;
    pr_template_text bare = pr_template_text_strip(*text, NULL, true, true);
    if (bare.size_bytes == 0 || bare.size_bytes >= sizeof copy ||
        memchr(bare.data, 'x', bare.size_bytes) || memchr(bare.data, 'X', bare.size_bytes) ||
        memchr(bare.data, '(', bare.size_bytes) || memchr(bare.data, 0, bare.size_bytes))
        return false;
    memcpy(copy, bare.data, bare.size_bytes);
    copy[bare.size_bytes] = 0;
    *value = strtod(copy, &end);
    return *end == 0;
}

static pr_status check_defined(pr_template_call *call)
{
    return call->self.kind == PR_TEMPLATE_UNDEFINED
               ? pr_template_heap_fail(call->heap, "'%s' is undefined", call->self.name)
               : PR_OK;
}

// int(default, base)
static pr_status to_integer(pr_template_call *call, pr_template_value *result)
{
    int64_t base;
    double real = (double)NAN;
    PR_TRY(check_defined(call));
    PR_TRY(pr_template_builtin_integer(call, 1, 10, &base));
    if (base != 0 && (base < 2 || base > 36))
        return pr_template_heap_fail(call->heap, "int needs a base from 2 to 36");
    *result = pr_template_value_integer(0);
    result->marked = call->self.marked;
    if (call->self.kind == PR_TEMPLATE_STRING) {
        if (read_integer(&call->self.text, (int)base, &result->integer))
            return PR_OK;
        if (!read_real(&call->self.text, &real))
            real = (double)NAN;
    } else if (pr_template_value_is_number(&call->self)) {
        real = pr_template_value_as_real(&call->self);
        if (call->self.kind != PR_TEMPLATE_FLOAT) {
            result->integer = pr_template_value_as_integer(&call->self);
            return PR_OK;
        }
    }
    if (fabs(real) < 9.2e18)
        result->integer = (int64_t)real;
    else if (pr_template_builtin_has(call, 0))
        *result = call->argument[0];
    else
        result->integer = 0;
    return PR_OK;
}

// float(default)
static pr_status to_real(pr_template_call *call, pr_template_value *result)
{
    PR_TRY(check_defined(call));
    *result = pr_template_value_float(0);
    result->marked = call->self.marked;
    if (pr_template_value_is_number(&call->self))
        result->real = pr_template_value_as_real(&call->self);
    else if (
        (call->self.kind != PR_TEMPLATE_STRING || !read_real(&call->self.text, &result->real)) &&
        pr_template_builtin_has(call, 0))
        *result = call->argument[0];
    return PR_OK;
}

static pr_status absolute(pr_template_call *call, pr_template_value *result)
{
    PR_TRY(check_defined(call));
    if (!pr_template_value_is_number(&call->self))
        return pr_template_heap_fail(
            call->heap, "abs needs a number, not %s", pr_template_value_kind_name(&call->self));
    if (pr_template_value_as_real(&call->self) < 0)
        return pr_template_operator_negate(call->heap, &call->self, result);
    *result = call->self;
    return PR_OK;
}

// round(precision, method)
static pr_status to_rounded(pr_template_call *call, pr_template_value *result)
{
    char digits[400];
    int64_t precision;
    pr_template_text method;
    PR_TRY(check_defined(call));
    PR_TRY(pr_template_builtin_integer(call, 0, 0, &precision));
    PR_TRY(pr_template_builtin_text(call, 1, "common", &method));
    if (!pr_template_value_is_number(&call->self) || precision < 0 || precision > 15)
        return pr_template_heap_fail(call->heap, "round needs a number and a precision of 0 to 15");
    *result = call->self;
    double real = pr_template_value_as_real(&call->self), scale = pow(10, (double)precision);
    if (pr_template_text_equals(&method, "ceil"))
        *result = pr_template_value_float(ceil(real * scale) / scale);
    else if (pr_template_text_equals(&method, "floor"))
        *result = pr_template_value_float(floor(real * scale) / scale);
    else if (!pr_template_text_equals(&method, "common"))
        return pr_template_heap_fail(call->heap, "round knows common, ceil and floor");
    else if (call->self.kind == PR_TEMPLATE_FLOAT && isfinite(real)) {
        snprintf(digits, sizeof digits, "%.*f", (int)precision, real);
        *result = pr_template_value_float(strtod(digits, NULL));
    }
    result->marked = call->self.marked;
    return PR_OK;
}

// ---- any value

// default(default_value, boolean)
static pr_status use_default(pr_template_call *call, pr_template_value *result)
{
    bool replaced =
        call->self.kind == PR_TEMPLATE_UNDEFINED ||
        (pr_template_builtin_truth(call, 1, false) && !pr_template_value_is_true(&call->self));
    *result = !replaced                          ? call->self
              : pr_template_builtin_has(call, 0) ? call->argument[0]
                                                 : pr_template_value_word("");
    return PR_OK;
}

static pr_status length(pr_template_call *call, pr_template_value *result)
{
    size_t size;
    PR_TRY(pr_template_value_length(call->heap, &call->self, &size));
    *result = pr_template_value_integer((int64_t)size);
    return PR_OK;
}

static pr_status to_list(pr_template_call *call, pr_template_value *result)
{
    pr_template_list list;
    PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_LIST, 0, result));
    result->list->item = list.item;
    result->list->size = list.size;
    return PR_OK;
}

static pr_status first(pr_template_call *call, pr_template_value *result)
{
    pr_template_list list;
    bool once = call->self.kind == PR_TEMPLATE_GENERATOR;
    PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    *result = pr_template_value_undefined("the first item of nothing");
    if (list.size > 0)
        *result = list.item[0];
    if (once && list.size > 0)
        call->self.list->walked = call->self.list->size - list.size + 1;
    return PR_OK;
}

static pr_status last(pr_template_call *call, pr_template_value *result)
{
    pr_template_list list;
    if (call->self.kind == PR_TEMPLATE_GENERATOR)
        return pr_template_heap_fail(call->heap, "a generator has no last item: use | list first");
    PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    *result = pr_template_value_undefined("the last item of nothing");
    if (list.size > 0)
        *result = list.item[list.size - 1];
    return PR_OK;
}

static pr_status reverse(pr_template_call *call, pr_template_value *result)
{
    pr_template_list list;
    PR_TRY(pr_template_value_walk(call->heap, &call->self, &list));
    PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_GENERATOR, list.size, result));
    for (size_t i = 0; i < list.size; i++)
        result->list->item[i] = list.item[list.size - 1 - i];
    if (call->self.kind != PR_TEMPLATE_STRING)
        return PR_OK;
    pr_template_list reversed = *result->list;
    pr_template_text nothing = pr_template_text_of("", 0, false);
    return pr_template_change_join(call->heap, &nothing, &reversed, true, result);
}

static pr_status items(pr_template_call *call, pr_template_value *result)
{
    static const pr_template_text name = {.data = "items", .size_bytes = 5};
    pr_template_value method, view;
    pr_template_arguments none = {0};
    PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_GENERATOR, 0, result));
    if (call->self.kind == PR_TEMPLATE_UNDEFINED)
        return PR_OK;
    if (call->self.kind != PR_TEMPLATE_DICT)
        return pr_template_heap_fail(
            call->heap, "items needs a dict, not %s", pr_template_value_kind_name(&call->self));
    PR_TRY(pr_template_eval_attribute(call->render, &call->self, name, &method));
    PR_TRY(pr_template_eval_call(call->render, &method, &none, &view));
    *result->list = *view.list;
    return PR_OK;
}

static pr_status attribute(pr_template_call *call, pr_template_value *result)
{
    pr_template_text name;
    PR_TRY(pr_template_builtin_text(call, 0, "", &name));
    return pr_template_eval_attribute(call->render, &call->self, name, result);
}

const pr_template_builtin pr_template_filters[] = {
    {"abs", absolute, 0, {NULL}, false},
    {"attr", attribute, 1, {"name"}, false},
    {"capitalize", capitalize, 0, {NULL}, false},
    {"count", length, 0, {NULL}, false},
    {"d", use_default, 0, {"default_value", "boolean"}, false},
    {"default", use_default, 0, {"default_value", "boolean"}, false},
    {"dictsort", pr_template_select_dictsort, 0, {"case_sensitive", "by", "reverse"}, false},
    {"first", first, 0, {NULL}, false},
    {"float", to_real, 0, {"default"}, false},
    {"format", format, 0, {NULL}, true},
    {"from_json", from_json, 0, {NULL}, false},
    {"indent", indent, 0, {"width", "first", "blank"}, false},
    {"int", to_integer, 0, {"default", "base"}, false},
    {"items", items, 0, {NULL}, false},
    {"join", pr_template_select_join, 0, {"d", "attribute"}, false},
    {"last", last, 0, {NULL}, false},
    {"length", length, 0, {NULL}, false},
    {"list", to_list, 0, {NULL}, false},
    {"lower", lower, 0, {NULL}, false},
    {"map", pr_template_select_map, 0, {NULL}, true},
    {"max", pr_template_select_max, 0, {"case_sensitive", "attribute"}, false},
    {"min", pr_template_select_min, 0, {"case_sensitive", "attribute"}, false},
    {"reject", pr_template_select_reject, 0, {NULL}, true},
    {"rejectattr", pr_template_select_rejectattr, 0, {NULL}, true},
    {"replace", replace, 2, {"old", "new", "count"}, false},
    {"reverse", reverse, 0, {NULL}, false},
    {"round", to_rounded, 0, {"precision", "method"}, false},
    {"safe", safe, 0, {NULL}, false},
    {"select", pr_template_select_select, 0, {NULL}, true},
    {"selectattr", pr_template_select_selectattr, 0, {NULL}, true},
    {"sort", pr_template_select_sort, 0, {"reverse", "case_sensitive", "attribute"}, false},
    {"string", to_string, 0, {NULL}, false},
    {"sum", pr_template_select_sum, 0, {"attribute", "start"}, false},
    {"title", title, 0, {NULL}, false},
    {"tojson", to_json, 0, {"ensure_ascii", "indent", "separators", "sort_keys"}, false},
    {"trim", trim, 0, {"chars"}, false},
    {"unique", pr_template_select_unique, 0, {"case_sensitive", "attribute"}, false},
    {"upper", upper, 0, {NULL}, false},
    {"wordcount", word_count, 0, {NULL}, false},
    {NULL, NULL, 0, {NULL}, false},
};
