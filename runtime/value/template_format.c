// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/value/template_builder.h"
#include "runtime/value/template_print.h"

// ---- "%s" % value

static pr_status
format_one(pr_template_builder *builder, char letter, int decimals, const pr_template_value *value)
{
    char text[400];
    if (letter == 's')
        return pr_template_print_str(builder, value);
    if (letter == 'r')
        return pr_template_print_repr(builder, value);
    if (!pr_template_value_is_number(value))
        return pr_template_heap_fail(
            builder->heap, "%%%c needs a number, not %s", letter,
            pr_template_value_kind_name(value));
    if (letter == 'f')
        snprintf(
            text, sizeof text, "%.*f", decimals < 0 ? 6 : decimals,
            pr_template_value_as_real(value));
    else if (value->kind == PR_TEMPLATE_FLOAT)
        snprintf(text, sizeof text, "%.0f", trunc(value->real));
    else
        snprintf(text, sizeof text, "%lld", (long long)pr_template_value_as_integer(value));
    pr_template_builder_put_word(builder, text, value->marked);
    return PR_OK;
}

// Behind a %: an optional .N, and the letter.
static pr_status
read_specifier(pr_template_heap *heap, const pr_template_text *format, size_t *at, int *decimals)
{
    *decimals = -1;
    if (*at < format->size_bytes && format->data[*at] == '.') {
        *decimals = 0;
        while (++*at < format->size_bytes && format->data[*at] >= '0' && format->data[*at] <= '9')
            *decimals = *decimals < 100 ? *decimals * 10 + (format->data[*at] - '0') : 100;
    }
    if (*decimals > 60 || *at == format->size_bytes || !memchr("srdif%", format->data[*at], 6))
        return pr_template_heap_fail(
            heap, "only %%s, %%r, %%d, %%i, %%f, %%.Nf and %%%% are supported in a format");
    return PR_OK;
}

pr_status pr_template_format_percent(
    pr_template_heap *heap,
    const pr_template_text *format,
    const pr_template_value *value,
    pr_template_value *result)
{
    pr_template_builder builder = pr_template_builder_of(heap);
    bool several = value->kind == PR_TEMPLATE_TUPLE;
    const pr_template_value *item = several ? value->list->item : value;
    size_t items = several ? value->list->size : 1, used = 0, copied = 0;
    for (size_t at = 0; at < format->size_bytes; at++) {
        int decimals;
        if (format->data[at] != '%')
            continue;
        pr_template_builder_append(&builder, pr_template_text_slice(*format, copied, at));
        at++;
        PR_TRY(read_specifier(heap, format, &at, &decimals));
        char letter = format->data[at];
        copied = at + 1;
        if (letter == '%')
            pr_template_builder_append(&builder, pr_template_text_slice(*format, at, at + 1));
        else if (used == items)
            return pr_template_heap_fail(heap, "not enough arguments for the format");
        else
            PR_TRY(format_one(&builder, letter, decimals, &item[used++]));
    }
    if (used < items && (several || value->kind != PR_TEMPLATE_DICT))
        return pr_template_heap_fail(heap, "not all arguments are used by the format");
    pr_template_builder_append(
        &builder, pr_template_text_slice(*format, copied, format->size_bytes));
    *result = pr_template_value_string((pr_template_text){0});
    return pr_template_builder_finish(&builder, &result->text);
}

// ---- "{}".format(value)

typedef struct braces {
    pr_template_heap *heap;
    const pr_template_arguments *arguments;
    size_t next;  // of the arguments without a name
} braces;

static const pr_template_value *
find_keyword(const pr_template_arguments *arguments, const pr_template_text *name)
{
    for (size_t i = 0; i < arguments->keywords; i++) {
        if (pr_template_text_compare(&arguments->keyword[i].name, name) == 0)
            return &arguments->keyword[i].value;
    }
    return NULL;
}

// What stands between braces: nothing, a number or a name.
static pr_status
find_field(braces *b, const pr_template_text *field, const pr_template_value **value)
{
    size_t number = 0;
    bool digits = field->size_bytes > 0 && field->size_bytes < 6;
    for (size_t i = 0; i < field->size_bytes && digits; i++) {
        digits = field->data[i] >= '0' && field->data[i] <= '9';
        number = number * 10 + (size_t)(field->data[i] - '0');
    }
    if (field->size_bytes == 0)
        number = b->next++;
    *value = digits || field->size_bytes == 0
                 ? number < b->arguments->positionals ? &b->arguments->positional[number] : NULL
                 : find_keyword(b->arguments, field);
    if (*value)
        return PR_OK;
    return pr_template_heap_fail(
        b->heap, "format: nothing is given for {%.*s}; only {}, {0} and {name} are supported",
        (int)(field->size_bytes < 40 ? field->size_bytes : 40), field->data);
}

pr_status pr_template_format_braces(
    pr_template_heap *heap,
    const pr_template_text *format,
    const pr_template_arguments *arguments,
    pr_template_value *result)
{
    static const pr_template_text close = {.data = "}", .size_bytes = 1};
    braces b = {.heap = heap, .arguments = arguments};
    pr_template_builder builder = pr_template_builder_of(heap);
    for (size_t at = 0; at < format->size_bytes; at++) {
        char byte = format->data[at];
        bool doubled = at + 1 < format->size_bytes && format->data[at + 1] == byte;
        const pr_template_value *value;
        if ((byte != '{' && byte != '}') || doubled) {
            pr_template_builder_append(&builder, pr_template_text_slice(*format, at, at + 1));
            at += doubled && (byte == '{' || byte == '}');
            continue;
        }
        size_t end = pr_template_text_find(format, &close, at);
        if (byte == '}' || end == SIZE_MAX)
            return pr_template_heap_fail(heap, "format: a single brace");
        pr_template_text field = pr_template_text_slice(*format, at + 1, end);
        PR_TRY(find_field(&b, &field, &value));
        PR_TRY(pr_template_print_str(&builder, value));
        at = end;
    }
    *result = pr_template_value_string((pr_template_text){0});
    return pr_template_builder_finish(&builder, &result->text);
}
