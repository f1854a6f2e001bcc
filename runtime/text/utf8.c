// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/text/utf8.h"

#include <utf8proc.h>

typedef enum part { PART_VALID, PART_INVALID, PART_OPEN } part;

// The range of the second byte decides overlong forms, surrogates and the end of Unicode
// (Unicode 3.9, table 3-7).
static void second_byte_range(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
}

// Classifies the bytes at the front; *length is the part's size: a character, or the longest prefix
// of one.
static part front_part(const uint8_t *bytes, size_t size, size_t *length)
{
    uint8_t first = bytes[0], low, high;
    *length = 1;
    if (first < 0x80)
        return PART_VALID;
    if (first < 0xc2 || first > 0xf4)
        return PART_INVALID;
    size_t wanted = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    second_byte_range(first, &low, &high);
    while (*length < wanted) {
        if (*length == size)
            return PART_OPEN;
        if (bytes[*length] < low || bytes[*length] > high)
            return PART_INVALID;
        low = 0x80, high = 0xbf;
        ++*length;
    }
    return PART_VALID;
}

size_t pr_utf8_repair(const char *bytes, size_t size_bytes, bool final, pr_byte_buffer *out)
{
    const uint8_t *unsigned_bytes = (const uint8_t *)bytes;
    size_t copied = 0, position = 0;
    while (position < size_bytes) {
        size_t length;
        part kind = front_part(unsigned_bytes + position, size_bytes - position, &length);
        if (kind == PART_VALID) {
            position += length;
            continue;
        }
        if (kind == PART_OPEN && !final)
            break;
        pr_byte_buffer_append(out, bytes + copied, position - copied);
        pr_byte_buffer_append(out, "\xef\xbf\xbd", 3);
        position += length;
        copied = position;
    }
    pr_byte_buffer_append(out, bytes + copied, position - copied);
    return position;
}

uint32_t pr_utf8_next(const char *text, size_t *position)
{
    const uint8_t *bytes = (const uint8_t *)text + *position;
    if (bytes[0] < 0x80) {
        *position += 1;
        return bytes[0];
    }
    if (bytes[0] < 0xe0) {
        *position += 2;
        return (bytes[0] & 0x1fu) << 6 | (bytes[1] & 0x3fu);
    }
    if (bytes[0] < 0xf0) {
        *position += 3;
        return (bytes[0] & 0xfu) << 12 | (bytes[1] & 0x3fu) << 6 | (bytes[2] & 0x3fu);
    }
    *position += 4;
    return (bytes[0] & 7u) << 18 | (bytes[1] & 0x3fu) << 12 | (bytes[2] & 0x3fu) << 6 |
           (bytes[3] & 0x3fu);
}

size_t pr_utf8_previous(const char *text, size_t position)
{
    do
        position--;
    while (position > 0 && ((uint8_t)text[position] & 0xc0) == 0x80);
    return position;
}

size_t pr_utf8_count(const char *text, size_t size_bytes)
{
    size_t characters = 0;
    for (size_t i = 0; i < size_bytes; i++)
        characters += (text[i] & 0xc0) != 0x80;
    return characters;
}

void pr_utf8_append(pr_byte_buffer *out, uint32_t code_point)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t size = utf8proc_encode_char((utf8proc_int32_t)code_point, bytes);
    pr_byte_buffer_append(out, bytes, (size_t)size);
}

bool pr_utf8_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool pr_utf8_is_word(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        break;
    }
    // Join controls, and the symbols that are Other_Alphabetic (circled and squared letters).
    return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) ||
           (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
           (c >= 0x1f170 && c <= 0x1f189);
}
