// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/client/sse_reader.h"

#include <string.h>

#include "runtime/base/log.h"

static pr_status dispatch(pr_sse_reader *reader, pr_sse_event event, void *context)
{
    pr_byte_buffer *data = &reader->data;
    if (data->size_bytes == 0)
        return PR_OK;
    char *text = data->data;
    size_t size_bytes = data->size_bytes - 1;
    text[size_bytes] = '\0';
    pr_status status = event(context, text, size_bytes);
    pr_byte_buffer_clear(data);
    return status;
}

static pr_status take_line(
    pr_sse_reader *reader, const char *line, size_t size_bytes, pr_sse_event event, void *context)
{
    static const char bom[] = "\xef\xbb\xbf";
    if (!reader->begun && size_bytes >= 3 && memcmp(line, bom, 3) == 0) {
        line += 3;
        size_bytes -= 3;
    }
    reader->begun = true;
    if (size_bytes == 0)
        return dispatch(reader, event, context);
    if (size_bytes < 4 || memcmp(line, "data", 4) != 0 || (size_bytes > 4 && line[4] != ':'))
        return PR_OK;
    size_t skip = size_bytes > 4 ? 5 : 4;
    skip += size_bytes > 5 && line[5] == ' ';
    if (reader->data.size_bytes + size_bytes > PR_SSE_MAX_EVENT_BYTES)
        return pr_fail(
            PR_ERR_FORMAT, "the server sent an event of more than %d bytes",
            PR_SSE_MAX_EVENT_BYTES);
    pr_byte_buffer_append(&reader->data, line + skip, size_bytes - skip);
    pr_byte_buffer_append(&reader->data, "\n", 1);
    return pr_byte_buffer_check(&reader->data);
}

static size_t line_length(const char *bytes, size_t size_bytes)
{
    size_t length = 0;
    while (length < size_bytes && bytes[length] != '\n' && bytes[length] != '\r')
        length++;
    return length;
}

pr_status pr_sse_reader_feed(
    pr_sse_reader *reader, const char *bytes, size_t size_bytes, pr_sse_event event, void *context)
{
    for (size_t at = 0; at < size_bytes;) {
        if (reader->after_cr) {
            reader->after_cr = false;
            if (bytes[at] == '\n') {
                at++;
                continue;
            }
        }
        pr_byte_buffer *line = &reader->line;
        size_t length = line_length(bytes + at, size_bytes - at);
        if (line->size_bytes + length > PR_SSE_MAX_EVENT_BYTES)
            return pr_fail(
                PR_ERR_FORMAT, "the server sent a line of more than %d bytes",
                PR_SSE_MAX_EVENT_BYTES);
        pr_byte_buffer_append(line, bytes + at, length);
        PR_TRY(pr_byte_buffer_check(line));
        at += length;
        if (at == size_bytes)
            break;
        reader->after_cr = bytes[at] == '\r';
        at++;
        PR_TRY(take_line(reader, line->data, line->size_bytes, event, context));
        pr_byte_buffer_clear(line);
    }
    return PR_OK;
}

void pr_sse_reader_clear(pr_sse_reader *reader)
{
    pr_byte_buffer_free(&reader->line);
    pr_byte_buffer_free(&reader->data);
    *reader = (pr_sse_reader){0};
}
