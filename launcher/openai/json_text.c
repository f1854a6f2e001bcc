// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/json_text.h"

#include <stdio.h>
#include <string.h>

static int append_piece(const char *piece, size_t size_bytes, void *buffer)
{
    pr_byte_buffer_append(buffer, piece, size_bytes);
    return 0;
}

// ASCII that stands for itself. jansson knows what to do with all else, and what is not UTF-8.
static bool is_plain(const char *text, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++) {
        if (text[i] < ' ' || text[i] > '~' || text[i] == '"' || text[i] == '\\')
            return false;
    }
    return true;
}

static void append_plain(pr_byte_buffer *buffer, const char *text, size_t size_bytes)
{
    char *at = pr_byte_buffer_extend(buffer, size_bytes + 2);
    if (!at)
        return;
    at[0] = '"';
    memcpy(at + 1, text, size_bytes);
    at[size_bytes + 1] = '"';
}

// The parts of a stream's event are small values, and jansson's printer sets up a table for each.
static bool append_small(pr_byte_buffer *buffer, const json_t *value)
{
    char digits[24];
    switch (json_typeof(value)) {
    case JSON_NULL:
        pr_json_text_append_raw(buffer, "null");
        return true;
    case JSON_INTEGER:
        snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        pr_json_text_append_raw(buffer, digits);
        return true;
    case JSON_STRING:
        if (!is_plain(json_string_value(value), json_string_length(value)))
            return false;
        append_plain(buffer, json_string_value(value), json_string_length(value));
        return true;
    default:
        return false;
    }
}

void pr_json_text_append(pr_byte_buffer *buffer, json_t *value)
{
    if (!value || (!append_small(buffer, value) &&
                   json_dump_callback(value, append_piece, buffer, PR_JSON_DUMP_FLAGS) != 0))
        buffer->failed = true;
    json_decref(value);
}

void pr_json_text_append_string(pr_byte_buffer *buffer, const char *text, size_t size_bytes)
{
    if (is_plain(text, size_bytes))
        append_plain(buffer, text, size_bytes);
    else
        pr_json_text_append(buffer, json_stringn(text, size_bytes));
}

void pr_json_text_append_raw(pr_byte_buffer *buffer, const char *text)
{
    pr_byte_buffer_append(buffer, text, strlen(text));
}
