// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/template/template_text.h"

#include <string.h>

#include "runtime/text/utf8.h"

pr_template_text pr_template_text_slice(pr_template_text text, size_t begin, size_t end)
{
    pr_template_text slice = text;
    slice.data = text.size_bytes > 0 ? text.data + begin : text.data;
    slice.size_bytes = end - begin;
    if (text.shade == PR_TEMPLATE_MIXED)
        slice.mark = text.mark + begin;
    return slice;
}

int pr_template_text_compare(const pr_template_text *left, const pr_template_text *right)
{
    size_t common = left->size_bytes < right->size_bytes ? left->size_bytes : right->size_bytes;
    int order = common > 0 ? memcmp(left->data, right->data, common) : 0;
    if (order != 0)
        return order;
    return (left->size_bytes > right->size_bytes) - (left->size_bytes < right->size_bytes);
}

bool pr_template_text_equals(const pr_template_text *text, const char *word)
{
    size_t size = strlen(word);
    return text->size_bytes == size && memcmp(text->data, word, size) == 0;
}

size_t
pr_template_text_find(const pr_template_text *text, const pr_template_text *part, size_t from)
{
    if (from > text->size_bytes || part->size_bytes > text->size_bytes - from)
        return SIZE_MAX;
    if (part->size_bytes == 0)
        return from;
    const char *found =
        memmem(text->data + from, text->size_bytes - from, part->data, part->size_bytes);
    return found ? (size_t)(found - text->data) : SIZE_MAX;
}

size_t pr_template_text_find_last(const pr_template_text *text, const pr_template_text *part)
{
    if (part->size_bytes > text->size_bytes)
        return SIZE_MAX;
    for (size_t at = text->size_bytes - part->size_bytes + 1; at-- > 0;) {
        if (part->size_bytes == 0 || memcmp(text->data + at, part->data, part->size_bytes) == 0)
            return at;
    }
    return SIZE_MAX;
}

bool pr_template_text_starts(const pr_template_text *text, const pr_template_text *part)
{
    return part->size_bytes == 0 || (part->size_bytes <= text->size_bytes &&
                                     memcmp(text->data, part->data, part->size_bytes) == 0);
}

bool pr_template_text_ends(const pr_template_text *text, const pr_template_text *part)
{
    return part->size_bytes == 0 || (part->size_bytes <= text->size_bytes &&
                                     memcmp(
                                         text->data + (text->size_bytes - part->size_bytes),
                                         part->data, part->size_bytes) == 0);
}

size_t pr_template_text_characters(const pr_template_text *text)
{
    size_t count = 0;
    for (size_t i = 0; i < text->size_bytes; i++)
        count += ((uint8_t)text->data[i] & 0xc0) != 0x80;
    return count;
}

size_t pr_template_text_offset(const pr_template_text *text, size_t index)
{
    size_t at = 0;
    for (; index > 0; index--)
        (void)pr_utf8_next(text->data, &at);
    return at;
}

// Beyond White_Space, Python counts the four information separators.
bool pr_template_text_is_space(uint32_t code_point)
{
    return pr_utf8_is_space(code_point) || (code_point >= 0x1c && code_point <= 0x1f);
}

static bool is_stripped(uint32_t code_point, const pr_template_text *characters)
{
    if (!characters)
        return pr_template_text_is_space(code_point);
    for (size_t at = 0; at < characters->size_bytes;) {
        if (pr_utf8_next(characters->data, &at) == code_point)
            return true;
    }
    return false;
}

pr_template_text pr_template_text_strip(
    pr_template_text text, const pr_template_text *characters, bool left, bool right)
{
    size_t begin = 0, end = text.size_bytes;
    while (left && begin < end) {
        size_t next = begin;
        if (!is_stripped(pr_utf8_next(text.data, &next), characters))
            break;
        begin = next;
    }
    while (right && begin < end) {
        size_t previous = pr_utf8_previous(text.data, end), at = previous;
        if (!is_stripped(pr_utf8_next(text.data, &at), characters))
            break;
        end = previous;
    }
    return pr_template_text_slice(text, begin, end);
}

// ---- building

static bool fail(pr_template_builder *builder, pr_status status)
{
    builder->status = status;
    return false;
}

static bool grow(pr_template_builder *builder, size_t capacity)
{
    char *data = pr_template_heap_take(builder->heap, capacity);
    uint8_t *mark = NULL;
    if (!data)
        return fail(builder, PR_ERR_REQUEST);
    if (builder->mark) {
        mark = pr_template_heap_take(builder->heap, capacity);
        if (!mark)
            return fail(builder, PR_ERR_REQUEST);
        memcpy(mark, builder->mark, builder->size_bytes);
    }
    if (builder->size_bytes > 0)
        memcpy(data, builder->data, builder->size_bytes);
    builder->data = data;
    builder->mark = mark;
    builder->capacity_bytes = capacity;
    return true;
}

static bool make_room(pr_template_builder *builder, size_t size_bytes)
{
    if (builder->status != PR_OK)
        return false;
    if (size_bytes > PR_TEMPLATE_TEXT_MAX_BYTES - builder->size_bytes)
        return fail(
            builder, pr_template_heap_fail(
                         builder->heap, "a text grows beyond %zu MiB, the limit",
                         PR_TEMPLATE_TEXT_MAX_BYTES >> 20));
    pr_status status = pr_template_heap_charge(builder->heap, size_bytes / 64);
    if (status != PR_OK)
        return fail(builder, status);
    size_t wanted = builder->size_bytes + size_bytes;
    size_t doubled = builder->capacity_bytes < 32 ? 64 : builder->capacity_bytes * 2;
    return wanted <= builder->capacity_bytes || grow(builder, wanted > doubled ? wanted : doubled);
}

void pr_template_builder_reserve(pr_template_builder *builder, size_t size_bytes)
{
    if (builder->status == PR_OK && size_bytes <= PR_TEMPLATE_TEXT_MAX_BYTES &&
        size_bytes > builder->capacity_bytes)
        (void)grow(builder, size_bytes);
}

// Makes room for marks when the shade of what comes differs from what is there.
static bool agree_on_shade(pr_template_builder *builder, pr_template_shade shade)
{
    bool marked = shade == PR_TEMPLATE_MARKED;
    if (builder->mark)
        return true;
    if (builder->size_bytes == 0 && shade != PR_TEMPLATE_MIXED)
        builder->marked = marked;
    if (shade != PR_TEMPLATE_MIXED && builder->marked == marked)
        return true;
    builder->mark = pr_template_heap_take(builder->heap, builder->capacity_bytes);
    if (!builder->mark)
        return fail(builder, PR_ERR_REQUEST);
    memset(builder->mark, builder->marked, builder->size_bytes);
    return true;
}

void pr_template_builder_append(pr_template_builder *builder, pr_template_text text)
{
    if (text.size_bytes == 0 || !make_room(builder, text.size_bytes) ||
        !agree_on_shade(builder, text.shade))
        return;
    memcpy(builder->data + builder->size_bytes, text.data, text.size_bytes);
    if (builder->mark && text.shade == PR_TEMPLATE_MIXED)
        memcpy(builder->mark + builder->size_bytes, text.mark, text.size_bytes);
    else if (builder->mark)
        memset(
            builder->mark + builder->size_bytes, text.shade == PR_TEMPLATE_MARKED, text.size_bytes);
    builder->size_bytes += text.size_bytes;
}

void pr_template_builder_put(
    pr_template_builder *builder, const char *data, size_t size_bytes, bool marked)
{
    pr_template_builder_append(builder, pr_template_text_of(data, size_bytes, marked));
}

void pr_template_builder_put_word(pr_template_builder *builder, const char *word, bool marked)
{
    pr_template_builder_put(builder, word, strlen(word), marked);
}

void pr_template_builder_put_character(
    pr_template_builder *builder, uint32_t code_point, bool marked)
{
    char bytes[4];
    size_t size = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size; i-- > 1; code_point >>= 6)
        bytes[i] = (char)(0x80 | (code_point & 0x3f));
    bytes[0] = (char)(lead[size] | code_point);
    pr_template_builder_put(builder, bytes, size, marked);
}

pr_status pr_template_builder_finish(pr_template_builder *builder, pr_template_text *text)
{
    PR_TRY(builder->status);
    *text = pr_template_text_of(builder->data, builder->size_bytes, builder->marked);
    if (builder->mark) {
        text->shade = PR_TEMPLATE_MIXED;
        text->mark = builder->mark;
    }
    if (!text->data)
        text->data = "";
    *builder = pr_template_builder_of(builder->heap);
    return PR_OK;
}
