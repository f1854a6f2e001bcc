// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/json_text.h"

#include <string.h>

static int append_piece(const char *piece, size_t size_bytes, void *buffer)
{
    pr_byte_buffer_append(buffer, piece, size_bytes);
    return 0;
}

void pr_json_text_append(pr_byte_buffer *buffer, json_t *value)
{
    if (!value || json_dump_callback(value, append_piece, buffer, PR_JSON_DUMP_FLAGS) != 0)
        buffer->failed = true;
    json_decref(value);
}

void pr_json_text_append_string(pr_byte_buffer *buffer, const char *text, size_t size_bytes)
{
    pr_json_text_append(buffer, json_stringn(text, size_bytes));
}

void pr_json_text_append_raw(pr_byte_buffer *buffer, const char *text)
{
    pr_byte_buffer_append(buffer, text, strlen(text));
}
