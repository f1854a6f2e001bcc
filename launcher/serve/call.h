// SPDX-License-Identifier: BSD-3-Clause
// One client request under way: the HTTP exchange that waits for it, its reply, what of it was sent already.
//
//   begin -> sequences submitted -> scheduled, token, token, ... -> end (replied)
//                                        \ refuse (error)   \ abandon (the client is gone)
//
// Threads: the gateway's.
#ifndef PR_LAUNCHER_SERVE_CALL_H
#define PR_LAUNCHER_SERVE_CALL_H

#include "launcher/http/http_server.h"
#include "launcher/observe/metrics.h"
#include "launcher/openai/reply.h"

enum { PR_CALL_ID_BYTES = 64 };

// What of one answer is with the client, and when it came.
typedef struct pr_call_answer {
    size_t sent_bytes;
    int32_t sent_tokens;
    bool begun;                 // its first chunk is out
    pr_message_parser *parser;  // of a streamed chat; sent_bytes are those it was fed
    pr_request_life life;
} pr_call_answer;

typedef struct pr_call {
    pr_http_exchange *exchange;
    pr_reply reply;
    pr_call_answer *answer;  // [reply.answers]
    char id[PR_CALL_ID_BYTES];
    int64_t created_s;
    const char *model;            // borrowed
    pr_byte_buffer chunk;         // the event being made
    size_t chunk_prefix_bytes;    // of it, the same in all events
    bool streaming;               // the head of the stream is out
    int64_t written_ns;           // when anything was last written
    struct pr_call *prev, *next;  // open calls
} pr_call;

#endif
