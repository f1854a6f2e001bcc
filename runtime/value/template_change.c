// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_change.h"

#include <string.h>
#include <utf8proc.h>

#include "runtime/text/utf8.h"
#include "runtime/value/template_builder.h"
#include "runtime/value/template_print.h"

static pr_status finish(pr_template_builder *builder, pr_template_value *result)
{
    *result = pr_template_value_string((pr_template_text){0});
    return pr_template_builder_finish(builder, &result->text);
}

// ---- case

static bool is_cased(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
           category == UTF8PROC_CATEGORY_LT;
}

// Whether the character behind c begins a word.
static bool begins_word(uint32_t c, pr_template_case to)
{
    if (to == PR_TEMPLATE_TITLE_METHOD)
        return !is_cased(c);
    return to == PR_TEMPLATE_TITLE_FILTER &&
           (pr_template_text_is_space(c) || (c < 0x80 && memchr("-({[<", (int)c, 5)));
}

pr_status pr_template_change_case(
    pr_template_heap *heap,
    const pr_template_text *text,
    pr_template_case to,
    pr_template_value *result)
{
    pr_template_builder builder = pr_template_builder_of(heap);
    bool upper = to != PR_TEMPLATE_LOWER;
    PR_TRY(pr_template_heap_charge(heap, text->size_bytes / 8));
    for (size_t at = 0; at < text->size_bytes;) {
        bool marked = pr_template_text_is_marked(text, at);
        uint32_t c = pr_utf8_next(text->data, &at);
        utf8proc_int32_t code = (utf8proc_int32_t)c;
        if (upper && c == 0xdf)
            pr_template_builder_put_word(&builder, to == PR_TEMPLATE_UPPER ? "SS" : "Ss", marked);
        else
            pr_template_builder_put_character(
                &builder, (uint32_t)(upper ? utf8proc_toupper(code) : utf8proc_tolower(code)),
                marked);
        upper = to == PR_TEMPLATE_UPPER || begins_word(c, to);
    }
    return finish(&builder, result);
}

// ---- replacing

// In Python an empty `old` stands between all characters.
static pr_status replace_nothing(
    const pr_template_text *text,
    const pr_template_text *fresh,
    uint64_t count,
    pr_template_builder *builder,
    pr_template_value *result)
{
    size_t at = 0;
    for (; count > 0; count--) {
        size_t begin = at;
        pr_template_builder_append(builder, *fresh);
        if (at == text->size_bytes)
            break;
        (void)pr_utf8_next(text->data, &at);
        pr_template_builder_append(builder, pr_template_text_slice(*text, begin, at));
        PR_TRY(builder->status);
    }
    pr_template_builder_append(builder, pr_template_text_slice(*text, at, text->size_bytes));
    return finish(builder, result);
}

pr_status pr_template_change_replace(
    pr_template_heap *heap,
    const pr_template_text *text,
    const pr_template_text *old,
    const pr_template_text *fresh,
    int64_t count,
    pr_template_value *result)
{
    pr_template_builder builder = pr_template_builder_of(heap);
    size_t done = 0;
    uint64_t left = count < 0 ? UINT64_MAX : (uint64_t)count;
    PR_TRY(pr_template_heap_charge(heap, text->size_bytes / 64));
    if (old->size_bytes == 0)
        return replace_nothing(text, fresh, left, &builder, result);
    for (; left > 0; left--) {
        size_t found = pr_template_text_find(text, old, done);
        if (found == SIZE_MAX)
            break;
        pr_template_builder_append(&builder, pr_template_text_slice(*text, done, found));
        pr_template_builder_append(&builder, *fresh);
        PR_TRY(builder.status);
        done = found + old->size_bytes;
    }
    pr_template_builder_append(&builder, pr_template_text_slice(*text, done, text->size_bytes));
    return finish(&builder, result);
}

// ---- splitting

typedef struct parts {
    pr_template_heap *heap;
    const pr_template_text *text;
    pr_template_list list;
    size_t capacity;
} parts;

static pr_status add_part(parts *p, size_t begin, size_t end)
{
    PR_TRY(pr_template_heap_charge(p->heap, 1));
    return pr_template_value_push(
        p->heap, &p->list, &p->capacity,
        pr_template_value_string(pr_template_text_slice(*p->text, begin, end)));
}

static pr_status finish_parts(parts *p, pr_template_value *result)
{
    PR_TRY(pr_template_value_list(p->heap, PR_TEMPLATE_LIST, 0, result));
    *result->list = p->list;
    return pr_template_heap_charge(p->heap, p->text->size_bytes / 64);
}

static size_t skip_space(const pr_template_text *text, size_t at, bool space)
{
    while (at < text->size_bytes) {
        size_t next = at;
        if (pr_template_text_is_space(pr_utf8_next(text->data, &next)) != space)
            break;
        at = next;
    }
    return at;
}

static size_t skip_space_left(const pr_template_text *text, size_t at, bool space)
{
    while (at > 0) {
        size_t previous = pr_utf8_previous(text->data, at), next = previous;
        if (pr_template_text_is_space(pr_utf8_next(text->data, &next)) != space)
            break;
        at = previous;
    }
    return at;
}

static pr_status split_at_space(parts *p, uint64_t cuts)
{
    size_t at = skip_space(p->text, 0, true), end = p->text->size_bytes;
    while (at < end) {
        size_t word = cuts > 0 ? skip_space(p->text, at, false) : end;
        PR_TRY(add_part(p, at, word));
        at = skip_space(p->text, word, true);
        cuts -= cuts > 0;
    }
    return PR_OK;
}

static pr_status split_at_space_right(parts *p, uint64_t cuts)
{
    size_t end = skip_space_left(p->text, p->text->size_bytes, true);
    while (end > 0) {
        size_t word = cuts > 0 ? skip_space_left(p->text, end, false) : 0;
        PR_TRY(add_part(p, word, end));
        end = skip_space_left(p->text, word, true);
        cuts -= cuts > 0;
    }
    return PR_OK;
}

static pr_status fail_separator(pr_template_heap *heap)
{
    return pr_template_heap_fail(heap, "split needs a separator that is not empty");
}

pr_status pr_template_change_split(
    pr_template_heap *heap,
    const pr_template_text *text,
    const pr_template_text *between,
    int64_t most,
    pr_template_value *result)
{
    parts p = {.heap = heap, .text = text};
    uint64_t cuts = most < 0 ? UINT64_MAX : (uint64_t)most;
    size_t done = 0;
    if (!between) {
        PR_TRY(split_at_space(&p, cuts));
        return finish_parts(&p, result);
    }
    if (between->size_bytes == 0)
        return fail_separator(heap);
    for (; cuts > 0; cuts--) {
        size_t found = pr_template_text_find(text, between, done);
        if (found == SIZE_MAX)
            break;
        PR_TRY(add_part(&p, done, found));
        done = found + between->size_bytes;
    }
    PR_TRY(add_part(&p, done, text->size_bytes));
    return finish_parts(&p, result);
}

pr_status pr_template_change_charge_backwards(
    pr_template_heap *heap, const pr_template_text *text, const pr_template_text *part)
{
    return pr_template_heap_charge(heap, text->size_bytes / 64 * (part->size_bytes / 64 + 1));
}

static void reverse(pr_template_list *list)
{
    for (size_t i = 0; i < list->size / 2; i++) {
        pr_template_value swap = list->item[i];
        list->item[i] = list->item[list->size - 1 - i];
        list->item[list->size - 1 - i] = swap;
    }
}

pr_status pr_template_change_split_right(
    pr_template_heap *heap,
    const pr_template_text *text,
    const pr_template_text *between,
    int64_t most,
    pr_template_value *result)
{
    parts p = {.heap = heap, .text = text};
    uint64_t cuts = most < 0 ? UINT64_MAX : (uint64_t)most;
    size_t end = text->size_bytes;
    if (!between)
        PR_TRY(split_at_space_right(&p, cuts));
    else if (between->size_bytes == 0)
        return fail_separator(heap);
    for (; between && cuts > 0; cuts--) {
        pr_template_text front = pr_template_text_slice(*text, 0, end);
        PR_TRY(pr_template_change_charge_backwards(heap, &front, between));
        size_t found = pr_template_text_find_last(&front, between);
        if (found == SIZE_MAX)
            break;
        PR_TRY(add_part(&p, found + between->size_bytes, end));
        end = found;
    }
    if (between)
        PR_TRY(add_part(&p, 0, end));
    reverse(&p.list);
    return finish_parts(&p, result);
}

static bool is_line_end(uint32_t c)
{
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

pr_status pr_template_change_split_lines(
    pr_template_heap *heap, const pr_template_text *text, bool keep_ends, pr_template_value *result)
{
    parts p = {.heap = heap, .text = text};
    size_t begin = 0;
    for (size_t at = 0; at < text->size_bytes;) {
        size_t end = at;
        uint32_t c = pr_utf8_next(text->data, &at);
        if (!is_line_end(c))
            continue;
        if (c == '\r' && at < text->size_bytes && text->data[at] == '\n')
            at++;
        PR_TRY(add_part(&p, begin, keep_ends ? at : end));
        begin = at;
    }
    if (begin < text->size_bytes)
        PR_TRY(add_part(&p, begin, text->size_bytes));
    return finish_parts(&p, result);
}

pr_status pr_template_change_join(
    pr_template_heap *heap,
    const pr_template_text *between,
    const pr_template_list *list,
    bool strings_only,
    pr_template_value *result)
{
    pr_template_builder builder = pr_template_builder_of(heap);
    for (size_t i = 0; i < list->size; i++) {
        if (strings_only && list->item[i].kind != PR_TEMPLATE_STRING)
            return pr_template_heap_fail(
                heap, "join needs strings, item %zu is %s", i,
                pr_template_value_kind_name(&list->item[i]));
        if (i > 0)
            pr_template_builder_append(&builder, *between);
        PR_TRY(pr_template_print_str(&builder, &list->item[i]));
    }
    return finish(&builder, result);
}
