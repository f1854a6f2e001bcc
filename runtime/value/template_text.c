// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_text.h"

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
