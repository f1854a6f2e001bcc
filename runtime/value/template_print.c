// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_print.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/text/utf8.h"
#include "runtime/value/template_builder.h"
#include "runtime/value/template_sort.h"

// ---- numbers

// The shortest digits that read back as the same number; an exponent below 1e-4 and from 1e16 on.
static void print_real(double real, char out[static 40])
{
    char digits[32];
    int precision = 0;
    do
        snprintf(digits, sizeof digits, "%.*e", precision, real);
    while (strtod(digits, NULL) != real && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - exponent;
        snprintf(out, 40, "%.*f", decimals > 0 ? decimals : 1, real);
        return;
    }
    *strchr(digits, 'e') = 0;
    snprintf(out, 40, "%se%+03d", digits, exponent);
}

static void put_number(pr_template_builder *builder, const pr_template_value *value, bool json)
{
    char text[40];
    if (value->kind == PR_TEMPLATE_INTEGER)
        snprintf(text, sizeof text, "%lld", (long long)value->integer);
    else if (isnan(value->real))
        snprintf(text, sizeof text, json ? "NaN" : "nan");
    else if (isinf(value->real))
        snprintf(text, sizeof text, "%s%s", value->real < 0 ? "-" : "", json ? "Infinity" : "inf");
    else
        print_real(value->real, text);
    pr_template_builder_put_word(builder, text, value->marked);
}

// ---- repr

static bool is_printable(uint32_t code_point)
{
    switch (utf8proc_category((utf8proc_int32_t)code_point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return code_point == ' ';
    default:
        return true;
    }
}

static void put_escaped(pr_template_builder *builder, uint32_t c, bool marked)
{
    char text[16];
    if (c == '\n' || c == '\r' || c == '\t')
        snprintf(text, sizeof text, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    else
        snprintf(text, sizeof text, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    pr_template_builder_put_word(builder, text, marked);
}

static void repr_text(pr_template_builder *builder, const pr_template_text *text, bool marked)
{
    bool has_single = memchr(text->data, '\'', text->size_bytes) != NULL;
    bool has_double = memchr(text->data, '"', text->size_bytes) != NULL;
    char quote = has_single && !has_double ? '"' : '\'';
    pr_template_builder_put(builder, &quote, 1, marked);
    for (size_t at = 0; at < text->size_bytes && builder->status == PR_OK;) {
        size_t begin = at;
        uint32_t c = pr_utf8_next(text->data, &at);
        bool shade = pr_template_text_is_marked(text, begin);
        if (c == '\\' || c == (uint8_t)quote)
            pr_template_builder_put(builder, "\\", 1, shade);
        if (is_printable(c))
            pr_template_builder_put(builder, text->data + begin, at - begin, shade);
        else
            put_escaped(builder, c, shade);
    }
    pr_template_builder_put(builder, &quote, 1, marked);
}

static void repr_string(pr_template_builder *builder, const pr_template_text *text)
{
    bool marked = text->shade == PR_TEMPLATE_MARKED;
    if (text->safe)
        pr_template_builder_put_word(builder, "Markup(", marked);
    repr_text(builder, text, marked);
    if (text->safe)
        pr_template_builder_put_word(builder, ")", marked);
}

static pr_status repr(pr_template_builder *builder, const pr_template_value *value, int depth);

static pr_status repr_list(pr_template_builder *builder, const pr_template_value *value, int depth)
{
    const pr_template_list *list = value->list;
    bool marked = value->marked, is_tuple = value->kind == PR_TEMPLATE_TUPLE;
    if (value->kind == PR_TEMPLATE_VIEW) {
        pr_template_builder_put_word(builder, list->label, marked);
        pr_template_builder_put_word(builder, "(", marked);
    }
    pr_template_builder_put_word(builder, is_tuple ? "(" : "[", marked);
    for (size_t i = 0; i < list->size; i++) {
        if (i > 0)
            pr_template_builder_put_word(builder, ", ", marked);
        PR_TRY(repr(builder, &list->item[i], depth));
    }
    if (is_tuple && list->size == 1)
        pr_template_builder_put_word(builder, ",", marked);
    pr_template_builder_put_word(builder, is_tuple ? ")" : "]", marked);
    if (value->kind == PR_TEMPLATE_VIEW)
        pr_template_builder_put_word(builder, ")", marked);
    return PR_OK;
}

static pr_status repr_dict(pr_template_builder *builder, const pr_template_value *value, int depth)
{
    const pr_template_dict *dict = value->dict;
    pr_template_builder_put_word(builder, "{", value->marked);
    for (size_t i = 0; i < dict->size; i++) {
        if (i > 0)
            pr_template_builder_put_word(builder, ", ", value->marked);
        PR_TRY(repr(builder, &dict->entry[i].key, depth));
        pr_template_builder_put_word(builder, ": ", value->marked);
        PR_TRY(repr(builder, &dict->entry[i].value, depth));
    }
    pr_template_builder_put_word(builder, "}", value->marked);
    return PR_OK;
}

static pr_status repr_range(pr_template_builder *builder, const pr_template_value *value)
{
    char text[96];
    const pr_template_list *list = value->list;
    int64_t step = list->size > 1 ? list->item[1].integer - list->item[0].integer : 1;
    int64_t first = list->size > 0 ? list->item[0].integer : 0;
    int64_t end = list->size > 0 ? list->item[list->size - 1].integer + step : 0;
    snprintf(
        text, sizeof text, step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)",
        (long long)first, (long long)end, (long long)step);
    pr_template_builder_put_word(builder, text, value->marked);
    return PR_OK;
}

static pr_status repr(pr_template_builder *builder, const pr_template_value *value, int depth)
{
    if (depth == PR_TEMPLATE_VALUE_MAX_DEPTH)
        return pr_template_heap_fail(builder->heap, "a value to print is nested too deep");
    PR_TRY(pr_template_heap_charge(builder->heap, 1));
    PR_TRY(builder->status);
    switch (value->kind) {
    case PR_TEMPLATE_UNDEFINED:
    case PR_TEMPLATE_ABSENT:
        pr_template_builder_put_word(builder, "Undefined", false);
        return PR_OK;
    case PR_TEMPLATE_NONE:
        pr_template_builder_put_word(builder, "None", value->marked);
        return PR_OK;
    case PR_TEMPLATE_BOOL:
        pr_template_builder_put_word(builder, value->truth ? "True" : "False", value->marked);
        return PR_OK;
    case PR_TEMPLATE_INTEGER:
    case PR_TEMPLATE_FLOAT:
        put_number(builder, value, false);
        return PR_OK;
    case PR_TEMPLATE_STRING:
        repr_string(builder, &value->text);
        return PR_OK;
    case PR_TEMPLATE_RANGE:
        return repr_range(builder, value);
    case PR_TEMPLATE_LIST:
    case PR_TEMPLATE_TUPLE:
    case PR_TEMPLATE_VIEW:
        return repr_list(builder, value, depth + 1);
    case PR_TEMPLATE_DICT:
        return repr_dict(builder, value, depth + 1);
    default:
        return pr_template_heap_fail(
            builder->heap, "a %s cannot be printed", pr_template_value_kind_name(value));
    }
}

pr_status pr_template_print_repr(pr_template_builder *builder, const pr_template_value *value)
{
    return repr(builder, value, 0);
}

pr_status pr_template_print_str(pr_template_builder *builder, const pr_template_value *value)
{
    if (value->kind == PR_TEMPLATE_STRING) {
        pr_template_builder_append(builder, value->text);
        return PR_OK;
    }
    return value->kind == PR_TEMPLATE_UNDEFINED ? PR_OK : repr(builder, value, 0);
}

pr_status pr_template_print_to_text(
    pr_template_heap *heap, const pr_template_value *value, pr_template_text *text)
{
    if (value->kind == PR_TEMPLATE_STRING) {
        *text = value->text;
        return PR_OK;
    }
    pr_template_builder builder = pr_template_builder_of(heap);
    PR_TRY(pr_template_print_str(&builder, value));
    return pr_template_builder_finish(&builder, text);
}

// ---- json

typedef struct writer {
    pr_template_builder *builder;
    const pr_template_json_style *style;
} writer;

static void put_json_character(const writer *w, uint32_t c, bool marked)
{
    static const char special[7] = "\"\\\n\r\t\f\b", letter[7] = "\"\\nrtfb";
    char text[16];
    const char *found = c < 0x80 ? memchr(special, (int)c, sizeof special) : NULL;
    if (found)
        snprintf(text, sizeof text, "\\%c", letter[found - special]);
    else if (c >= 0x10000)
        snprintf(
            text, sizeof text, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
            0xdc00 + ((c - 0x10000) & 0x3ff));
    else
        snprintf(text, sizeof text, "\\u%04x", c);
    pr_template_builder_put_word(w->builder, text, marked);
}

static void write_text(const writer *w, const pr_template_text *text)
{
    bool marked = text->shade == PR_TEMPLATE_MARKED;
    pr_template_builder_put(w->builder, "\"", 1, marked);
    size_t done = 0, at = 0;
    while (at < text->size_bytes && w->builder->status == PR_OK) {
        size_t begin = at;
        uint32_t c = pr_utf8_next(text->data, &at);
        if (c >= 0x20 && c != '"' && c != '\\' && (c < 0x7f || !w->style->ascii))
            continue;
        pr_template_builder_append(w->builder, pr_template_text_slice(*text, done, begin));
        put_json_character(w, c, pr_template_text_is_marked(text, begin));
        done = at;
    }
    pr_template_builder_append(w->builder, pr_template_text_slice(*text, done, at));
    pr_template_builder_put(w->builder, "\"", 1, marked);
}

static void write_break(const writer *w, int depth, bool marked)
{
    if (!w->style->indented)
        return;
    pr_template_builder_put(w->builder, "\n", 1, marked);
    for (int i = 0; i < depth; i++) {
        pr_template_text indent = w->style->indent;
        if (marked)
            indent = pr_template_text_of(indent.data, indent.size_bytes, true);
        pr_template_builder_append(w->builder, indent);
    }
}

static void write_word(const writer *w, const pr_template_text *word, bool marked)
{
    pr_template_builder_put(
        w->builder, word->data, word->size_bytes, marked || word->shade != PR_TEMPLATE_PLAIN);
}

static pr_status write_value(const writer *w, const pr_template_value *value, int depth);

static pr_status write_list(const writer *w, const pr_template_value *value, int depth)
{
    const pr_template_list *list = value->list;
    pr_template_builder_put(w->builder, "[", 1, value->marked);
    for (size_t i = 0; i < list->size; i++) {
        if (i > 0)
            write_word(w, &w->style->between, value->marked);
        write_break(w, depth, value->marked);
        PR_TRY(write_value(w, &list->item[i], depth));
    }
    if (list->size > 0)
        write_break(w, depth - 1, value->marked);
    pr_template_builder_put(w->builder, "]", 1, value->marked);
    return PR_OK;
}

static pr_status write_key(const writer *w, const pr_template_value *key)
{
    if (key->kind == PR_TEMPLATE_STRING) {
        write_text(w, &key->text);
        return PR_OK;
    }
    pr_template_builder_put(w->builder, "\"", 1, key->marked);
    PR_TRY(write_value(w, key, 0));
    pr_template_builder_put(w->builder, "\"", 1, key->marked);
    return PR_OK;
}

static pr_status write_dict(const writer *w, const pr_template_value *value, int depth)
{
    const pr_template_entry *entry = value->dict->entry;
    size_t size = value->dict->size;
    if (w->style->sorted)
        PR_TRY(pr_template_sort_entries(w->builder->heap, value->dict, &entry));
    pr_template_builder_put(w->builder, "{", 1, value->marked);
    for (size_t i = 0; i < size; i++) {
        if (i > 0)
            write_word(w, &w->style->between, value->marked);
        write_break(w, depth, value->marked);
        PR_TRY(write_key(w, &entry[i].key));
        write_word(w, &w->style->colon, value->marked);
        PR_TRY(write_value(w, &entry[i].value, depth));
    }
    if (size > 0)
        write_break(w, depth - 1, value->marked);
    pr_template_builder_put(w->builder, "}", 1, value->marked);
    return PR_OK;
}

static pr_status write_value(const writer *w, const pr_template_value *value, int depth)
{
    if (depth == PR_TEMPLATE_VALUE_MAX_DEPTH)
        return pr_template_heap_fail(w->builder->heap, "a value for tojson is nested too deep");
    PR_TRY(pr_template_heap_charge(w->builder->heap, 1));
    PR_TRY(w->builder->status);
    switch (value->kind) {
    case PR_TEMPLATE_NONE:
        pr_template_builder_put_word(w->builder, "null", value->marked);
        return PR_OK;
    case PR_TEMPLATE_BOOL:
        pr_template_builder_put_word(w->builder, value->truth ? "true" : "false", value->marked);
        return PR_OK;
    case PR_TEMPLATE_INTEGER:
    case PR_TEMPLATE_FLOAT:
        put_number(w->builder, value, true);
        return PR_OK;
    case PR_TEMPLATE_STRING:
        write_text(w, &value->text);
        return PR_OK;
    case PR_TEMPLATE_LIST:
    case PR_TEMPLATE_TUPLE:
        return write_list(w, value, depth + 1);
    case PR_TEMPLATE_DICT:
        return write_dict(w, value, depth + 1);
    default:
        return pr_template_heap_fail(
            w->builder->heap, "an object of type %s is not JSON serializable",
            pr_template_value_kind_name(value));
    }
}

pr_status pr_template_print_json(
    pr_template_builder *builder,
    const pr_template_value *value,
    const pr_template_json_style *style)
{
    writer w = {.builder = builder, .style = style};
    return write_value(&w, value, 0);
}
