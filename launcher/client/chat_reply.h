// SPDX-License-Identifier: BSD-3-Clause
// An answer as a stream of chat.completion.chunk events brings it: pieces of text and of reasoning, why it ended,
// and what it cost. What a server sends is not trusted: fields that are missing or of another type are skipped.
//
//   {"choices":[{"delta":{"content":"Hi"}}]}   {"choices":[],"usage":{...}}   [DONE]
//
// Threads: none of its own. Memory: the content, at most PR_CHAT_REPLY_MAX_BYTES; reasoning is not kept.
#ifndef PR_LAUNCHER_CLIENT_CHAT_REPLY_H
#define PR_LAUNCHER_CLIENT_CHAT_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"

enum { PR_CHAT_REPLY_MAX_BYTES = 16 << 20 };

// Begins as zero but for context, show and the tokens, which are -1 until the server says them.
typedef struct pr_chat_reply {
    void *context;
    void (*show)(void *context, bool reasoning, const char *text, size_t size_bytes);
    pr_byte_buffer content;  // UTF-8
    int64_t pieces;          // events with text: as a rule one token each
    int64_t prompt_tokens, output_tokens;
    char finish[24];  // "stop", "length", ..; "" until it comes
    bool done;        // [DONE] has come
} pr_chat_reply;

// The data of one event; fits pr_sse_event. PR_ERR_FORMAT: no JSON; PR_ERR_REQUEST: the server's error object.
pr_status pr_chat_reply_event(void *reply, const char *data, size_t size_bytes) PR_MUST_CHECK;
void pr_chat_reply_clear(pr_chat_reply *reply);

#endif
