// SPDX-License-Identifier: BSD-3-Clause
// A stream of events from any server, whole and byte by byte: the same events, and a chat that takes them.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/client/chat_reply.h"
#include "launcher/client/plain_text.h"
#include "launcher/client/sse_reader.h"
#include "runtime/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
    if (!holds)
        abort();
}

static pr_status gather(void *context, const char *data, size_t size_bytes)
{
    pr_byte_buffer_append(context, data, size_bytes + 1);
    return PR_OK;
}

static void show(void *context, bool reasoning, const char *text, size_t size_bytes)
{
    pr_byte_buffer shown = {0};
    (void)context;
    (void)reasoning;
    pr_plain_text_stream(text, size_bytes, &shown);
    for (size_t i = 0; i < shown.size_bytes; i++) {
        unsigned char c = ((unsigned char *)shown.data)[i];
        must((c >= ' ' && c != 0x7f) || c == '\n' || c == '\t');
    }
    pr_byte_buffer_free(&shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pr_sse_reader whole = {0}, bytewise = {0}, chat = {0};
    pr_byte_buffer a = {0}, b = {0};
    pr_chat_reply reply = {.show = show, .prompt_tokens = -1, .output_tokens = -1};
    const char *text = (const char *)data;
    must(pr_sse_reader_feed(&whole, text, size, gather, &a) == PR_OK);
    for (size_t i = 0; i < size; i++)
        must(pr_sse_reader_feed(&bytewise, text + i, 1, gather, &b) == PR_OK);
    must(a.size_bytes == b.size_bytes);
    must(a.size_bytes == 0 || memcmp(a.data, b.data, a.size_bytes) == 0);
    pr_error_capture_begin();
    pr_status status = pr_sse_reader_feed(&chat, text, size, pr_chat_reply_event, &reply);
    pr_error_capture_end();
    must(status == PR_OK || status == PR_ERR_FORMAT || status == PR_ERR_REQUEST);
    pr_chat_reply_clear(&reply);
    pr_sse_reader_clear(&whole);
    pr_sse_reader_clear(&bytewise);
    pr_sse_reader_clear(&chat);
    pr_byte_buffer_free(&a);
    pr_byte_buffer_free(&b);
    return 0;
}
