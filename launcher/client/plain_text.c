// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/client/plain_text.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

static bool is_direction_mark(utf8proc_int32_t point)
{
    return (point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069) ||
           point == 0x200e || point == 0x200f;
}

static bool is_line_break(utf8proc_int32_t point)
{
    return point == '\n' || point == '\t' || point == 0x2028 || point == 0x2029;
}

// The next character as bytes to show; 0 = nothing. *at moves on.
static size_t next_shown(
    const char *text, size_t size_bytes, size_t *at, utf8proc_int32_t *point, const char **shown)
{
    const utf8proc_uint8_t *from = (const utf8proc_uint8_t *)text + *at;
    utf8proc_ssize_t bytes = utf8proc_iterate(from, (utf8proc_ssize_t)(size_bytes - *at), point);
    if (bytes <= 0) {
        *at += 1;
        *point = 0xfffd;
        *shown = "\xef\xbf\xbd";
        return 3;
    }
    *shown = text + *at;
    *at += (size_t)bytes;
    if (is_line_break(*point))
        return (size_t)bytes;
    if (utf8proc_category(*point) == UTF8PROC_CATEGORY_CC || is_direction_mark(*point))
        return 0;
    return (size_t)bytes;
}

int32_t
pr_plain_text_line(const char *text, size_t size_bytes, int32_t columns, pr_byte_buffer *out)
{
    int32_t used = 0;
    for (size_t at = 0; at < size_bytes;) {
        utf8proc_int32_t point;
        const char *shown;
        size_t bytes = next_shown(text, size_bytes, &at, &point, &shown);
        if (bytes == 0)
            continue;
        bool breaks = is_line_break(point);
        int32_t width = breaks ? 1 : utf8proc_charwidth(point);
        if (used + width > columns)
            break;
        pr_byte_buffer_append(out, breaks ? " " : shown, breaks ? 1 : bytes);
        used += width;
    }
    return used;
}

void pr_plain_text_stream(const char *text, size_t size_bytes, pr_byte_buffer *out)
{
    for (size_t at = 0; at < size_bytes;) {
        utf8proc_int32_t point;
        const char *shown;
        size_t bytes = next_shown(text, size_bytes, &at, &point, &shown);
        pr_byte_buffer_append(out, shown, bytes);
    }
}

void pr_plain_text_copy(const char *text, size_t size_bytes, char *out, size_t capacity)
{
    size_t used = 0;
    for (size_t at = 0; at < size_bytes;) {
        utf8proc_int32_t point;
        const char *shown;
        size_t bytes = next_shown(text, size_bytes, &at, &point, &shown);
        bool breaks = is_line_break(point);
        if (used + bytes + 1 > capacity)
            break;
        memcpy(out + used, breaks ? " " : shown, breaks ? 1 : bytes);
        used += breaks ? 1 : bytes;
    }
    out[used] = '\0';
}
